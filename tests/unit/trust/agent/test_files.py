"""Files below another root directory are read, written and removed as a process with that root would see them."""

import contextlib
import errno
import os
import shutil
import subprocess
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


def test_a_file_that_is_mounted_there_is_not_replaced(tree: Tree) -> None:
    """Seen from another mount namespace, as the agent sees the node, the kernel would let rename(2) unmount it."""
    (tree.top / "data").write_text("mounted")
    (tree.top / "etc/config.toml").write_text("below")
    namespaces = ("unshare", "--mount", *(() if os.geteuid() == 0 else ("--map-root-user",)))
    script = 'mount --bind "$0/data" "$0/etc/config.toml" && echo mounted && read -r _'
    command = [*namespaces, "sh", "-c", script, str(tree.top)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as node:
        assert node.stdin is not None
        assert node.stdout is not None
        if node.stdout.readline() != "mounted\n":
            pytest.skip("this machine lets nobody mount")
        seen = Tree(Path(f"/proc/{node.pid}/root{tree.top}"))
        with pytest.raises(OSError, match="busy") as caught:
            seen.write("/etc/config.toml", b"new", first=lambda: pytest.fail("it was announced"))
        assert (caught.value.errno, caught.value.filename) == (errno.EBUSY, "/etc/config.toml")
        assert seen.read("/etc/config.toml") == b"mounted"
        assert seen.glob("/etc/.*") == []
        node.stdin.close()
    assert (tree.top / "etc/config.toml").read_text() == "below"


def test_what_comes_first_fails_before_the_file_is_replaced(tree: Tree) -> None:
    tree.write("/etc/a", b"old")

    def fail() -> None:
        assert tree.read("/etc/.a.private-registry-trust") == b"new"
        raise OSError(errno.ENOSPC, "full")

    with pytest.raises(OSError, match="full"):
        tree.write("/etc/a", b"new", first=fail)
    assert os.listdir(tree.top / "etc") == ["a"]
    assert tree.read("/etc/a") == b"old"


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


def test_a_folder_that_is_swapped_for_a_link_while_a_file_is_written_leads_nowhere(tree: Tree, tmp_path: Path) -> None:
    """Whoever owns a folder on the way may swap it at any moment; absolute links lead to the tree's top, not ours."""
    outside = tmp_path / "outside"
    outside.mkdir()

    def swap(_operation: str, _path: str) -> None:
        if not (tree.top / "theirs").is_symlink():
            (tree.top / "theirs").rename(tree.top / "was")
            (tree.top / "theirs").symlink_to(outside)

    for act in (
        lambda swapped: swapped.write("/theirs/a.crt", b"x"),
        lambda swapped: swapped.make_folders("/theirs/b"),
    ):
        (tree.top / "theirs").mkdir()
        swapped = Tree(tree.top, swap)
        with contextlib.suppress(OSError):
            act(swapped)
        assert list(outside.iterdir()) == []
        (tree.top / "theirs").unlink()
        shutil.rmtree(tree.top / "was")


def test_a_link_in_the_place_of_a_folder_of_ours_stays_with_what_it_leads_to(tree: Tree) -> None:
    (tree.top / "etc/theirs").mkdir()
    (tree.top / "etc/ours").symlink_to("/etc/theirs")
    tree.remove_folder("/etc/ours")
    assert sorted(os.listdir(tree.top / "etc")) == ["ours", "theirs"]


def test_folders_and_files_that_may_hold_passwords_are_roots_alone(tree: Tree) -> None:
    tree.make_folders("/var/lib/private", 0o700)
    tree.write("/var/lib/private/a", b"x", 0o600)
    tree.write("/var/lib/private/a", b"y", 0o600)
    modes = [(tree.top / path).stat().st_mode & 0o777 for path in ("var/lib", "var/lib/private", "var/lib/private/a")]
    assert modes == [0o755, 0o700, 0o600]


def test_an_error_names_the_whole_path(tree: Tree) -> None:
    (tree.top / "etc/file").touch()
    with pytest.raises(OSError, match="'/etc/file/a'"):
        tree.write("/etc/file/a", b"x")
    with pytest.raises(FileNotFoundError, match="'/gone/a'"):
        tree.write("/gone/a", b"x")
