"""How the agent looks names up; `tests/cluster/test_lookups.py` has musl and a server of its own."""

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from trust.agent import connect, lookup
from trust.agent.client import Client
from trust.agent.faults import Fault
from trust.agent.lookup import look_up

ENTRY = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.7", 0))


def answering(*families: int) -> Any:
    """A C library that finds an address only when it is asked for these families."""

    def getaddrinfo(_name: object, _port: object, family: int = socket.AF_UNSPEC, _type: int = 0) -> list[Any]:
        if family not in families:
            raise socket.gaierror(socket.EAI_NONAME, "Name does not resolve")
        address = ("192.0.2.7", 0) if family == socket.AF_INET else ("2001:db8::7", 0, 0, 0)
        return [(family, socket.SOCK_STREAM, 6, "", address)]

    return getaddrinfo


def test_an_address_of_version_4_is_found_whatever_the_answer_for_version_6(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", answering(socket.AF_INET))
    with pytest.raises(socket.gaierror):
        socket.getaddrinfo("registry.test", 443)
    found = look_up("registry.test")
    assert (found.addresses, found.why) == (["192.0.2.7"], "")


def test_the_check_goes_on_with_the_address_that_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = server.getsockname()[1]
    monkeypatch.setattr(lookup, "_ask", lambda _name: lookup.Answer(["127.0.0.1"], []))
    with pytest.raises(Fault) as caught:
        connect.check(f"registry.test:{closed}", "", Client("node node-a"))
    assert caught.value.reason == "NO_CONNECTION"
    assert caught.value.details.get("addresses") == ["127.0.0.1"]


def test_addresses_of_both_versions_and_of_version_6_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", answering(socket.AF_INET, socket.AF_INET6))
    assert look_up("registry.test").addresses == ["192.0.2.7", "2001:db8::7"]
    monkeypatch.setattr(socket, "getaddrinfo", answering(socket.AF_INET6))
    assert look_up("registry.test").addresses == ["2001:db8::7"]
    monkeypatch.setattr(socket, "getaddrinfo", answering())
    assert look_up("registry.test").why == "Name does not resolve"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has another root")
def test_the_resolver_files_are_the_ones_below_the_root_as_they_are_now(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run/resolv.conf").write_text("nameserver 127.0.0.3\noptions timeout:1 attempts:1\n")
    (tmp_path / "etc/resolv.conf").symlink_to("/run/resolv.conf")
    hosts = tmp_path / "etc/hosts"
    hosts.write_text("192.0.2.7 registry.test\n")
    assert look_up("registry.test", tmp_path) == lookup.Answer(["192.0.2.7"], ["127.0.0.3"])
    hosts.write_text("192.0.2.8 registry.test\n2001:db8::8 registry.test\n")
    assert look_up("registry.test", tmp_path).addresses == ["192.0.2.8", "2001:db8::8"]
    hosts.write_text("")
    gone = look_up("registry.test", tmp_path)
    assert gone.addresses == []
    assert gone.why
    assert look_up("localhost").addresses, "this process still has its own root"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has another root")
def test_a_root_that_is_gone_is_a_reason(tmp_path: Path) -> None:
    found = look_up("localhost", tmp_path / "gone")
    assert found.addresses == []
    assert "No such file" in found.why
