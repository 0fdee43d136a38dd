"""What the agent changes in a runtime's configuration file, and how it takes that back."""

import pytest

from tests.unit.trust.agent.fixture_node import CA, CONFIG, DEFAULT_1_6, MakeNode, fault_of
from trust.agent.faults import Reason


def test_edit_keeps_mode_owner_and_every_other_line(make_node: MakeNode) -> None:
    node = make_node("1.6.20", DEFAULT_1_6)
    (node.root / CONFIG[1:]).chmod(0o640)
    node.agent().tick(CA)
    assert node.read(CONFIG) == DEFAULT_1_6.replace('config_path = ""', 'config_path = "/etc/containerd/certs.d"')
    assert (node.root / CONFIG[1:]).stat().st_mode & 0o777 == 0o640


def test_stranger_who_rewrites_the_file_keeps_every_word(make_node: MakeNode) -> None:
    node = make_node("1.6.20", DEFAULT_1_6)
    agent = node.agent()
    agent.tick(CA)
    node.write(CONFIG, (node.read(CONFIG) or "").replace("oom_score = 0", "oom_score = -999") + "# theirs\n")
    agent.tick(CA)
    assert node.trusts()
    agent.remove()
    assert node.read(CONFIG) == DEFAULT_1_6.replace("oom_score = 0", "oom_score = -999") + "# theirs\n"
    assert len(node.restarts) == 1


def test_stranger_whose_file_cannot_be_understood_is_left_alone(make_node: MakeNode) -> None:
    node = make_node("1.6.20", DEFAULT_1_6)
    agent = node.agent()
    agent.tick(CA)
    node.write(CONFIG, "now = = broken")
    assert agent.remove()
    assert node.read(CONFIG) == "now = = broken"


def test_change_moves_when_another_file_decides(make_node: MakeNode) -> None:
    main = 'version = 2\nimports = ["/etc/containerd/conf.d/*.toml"]\n' + DEFAULT_1_6.partition("version = 2\n")[2]
    node = make_node("1.7.24", main)
    agent = node.agent()
    agent.tick(CA)
    drop_in = 'version = 2\n[plugins."io.containerd.grpc.v1.cri"]\nenable_cdi = true\n'
    node.write("/etc/containerd/conf.d/cdi.toml", drop_in)
    agent.tick(CA)
    assert node.read(CONFIG) == main
    assert "certs.d" in (node.read("/etc/containerd/conf.d/cdi.toml") or "")
    agent.remove()
    assert (node.read(CONFIG), node.read("/etc/containerd/conf.d/cdi.toml")) == (main, drop_in)


def test_change_that_is_not_needed_any_more_is_taken_back(make_node: MakeNode) -> None:
    node = make_node("2.1.9", None)
    agent = node.agent()
    agent.tick(CA)
    assert node.read(CONFIG) is not None
    node.version = "2.2.0"
    node.start_runtime()
    agent.tick(CA)
    assert node.read(CONFIG) is None
    assert node.trusts()
    node.start_runtime()
    agent.tick(CA)
    assert node.trusts()


@pytest.mark.parametrize("text", ["version = 2\nplugins = 1\n", "version = = 2", b"\xff"])
def test_configuration_that_cannot_be_changed_safely_is_left(make_node: MakeNode, text: str | bytes) -> None:
    node = make_node("1.6.20", "")
    (node.root / CONFIG[1:]).write_bytes(text if isinstance(text, bytes) else text.encode())
    fault = fault_of(node.agent())
    assert fault is not None
    assert fault.reason == Reason.CONFIG_INVALID
    assert (node.root / CONFIG[1:]).read_bytes() == (text if isinstance(text, bytes) else text.encode())


def test_two_owners_and_a_file_that_a_stranger_broke(make_node: MakeNode) -> None:
    node = make_node("1.6.20", DEFAULT_1_6)
    first, second = node.agent(), node.agent("pr-43", "pod-43", "registry-pr-43.example")
    first.tick(CA)
    second.tick(CA)
    node.write(CONFIG, "now = = broken")
    assert first.remove()
    assert second.remove()
    assert node.read(CONFIG) == "now = = broken"
    assert not (node.root / "var/lib/private-registry-trust").exists()


def test_copies_of_a_configuration_with_passwords_are_roots_alone(make_node: MakeNode) -> None:
    node = make_node("1.6.20", DEFAULT_1_6)
    (node.root / CONFIG[1:]).chmod(0o600)
    seen: dict[str, int] = {}

    def look(_operation: str, _path: str) -> None:
        for top in ("var/lib", "run", "etc/containerd"):
            for path in (node.root / top).rglob("*private-registry-trust*"):
                for found in (path, *path.rglob("*")):
                    seen[f"/{found.relative_to(node.root)}"] = found.stat().st_mode & 0o777

    agent = node.agent(before=look)
    agent.tick(CA)
    agent.remove()
    assert [path for path in seen if path.endswith(".toml.private-registry-trust")]
    assert [path for path in seen if "/config-" in path]
    assert {path: oct(mode) for path, mode in seen.items() if mode & 0o077 and ".crt" not in path} == {}
    assert (node.root / CONFIG[1:]).stat().st_mode & 0o777 == 0o600
