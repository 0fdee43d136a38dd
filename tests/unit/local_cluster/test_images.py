"""The table of images agrees with the table of programs."""

import re
from collections import Counter

from local_cluster import images, programs


def test_every_image_name_is_full_and_belongs_to_one_image() -> None:
    names = [name for image in images.TABLE.values() for name in image.names]
    assert [name for name, count in Counter(names).items() if count > 1] == []
    assert [name for name in names if not re.fullmatch(r"[a-z0-9.]+\.[a-z]+/[a-z0-9/-]+:[a-z0-9.-]+", name)] == []


def test_every_file_of_an_image_is_a_program_that_is_built() -> None:
    built = {program.name for group in programs.DEFAULT for program in programs.GROUPS[group].programs}
    used = {file for image in images.TABLE.values() for file in image.files.values()}
    assert used <= built
