"""Agents on a node, from the first look to the last: what they write, when they restart, and that nothing is left."""

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.trust.agent.fixture_node import CA, CONTAINERD, HOST, LAYOUTS, OTHER_CA, FixtureNode, fault_of
from trust.agent import host
from trust.agent.faults import Fault, Reason, Stopped
from trust.agent.placement import GONE_FOR_GOOD

DEFAULT_1_6 = (LAYOUTS / "default-1.6.toml").read_text()
MIRRORS = (LAYOUTS / "gke-1.32.toml").read_text()
EXPLICIT = 'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\nconfig_path = "/etc/containerd/certs.d"\n'
CONFIG = "/etc/containerd/config.toml"
CERTS_D = "/etc/containerd/certs.d"
CERTIFICATE = f"{CERTS_D}/{HOST}/pr-42.crt"
MakeNode = Callable[..., FixtureNode]


@pytest.fixture(autouse=True)
def disk_that_never_loses_power(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of fsync calls are most of the time these tests take, and no test here cuts the power."""
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)


@pytest.fixture
def make_node(tmp_path: Path) -> MakeNode:
    def make(version: str = "1.7.24", config: str | None = EXPLICIT, **more: object) -> FixtureNode:
        files = {} if config is None else {CONFIG: config}
        return FixtureNode(tmp_path / str(len(list(tmp_path.iterdir()))), version, files=files, **more)  # pyright: ignore

    return make


@pytest.mark.parametrize(
    ("version", "config", "files", "restarts"),
    [
        ("1.7.24", EXPLICIT, [CERTIFICATE], 0),
        ("1.6.20~ds1", DEFAULT_1_6, [CERTIFICATE], 1),
        ("v1.6.36", None, [CERTIFICATE], 1),
        ("1.7.29", MIRRORS, ["/var/lib/private-registry-trust/pr-42.crt"], 1),
        ("v2.1.9", None, [CERTIFICATE], 1),
        (
            "2.4.2+unknown",
            (LAYOUTS / "default-2.4.toml").read_text(),
            [f"{CERTS_D}:/etc/docker/certs.d/{HOST}/pr-42.crt", CERTIFICATE, f"/etc/docker/certs.d/{HOST}/pr-42.crt"],
            0,
        ),
        ("v2.2.1-k3s1", (LAYOUTS / "list-discard-v3.toml").read_text(), [CERTIFICATE], 0),
    ],
)
def test_node_is_trusted_and_left_as_it_was(
    make_node: MakeNode, version: str, config: str | None, files: list[str], restarts: int
) -> None:
    node = make_node(version, config)
    before = node.tree()
    assert not node.trusts()
    agent = node.agent()
    assert agent.tick(CA)
    assert node.trusts()
    assert [path for path in node.tree() if path.endswith(".crt")] == sorted(files)
    assert agent.status.roots[0] == files[0].rpartition("/")[0]
    applied = node.tree()
    for again in (agent, node.agent(), node.agent(pod="pod-2")):
        assert again.tick(CA)
    assert {**node.tree(), **applied}.keys() == applied.keys()
    assert not agent.remove(), "pod-2 has taken over"
    assert node.trusts()
    assert node.agent(pod="pod-2").remove()
    assert node.tree() == before
    assert not node.trusts()
    assert node.agent(pod="pod-3").tick(CA)
    assert node.trusts()
    assert len(node.restarts) == restarts, "once, since the same process has the change in memory the second time"


def test_edit_keeps_mode_owner_and_every_other_line(make_node: MakeNode) -> None:
    node = make_node("1.6.20", DEFAULT_1_6)
    (node.root / CONFIG[1:]).chmod(0o640)
    node.agent().tick(CA)
    assert node.read(CONFIG) == DEFAULT_1_6.replace('config_path = ""', 'config_path = "/etc/containerd/certs.d"')
    assert (node.root / CONFIG[1:]).stat().st_mode & 0o777 == 0o640


def test_rotated_ca_replaces_the_file_and_may_hold_two_certificates(make_node: MakeNode) -> None:
    node = make_node()
    agent = node.agent()
    agent.tick(CA)
    agent.tick(OTHER_CA + CA)
    assert node.read(CERTIFICATE) == OTHER_CA + CA
    assert len(agent.status.ca) == 2


@pytest.mark.parametrize("ca", ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "no PEM"])
def test_ca_that_is_none_is_never_written(make_node: MakeNode, ca: str) -> None:
    node = make_node()
    before = node.tree()
    fault = fault_of(node.agent(), ca)
    assert fault is not None
    assert fault.reason == Reason.CA_INVALID
    assert node.tree() == before


def test_wiped_folders_and_spoiled_files_come_back(make_node: MakeNode) -> None:
    node = make_node()
    agent = node.agent()
    agent.tick(CA)
    applied = node.tree()
    for spoil in (
        lambda: (node.root / CERTIFICATE[1:]).unlink(),
        lambda: (node.root / CERTIFICATE[1:]).write_text("broken"),
        lambda: (node.root / CERTIFICATE[1:]).write_text(""),
        lambda: (node.root / CERTS_D[1:]).rename(node.root / "wiped"),
        lambda: (node.root / "var/lib/private-registry-trust/pr-42.json").unlink(),
    ):
        spoil()
        agent.tick(CA)
        assert node.tree().keys() == applied.keys()
        assert node.read(CERTIFICATE) == CA


def test_files_of_strangers_are_never_touched(make_node: MakeNode) -> None:
    node = make_node()
    node.write(f"{CERTS_D}/_default/hosts.toml", 'server = "https://mirror"\n')
    node.write(f"{CERTS_D}/{HOST}/ca.crt", OTHER_CA)
    node.write(f"/etc/docker/certs.d/{HOST}/ca.crt", OTHER_CA)
    before = node.tree()
    agent = node.agent()
    agent.tick(CA)
    node.write(f"{CERTS_D}/other.example/ca.crt", OTHER_CA)
    agent.remove()
    (node.root / f"{CERTS_D}/other.example/ca.crt"[1:]).unlink()
    (node.root / f"{CERTS_D}/other.example"[1:]).rmdir()
    assert node.tree() == before


def test_folder_that_a_stranger_uses_meanwhile_stays(make_node: MakeNode) -> None:
    node = make_node()
    agent = node.agent()
    agent.tick(CA)
    node.write(f"{CERTS_D}/{HOST}/ca.crt", OTHER_CA)
    agent.remove()
    assert node.read(f"{CERTS_D}/{HOST}/ca.crt") == OTHER_CA


def test_hosts_toml_of_a_stranger_is_named_and_left(make_node: MakeNode) -> None:
    node = make_node()
    text = f'server = "https://{HOST}"\nca = "/theirs.crt"\n'
    node.write(f"{CERTS_D}/{HOST}/hosts.toml", text)
    agent = node.agent()
    fault = fault_of(agent)
    assert fault is not None
    assert fault.reason == Reason.FOREIGN_HOSTS_TOML
    assert f"{CERTS_D}/{HOST}/hosts.toml" in fault.sentence
    assert node.read(f"{CERTS_D}/{HOST}/hosts.toml") == text
    node.write(f"{CERTS_D}/{HOST}/hosts.toml", text.replace('"/theirs.crt"', f'["/theirs.crt", "{CERTIFICATE}"]'))
    assert fault_of(agent) is None


@pytest.mark.parametrize("text", ["broken", "", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_broken_certificate_of_a_stranger_is_named_and_left(make_node: MakeNode, text: str) -> None:
    """With it there, containerd 1.6 to 2.4 fails every pull from this host: unable to load CA cert."""
    node = make_node()
    path = f"{CERTS_D}/{HOST}/ca.crt"
    node.write(path, text)
    (node.root / f"{CERTS_D}/{HOST}/folder.crt"[1:]).mkdir()
    agent = node.agent()
    fault = fault_of(agent)
    assert fault is not None
    assert fault.reason == Reason.CONFIG_INVALID
    assert path in fault.sentence
    assert node.read(path) == text
    node.write(path, text + OTHER_CA)
    assert fault_of(agent) is None
    node.write(path, text)
    node.write(f"{CERTS_D}/{HOST}/hosts.toml", f'ca = "{CERTIFICATE}"\n')
    assert fault_of(agent) is None, "containerd does not look at it beside a hosts.toml"


def test_folder_with_an_escaped_port_wins(make_node: MakeNode) -> None:
    node = make_node()
    agent = node.agent(host="registry.example:5000")
    agent.tick(CA)
    assert node.read(f"{CERTS_D}/registry.example:5000/pr-42.crt") == CA
    (node.root / f"{CERTS_D}/registry.example_5000_"[1:]).mkdir()
    agent.tick(CA)
    assert node.read(f"{CERTS_D}/registry.example_5000_/pr-42.crt") == CA
    assert not (node.root / f"{CERTS_D}/registry.example:5000"[1:]).exists()
    agent.remove()
    assert os.listdir(node.root / CERTS_D[1:]) == ["registry.example_5000_"], "it was not ours"


@pytest.mark.parametrize("target", ["/etc", "../../../etc", "/nowhere"])
def test_link_out_of_the_hosts_directory_is_refused(make_node: MakeNode, target: str) -> None:
    node = make_node()
    (node.root / CERTS_D[1:]).mkdir()
    (node.root / f"{CERTS_D}/{HOST}"[1:]).symlink_to(target)
    before = node.tree()
    agent = node.agent()
    fault = fault_of(agent)
    assert fault is not None
    assert fault.reason == Reason.SYMLINK_LEAVES_TREE
    agent.remove()
    assert node.tree() == before


def test_link_to_the_hosts_directory_is_followed_inside_the_node(make_node: MakeNode) -> None:
    node = make_node()
    (node.root / "data/certs.d").mkdir(parents=True)
    (node.root / CERTS_D[1:]).symlink_to("/data/certs.d")
    agent = node.agent()
    agent.tick(CA)
    assert node.read(f"/data/certs.d/{HOST}/pr-42.crt") == CA
    agent.remove()
    assert os.listdir(node.root / "data/certs.d") == []


def test_microk8s_current_link(tmp_path: Path) -> None:
    text = (LAYOUTS / "microk8s.toml").read_text()
    config = "/var/snap/microk8s/8511/args/containerd.toml"
    arguments = ("/snap/microk8s/8511/bin/containerd", "--config", config, "--address", "/x.sock")
    node = FixtureNode(tmp_path, "v1.7.27", arguments, files={config: text})
    (node.root / "var/snap/microk8s/current").symlink_to("8511")
    assert node.agent().tick(CA)
    assert node.read(f"/var/snap/microk8s/8511/args/certs.d/{HOST}/pr-42.crt") == CA


@pytest.mark.parametrize(
    ("runtime", "existing", "wanted"),
    [
        ("docker", [], "/etc/docker/certs.d"),
        ("cri-o", [], "/etc/containers/certs.d"),
        ("cri-o", [f"/etc/docker/certs.d/{HOST}"], "/etc/docker/certs.d"),
        ("cri-o", [f"/etc/containers/certs.d/{HOST}", f"/etc/docker/certs.d/{HOST}"], "/etc/containers/certs.d"),
        ("cri-o", [f"/root/.config/containers/certs.d/{HOST}"], "/root/.config/containers/certs.d"),
    ],
)
def test_other_runtimes(tmp_path: Path, runtime: str, existing: list[str], wanted: str) -> None:
    node = FixtureNode(tmp_path, "29.1", runtime=runtime)
    for folder in existing:
        (node.root / folder[1:]).mkdir(parents=True)
    before = node.tree()
    agent = node.agent()
    assert agent.tick(CA)
    assert agent.tick(CA)
    assert node.read(f"{wanted}/{HOST}/pr-42.crt") == CA
    agent.remove()
    assert node.tree() == before


def test_unknown_runtime_is_named(tmp_path: Path) -> None:
    fault = fault_of(FixtureNode(tmp_path, runtime="frakti").agent())
    assert fault is not None
    assert str(fault).startswith("RUNTIME_UNKNOWN: 'frakti' serves")


# Connection


def refuse(_host: str, _ca: str, _node: str) -> None:
    raise Fault(Reason.NO_CONNECTION, "down")


def test_nothing_is_edited_or_restarted_before_the_registry_answers(make_node: MakeNode) -> None:
    node = make_node("1.6.20", DEFAULT_1_6)
    agent = node.agent(check=refuse)
    for _ in range(2):
        fault = fault_of(agent)
        assert fault is not None
        assert fault.reason == Reason.NO_CONNECTION
    assert (node.read(CONFIG), node.restarts) == (DEFAULT_1_6, [])
    agent.check = lambda _host, _ca, _node: None
    assert agent.tick(CA)
    agent.check = refuse
    assert agent.tick(CA), "a node that lost the registry stays configured"


# Restarts


def test_restart_that_is_not_allowed(make_node: MakeNode) -> None:
    node = make_node("1.6.20", DEFAULT_1_6)
    fault = fault_of(node.agent(restart_allowed=False))
    assert fault is not None
    assert fault.reason == Reason.RESTART_NOT_ALLOWED
    assert (node.read(CONFIG), node.restarts) == (DEFAULT_1_6, [])


def test_runtime_outside_of_systemd_is_not_restarted(make_node: MakeNode) -> None:
    node = make_node("1.6.20", DEFAULT_1_6)
    (node.proc / f"{node.pid}/cgroup").write_text("0::/kubepods/burstable\n")
    fault = fault_of(node.agent())
    assert fault is not None
    assert fault.reason == Reason.RESTART_NOT_ALLOWED
    assert (node.read(CONFIG), node.restarts) == (DEFAULT_1_6, [])


@pytest.mark.parametrize(
    "cgroup", ["0::/../../system.slice/containerd.service\n", "3:name=systemd:/a.slice/containerd.service\n2:cpu:/\n"]
)
def test_unit_is_found_in_both_generations_of_cgroups(make_node: MakeNode, cgroup: str) -> None:
    node = make_node("1.6.20", DEFAULT_1_6)
    (node.proc / f"{node.pid}/cgroup").write_text(cgroup)
    assert node.agent().tick(CA)
    assert node.restarts == ["containerd.service"]


def test_unit_with_another_main_process_is_not_restarted(make_node: MakeNode) -> None:
    node = make_node("1.6.20", DEFAULT_1_6)
    fault = fault_of(node.agent(run=lambda *_arguments: (0, "77")))
    assert fault is not None
    assert "containerd.service" in fault.sentence


def test_runtime_that_refuses_the_change_gets_its_file_back_and_is_left_alone(make_node: MakeNode) -> None:
    node = make_node("1.6.20", DEFAULT_1_6)
    before = node.tree()
    node.accepts = lambda node: 'config_path = ""' in (node.read(CONFIG) or "")
    for agent in (node.agent(), node.agent(), node.agent(pod="pod-2")):
        for _ in range(3):
            fault = fault_of(agent)
            assert fault is not None
            assert fault.reason == Reason.RESTART_FAILED
            assert "Job for containerd.service failed" in fault.sentence
            assert node.read(CONFIG) == DEFAULT_1_6
    assert node.restarts == ["containerd.service"] * 2, "once with the change, once without"
    assert node.agent(pod="pod-2").remove()
    assert node.tree() == before
    assert fault_of(node.agent(pod="pod-3")) is not None
    assert len(node.restarts) == 2, "remembered beyond the owner, too"
    node.accepts = lambda _node: True
    node.write(CONFIG, DEFAULT_1_6 + "# somebody repaired it\n")
    assert node.agent(pod="pod-3").tick(CA), "another content is another try"
    assert node.trusts()


def test_runtime_that_would_not_come_back_anyway_is_not_restarted(make_node: MakeNode) -> None:
    node = make_node("1.6.20", DEFAULT_1_6)
    before = node.tree()
    node.accepts = lambda _node: False  # somebody has broken the file since it was started
    agent = node.agent()
    fault = fault_of(agent)
    assert fault is not None
    assert fault.reason == Reason.CONFIG_INVALID
    assert "containerd: no good" in fault.sentence
    assert (node.read(CONFIG), node.restarts, node.armed) == (DEFAULT_1_6, [], "")
    agent.remove()
    assert node.tree() == before


def test_runtime_is_asked_about_the_file_that_it_was_started_with(tmp_path: Path) -> None:
    arguments = (*CONTAINERD, "-c", "/x/config.toml")
    node = FixtureNode(tmp_path, "1.6.20", arguments, files={"/x/config.toml": DEFAULT_1_6})
    assert node.agent().tick(CA)
    assert node.dumps == [("--config", "/x/config.toml", "config", "dump")]


@pytest.mark.parametrize("config", [DEFAULT_1_6, None])
def test_systemd_takes_a_refused_change_back_when_the_agent_is_killed(make_node: MakeNode, config: str | None) -> None:
    """Without containerd nobody starts another agent."""
    node = make_node("1.6.20", config)
    node.accepts = lambda node: "certs.d" not in (node.read(CONFIG) or "")

    def killed(program: str, *arguments: str) -> tuple[int, str]:
        if arguments[0] == "restart":
            raise Stopped
        return node.run(program, *arguments)

    with pytest.raises(Stopped):
        node.agent(run=killed).tick(CA)
    assert "certs.d" in (node.read(CONFIG) or "")
    for _ in range(2):  # the second time there is nothing to take back
        script = re.sub(r"(?<=[ '])/(etc|var)/", rf"{node.root}/\1/", node.armed)
        script = f"systemctl() {{ echo $*; }}\n{script.replace('exec ', '')}"
        done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
        assert node.read(CONFIG) == config
    assert done.stdout == "start containerd.service\n"
    node.start_runtime()
    fault = fault_of(node.agent())
    assert fault is not None
    assert fault.reason == Reason.CONFIG_REVERTED
    assert node.read(CONFIG) == config


def test_runtime_that_starts_but_does_not_serve_cri_counts_as_refusing(make_node: MakeNode) -> None:
    node = make_node("1.6.20", DEFAULT_1_6)

    def answer(_path: str) -> tuple[str, str]:
        if 'config_path = ""' not in node.memory[CONFIG]:
            raise OSError("unknown service runtime.v1.RuntimeService")
        return "containerd", "1.6.20"

    node.tell_version = answer
    fault = fault_of(node.agent())
    assert fault is not None
    assert fault.reason == Reason.RESTART_FAILED
    assert "unknown service" in fault.sentence
    assert node.read(CONFIG) == DEFAULT_1_6
    assert host.ANSWERS_WITHIN <= node.clock < 3 * host.ANSWERS_WITHIN


def test_change_that_others_keep_taking_back_does_not_become_a_restart_loop(make_node: MakeNode) -> None:
    node = make_node("1.6.20", DEFAULT_1_6)
    agent = node.agent()
    agent.tick(CA)
    for _ in range(3):
        node.write(CONFIG, DEFAULT_1_6)
        agent.tick(CA)
        assert node.trusts(), "the file is put right without a restart: the process has it in memory"
    for _ in range(3):
        node.write(CONFIG, DEFAULT_1_6)
        node.start_runtime()
        fault = fault_of(agent)
        assert fault is not None
        assert fault.reason == Reason.CONFIG_REVERTED
    assert len(node.restarts) == 1


def test_reboot_brings_trust_back_with_at_most_one_restart(make_node: MakeNode) -> None:
    node = make_node("1.6.20", DEFAULT_1_6)
    node.agent().tick(CA)
    node.boot()
    assert node.agent().tick(CA)
    assert node.trusts()
    assert len(node.restarts) == 1, "the file was there when the runtime started"
    node.write(CONFIG, DEFAULT_1_6)  # /etc/containerd is made anew at each boot on some systems
    node.boot()
    assert node.agent().tick(CA)
    assert node.trusts()
    assert len(node.restarts) == 2


def test_runtime_restarted_by_others_is_looked_at_again(make_node: MakeNode) -> None:
    node = make_node("1.6.20", DEFAULT_1_6)
    agent = node.agent()
    agent.tick(CA)
    node.version = "2.4.0"
    node.start_runtime()
    agent.tick(CA)
    assert agent.status.version == "2.4.0"
    assert node.trusts()
    assert len(node.restarts) == 1


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


def test_term_during_a_restart_takes_the_change_back(make_node: MakeNode) -> None:
    node = make_node("1.6.20", DEFAULT_1_6)
    before = node.tree()

    def stop(_seconds: float) -> None:
        raise Stopped

    agent = node.agent(pause=stop)
    assert agent.tick(CA), "the new process answered already"
    assert agent.remove()
    assert node.tree() == before
    assert node.agent(pod="pod-2").tick(CA)
    assert len(node.restarts) == 1


# Several owners


@pytest.mark.parametrize("config", [EXPLICIT, DEFAULT_1_6, MIRRORS, None])
def test_two_owners_come_and_go_in_any_order(make_node: MakeNode, config: str | None) -> None:
    for first_leaves in (0, 1):
        node = make_node("1.7.24", config)
        before = node.tree()
        hosts = [HOST, "registry-pr-43.10-99-0-201.nip.io"]
        agents = [node.agent(f"pr-{42 + i}", f"pod-{i}", hosts[i]) for i in (0, 1)]
        cas = [CA, OTHER_CA]
        for agent, ca in zip(agents, cas, strict=True):
            assert agent.tick(ca)
        assert node.trusts(CA, hosts[0])
        assert node.trusts(OTHER_CA, hosts[1])
        stays = 1 - first_leaves
        assert agents[first_leaves].remove()
        assert agents[stays].tick(cas[stays])
        node.start_runtime()
        assert agents[stays].tick(cas[stays])
        assert node.trusts(cas[stays], hosts[stays])
        assert not node.trusts(cas[first_leaves], hosts[first_leaves])
        restarts = len(node.restarts)
        assert restarts == {EXPLICIT: 0, MIRRORS: 2}.get(config or "", 1)
        assert agents[stays].remove()
        assert node.tree() == before


def test_pod_that_was_passed_over_takes_the_files_back_when_the_younger_one_leaves(make_node: MakeNode) -> None:
    node = make_node()
    old, new = node.agent(pod="old"), node.agent(pod="new")
    old.tick(CA)
    new.tick(CA)
    (node.root / CERTIFICATE[1:]).unlink()
    assert old.tick(CA)
    assert node.read(CERTIFICATE) is None, "not its business any more"
    new.tick(CA)
    assert not old.remove()
    assert node.trusts()
    assert new.remove()
    assert old.tick(CA)
    assert node.trusts()


def test_agents_take_turns(make_node: MakeNode) -> None:
    node = make_node()
    agent, other = node.agent(), node.agent("pr-43")
    with other._state.lock(seconds=0) as held:  # pyright: ignore[reportPrivateUsage]
        assert held
        assert not agent.tick(CA)
    assert agent.tick(CA)


def test_arguments_of_the_runtime_name_its_configuration(tmp_path: Path) -> None:
    config = "/var/lib/rancher/k3s/agent/etc/containerd/config.toml"
    for number, arguments in enumerate(
        [(*CONTAINERD, "-c", config), (*CONTAINERD, f"--config={config}", "-l", "debug")]
    ):
        files = {config: (LAYOUTS / "k3s-v3.toml").read_text()}
        node = FixtureNode(tmp_path / str(number), "2.0.5-k3s1", arguments, files=files)
        assert node.agent().tick(CA)
        assert node.read(f"/var/lib/rancher/k3s/agent/etc/containerd/certs.d/{HOST}/pr-42.crt") == CA


def test_owner_whose_pod_is_gone_for_good_is_cleaned_up_after(make_node: MakeNode) -> None:
    """Its node was down while its stack was deleted, so no pod of it was ever told to end there."""
    node = make_node("1.6.20", DEFAULT_1_6)
    before = node.tree()
    node.agent("pr-41", "uid-of-pr-41", "registry-pr-41.example").tick(CA)
    agent = node.agent()
    agent.tick(CA)
    node.process(70, ("/pause",))
    (node.proc / "70/cgroup").write_text("0::/../kubepods-burstable-poduid_of_pr_41.slice/cri-containerd-1.scope\n")
    node.clock += 2 * GONE_FOR_GOOD
    agent.tick(CA)
    node.end(70)
    agent.tick(CA)
    node.clock += GONE_FOR_GOOD / 2
    agent.tick(CA)
    assert node.read(f"{CERTS_D}/registry-pr-41.example/pr-41.crt") == CA, "it may only be between two starts"
    node.clock += GONE_FOR_GOOD
    agent.tick(CA)
    assert node.read(f"{CERTS_D}/registry-pr-41.example/pr-41.crt") is None
    assert node.trusts()
    agent.remove()
    assert node.tree() == before
    assert len(node.restarts) == 1


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


def test_marker_of_another_version_of_the_agent_is_understood(make_node: MakeNode) -> None:
    node = make_node()
    before = node.tree()
    node.agent().tick(CA)
    path = "/var/lib/private-registry-trust/pr-42.json"
    node.write(path, (node.read(path) or "").replace('"owner"', '"news": 1, "owner"'))
    successor = node.agent(pod="pod-2")
    successor.tick(CA)
    assert successor.remove()
    assert node.tree() == before
