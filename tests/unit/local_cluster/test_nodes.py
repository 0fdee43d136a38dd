"""The local cluster's pure parts, and its care for processes that are not its own."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import tomllib
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.cluster.local import addons, cgroups, control_plane, images, network, nodes, processes, shell
from tests.cluster.local.__main__ import main
from tests.cluster.local.paths import BIN
from tests.cluster.local.processes import Process

DEBIAN_CONFIG = """\
version = 2

[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    [plugins."io.containerd.grpc.v1.cri".cni]
      bin_dir = "/usr/lib/cni"
      conf_dir = "/etc/cni/net.d"
"""
GENERATED_CONFIG = """\
version = 2

[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = false

  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = ""
"""

VERSION_1 = "24 23 0:21 / /sys/fs/cgroup/cpuset rw,relatime shared:1 - cgroup cgroup rw,cpuset\n"
NAMED = "33 23 0:29 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd\n"
HYBRID = "34 23 0:30 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup rw\n"
VERSION_2 = "35 23 0:31 / /sys/fs/cgroup rw,nosuid shared:9 master:2 - cgroup2 cgroup2 rw,nsdelegate\n"
OTHER = "23 1 0:20 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755\n36 23 0:32 / /mnt/cgroup rw - cgroup2 cgroup2 rw\n"


def manifests(pattern: str = "*.yaml") -> list[dict[str, Any]]:
    paths = sorted(addons.MANIFESTS.glob(pattern))
    return [document for path in paths for document in yaml.safe_load_all(path.read_text())]


def containers() -> list[dict[str, Any]]:
    pods = [found["spec"]["template"]["spec"] for found in manifests() if found["kind"] in ("Deployment", "DaemonSet")]
    helpers = [
        found["data"]["helperPod.yaml"] for found in manifests("local-path.yaml") if found["kind"] == "ConfigMap"
    ]
    pods += [yaml.safe_load(helper)["spec"] for helper in helpers]
    return [container for pod in pods for container in pod["containers"]]


# The table of nodes


def test_each_node_has_addresses_of_its_own_that_nothing_else_uses() -> None:
    every = nodes.TABLE.values()
    addresses = {ip_address(node.address) for node in every}
    pods = {ip_network(node.pods) for node in every}
    first, last = map(ip_address, network.LOAD_BALANCERS.split("-"))
    assert len(addresses) == len(pods) == len(nodes.TABLE)
    for address in addresses:
        assert address in network.SUBNET
        assert address != ip_address(network.CONTROL_PLANE)
        assert not int(first) <= int(address) <= int(last)
    assert all(subnet.subnet_of(ip_network(network.PODS)) for subnet in pods)  # type: ignore[arg-type]


def test_the_default_nodes_are_three_generations_of_containerd() -> None:
    assert {(nodes.TABLE[name].suite, nodes.TABLE[name].containerd) for name in nodes.DEFAULT} == {
        ("bookworm", "debian"),
        ("trixie", "debian"),
        ("bookworm", "built"),
    }


@pytest.mark.parametrize(
    "command", [["node", "node-x"], ["node", "node-x", "--remove"], ["up", "--nodes", "node-a,node-x"]]
)
def test_an_unknown_node_is_one_sentence_and_nothing_is_started(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes, "start", lambda *_, **__: pytest.fail("a node was started"))
    assert main(command) == 1
    output = capsys.readouterr().err
    assert output.count("\n") == 1
    assert "'node-x'" in output
    assert "node-a, node-b, node-c" in output


# containerd's configuration


def config(kind: nodes.Config, *, restricted: bool) -> dict[str, Any] | None:
    text = nodes.containerd_config(kind, debian=DEBIAN_CONFIG, generated=GENERATED_CONFIG, restricted=restricted)
    return None if text is None else tomllib.loads(text)


@pytest.mark.parametrize("restricted", [False, True])
def test_the_generated_config_keeps_its_empty_config_path(restricted: bool) -> None:
    cri = config("generated", restricted=restricted)["plugins"]["io.containerd.grpc.v1.cri"]  # type: ignore[index]
    assert cri["registry"] == {"config_path": ""}
    assert cri["restrict_oom_score_adj"] is restricted


@pytest.mark.parametrize("restricted", [False, True])
def test_a_config_path_is_added_to_what_debian_ships(restricted: bool) -> None:
    cri = config("config-path", restricted=restricted)["plugins"]["io.containerd.grpc.v1.cri"]  # type: ignore[index]
    assert cri["registry"] == {"config_path": "/etc/containerd/certs.d"}
    assert cri["cni"] == {"bin_dir": "/usr/lib/cni", "conf_dir": "/etc/cni/net.d"}
    assert cri.get("restrict_oom_score_adj", False) is restricted


def test_a_stock_containerd_has_no_config_file() -> None:
    assert config("stock", restricted=False) is None


def test_a_stock_containerd_on_a_restricted_machine_is_told_only_that() -> None:
    assert config("stock", restricted=True) == {
        "version": 3,
        "plugins": {"io.containerd.cri.v1.runtime": {"restrict_oom_score_adj": True}},
    }


# Control groups


def test_hierarchies_of_both_versions_are_found_and_others_are_not() -> None:
    found = cgroups.parse(OTHER + VERSION_1 + NAMED + HYBRID)
    assert [(str(hierarchy.path), hierarchy.version) for hierarchy in found] == [
        ("/sys/fs/cgroup/cpuset", 1),
        ("/sys/fs/cgroup/systemd", 1),
        ("/sys/fs/cgroup/unified", 2),
    ]
    assert "cpuset" in found[0].options
    assert "cpuset" not in found[1].options


def test_the_one_hierarchy_of_a_version_2_machine_is_found() -> None:
    [found] = cgroups.parse(VERSION_2)
    assert (found.path, found.version) == (Path("/sys/fs/cgroup"), 2)


# Processes


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(processes, "PROCESSES", tmp_path / "processes")
    monkeypatch.setattr(processes, "LOGS", tmp_path / "logs")
    return tmp_path / "processes"


def wait_for_output(name: str) -> None:
    deadline = time.monotonic() + 10
    while not processes.log_tail(name):
        assert time.monotonic() < deadline, f"no output of {name}"


@pytest.mark.usefixtures("records")
def test_a_process_is_recorded_logged_and_stopped() -> None:
    process = processes.start("loop", ["sh", "-c", "echo started; exec sleep 1000"])
    wait_for_output("loop")
    assert processes.recorded() == {"loop": process}
    assert process.alive()
    processes.stop(["loop"], seconds=5)
    assert not process.alive()
    assert processes.recorded() == {}
    assert processes.log_tail("loop") == "started"


@pytest.mark.usefixtures("records")
def test_a_process_that_ignores_the_request_is_killed() -> None:
    process = processes.start("deaf", [sys.executable, "-c", DEAF])
    wait_for_output("deaf")
    processes.stop(["deaf"], seconds=0.2)
    assert not process.alive()


DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); signal.pause()"


def test_a_process_that_got_the_id_of_an_ended_one_is_never_signalled() -> None:
    stranger = subprocess.Popen(["sleep", "1000"])
    try:
        ours = Process(pid=stranger.pid, start_time=processes.of(stranger.pid).start_time - 1)
        assert not ours.alive()
        ours.send(signal.SIGKILL)
        assert ours.wait(5)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_zombie_has_ended() -> None:
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not processes.of(child.pid).alive()
    child.wait()


def test_a_record_of_an_earlier_boot_is_of_an_ended_process(records: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = processes.start("loop", ["sleep", "1000"])
    try:
        with monkeypatch.context() as context:
            context.setattr(processes, "_boot", lambda: "another boot")
            assert not processes.recorded()["loop"].alive()
        assert processes.recorded()["loop"].alive()
    finally:
        processes.stop(["loop"], seconds=5)
    assert list(records.iterdir()) == []
    assert not process.alive()


# Names


def answer(name: str) -> str | None:
    """The address that the DNS server's configuration gives for a name under nip.io; None if there is none."""
    text = control_plane.corefile()
    [line] = {line for line in text.splitlines() if line.strip().startswith("match ")}
    for pattern in shlex.split(line)[1:]:  # the first that matches wins
        match = re.match(pattern, f"{name}.nip.io.")
        if match:
            return ".".join(match.groups())
    return None


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("10.99.0.200", "10.99.0.200"),
        ("x.10.99.0.200", "10.99.0.200"),
        ("10-99-0-200", "10.99.0.200"),
        ("x.10-99-0-200", "10.99.0.200"),
        ("x-10-99-0-200", "10.99.0.200"),
        ("registry-pr-42.10-99-0-200", "10.99.0.200"),
        ("1-2-3-4.10-99-0-200", "1.2.3.4"),  # the first one: what a host name has to avoid
        ("1-2-3-4.10.99.0.200", "4.10.99.0"),  # and dots before dashes
        ("256.1.1.1", None),
        ("1.2.3", None),
        ("registry", None),
    ],
)
def test_a_name_is_answered_like_nip_io_does(name: str, address: str | None) -> None:
    assert answer(name) == address


@given(st.ip_addresses(v=4).map(str), st.sampled_from(["", "a.", "a-b.", "a-"]), st.booleans())
@example("255.255.255.255", "a-", True)
@example("0.0.0.0", "", False)
def test_every_address_is_answered_in_both_spellings(address: str, before: str, dashed: bool) -> None:
    assert answer(before + (address.replace(".", "-") if dashed else address)) == address


# What is written twice because a file of its own kind has to say it


def test_files_for_nodes_and_manifests_name_the_addresses_of_the_network() -> None:
    kubelet = yaml.safe_load((nodes.FILES / "common/etc/kubernetes/kubelet.yaml").read_text())
    assert kubelet["clusterDNS"] == [network.CONTROL_PLANE]
    assert manifests("metallb-pool.yaml")[0]["spec"]["addresses"] == [network.LOAD_BALANCERS]


def test_addons_use_only_images_that_the_nodes_hold() -> None:
    preloaded = {name for image in images.TABLE.values() for name in image.names}
    assert {container["image"] for container in containers()} <= preloaded
    assert {container["imagePullPolicy"] for container in containers()} == {"IfNotPresent"}


def test_there_is_one_default_ingress_class_and_one_default_storage_class() -> None:
    defaults = [
        found["kind"]
        for found in manifests()
        if any("is-default-class" in name for name in found["metadata"].get("annotations", {}))
    ]
    assert sorted(defaults) == ["IngressClass", "StorageClass"]


# The shell


VARIABLES = st.dictionaries(st.from_regex(r"[A-Z]{1,20}_", fullmatch=True), st.text("ab $'\"\\\n`*~;&"), max_size=3)


@given(VARIABLES)
@settings(max_examples=20, deadline=None)
def test_export_lines_give_a_shell_the_values_unchanged(variables: dict[str, str]) -> None:
    script = 'eval "$EXPORTS"; exec "$PYTHON" -c "import os, json; print(json.dumps(dict(os.environ)))"'
    environment = {"EXPORTS": shell.exports(variables), "PYTHON": sys.executable}
    output = subprocess.run(["sh", "-c", script], env=environment, capture_output=True, check=True)
    found = json.loads(output.stdout)
    assert {name: found[name] for name in variables} == variables


def test_wrappers_come_before_the_programs_that_they_wrap() -> None:
    path = shell.environment()["PATH"].split(":")
    assert path[0] == str(shell.WRAPPERS)
    assert path.index(str(shell.WRAPPERS)) < path.index(str(BIN))


def test_the_passphrase_is_in_a_file_that_only_its_owner_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passphrase = tmp_path / "passphrase"
    monkeypatch.setattr(shell, "PASSPHRASE", passphrase)
    monkeypatch.setattr(shell, "PULUMI_HOME", tmp_path / "home")
    monkeypatch.setattr(shell, "STACKS", tmp_path / "stacks")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PULUMI_BACKEND_URL", raising=False)
    variables = shell.environment_elsewhere(tmp_path)
    assert variables["PULUMI_CONFIG_PASSPHRASE_FILE"] == str(passphrase)
    assert passphrase.stat().st_mode & 0o777 == 0o600
    first = passphrase.read_text()
    assert len(first) >= 32
    assert first not in str(variables)
    shell.environment_elsewhere(tmp_path)
    assert passphrase.read_text() == first  # or the secrets of existing stacks would be lost


def test_users_with_a_place_for_their_stacks_keep_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULUMI_BACKEND_URL", "s3://stacks")
    assert list(shell.environment_elsewhere(tmp_path)) == ["PATH"]
