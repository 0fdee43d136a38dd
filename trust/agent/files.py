"""Files below another root directory: links are followed as a process with that root would, and writes are atomic."""

import contextlib
import errno
import glob
import os
from collections.abc import Callable
from pathlib import Path

from .faults import Fault, Reason

TEMPORARY = ".private-registry-trust"
"""Ending of temporary files. Runtimes load .crt, .cert, .key and .toml files, so none of them loads such a name."""

_MAX_LINKS = 40


class Tree:
    """A file system seen through a folder such as `/proc/1/root`; paths are absolute inside it."""

    def __init__(self, top: Path, before: Callable[[str, str], None] | None = None) -> None:
        """`before(operation, path)` is called ahead of every change, so that a test can stop at each one."""
        self.top = top
        self._before = before or _nothing

    def real(self, path: str) -> str:
        """Follow every link in `path`; the kernel would resolve absolute ones against our own root, not the node's.

        Parts that do not exist are kept as they are. Raises OSError (ELOOP) for a loop.
        """
        done, todo, links = "", path.split("/"), 0
        while todo:
            part = todo.pop(0)
            if part in ("", "."):
                continue
            if part == "..":
                done = done.rpartition("/")[0]
                continue
            step = f"{done}/{part}"
            try:
                target = os.readlink(self._at(step))
            except OSError:
                done = step
                continue
            links += 1
            if links > _MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            todo = target.split("/") + todo
            done = "" if target.startswith("/") else done
        return done or "/"

    def outside(self, path: str) -> str:
        """The path under which this process finds `path`."""
        return self._at(self.real(path))

    def read(self, path: str) -> bytes | None:
        """The content of a file, or None if there is no such file."""
        try:
            return Path(self.outside(path)).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def exists(self, path: str) -> bool:
        """Whether `path` is there once links are followed."""
        return os.path.exists(self.outside(path))

    def is_file(self, path: str) -> bool:
        """Whether `path` is a regular file once links are followed."""
        return os.path.isfile(self.outside(path))

    def glob(self, pattern: str) -> list[str]:
        """Files that match, sorted and with hidden ones, as Go's filepath.Glob. Links to the folder are followed."""
        folder, _, name = pattern.rpartition("/")
        found = glob.glob(self._at(f"{self.real(folder)}/{name}"), include_hidden=True)
        return sorted(path.removeprefix(str(self.top)) for path in found)

    def missing_folders(self, path: str) -> list[str]:
        """The folders that `make_folders(path)` would make, outermost first."""
        missing: list[str] = []
        path = self.real(path)
        while path != "/" and not os.path.lexists(self._at(path)):
            missing.insert(0, path)
            path = path.rpartition("/")[0] or "/"
        return missing

    def make_folders(self, path: str) -> None:
        """Make a folder and its parents, readable for all."""
        for folder in self.missing_folders(path):
            self._before("mkdir", folder)
            with contextlib.suppress(FileExistsError):  # another agent has just made it
                os.mkdir(self._at(folder), 0o755)
            self._sync_parent(folder)

    def write(self, path: str, data: bytes) -> bool:
        """Replace a file in one step, such that a power cut leaves the old or the new one; mode and owner are kept.

        Returns False, and touches nothing, if the file holds these bytes already.
        """
        path = self.real(path)
        temporary = self._temporary(path)
        if self.read(path) == data:
            if os.path.lexists(self._at(temporary)):
                self._unlink(temporary)
            return False
        self._before("write", temporary)
        descriptor = os.open(self._at(temporary), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            try:
                old = os.stat(self._at(path))
                os.fchown(descriptor, old.st_uid, old.st_gid)
                os.fchmod(descriptor, old.st_mode & 0o7777)
            except FileNotFoundError:
                os.fchmod(descriptor, 0o644)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        self._before("rename", path)
        os.replace(self._at(temporary), self._at(path))
        self._sync_parent(path)
        return True

    def remove(self, path: str) -> None:
        """Remove a file and what an interrupted write left beside it. Neither has to exist."""
        path = self.real(path)
        for name in (self._temporary(path), path):
            if os.path.lexists(self._at(name)):
                self._unlink(name)

    def remove_temporaries(self, folder: str) -> None:
        """Remove everything that interrupted writes left in a folder."""
        for path in self.glob(f"{folder}/.*{TEMPORARY}"):
            self._unlink(path)

    def remove_folder(self, path: str) -> None:
        """Remove a folder if it is there and empty."""
        try:
            empty = not os.listdir(self._at(path))
        except (FileNotFoundError, NotADirectoryError):
            return
        if empty:
            self._before("rmdir", path)
            os.rmdir(self._at(path))
            self._sync_parent(path)

    def _unlink(self, path: str) -> None:
        self._before("unlink", path)
        os.unlink(self._at(path))
        self._sync_parent(path)

    def _sync_parent(self, path: str) -> None:
        descriptor = os.open(self._at(path.rpartition("/")[0]), os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _temporary(self, path: str) -> str:
        folder, _, name = path.rpartition("/")
        return f"{folder}/.{name}{TEMPORARY}"

    def _at(self, path: str) -> str:
        return f"{self.top}{path}"


def read_text(tree: Tree, path: str) -> str | None:
    """A configuration file, None if there is none. Raises Fault CONFIG_INVALID if it is no UTF-8 text."""
    data = tree.read(path)
    try:
        return None if data is None else data.decode()
    except UnicodeDecodeError as error:
        sentence = f"{path} is no UTF-8 text ({error}); repair it."
        raise Fault(Reason.CONFIG_INVALID, sentence, path=path, error=str(error)) from error


def _nothing(_operation: str, _path: str) -> None:
    pass
