"""Images of random layers, `make gc`, and what goes on meanwhile."""

import io
import os
import secrets
import subprocess
import sys
import tarfile
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from .stacks import Deployed

GC = (sys.executable, "-m", "registry.stack.gc", "--stack")
"""The command of `make gc`, without the name of the stack."""


def layer(folder: Path, size: int) -> Path:
    """A layer with a file of random bytes, which do not get smaller when they are compressed."""
    path = folder / f"layer-{secrets.token_hex(4)}.tar"
    with tarfile.open(path, "w") as archive:
        entry = tarfile.TarInfo("random")
        entry.size = size
        archive.addfile(entry, io.BytesIO(os.urandom(size)))
    return path


def append(deployed: Deployed, tag: str, *layers: Path) -> subprocess.CompletedProcess[str]:
    """Push an image of these layers."""
    files = [word for each in layers for word in ("-f", each)]
    return deployed.run_crane(deployed.login, "append", *files, "-t", f"{deployed.host}/{tag}", check=False)


def whole(deployed: Deployed, reference: str) -> bool:
    """Whether a client gets the image with everything in it, each part as its digest says."""
    done = deployed.run_crane(deployed.login, "validate", "--remote", f"{deployed.host}/{reference}", check=False)
    return done.returncode == 0


def gc(deployed: Deployed, *options: str) -> str:
    """Free space; what is printed."""
    return deployed.cluster.run(*GC, deployed.stack.name, *options).stdout


@contextmanager
def repeated(action: Callable[[], subprocess.CompletedProcess[str]]) -> Generator[list[str]]:
    """Do something again and again in the context; what went wrong each time it did, filled at the end."""
    going, failed, times = True, list[str](), 0

    def loop() -> None:
        nonlocal times
        while going:
            done = action()
            times += 1
            if done.returncode:
                failed.append(done.stderr)

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(loop)
        try:
            yield failed
        finally:
            going = False
            running.result()
    assert times > 1
