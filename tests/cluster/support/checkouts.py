"""Checkouts of the tree, for what runs in a folder of its own."""

import shutil
from pathlib import Path

from local_cluster.paths import REPOSITORY

from .commands import run


def checkout(folder: Path) -> Path:
    """A checkout of this tree, as it is now."""
    files = run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], {"PATH": "/usr/bin:/bin"}).stdout
    for name in files.splitlines():
        if (REPOSITORY / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, folder / name)
    (folder / ".venv").symlink_to(REPOSITORY / ".venv")
    return folder
