"""`python3 -m registry.clients`: it prints a snippet, and says what to do when it cannot."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from registry.clients.nodes import NODES, node_setup
from registry.clients.snippets import CLIENTS, PORT_FORWARD, client_setup
from tests.unit.support.engine import pem
from tests.unit.support.settings import ROOT

HOST = "registry-pr-42-r.203-0-113-7.nip.io"
CA = pem("ca")


def command(*arguments: str | Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command, with the one folder `path` to find Pulumi in, or with none."""
    return subprocess.run(
        [sys.executable, "-m", "registry.clients", *arguments],
        cwd=ROOT,
        env={**os.environ, "PATH": str(path or "/nowhere")},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def ca_file(tmp_path: Path) -> Path:
    path = tmp_path / "ca.crt"
    path.write_text(CA)
    return path


def pulumi(folder: Path, outputs: object = None, *, error: str = "") -> Path:
    """A folder with a program `pulumi` that prints outputs or an error, and writes down its arguments."""
    program = folder / "pulumi"
    (folder / "outputs.json").write_text(json.dumps(outputs))
    (folder / "error").write_text(error)
    program.write_text(
        f"#!{sys.executable}\nimport pathlib, sys\nhere = pathlib.Path(__file__).parent\n"
        "(here / 'arguments').write_text(' '.join(sys.argv[1:]))\n"
        "sys.stderr.write((here / 'error').read_text())\nsys.stdout.write((here / 'outputs.json').read_text())\n"
        "sys.exit(bool((here / 'error').read_text()))\n"
    )
    program.chmod(0o755)
    return folder


def test_it_lists_the_clients() -> None:
    done = command("--list")
    clients, nodes = done.stdout.split("\n\n")
    assert (done.returncode, clients.split()) == (0, list(CLIENTS))
    assert nodes.splitlines() == ["With --node, for the setting nodeTrust: external:", *NODES]


@pytest.mark.parametrize("client", CLIENTS)
def test_with_a_host_and_a_ca_it_needs_no_stack(client: str, ca_file: Path) -> None:
    done = command(client, "--host", HOST, "--ca", ca_file, *(["--namespace", "ns"] if client == PORT_FORWARD else []))
    assert (done.returncode, done.stdout) == (0, client_setup(HOST, CA, namespace="ns")[client])


@pytest.mark.parametrize("node", NODES)
def test_it_prints_the_setting_of_each_kind_of_node(node: str, ca_file: Path) -> None:
    done = command("--node", node, "--host", HOST, "--ca", ca_file)
    assert (done.returncode, done.stdout) == (0, node_setup(HOST, CA)[node])


def test_of_a_stack_whose_up_still_waits_for_its_nodes_it_reads_the_state(tmp_path: Path) -> None:
    found = {"metadata": {"name": "private-registry"}, "data": {"host": HOST, "ca.crt": CA, "address": "x"}}
    resources = [{"type": "pulumi:pulumi:Stack"}, {"type": "kubernetes:core/v1:ConfigMap", "outputs": found}]
    done = command("--node", "talos", path=pulumi(tmp_path, {"deployment": {"resources": resources}}))
    assert (done.returncode, done.stdout) == (0, node_setup(HOST, CA)["talos"])
    assert (tmp_path / "arguments").read_text().split() == ["stack", "export"]


def test_with_a_user_the_snippet_says_how_to_log_in(ca_file: Path) -> None:
    done = command("docker", "--host", HOST, "--ca", ca_file, "--username", "registry-2")
    assert done.stdout == client_setup(HOST, CA, "registry-2")["docker"]


@pytest.mark.parametrize("stack", [[], ["--stack", "pr-42"]], ids=["selected", "named"])
@pytest.mark.parametrize("username", [None, "registry"])
def test_it_reads_the_outputs_of_the_stack(tmp_path: Path, stack: list[str], username: str | None) -> None:
    known = {"registryUrl": HOST, "caCertificate": CA, "namespace": "ns"}
    outputs = {**known, **({"username": username} if username else {})}
    for client in "docker", PORT_FORWARD:
        done = command(client, *stack, path=pulumi(tmp_path, outputs))
        setup = client_setup(HOST, CA, username, "ns", stack[1] if stack else None)
        assert (done.returncode, done.stdout) == (0, setup[client])
    assert (tmp_path / "arguments").read_text().split() == ["stack", "output", "--json", *stack]


def test_it_says_how_powershell_takes_a_snippet_of_several_lines() -> None:
    """Nobody has run it in PowerShell here: given line by line, Invoke-Expression breaks here-strings."""
    told = " ".join(command("--help").stdout.split()), (ROOT / "docs" / "clients.md").read_text()
    assert all("(py -m registry.clients" in text and "| Out-String | Invoke-Expression" in text for text in told)


def test_without_pulumi_it_says_what_else_to_give() -> None:
    done = command("docker")
    assert (done.returncode, done.stdout) == (1, "")
    assert "Pulumi CLI cannot be run" in done.stderr
    assert "--host HOST --ca FILE" in done.stderr


def test_a_stack_without_outputs_is_named(tmp_path: Path) -> None:
    done = command("docker", "--stack", "pr-42", path=pulumi(tmp_path, {}))
    assert (done.returncode, done.stdout) == (1, "")
    assert "The stack pr-42 has no registry yet. Bring it up with `pulumi up`" in done.stderr


def test_pulumis_own_error_is_passed_on(tmp_path: Path) -> None:
    done = command("docker", path=pulumi(tmp_path, error="error: no stack selected\n"))
    assert (done.returncode, done.stdout) == (1, "")
    assert "error: no stack selected" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ([], "no client is named; --list prints"),
        (["rocket"], "rocket is no client"),
        (["--node", "rocket"], "rocket is no kind of node"),
        (["docker", "--node", "talos"], "takes the place of the client"),
        (["docker", "--host", HOST], "belong together"),
        (["docker", "--username", "registry"], "belong to --host"),
        (["docker", "--namespace", "ns"], "belong to --host"),
        (["portForward", "--host", HOST, "--ca", "ca.crt"], "(--namespace NS)"),
    ],
)
def test_wrong_arguments_are_explained(arguments: list[str], part: str) -> None:
    done = command(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert part in done.stderr


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"no certificate", "has to be PEM"),
        (b"\x30\x82\x01\xff", "wrong.crt' (--ca) cannot be read: it is no text"),
        (None, "wrong.crt' (--ca) cannot be read: No such file"),
    ],
    ids=["not PEM", "not text", "not there"],
)
def test_a_file_that_holds_no_ca_is_an_error_and_no_traceback(tmp_path: Path, content: bytes | None, part: str) -> None:
    path = tmp_path / "wrong.crt"
    if content:
        path.write_bytes(content)
    done = command("docker", "--host", HOST, "--ca", path)
    assert (done.returncode, done.stdout) == (1, "")
    assert part in done.stderr
    assert "Traceback" not in done.stderr
