"""Starts the cluster's processes apart from the caller, records them, and ends only what is still the recorded process.

A process is recorded as id and start time, so that an id that the kernel gave to someone else is never signalled.
"""

import contextlib
import json
import os
import select
import shutil
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import ClusterError
from .paths import LOGS, PROCESSES


@dataclass(frozen=True, kw_only=True)
class Process:
    """One process, told apart from a later one with the same id."""

    pid: int
    start_time: int
    """Clock ticks from the boot of the machine to its start: field 22 of /proc/PID/stat, proc_pid_stat(5)."""

    def alive(self) -> bool:
        """Tell whether it runs: it exists, is the same, and is not a zombie."""
        state, start_time = _state(self.pid)
        return start_time == self.start_time and state not in "ZX"

    def send(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:  # the descriptor pins the process, so the check and the signal are about the same one
            if self.alive():
                signal.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:
            pass
        finally:
            os.close(descriptor)

    def wait(self, seconds: float) -> bool:
        """Wait at most `seconds` for its end, and return whether it has ended."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return True
        try:
            if self.alive():
                poll = select.poll()
                poll.register(descriptor, select.POLLIN)
                poll.poll(max(0.0, seconds) * 1000)
            return not self.alive()
        finally:
            os.close(descriptor)


def of(pid: int) -> Process:
    """Return the running process with this id.

    Raises:
        ProcessLookupError: There is none.
    """
    state, start_time = _state(pid)
    if not state:
        raise ProcessLookupError(f"there is no process {pid}")
    return Process(pid=pid, start_time=start_time)


def start(name: str, command: Sequence[str], *, env: Mapping[str, str] | None = None) -> Process:
    """Start a process that outlives us, with its output in `LOGS/NAME.log`, and record it.

    Args:
        name: Its name in the records.
        command: Program and arguments.
        env: Its whole environment; ours by default.
    """
    program = shutil.which(command[0])
    if program is None:
        raise ClusterError(f"{name} can't be started: there is no program {command[0]!r} on PATH")
    LOGS.mkdir(parents=True, exist_ok=True)
    PROCESSES.mkdir(parents=True, exist_ok=True)
    pid = os.posix_spawn(  # and not subprocess, which warns of every child that is still running at our end
        program,
        list(command),
        os.environ if env is None else env,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log(name)), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
            *((os.POSIX_SPAWN_CLOSE, descriptor) for descriptor in _inherited()),
        ],
        setsid=True,
    )
    process = of(pid)
    record = {"pid": process.pid, "start_time": process.start_time, "boot": _boot()}
    partial = PROCESSES / f".{name}"
    partial.write_text(json.dumps(record))
    partial.rename(PROCESSES / name)
    return process


def recorded() -> dict[str, Process]:
    """Return the processes that were started since the last `down`, by name, running or not."""
    found: dict[str, Process] = {}
    for path in sorted(PROCESSES.glob("[!.]*")):
        record = json.loads(path.read_text())
        if record["boot"] == _boot():
            found[path.name] = Process(pid=record["pid"], start_time=record["start_time"])
        else:
            found[path.name] = Process(pid=record["pid"], start_time=-1)  # it ended when the machine was shut down
    return found


def forget(name: str) -> None:
    """Drop the record of a process that has ended."""
    (PROCESSES / name).unlink(missing_ok=True)


def stop(names: Iterable[str], *, seconds: float) -> None:
    """Ask recorded processes to end, kill those that have not ended in time, and drop the records."""
    records = recorded()
    stopping = {name: records[name] for name in names if name in records}
    for process in stopping.values():
        process.send(signal.SIGTERM)
    deadline = time.monotonic() + seconds
    for name, process in stopping.items():
        if not process.wait(deadline - time.monotonic()):
            process.send(signal.SIGKILL)
            if not process.wait(10):
                raise ClusterError(f"{name} (process {process.pid}) does not end, not even killed")
        forget(name)


def log(name: str) -> Path:
    """Return the file with the output of the process of this name."""
    return LOGS / f"{name}.log"


def log_tail(name: str, lines: int = 15) -> str:
    """Return the last lines of its output, for an error message."""
    path = log(name)
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""


def _inherited() -> list[int]:
    """Return what we got open from our own caller, such as a file that it holds a lock on, or the end of a pipe.

    A process that outlives us would keep the lock, and whoever reads the pipe would wait for its end.
    """
    found: list[int] = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the descriptor by which the folder was read is closed by now
            if int(name) > 2 and os.get_inheritable(int(name)):
                found.append(int(name))
    return found


def _state(pid: int) -> tuple[str, int]:
    """Return state letter and start time of a process; an empty letter when there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return "", -2
    fields = stat.rpartition(")")[2].split()  # the name before it may hold anything
    return fields[0], int(fields[19])


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
