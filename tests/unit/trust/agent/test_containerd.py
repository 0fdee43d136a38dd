"""Which folders containerd really reads is found out from its configuration."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trust.agent import containerd
from trust.agent.containerd import CERTS_D, IMPLIED, Source, host_folders, load, plan
from trust.agent.faults import Fault, Reason
from trust.agent.runtime_contract import Edit, Plan
from trust.agent.tomledit import get, set_key

LAYOUTS = Path(__file__).parent / "fixtures/layouts"
CONFIG = "/etc/containerd/config.toml"
HOST = "registry-pr-42.10-99-0-200.nip.io"
CA_FILE = "/var/lib/private-registry-trust/pr-42.crt"
V1, V2, V3 = "cri", "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images"
DOCKER_CERTS_D = "/etc/docker/certs.d"
ALL_THREE = (IMPLIED, CERTS_D, DOCKER_CERTS_D)
K3S = "/var/lib/rancher/k3s/agent/etc/containerd/certs.d"


def decide(release: tuple[int, int], *texts: str) -> Plan:
    sources = [Source(f"{CONFIG}{number or ''}", text) for number, text in enumerate(texts)]
    return plan(release, CONFIG, sources, HOST, CA_FILE)


def edit(plugin: str) -> Edit:
    return Edit(CONFIG, ("plugins", plugin, "registry", "config_path"), CERTS_D)


def ca_file(plugin: str) -> Plan:
    return Plan((), Edit(CONFIG, ("plugins", plugin, "registry", "configs", HOST, "tls", "ca_file"), CA_FILE), CA_FILE)


@pytest.mark.parametrize(
    ("layout", "releases", "wanted"),
    [
        ("default-1.6", [(1, 5), (1, 6), (1, 7), (2, 0), (2, 1)], Plan((CERTS_D,), edit(V2))),
        ("default-1.6", [(2, 2), (2, 3), (2, 4)], Plan(ALL_THREE)),
        ("default-2.4", [(2, 3), (2, 4), (2, 9), (3, 0)], Plan(ALL_THREE)),
        ("debian-1.7", [(1, 5), (1, 6), (1, 7), (2, 0), (2, 1)], Plan((CERTS_D,), edit(V2))),
        ("debian-1.7", [(2, 2), (2, 4)], Plan(ALL_THREE)),
        ("kind", [(1, 7), (2, 0), (2, 1)], Plan((CERTS_D,), edit(V2))),
        ("kind", [(2, 2), (2, 3)], Plan((CERTS_D,))),
        ("kind-patched", [(1, 7), (2, 0), (2, 1), (2, 2), (2, 3)], Plan((CERTS_D,))),
        ("list-discard-v3", [(2, 1), (2, 2), (2, 3)], Plan((CERTS_D,))),
        ("eks-v2", [(1, 7), (2, 0), (2, 1), (2, 2)], Plan((CERTS_D,))),
        ("eks-v3", [(2, 0)], Plan((CERTS_D,))),
        ("eks-v3", [(2, 1), (2, 2), (2, 4)], Plan(ALL_THREE)),
        ("aks", [(1, 6), (1, 7), (2, 0), (2, 1), (2, 2)], Plan((CERTS_D,))),
        ("gke-1.32", [(1, 6), (1, 7)], ca_file(V2)),
        ("gke-1.33", [(1, 7), (2, 0), (2, 1)], Plan(("/etc/containerd/hosts.d",))),
        ("k3s-v2", [(1, 6), (1, 7)], Plan((K3S,))),
        ("k3s-v3", [(2, 0), (2, 1), (2, 2)], Plan((K3S,))),
        ("microk8s", [(1, 6), (1, 7), (2, 0)], Plan(("/var/snap/microk8s/current/args/certs.d",))),
        ("k8s-snap", [(1, 6), (1, 7), (2, 1)], Plan(("/etc/containerd/hosts.d",))),
        ("minikube", [(1, 7), (2, 1), (2, 2)], Plan((CERTS_D,))),
        ("mirrors-v1", [(1, 4), (1, 5), (1, 6), (1, 7)], ca_file(V1)),
    ],
)
def test_known_layouts(layout: str, releases: list[tuple[int, int]], wanted: Plan) -> None:
    for release in releases:
        assert decide(release, (LAYOUTS / f"{layout}.toml").read_text()) == wanted, release


@pytest.mark.parametrize(("layout", "release"), [("mirrors-v3", (2, 0)), ("mirrors-v3", (2, 4)), ("gke-1.32", (2, 0))])
def test_inline_mirrors_of_2x_are_a_clear_fault(layout: str, release: tuple[int, int]) -> None:
    with pytest.raises(Fault, match=r"registry\.mirrors for docker\.io.*hosts\.toml and set config_path") as caught:
        decide(release, (LAYOUTS / f"{layout}.toml").read_text())
    assert caught.value.reason == Reason.INLINE_MIRRORS


@pytest.mark.parametrize(
    ("release", "wanted"),
    [
        ((1, 6), Plan((CERTS_D,), Edit(CONFIG, ("plugins", V2, "registry", "config_path"), CERTS_D, "version = 2\n"))),
        ((2, 1), Plan((CERTS_D,), Edit(CONFIG, ("plugins", V3, "registry", "config_path"), CERTS_D, "version = 3\n"))),
        ((2, 2), Plan(ALL_THREE)),
    ],
)
def test_no_file_at_all(release: tuple[int, int], wanted: Plan) -> None:
    assert decide(release) == wanted


@pytest.mark.parametrize(
    "option",
    [
        "use_local_image_pull = true",
        "discard_unpacked_layers = true",
        "disable_snapshot_annotations = false",
        "max_concurrent_downloads = 5",
        "image_pull_with_sync_fs = true",
        'registry.configs."x".auth.username = "y"',
        'registry.auths."https://x".username = "y"',
    ],
)
def test_options_that_make_containerd_pull_by_itself(option: str) -> None:
    text = f'version = 3\n[plugins."{V3}"]\nregistry.config_path = "/a:/b"\n{option}\n'
    assert decide((2, 1), text) == Plan(("/a",))
    assert decide((2, 4), text) == Plan(("/a",))


@pytest.mark.parametrize(
    "option", ["discard_unpacked_layers = false", "disable_snapshot_annotations = true", "max_concurrent_downloads = 3"]
)
def test_options_that_leave_pulls_to_the_transfer_service(option: str) -> None:
    text = f'version = 3\n[plugins."{V3}"]\nregistry.config_path = "/a:/b/"\n{option}\n'
    assert decide((2, 1), text) == Plan(("/a:/b", "/a", "/b"))


def test_1x_refuses_config_path_beside_tls_of_a_registry() -> None:
    text = f'version = 2\n[plugins."{V2}".registry.configs."other.example".tls]\ninsecure_skip_verify = true\n'
    assert decide((1, 6), text) == ca_file(V2)
    assert decide((2, 0), text) == Plan((CERTS_D,), edit(V2)), "2.x ignores it"


def test_a_stranger_who_already_set_a_ca_for_our_host_is_not_overruled() -> None:
    text = f'version = 2\n[plugins."{V2}".registry.configs."{HOST}".tls]\nca_file = "/theirs.crt"\n'
    with pytest.raises(Fault, match="already has ca_file = '/theirs.crt'"):
        decide((1, 6), text)


def test_1x_drop_in_replaces_the_whole_section_and_2x_merges_it() -> None:
    main = f'version = 2\n[plugins."{V2}".registry]\nconfig_path = "/a"\n'
    drop_in = f'version = 2\n[plugins."{V2}"]\nsandbox_image = "x"\n'
    assert decide((2, 0), main, drop_in) == Plan(("/a",))
    assert decide((1, 7), main, drop_in).edit == Edit(f"{CONFIG}1", ("plugins", V2, "registry", "config_path"), CERTS_D)


def test_older_table_in_a_version_3_file_counts_only_for_2_3_and_newer() -> None:
    text = (
        f'version = 3\n[plugins."{V3}".registry]\nconfig_path = "/new"\n'
        f'[plugins."{V2}".registry]\nconfig_path = "/old"\n'
    )
    assert decide((2, 2), text) == Plan(("/new",))
    assert decide((2, 3), text) == Plan(("/old",))


def test_first_format_is_passed_over_by_2_0_to_2_2_and_migrated_since() -> None:
    text = f'[plugins.{V1}.registry]\nconfig_path = "/a"\n'
    assert decide((1, 7), text) == Plan(("/a",))
    assert decide((2, 0), text) == Plan((CERTS_D,), edit(V3))
    assert decide((2, 1), text) == Plan((CERTS_D,), edit(V3))
    assert decide((2, 2), text) == Plan(ALL_THREE)
    assert decide((2, 3), text) == Plan(("/a",))
    assert decide((2, 0), (LAYOUTS / "mirrors-v1.toml").read_text()) == Plan((CERTS_D,), edit(V3))


def test_last_file_gives_the_version_of_all_in_2_0_to_2_2() -> None:
    older = f'version = 2\n[plugins."{V2}".registry]\nconfig_path = "/a"\n'
    newer, without = 'version = 3\n[debug]\nlevel = "info"\n', '[debug]\nlevel = "info"\n'
    assert decide((2, 1), older, newer) == Plan((CERTS_D,), edit(V3))
    assert decide((2, 2), older, newer) == Plan(ALL_THREE)
    assert decide((2, 3), older, newer) == Plan(("/a",))
    for release in ((2, 1), (2, 4)):
        assert decide(release, newer, older) == Plan(("/a",))
        assert decide(release, older, without) == Plan(("/a",))


def test_discard_unpacked_layers_of_an_older_file_counts_only_beside_runtimes() -> None:
    text = f'version = 2\n[plugins."{V2}"]\nregistry.config_path = "/a:/b"\ncontainerd.discard_unpacked_layers = true\n'
    assert decide((2, 2), text) == Plan(("/a:/b", "/a", "/b"))
    assert decide((2, 2), text + 'containerd.runtimes.runc.runtime_type = "x"\n') == Plan(("/a",))


def test_imports_are_read_breadth_first_and_once() -> None:
    files = {
        "/etc/containerd/config.toml": 'imports = ["conf.d/*.toml", "/x.toml", "/etc/containerd/config.toml"]',
        "/etc/containerd/conf.d/1.toml": 'imports = ["deep.toml"]',
        "/etc/containerd/conf.d/2.toml": "",
        "/etc/containerd/conf.d/deep.toml": 'imports = ["/x.toml"]',
        "/x.toml": "",
    }
    globs = {"/etc/containerd/conf.d/*.toml": ["/etc/containerd/conf.d/1.toml", "/etc/containerd/conf.d/2.toml"]}
    found = load("/etc/containerd/config.toml", (2, 1), files.get, lambda pattern: globs.get(pattern, []))
    names = [source.path.rpartition("/")[2] for source in found]
    assert names == ["config.toml", "1.toml", "2.toml", "x.toml", "deep.toml"]
    found = load("/etc/containerd/config.toml", (1, 7), files.get, lambda pattern: globs.get(pattern, []))
    assert [source.path for source in found] == ["/etc/containerd/config.toml", "/x.toml"], (
        "1.x: not relative to the file"
    )


def test_a_file_that_is_no_toml_is_named() -> None:
    with pytest.raises(Fault, match=f"{CONFIG} is no valid TOML"):
        decide((1, 7), "version = = 2")


def test_folders_for_a_host_with_a_port() -> None:
    assert host_folders("/r", "a.example:5000") == ["/r/a.example_5000_", "/r/a.example:5000"]
    assert host_folders("/r", "a.example") == ["/r/a.example"]


@pytest.mark.parametrize(
    ("text", "hides"),
    [
        ("", False),
        ("server = ", False),
        ('server = "https://x"', True),
        ('[host."https://mirror"]\n', True),
        ('ca = "/theirs.crt"', True),
        ('ca = "/c/h/pr-42.crt"', False),
        ('ca = ["/theirs.crt", "pr-42.crt"]\n[host."https://mirror"]\n', False),
        ("# only a comment", True),
    ],
)
def test_hosts_toml_of_others(text: str, hides: bool) -> None:
    assert containerd.hides_certificates(text.encode(), "/c/h/pr-42.crt") is hides


paths = st.sampled_from(["", "", "/a", "/a:/b"])
options = st.sampled_from(
    ["", 'sandbox_image = "x"\n', "max_concurrent_downloads = 5\n", "discard_unpacked_layers = true\n"]
)


@st.composite
def configurations(draw: st.DrawFn) -> list[str]:
    """Main file and up to two imports, every version and table mixed."""
    texts: list[str] = []
    same = draw(st.sampled_from([1, 2, 3]))
    for _ in range(draw(st.integers(0, 3))):
        text = f"version = {same}\n"
        plugins = {1: [V1], 2: [V2], 3: [V2, V3]}[same]
        for plugin in draw(st.lists(st.sampled_from(plugins), unique=True)):
            text += f'[plugins."{plugin}"]\n{draw(options)}'
            if draw(st.booleans()):
                text += f'[plugins."{plugin}".registry]\n'
                text += f'config_path = "{draw(paths)}"\n' if draw(st.booleans()) else ""
            if draw(st.sampled_from([False, False, True])):
                text += f'[plugins."{plugin}".registry.mirrors."m"]\nendpoint = ["https://m"]\n'
        texts.append(text)
    return texts


@given(configurations(), st.sampled_from([(1, 4), (1, 5), (1, 6), (1, 7), (2, 0), (2, 1), (2, 2), (2, 3), (2, 4)]))
def test_an_edit_reaches_what_was_planned_and_is_not_wanted_twice(texts: list[str], release: tuple[int, int]) -> None:
    if release < (2, 0):
        texts = [text for text in texts if "version = 3" not in text]
    try:
        first = decide(release, *texts)
    except Fault as fault:
        if fault.reason != Reason.INLINE_MIRRORS:
            raise
        return
    assert first.roots or first.ca_file
    if first.edit is None:
        return
    names = [f"{CONFIG}{number or ''}" for number in range(len(texts))] or [CONFIG]
    texts = texts or [first.edit.new_file]
    place = names.index(first.edit.file)
    texts[place] = set_key(texts[place], first.edit.key, first.edit.value)
    assert get(tomllib.loads(texts[place]), first.edit.key) == first.edit.value
    if first.ca_file:
        images = containerd._images(release, [tomllib.loads(text) for text in texts])  # pyright: ignore
        assert images["registry"]["configs"][HOST]["tls"]["ca_file"] == CA_FILE
    else:
        assert decide(release, *texts) == Plan((CERTS_D,))
