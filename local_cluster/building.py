"""What everything that builds parts of the local cluster shares.

Only one builder runs at a time, long commands report progress, and a result is either complete or absent.
"""

import contextlib
import fcntl
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path

from .errors import BuildError

HEARTBEAT = 20.0
"""Seconds between two lines of progress while one command runs."""

TAIL = 4000
"""Characters of a failed command's output that go into the error."""


def announce(message: str) -> None:
    """Print one line of progress on stderr, so that stdout stays clean for results."""
    print(message, file=sys.stderr, flush=True)


@contextlib.contextmanager
def lock(path: Path) -> Generator[None, None, None]:
    """Hold an exclusive lock on the file `path`, which is created. A second caller waits, and says for what."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            announce(f"waiting for another build that holds {path}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def complete_or_absent(target: Path) -> Generator[Path, None, None]:
    """Give a path to write to. It becomes `target` at the end, and is removed when anything fails.

    Call this under `lock`, because it first removes what an interrupted builder has left.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    remove(partial)
    try:
        yield partial
        partial.rename(target)
    finally:
        remove(partial)


def remove(path: Path) -> None:
    """Remove a file or a folder with all that is in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def run(title: str, command: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Run a command that may take minutes, with a line of progress at least every `HEARTBEAT` seconds.

    Args:
        title: What it is for: the start of every line of progress.
        command: Program and arguments.
        cwd: Where it runs; the current directory by default.
        env: Its whole environment; ours by default.

    Returns:
        What it wrote to its standard output. Its standard error is kept for the message of a failure.

    Raises:
        BuildError: The command is missing or failed; the message ends with the end of its output.
    """
    announce(title)
    start = time.monotonic()
    try:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    except FileNotFoundError:
        raise BuildError(f"{title}: there is no program {command[0]!r} on PATH; install it") from None
    try:
        while True:
            try:
                output, errors = process.communicate(timeout=HEARTBEAT)
                break
            except subprocess.TimeoutExpired:
                announce(f"{title}: still running, {duration(time.monotonic() - start)}")
    except BaseException:
        process.send_signal(signal.SIGTERM)
        process.wait()
        raise
    if process.returncode != 0:
        tail = (errors.strip() or output.strip())[-TAIL:]
        raise BuildError(f"{title}: {' '.join(command[:3])} ended with {process.returncode}:\n{tail}")
    if time.monotonic() - start > HEARTBEAT:
        announce(f"{title}: done, {duration(time.monotonic() - start)}")
    return output


def duration(seconds: float) -> str:
    """Return a duration as people write it: 75 seconds are `1 min 15 s`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
