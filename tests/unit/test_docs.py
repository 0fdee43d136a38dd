"""The README tells what is so."""

import re

from tests import readme

TEXT = readme.README.read_text()


def test_the_tables_are_those_of_the_settings_and_of_the_tests() -> None:
    assert readme.current(TEXT) == TEXT, "run: python3 -m tests.readme"


def test_every_part_that_is_made_has_its_markers() -> None:
    for name in readme.BLOCKS:
        assert TEXT.count(f"<!-- {name} -->\n") == TEXT.count(f"<!-- /{name} -->\n") == 1


def test_every_make_target_that_is_named_exists() -> None:
    makefile = (readme.ROOT / "Makefile").read_text()
    named = set(re.findall(r"`make (?:-s )?([a-z-]+)", TEXT)) | set(re.findall(r"\$ make (?:-s )?([a-z-]+)", TEXT))
    assert len(named) > 5
    for target in named:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
