"""Kills a `pulumi up` that is under way, with all its processes."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .commands import wait_until
from .places import REPOSITORY
from .stacks import Stack


def is_written(stack: Stack) -> bool:
    """Whether the files of the stack's state are whole: Pulumi writes them in place, and a kill may leave one empty."""
    folder = Path(stack.environment["PULUMI_BACKEND_URL"].removeprefix("file://"))
    try:
        for name in (f"{stack.name}.json", f"{stack.name}.json.attrs"):
            json.loads((folder / ".pulumi/stacks/private-registry" / name).read_text())
    except ValueError:
        return False
    return True


def kill(process: subprocess.Popen[bytes], stack: Stack) -> None:
    """Kill the processes of an `up` at a moment in which the state is whole."""

    def stopped() -> bool:
        os.killpg(process.pid, signal.SIGSTOP)
        if is_written(stack):
            return True
        os.killpg(process.pid, signal.SIGCONT)
        return False

    try:
        wait_until(stopped, "the state is written", timeout=10, interval=0.01)
    finally:
        os.killpg(process.pid, signal.SIGKILL)


def end_session(leader: int) -> None:
    """Kill all processes of the session that a process has begun; Pulumi puts its plugins into groups of their own."""
    for folder in Path("/proc").glob("[0-9]*"):
        # What is gone by now needs no end.
        with suppress(ProcessLookupError):
            if os.getsid(int(folder.name)) == leader:
                os.kill(int(folder.name), signal.SIGKILL)


@contextmanager
def running_up(stack: Stack, output: int = subprocess.DEVNULL) -> Iterator[subprocess.Popen[bytes]]:
    """`pulumi up`, which the test ends; all its processes are of one group, as in a terminal."""
    command = ["pulumi", "--non-interactive", "up", "--yes", "--skip-preview", "--stack", stack.name]
    with subprocess.Popen(
        command,
        env=dict(stack.environment),
        cwd=REPOSITORY,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            end_session(process.pid)
