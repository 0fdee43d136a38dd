"""One agent on one node: what it writes, when it restarts, and that nothing is left."""

from pathlib import Path

from tests.unit.fixtures.agent.node import CA, HOST, FixtureNode

FIXTURES = Path(__file__).parent / "fixtures/agent"
DEFAULT_1_6 = (FIXTURES / "containerd-1.6-default.toml").read_text()
EXPLICIT = 'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\nconfig_path = "/etc/containerd/certs.d"\n'
CONFIG = "/etc/containerd/config.toml"


def test_explicit_path_gets_one_file_and_no_restart(tmp_path: Path) -> None:
    node = FixtureNode(tmp_path, files={CONFIG: EXPLICIT})
    before = node.tree()
    agent = node.agent()
    assert agent.tick(CA)
    assert node.read(f"/etc/containerd/certs.d/{HOST}/pr-42.crt") == CA
    assert agent.remove()
    assert node.tree() == before
    assert node.restarts == []


def test_generated_config_is_edited_and_the_runtime_restarted_once(tmp_path: Path) -> None:
    node = FixtureNode(tmp_path, "1.6.20~ds1", files={CONFIG: DEFAULT_1_6})
    before = node.tree()
    agent = node.agent()
    assert agent.tick(CA)
    assert node.restarts == ["containerd.service"]
    assert node.read(CONFIG) == DEFAULT_1_6.replace('config_path = ""', 'config_path = "/etc/containerd/certs.d"')
    assert node.read(f"/etc/containerd/certs.d/{HOST}/pr-42.crt") == CA
    for again in (agent, node.agent(), node.agent(pod="pod-2")):
        assert again.tick(CA)
        assert again.tick(CA)
    assert node.restarts == ["containerd.service"]
    assert not agent.remove(), "the files belong to pod-2 by now"
    assert node.agent(pod="pod-2").remove()
    assert node.tree() == before
    assert node.agent(pod="pod-3").tick(CA)
    assert node.restarts == ["containerd.service"], "the running process still has the change in memory"
