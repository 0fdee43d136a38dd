"""Programs that a test runs to their end, and conditions that it waits for."""

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from local_cluster.paths import REPOSITORY


class CommandError(AssertionError):
    """A command that should have succeeded did not."""


def run(
    command: Sequence[str | Path],
    environment: Mapping[str, str],
    *,
    timeout: float = 300,
    text: str | None = None,
    check: bool = True,
    cwd: Path = REPOSITORY,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end with its output kept.

    Args:
        command: The program and its arguments.
        environment: Its whole environment.
        timeout: Seconds after which it is ended.
        text: What it reads from standard input.
        check: Whether a non-zero exit code is an error.
        cwd: The folder to run it in.

    Raises:
        CommandError: `check` is set and it failed, or it ran too long.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            env=dict(environment),
            timeout=timeout,
            input=text,
            cwd=cwd,
            capture_output=True,
            text=True,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        msg = f"{' '.join(words)}: still running after {timeout} s\n{error.stdout}\n{error.stderr}"
        raise CommandError(msg) from error
    if check and done.returncode:
        msg = f"{' '.join(words)}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        raise CommandError(msg)
    return done


def wait_until(condition: Callable[[], object], what: str, *, timeout: float, interval: float = 0.25) -> None:
    """Wait for a condition.

    Args:
        condition: Asked again and again until it is truthy.
        what: The condition in words, for the error.
        timeout: Seconds to wait at most.
        interval: Seconds between two looks.

    Raises:
        AssertionError: it did not come true in time.
    """
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            msg = f"not within {timeout} s: {what}"
            raise AssertionError(msg)
        time.sleep(interval)
