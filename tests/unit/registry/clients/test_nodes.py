"""Each setting of nodes is in the form that its vendor reads, with the host and the CA in the vendor's own fields."""

import base64
import json
import re
import shutil
import subprocess
import tomllib
from email import message_from_string
from pathlib import Path
from typing import Any

import pytest
import yaml

from registry.clients.nodes import NODES, key_of, node_setup
from registry.clients.snippets import client_setup
from tests.unit.support.engine import pem

HOST = "registry.example.com:8443"
CA = pem("one") + pem("another")
SETUP = node_setup(HOST, CA)
SHELLS = [shell for shell in ("sh", "dash", "bash") if shutil.which(shell)]


def documents(node: str) -> list[dict[str, Any]]:
    return [found for found in yaml.safe_load_all(SETUP[node]) if found]


def as_user(script: str, home: Path, **variables: str) -> str:
    """What a script prints whose paths in /etc are below a folder instead."""
    script = script.replace("/etc/", f"{home}/etc/").replace("sudo=sudo", "sudo=env")
    environment = {"HOME": str(home), **variables}
    done = subprocess.run(["sh"], input=script, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def test_each_says_how_to_undo_it_and_when_it_is_needed_again_and_holds_the_host() -> None:
    for node, setting in SETUP.items():
        assert setting.startswith("# "), node
        assert "Undo: " in setting, node
        assert HOST in setting, node
        assert re.search("^# When pulumi up says that the CA was renewed, this is needed again", setting, re.M), node


@pytest.mark.parametrize("node", ["containerd", "k3s", "rke2", "kind", "minikube", "aks"])
def test_every_shell_can_parse_the_scripts_and_finds_a_cut_one_broken(node: str) -> None:
    for shell in SHELLS:
        subprocess.run([shell, "-n"], input=SETUP[node], text=True, check=True)
        cut = SETUP[node][: SETUP[node].rindex(")")]
        assert subprocess.run([shell, "-n"], input=cut, text=True, capture_output=True, check=False).returncode


def test_containerd_finds_the_ca_in_its_folder_and_in_the_one_that_a_list_is_taken_for(tmp_path: Path) -> None:
    assert as_user(SETUP["containerd"], tmp_path) == f"containerd trusts {HOST}\n"
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert [path.read_text() for path in files] == [CA, CA]
    assert [str(path.relative_to(tmp_path)).replace(str(tmp_path), "") for path in files] == [
        f"etc/containerd/certs.d/{HOST}/ca.crt",
        f"etc/containerd/certs.d:{tmp_path}/etc/docker/certs.d/{HOST}/ca.crt".replace(str(tmp_path), ""),
    ]


@pytest.mark.parametrize("product", ["k3s", "rke2"])
def test_rancher_gets_one_more_host_in_its_registries(product: str, tmp_path: Path) -> None:
    registries = tmp_path / "etc/rancher" / product / "registries.yaml"
    for _ in range(2):
        assert f"{product} trusts {HOST}" in as_user(SETUP[product], tmp_path)
        [(host, config)] = yaml.safe_load(registries.read_text())["configs"].items()
        assert host == HOST
        assert Path(config["tls"]["ca_file"]).read_text() == CA


def test_what_is_in_ranchers_registries_is_left_alone(tmp_path: Path) -> None:
    registries = tmp_path / "etc/rancher/k3s/registries.yaml"
    registries.parent.mkdir(parents=True)
    registries.write_text("mirrors:\n  a.example.com: {}\n")
    as_user(SETUP["k3s"], tmp_path)
    assert set(yaml.safe_load(registries.read_text())) == {"mirrors", "configs"}
    registries.write_text('configs:\n  "b.example.com": {}\n')
    with pytest.raises(AssertionError, match="put this under configs"):
        as_user(SETUP["k3s"], tmp_path)
    assert registries.read_text() == 'configs:\n  "b.example.com": {}\n'


@pytest.mark.parametrize("key", ["configs", '"configs"', "'configs' "])
def test_ranchers_registries_get_no_second_list_of_configs(key: str, tmp_path: Path) -> None:
    registries = tmp_path / "etc/rancher/rke2/registries.yaml"
    registries.parent.mkdir(parents=True)
    registries.write_text(f"{key}: {{}}\n")
    with pytest.raises(AssertionError, match="put this under configs"):
        as_user(SETUP["rke2"], tmp_path)
    assert registries.read_text() == f"{key}: {{}}\n"


def test_a_last_line_without_an_end_gets_one_before_ranchers_registries_grow(tmp_path: Path) -> None:
    registries = tmp_path / "etc/rancher/k3s/registries.yaml"
    registries.parent.mkdir(parents=True)
    registries.write_text('mirrors:\n  a.example.com:\n    endpoint:\n      - "https://m.example.com"')
    as_user(SETUP["k3s"], tmp_path)
    read = yaml.safe_load(registries.read_text())
    assert read["mirrors"]["a.example.com"]["endpoint"] == ["https://m.example.com"]
    assert list(read["configs"]) == [HOST]


def test_a_host_with_a_mirror_alone_is_not_taken_for_one_that_has_the_ca(tmp_path: Path) -> None:
    registries = tmp_path / "etc/rancher/k3s/registries.yaml"
    registries.parent.mkdir(parents=True)
    registries.write_text(f'mirrors:\n  "{HOST}":\n    endpoint: []\n')
    as_user(SETUP["k3s"], tmp_path)
    assert list(yaml.safe_load(registries.read_text())["configs"]) == [HOST]


def test_ranchers_registries_which_root_alone_reads_are_read_by_root(tmp_path: Path) -> None:
    read = [line for line in SETUP["k3s"].splitlines() if re.search(r"\b(grep|tail|tee|mkdir)\b", line)]
    assert len(read) >= 6
    assert [line for line in read if re.search(r"(?<!\$sudo )\b(grep|tail|tee|mkdir)\b", line)] == []


def test_talos_gets_a_document_and_before_1_12_a_patch() -> None:
    [document] = documents("talos")
    assert document == {"apiVersion": "v1alpha1", "kind": "RegistryTLSConfig", "name": HOST, "ca": CA.rstrip("\n")}
    text = SETUP["talos"]
    older = yaml.safe_load("\n".join(line[2:] for line in text[text.index("# machine:") :].splitlines()))
    assert base64.b64decode(older["machine"]["registries"]["config"][HOST]["tls"]["ca"]).decode() == CA


def test_bottlerocket_gets_a_trusted_bundle() -> None:
    [(name, bundle)] = tomllib.loads(SETUP["bottlerocket"])["settings"]["pki"].items()
    assert re.fullmatch("[a-z0-9-]+", name)
    assert (base64.b64decode(bundle["data"]).decode(), bundle["trusted"]) == (CA, True)


def test_gke_gets_the_domain_and_a_secret_with_the_ca() -> None:
    [document] = documents("gke")
    config = document["privateRegistryAccessConfig"]
    [domain] = config["certificateAuthorityDomainConfig"]
    assert (config["enabled"], domain["fqdns"]) == (True, [HOST])
    secret = domain["gcpSecretManagerCertificateConfig"]["secretURI"].split("/")[3]
    assert f"gcloud secrets create {secret} --data-file=ca.crt" in SETUP["gke"]
    assert "".join(f"# {line}\n" for line in CA.splitlines()) in SETUP["gke"]


def test_eks_gets_user_data_with_the_script_for_containerd() -> None:
    text = SETUP["eks"]
    message = message_from_string(text[text.index("MIME-Version") :])
    [part] = [each for each in message.walk() if not each.is_multipart()]
    script = str(part.get_payload())
    assert part.get_content_type() == "text/x-shellscript"
    assert script.startswith("#!/bin/sh\n")
    assert SETUP["containerd"] in f"{script}\n"


def test_openshift_gets_a_config_map_whose_key_is_the_host_and_the_patch_that_names_it() -> None:
    [config_map] = documents("openshift")
    assert config_map["data"] == {HOST.replace(":", ".."): CA}
    assert config_map["metadata"]["namespace"] == "openshift-config"
    patch = json.loads(re.search(r"-p '(.*)'", SETUP["openshift"])[1])  # type: ignore[index]
    assert patch["spec"]["additionalTrustedCA"]["name"] == config_map["metadata"]["name"]


def test_aks_gets_the_ca_and_kind_the_script_for_containerd() -> None:
    assert '--custom-ca-trust-certificates "$file"' in SETUP["aks"]
    assert CA in SETUP["aks"]
    assert SETUP["containerd"] in SETUP["kind"]


@pytest.mark.parametrize(
    ("variable", "folder"),
    [
        (None, ".minikube"),
        ("", ".minikube"),
        ("else where", "else where/.minikube"),
        ("else/.minikube", "else/.minikube"),
        ("else/.minikube/", "else/.minikube"),
        ("my.minikube", "my.minikube/.minikube"),
    ],
)
def test_minikube_gets_the_ca_into_the_folder_that_it_reads(variable: str | None, folder: str, tmp_path: Path) -> None:
    variables = {} if variable is None else {"MINIKUBE_HOME": variable and f"{tmp_path}/{variable}"}
    assert f"minikube trusts {HOST}" in as_user(SETUP["minikube"], tmp_path, **variables)
    [file] = (path for path in tmp_path.rglob("*") if path.is_file())
    assert (file.parent, file.read_text()) == (tmp_path / folder / "certs", CA)
    undo = re.search("Undo: (.*), and make the cluster anew", SETUP["minikube"])
    assert undo
    as_user(undo[1], tmp_path, **variables)
    assert not file.exists()


def test_their_keys_can_be_named_by_a_go_template_and_are_no_clients() -> None:
    assert [key_of(node) for node in NODES][:3] == ["nodeContainerd", "nodeTalos", "nodeBottlerocket"]
    assert all(key_of(node).isalnum() for node in NODES)


def test_where_the_certificate_is_publicly_trusted_no_node_needs_a_setting() -> None:
    for node in NODES:
        assert "Nothing to set up" in client_setup(HOST, "")[key_of(node)], node
