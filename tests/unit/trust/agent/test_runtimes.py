"""The contract of a runtime's layout, run over every kind of runtime."""

from pathlib import Path

import pytest

from tests.unit.trust.agent.fixture_node import CA, HOST
from trust.agent.faults import Fault, Reason
from trust.agent.files import Tree
from trust.agent.node import Runtime
from trust.agent.runtime_contract import RuntimeLayout
from trust.agent.runtimes import layout_of

KINDS = ("containerd", "cri-o", "docker")
CA_FILE = "/var/lib/private-registry-trust/pr-42.crt"


def layout(tmp_path: Path, name: str) -> tuple[Tree, RuntimeLayout]:
    tree = Tree(tmp_path)
    runtime = Runtime(name, "2.4.2", (1, 1, ""), (f"/usr/bin/{name}",), "/run/x.sock")
    return tree, layout_of(runtime, tree, "node-a", lambda _path, text: text)


@pytest.mark.parametrize("host", [HOST, "registry.example:5000"])
@pytest.mark.parametrize("name", KINDS)
def test_a_plan_names_a_place_and_the_folders_for_a_host_are_below_it(tmp_path: Path, name: str, host: str) -> None:
    _, found = layout(tmp_path, name)
    plan = found.plan(host, CA_FILE)
    assert (plan.ca_file, plan.edit) == (None, None)
    assert all(root.startswith("/etc/") for root in plan.roots)
    for root in plan.roots:
        folders = found.host_folders(root, host)
        assert folders[-1] == f"{root}/{host}", "the folder that is made if none of them exists"
        assert all(folder.rpartition("/")[0] == root for folder in folders)


@pytest.mark.parametrize("name", KINDS)
def test_a_folder_with_nothing_but_our_file_spoils_nothing(tmp_path: Path, name: str) -> None:
    tree, found = layout(tmp_path, name)
    folder = found.host_folders(found.plan(HOST, CA_FILE).roots[0], HOST)[-1]
    tree.make_folders(folder)
    tree.write(f"{folder}/pr-42.crt", CA.encode())
    found.check_neighbours(f"{folder}/pr-42.crt")
    assert found.plan(HOST, CA_FILE) == layout(tmp_path, name)[1].plan(HOST, CA_FILE), "our own file changes no plan"


@pytest.mark.parametrize("name", KINDS)
def test_a_plan_writes_nothing(tmp_path: Path, name: str) -> None:
    _, found = layout(tmp_path, name)
    found.plan(HOST, CA_FILE)
    assert list(tmp_path.iterdir()) == []


def test_a_runtime_of_another_kind_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(Fault, match="'frakti' serves /run/x.sock") as caught:
        layout(tmp_path, "frakti")
    assert (caught.value.reason, caught.value.details) == (Reason.RUNTIME_UNKNOWN, {"runtime": "frakti 2.4.2"})
