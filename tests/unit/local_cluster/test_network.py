"""Whatever runs in the cluster's network runs without the proxies of the machine's, which it cannot reach."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from local_cluster import control_plane, network, programs, shell

PRINT = "#!/bin/sh\nenv\n"


def script(path: Path, text: str) -> None:
    """Write a program."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def proxies(printed: str) -> set[str]:
    """The proxies in an environment, as `env` prints it."""
    return {line.partition("=")[0] for line in printed.splitlines()} & set(network.PROXIES)


@pytest.fixture(autouse=True)
def behind_proxies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell with proxies, where `ip netns exec NAME` and `nsenter --net=FILE --` are the shell's own network."""
    script(tmp_path / "path" / "ip", '#!/bin/sh\nshift 3\nentered=yes exec "$@"\n')
    script(tmp_path / "path" / "nsenter", '#!/bin/sh\nshift 2\nentered=yes exec "$@"\n')
    monkeypatch.setenv("PATH", f"{tmp_path / 'path'}:{os.environ['PATH']}")
    for name in network.PROXIES:
        monkeypatch.setenv(name, "http://127.0.0.1:1")


@pytest.mark.parametrize("enter", [network.client, network.inside])
def test_a_program_in_the_network_has_no_proxy(enter: Callable[..., list[str]]) -> None:
    printed = subprocess.run(enter("env"), capture_output=True, text=True, check=True).stdout
    assert "entered=yes" in printed
    assert proxies(printed) == set()


def test_neither_have_the_probe_of_the_api_server_and_our_kubectl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_plane, "BIN", tmp_path)
    script(tmp_path / "kubectl", '#!/bin/sh\n[ -z "$HTTPS_PROXY$https_proxy" ] && env\n')
    assert control_plane.ready()
    assert proxies(control_plane.kubectl("get", "nodes")) == set()


@pytest.mark.parametrize("inside", [True, False])
def test_neither_have_the_programs_of_a_shell_on_the_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, inside: bool
) -> None:
    (tmp_path / "other").touch()
    monkeypatch.setattr(network, "HANDLE", Path("/proc/self/ns/net") if inside else tmp_path / "other")
    for name in ("BIN", "WRAPPERS", "PULUMI_HOME", "PULUMI_BACKEND", "PASSPHRASE"):
        monkeypatch.setattr(shell, name, tmp_path / name)
    monkeypatch.setattr(programs, "install_plugins", lambda _: None)
    script(tmp_path / "BIN" / "kubectl", PRINT)
    shell.write()
    wrapper = tmp_path / "WRAPPERS" / "kubectl"
    printed = subprocess.run([wrapper], capture_output=True, text=True, check=True).stdout
    assert ("entered=yes" in printed) == (not inside)
    assert proxies(printed) == set()
