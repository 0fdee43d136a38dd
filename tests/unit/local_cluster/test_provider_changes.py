from pathlib import Path

import pytest

from local_cluster.errors import BuildError
from local_cluster.provider_changes import Change, changed_copy

CHANGE = Change(file="pkg/create.go", old="apply()\n", new="post()\n")


def module(folder: Path, text: str) -> Path:
    source = folder / "source"
    (source / "pkg").mkdir(parents=True)
    (source / "pkg" / "create.go").write_text(text)
    (source / "go.mod").write_text("module example.com/provider\n")
    return source


def test_a_change_is_made_in_the_copy_alone(tmp_path: Path) -> None:
    source = module(tmp_path, "start()\napply()\nwait()\n")

    changed_copy(source, tmp_path / "copy", [CHANGE])

    assert (tmp_path / "copy" / "pkg" / "create.go").read_text() == "start()\npost()\nwait()\n"
    assert (tmp_path / "copy" / "go.mod").read_text() == (source / "go.mod").read_text()
    assert (source / "pkg" / "create.go").read_text() == "start()\napply()\nwait()\n"


@pytest.mark.parametrize("text", ["post()\n", "apply()\napply()\n"])
def test_a_module_that_is_not_the_one_a_change_was_made_for_is_refused(tmp_path: Path, text: str) -> None:
    source = module(tmp_path, text)

    with pytest.raises(BuildError, match=r"create\.go has this text [02] times instead of once"):
        changed_copy(source, tmp_path / "copy", [CHANGE])
