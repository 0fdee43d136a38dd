"""Files below another root directory: links are followed as a process with that root would, and writes are atomic."""

import contextlib
import errno
import fnmatch
import os
import re
import stat
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path

from .faults import Fault, Reason

TEMPORARY = ".private-registry-trust"
"""Ending of temporary files. Runtimes load .crt, .cert, .key and .toml files, so none of them loads such a name."""

_MAX_LINKS = 40
_MISSING = -1

Signature = tuple[int, ...] | None
"""What tells one state of a file, folder or link from all others; None: nothing is there."""


@dataclass(frozen=True)
class _Place:
    """Where a path leads once every link is followed. The descriptors are open as long as the walk is."""

    real: str
    holder: int
    """Descriptor of the folder that holds it, _MISSING if there is no such folder."""
    name: str
    """Its name in that folder."""
    descriptor: int
    """Descriptor of what is there, without the right to read it; _MISSING if nothing is."""
    missing: tuple[str, ...]
    """The paths on the way that do not exist, outermost first; the last one is the path itself."""

    @property
    def folder(self) -> int:
        """Descriptor of the folder that holds it. Raises FileNotFoundError if there is no such folder."""
        if self.holder == _MISSING:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.real)
        return self.holder


class Tree:
    """A file system seen through a folder such as `/proc/1/root`; paths are absolute inside it.

    Paths are walked one part at a time, by descriptors, and what is done is done in the folder that the walk has
    reached. So somebody who swaps a folder for a link meanwhile cannot lead it out of the tree. (The system call
    openat2 does the same, but only since Linux 5.6.)
    """

    def __init__(
        self,
        top: Path,
        before: Callable[[str, str], None] | None = None,
        met: dict[str, Signature] | None = None,
    ) -> None:
        """`before(operation, path)` is called ahead of every change, so that a test can stop at each one.

        What is met on a walk is noted in `met`, see `unchanged`.
        """
        self.top = top
        self._before = before or _nothing
        self._met = {} if met is None else met

    def real(self, path: str) -> str:
        """Follow every link in `path`; the kernel would resolve absolute ones against our own root, not the node's.

        Parts that do not exist are kept as they are. Raises OSError (ELOOP) for a loop.
        """
        with self._walk(path) as place:
            return place.real

    @contextlib.contextmanager
    def opened(self, path: str) -> Generator[str]:
        """A path under which this process finds `path`, even if links to it are swapped. Raises FileNotFoundError."""
        with self._walk(path) as place:
            if place.descriptor == _MISSING:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            yield f"/proc/self/fd/{place.descriptor}"

    def open(self, path: str, flags: int, mode: int = 0o600) -> int:
        """Open a file as os.open does, and return its descriptor. The folder must exist."""
        with self._walk(path) as place, _naming(path):
            return os.open(place.name, flags | os.O_NOFOLLOW, mode, dir_fd=place.folder)

    def read(self, path: str) -> bytes | None:
        """The content of a file, or None if there is no such file."""
        try:
            with open(self.open(path, os.O_RDONLY), "rb") as file:
                return file.read()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def exists(self, path: str) -> bool:
        """Whether `path` is there once links are followed."""
        return self._mode(path) != 0

    def is_file(self, path: str) -> bool:
        """Whether `path` is a regular file once links are followed."""
        return stat.S_ISREG(self._mode(path))

    def modified(self, path: str) -> float:
        """When `path` was changed last, in seconds since the epoch; 0 if nothing is there."""
        with self._walk(path) as place:
            return 0 if place.descriptor == _MISSING else os.stat(place.descriptor).st_mtime

    def glob(self, pattern: str) -> list[str]:
        """Files that match, sorted and with hidden ones, as Go's filepath.Glob. Links to folders are followed."""
        found = [""]
        for part in pattern.strip("/").split("/"):
            if re.search(r"[*?[]", part):
                found = [path for folder in found for path in self._entries(folder or "/", part)]
            else:
                found = [f"{folder}/{part}" for folder in found]
        return sorted(found)

    def missing_folders(self, path: str) -> list[str]:
        """The folders that `make_folders(path)` would make, outermost first."""
        with self._walk(path) as place:
            return list(place.missing)

    def make_folders(self, path: str, mode: int = 0o755) -> None:
        """Make a folder with this mode, and its parents, readable for all."""
        missing = self.missing_folders(path)
        for folder in missing:
            self._before("mkdir", folder)
            with self._walk(folder) as place, _naming(folder):
                with contextlib.suppress(FileExistsError):  # another agent has just made it
                    os.mkdir(place.name, mode if folder == missing[-1] else 0o755, dir_fd=place.folder)
                _sync(place.folder)

    def write(self, path: str, data: bytes, mode: int | None = None, first: Callable[[], None] = lambda: None) -> bool:
        """Replace a file in one step, such that a power cut leaves the old or the new one.

        A file without a given `mode` keeps its mode and owner, and a new one is readable for all. `first` is called
        once the new file is complete beside the old one, before it takes its place. Returns False, and touches nothing,
        if the file holds these bytes already. Raises OSError, EBUSY for a file that is mounted there.
        """
        same = self.read(path) == data
        with self._walk(path) as place:
            temporary = f".{place.name}{TEMPORARY}"
            if same:
                self._unlink(place, temporary)
                first()
                return False
            if place.descriptor != _MISSING and _mount(place.descriptor) != _mount(place.folder):
                # Seen from another mount namespace, such as a pod's, rename(2) does not refuse this: it unmounts it.
                raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), path)
            self._before("write", temporary_of(place.real))
            try:
                with _naming(path):
                    self._write(place, temporary, data, mode)
                first()
            except OSError:  # on a full disk a part of it is there, and takes what others need
                with contextlib.suppress(OSError):
                    os.unlink(temporary, dir_fd=place.holder)
                raise
            self._before("rename", place.real)
            with _naming(path):
                os.replace(temporary, place.name, src_dir_fd=place.folder, dst_dir_fd=place.folder)
                _sync(place.folder)
        return True

    def remove(self, path: str) -> None:
        """Remove a file and what an interrupted write left beside it. Neither has to exist."""
        with self._walk(path) as place:
            for name in (f".{place.name}{TEMPORARY}", place.name):
                self._unlink(place, name)

    def remove_temporaries(self, folder: str) -> None:
        """Remove everything that interrupted writes left in a folder."""
        for path in self.glob(f"{folder}/.*{TEMPORARY}"):
            with self._walk(path) as place:
                self._unlink(place, place.name)

    def remove_folder(self, path: str) -> None:
        """Remove a folder if it is there and empty. A link in its place stays."""
        parent, _, name = path.rpartition("/")
        with self._walk(f"{parent}/.") as place:
            if place.descriptor == _MISSING:
                return
            try:
                folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=place.descriptor)
            except OSError:
                return
            try:
                empty = not os.listdir(folder)
            finally:
                os.close(folder)
            if empty:
                self._before("rmdir", path)
                with _naming(path):
                    os.rmdir(name, dir_fd=place.descriptor)
                    _sync(place.descriptor)

    def _entries(self, folder: str, pattern: str) -> list[str]:
        with self._walk(folder) as place:
            if place.descriptor == _MISSING or not stat.S_ISDIR(os.stat(place.descriptor).st_mode):
                return []
            names = os.listdir(f"/proc/self/fd/{place.descriptor}")
            return [f"{place.real.rstrip('/')}/{name}" for name in names if fnmatch.fnmatchcase(name, pattern)]

    def _mode(self, path: str) -> int:
        """Type and mode of what is at `path`, 0 if nothing is."""
        with self._walk(path) as place:
            return 0 if place.descriptor == _MISSING else os.stat(place.descriptor).st_mode

    def _write(self, place: _Place, temporary: str, data: bytes, mode: int | None) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        with open(os.open(temporary, flags, 0o600, dir_fd=place.folder), "wb") as file:
            try:
                old = os.stat(place.name, dir_fd=place.folder, follow_symlinks=False)
                os.fchown(file.fileno(), old.st_uid, old.st_gid)
                os.fchmod(file.fileno(), old.st_mode & 0o7777 if mode is None else mode)
            except FileNotFoundError:
                os.fchmod(file.fileno(), 0o644 if mode is None else mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def _unlink(self, place: _Place, name: str) -> None:
        path = f"{place.real.rpartition('/')[0]}/{name}"
        try:
            os.stat(name, dir_fd=place.folder, follow_symlinks=False)
        except OSError:
            return
        self._before("unlink", path)
        with _naming(path):
            os.unlink(name, dir_fd=place.folder)
            _sync(place.folder)

    @contextlib.contextmanager
    def _walk(self, path: str) -> Generator[_Place]:
        """Walk to where `path` leads. Raises OSError (ELOOP) for a loop."""
        top = os.open(self.top, os.O_PATH | os.O_DIRECTORY)
        parts: list[str] = []
        descriptors = [top]
        """One for each part but the first, which is the top's."""
        todo, links = path.split("/"), 0
        try:
            while todo:
                part = todo.pop(0)
                if part in ("", "."):
                    continue
                if part == "..":
                    if parts:
                        parts.pop()
                        _close(descriptors.pop())
                    continue
                found, target = _step(descriptors[-1], part, path)
                if target is not None:
                    link = f"{self.top}/{'/'.join([*parts, part])}"
                    self._met[link] = signature(link)
                if target is None:
                    parts.append(part)
                    descriptors.append(found)
                    continue
                links += 1
                if links > _MAX_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                todo = target.split("/") + todo
                if target.startswith("/"):
                    parts.clear()
                    while len(descriptors) > 1:
                        _close(descriptors.pop())
            paths = [f"/{'/'.join(parts[: number + 1])}" for number in range(len(parts))]
            missing = tuple(path for path, found in zip(paths, descriptors[1:], strict=True) if found == _MISSING)
            real = f"/{'/'.join(parts)}"
            self._met[f"{self.top}{missing[0] if missing else real}"] = (
                None if missing else _of(os.stat(descriptors[-1]))
            )
            yield _Place(real, descriptors[-2] if parts else top, parts[-1] if parts else ".", descriptors[-1], missing)
        finally:
            for descriptor in descriptors:
                _close(descriptor)


def unchanged(met: Mapping[str, Signature]) -> bool:
    """Whether all that walks have met is as it was: links, where they have led, and the first thing that was missing.

    None of these paths goes through a link unless somebody has changed something meanwhile, and then it leads to
    another file, or to none where there was one.
    """
    return all(signature(path) == known for path, known in met.items())


def signature(path: str) -> Signature:
    """What is at a path now, a link itself and not where it leads."""
    try:
        return _of(os.lstat(path))
    except OSError:
        return None


def _of(found: os.stat_result) -> Signature:
    return found.st_dev, found.st_ino, found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def temporary_of(path: str) -> str:
    """The file that is written before it takes the place of the file at `path`, a path without links."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/.{name}{TEMPORARY}"


def read_text(tree: Tree, path: str) -> str | None:
    """A configuration file, None if there is none. Raises Fault CONFIG_INVALID if it is no UTF-8 text."""
    data = tree.read(path)
    try:
        return None if data is None else data.decode()
    except UnicodeDecodeError as error:
        sentence = f"{path} is no UTF-8 text ({error}); repair it."
        raise Fault(Reason.CONFIG_INVALID, sentence, path=path, error=str(error)) from error


def _step(folder: int, name: str, path: str) -> tuple[int, str | None]:
    """The descriptor of a name in a folder, _MISSING if nothing is there; or, if it is a link, what it holds."""
    if folder == _MISSING:
        return _MISSING, None
    try:
        found = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=folder)
    except (FileNotFoundError, NotADirectoryError):
        return _MISSING, None
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error
    if not stat.S_ISLNK(os.stat(found).st_mode):
        return found, None
    try:
        return _MISSING, os.readlink("", dir_fd=found)
    finally:
        os.close(found)


@contextlib.contextmanager
def _naming(path: str) -> Generator[None]:
    """Let an error name the whole path, since a call that works in a folder knows the last part only."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error


def _mount(descriptor: int) -> str:
    """Id of the mount that a file or folder was reached through, see proc_pid_fdinfo(5)."""
    lines = Path(f"/proc/self/fdinfo/{descriptor}").read_text().splitlines()
    return next(line for line in lines if line.startswith("mnt_id:"))


def _sync(folder: int) -> None:
    """Bring what has happened in a folder to the disk."""
    descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=folder)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _close(descriptor: int) -> None:
    if descriptor != _MISSING:
        os.close(descriptor)


def _nothing(_operation: str, _path: str) -> None:
    pass
