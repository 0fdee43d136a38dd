"""The program as its releases are, for tests that go from one to the program of this tree.

Each release lies in the folder of that name as an archive, which `make release` has made: a clone of the repository may
have no tags.
"""

import re
import tarfile
from collections.abc import Sequence
from pathlib import Path

from local_cluster.paths import REPOSITORY

FOLDER = Path(__file__).parent / "releases"
PRODUCT = ("Pulumi.yaml", "__main__.py", "requirements.txt", "registry", "trust")
"""What of the repository a release is; `PRODUCT` in the Makefile is the same."""


def releases() -> Sequence[str]:
    """Their versions, oldest first."""
    names = (path.name.removesuffix(".tar.xz") for path in FOLDER.glob("*.tar.xz"))
    return sorted(names, key=lambda name: [int(number) for number in re.findall(r"\d+", name)])


def unpack(version: str, folder: Path) -> Path:
    """Unpack a release into a folder, and give it the Python packages of this tree; the program's folder."""
    with tarfile.open(FOLDER / f"{version}.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    (folder / ".venv").symlink_to((REPOSITORY / ".venv").resolve())
    return folder
