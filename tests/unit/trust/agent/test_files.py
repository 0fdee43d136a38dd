"""Files below another root directory are read, written and removed as a process with that root would see them."""

import os
from pathlib import Path

import pytest

from trust.agent.files import Tree


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    (tmp_path / "root/etc").mkdir(parents=True)
    return Tree(tmp_path / "root")


@pytest.mark.parametrize(
    ("link", "target", "path", "real"),
    [
        ("var", "/etc", "/var/x", "/etc/x"),
        ("var", "etc/../etc", "/var/x/../y", "/etc/y"),
        ("etc/up", "../../../../etc", "/etc/up/x", "/etc/x"),
        ("etc/gone", "/nowhere/at/all", "/etc/gone/x", "/nowhere/at/all/x"),
        ("etc/x", "y", "/etc/./x//z", "/etc/y/z"),
    ],
)
def test_links_are_followed_inside(tree: Tree, link: str, target: str, path: str, real: str) -> None:
    (tree.top / link).symlink_to(target)
    assert tree.real(path) == real


def test_loop_of_links_is_an_error(tree: Tree) -> None:
    (tree.top / "a").symlink_to("b")
    (tree.top / "b").symlink_to("a")
    with pytest.raises(OSError, match="Too many levels"):
        tree.real("/a/x")


def test_write_follows_a_link_and_keeps_it(tree: Tree) -> None:
    (tree.top / "data").mkdir()
    (tree.top / "data/config.toml").write_text("old")
    (tree.top / "etc/config.toml").symlink_to("/data/config.toml")
    assert tree.write("/etc/config.toml", b"new")
    assert (tree.top / "data/config.toml").read_text() == "new"
    assert (tree.top / "etc/config.toml").is_symlink()
    assert os.listdir(tree.top / "data") == ["config.toml"]


def test_new_files_can_be_read_by_all_whatever_the_umask(tree: Tree) -> None:
    old = os.umask(0o077)
    try:
        tree.write("/etc/a.crt", b"x")
    finally:
        os.umask(old)
    assert (tree.top / "etc/a.crt").stat().st_mode & 0o777 == 0o644


def test_same_bytes_are_not_written_again(tree: Tree) -> None:
    tree.write("/etc/a.crt", b"x")
    before = (tree.top / "etc/a.crt").stat()
    assert not tree.write("/etc/a.crt", b"x")
    assert (tree.top / "etc/a.crt").stat().st_ino == before.st_ino


def test_glob_sees_hidden_files_and_sorts_as_go_does(tree: Tree) -> None:
    for name in ("b.toml", "a.toml", ".h.toml", "x.tom"):
        (tree.top / "etc" / name).touch()
    (tree.top / "conf.d").symlink_to("/etc")
    assert tree.glob("/conf.d/*.toml") == ["/etc/.h.toml", "/etc/a.toml", "/etc/b.toml"]
    assert tree.glob("/nowhere/*.toml") == []


def test_read_of_what_is_not_there(tree: Tree) -> None:
    tree.write("/etc/a", b"x")
    assert tree.read("/etc/b") is None
    assert tree.read("/etc/a/b") is None
