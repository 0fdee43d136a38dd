"""Change one key of a TOML text and nothing else: comments, order and spelling stay, and parsing proves the result.

The standard library can read TOML (tomllib) but not write it. So we guess line by line where the key may go, the
smallest change first. Then tomllib proves which guess means the same as the text before, plus or minus that one key.
Grammar: https://toml.io/en/v1.0.0
"""

import contextlib
import copy
import functools
import json
import re
import tomllib
from collections.abc import Iterable, Iterator
from typing import Any

Path = tuple[str, ...]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(r""""(?:[^"\\\n]|\\.)*"|'[^'\n]*'""")


class EditError(ValueError):
    """The text is no TOML, or we found no change of this key that provably changes nothing else."""


def get(document: dict[str, Any], path: Path) -> Any:  # noqa: ANN401 - whatever TOML can hold
    """The value at `path`, None if it or one of its tables is missing."""
    found: Any = document
    for part in path:
        if not isinstance(found, dict) or part not in found:
            return None
        found = found[part]  # pyright: ignore[reportUnknownVariableType]
    return found  # pyright: ignore[reportUnknownVariableType]


def value(text: str, path: Path) -> Any:  # noqa: ANN401 - whatever TOML can hold
    """The value at `path` in a text, None if it or one of its tables is missing. Raises EditError."""
    return get(_parse(text), path)


@functools.lru_cache(maxsize=4)  # an agent that may not write a file yet asks the same at every look
def set_key(text: str, path: Path, value: str) -> str:
    """Return `text` with the string `value` at `path`, where a string or nothing must be. Raises EditError."""
    old = _parse(text)
    if get(old, path) == value:
        return text
    wanted = copy.deepcopy(old)
    table: Any = wanted
    for part in path[:-1]:
        table = table.setdefault(part, {}) if isinstance(table, dict) else None  # pyright: ignore
    if not isinstance(table, dict):
        raise EditError(f"{'.'.join(path)} runs through a value that is no table")
    table[path[-1]] = value
    return _proved(_with_key(text, path, json.dumps(value, ensure_ascii=False)), [wanted], path)


def unset_key(text: str, path: Path, original: str) -> str:
    """Return `text` with the key at `path` as it is in `original`, or without it. Raises EditError."""
    old, before = _parse(text), _parse(original)
    if get(old, path) is None:
        return text
    wanted = copy.deepcopy(old)
    if get(before, path) is not None:
        get(wanted, path[:-1])[path[-1]] = get(before, path)
        spellings = dict.fromkeys(_STRING.findall(original))
        return _proved((new for literal in spellings for new in _with_value(text, path, literal)), [wanted], path)
    del get(wanted, path[:-1])[path[-1]]
    accepted = [copy.deepcopy(wanted)]
    for end in range(len(path) - 1, 0, -1):  # tables that exist only for this key may be removed with it
        if get(wanted, path[:end]) or get(before, path[:end]) is not None:
            break
        del get(wanted, path[: end - 1])[path[end - 1]]
        accepted.append(copy.deepcopy(wanted))
    return _proved(_without_key(text, path), accepted, path)


def has_line_of(old: str, new: str, path: Path) -> bool:
    """Whether the line of the key at `path` in `old` is still there in `new`, a text that somebody made of `old`.

    It is not if `new` says it elsewhere or in other words, or has less than half of its lines from `old`.
    """
    before, after = _line_of(old, path), _line_of(new, path)
    import difflib  # only where somebody else has written the file

    matcher = difflib.SequenceMatcher(None, old.splitlines(), new.splitlines(), autojunk=False)
    if before is None or after is None or matcher.ratio() < 0.5:
        return False
    return any(
        block.a <= before < block.a + block.size and after - before == block.b - block.a
        for block in matcher.get_matching_blocks()
    )


def _line_of(text: str, path: Path) -> int | None:
    """The number of the line, from 0, in which the string at `path` is set; None if there is none."""
    mark = "a value that no text has"
    for number, line in enumerate(text.splitlines(keepends=True)):
        if _names(line, path[-1]):
            for candidate in _with_value(text, path, json.dumps(mark), number):
                with contextlib.suppress(tomllib.TOMLDecodeError):
                    if get(tomllib.loads(candidate), path) == mark:
                        return number
    return None


def _proved(candidates: Iterable[str], accepted: list[dict[str, Any]], path: Path) -> str:
    """The first candidate that means one of the accepted documents."""
    meanings = [
        repr(_sorted(document)) for document in accepted
    ]  # == would take 1, 1.0 and true for equal, and nan not for equal to itself
    for candidate in candidates:
        try:
            if repr(_sorted(tomllib.loads(candidate))) in meanings:
                return candidate
        except tomllib.TOMLDecodeError:
            continue
    raise EditError(f"no way to change {'.'.join(path)} leaves the rest as it is")


def _with_key(text: str, path: Path, value: str) -> Iterator[str]:
    newline = "\r\n" if "\r\n" in text else "\n"
    yield from _with_value(text, path, value)
    lines = text.splitlines(keepends=True)
    alone = [_meaning(line) for line in lines]
    for number, line in enumerate(lines):  # if its table has a header: right below it
        if alone[number] == path[:-1] and line.lstrip().startswith("["):
            ended = line if line.endswith("\n") else line + newline
            new = f"{_indent(line)}  {_key(path[-1:])} = {value}{newline}"
            yield "".join([*lines[:number], ended, new, *lines[number + 1 :]])
    for number, line in enumerate(lines):  # if its table is an inline one: as its first key
        for brace in re.finditer("{", line):
            for start in range(1, len(path)):
                new = f"{line[: brace.end()]} {_key(path[start:])} = {value}"
                for comma in (",", ""):
                    yield "".join([*lines[:number], new, comma, line[brace.end() :], *lines[number + 1 :]])
    end = "" if not text or text.endswith("\n") else newline
    yield f"{text}{end}[{_key(path[:-1])}]{newline}  {_key(path[-1:])} = {value}{newline}"
    for number, line in enumerate(lines):  # if its table is written with dotted keys: before one of them
        for start in range(len(path) - 1):
            if "=" in line and (alone[number] or path)[0] == path[start]:
                new = f"{_indent(line)}{_key(path[start:])} = {value}{newline}"
                yield "".join([*lines[:number], new, *lines[number:]])


def _with_value(text: str, path: Path, value: str, only: int | None = None) -> Iterator[str]:
    """Each string in lines that name the key replaced; in one line `only`, if that is given."""
    lines = text.splitlines(keepends=True)
    for number, line in enumerate(lines):
        if _names(line, path[-1]) and only in (None, number):
            for string in _STRING.finditer(line):
                new = line[: string.start()] + value + line[string.end() :]
                yield "".join([*lines[:number], new, *lines[number + 1 :]])


def _without_key(text: str, path: Path) -> Iterator[str]:
    lines = text.splitlines(keepends=True)
    for number, line in enumerate(lines):
        if _names(line, path[-1]):
            if number and _meaning(lines[number - 1]) == path[:-1]:
                yield "".join([*lines[: number - 1], *lines[number + 1 :]])
            yield "".join([*lines[:number], *lines[number + 1 :]])
            for start in range(1, len(path)):  # from an inline table, in the form in which _with_key adds it
                pattern = rf" {re.escape(_key(path[start:]))} = (?:{_STRING.pattern}),?"
                for found in re.finditer(pattern, line):
                    new = line[: found.start()] + line[found.end() :]
                    yield "".join([*lines[:number], new, *lines[number + 1 :]])


def _meaning(line: str) -> Path | None:
    """The path that a header or key has if the line stands alone; None if the line is neither."""
    try:
        document: Any = tomllib.loads(line)
    except tomllib.TOMLDecodeError:
        return None
    path: list[str] = []
    while isinstance(document, dict) and len(document) == 1:  # pyright: ignore[reportUnknownArgumentType]
        key, document = next(iter(document.items()))  # pyright: ignore
        path.append(key)  # pyright: ignore[reportUnknownArgumentType]
    return tuple(path) or None


def _parse(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise EditError(str(error)) from error


def _sorted(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}  # pyright: ignore
    return [_sorted(item) for item in value] if isinstance(value, list) else value  # pyright: ignore


def _names(line: str, key: str) -> bool:
    return key in line or _key((key,)) in line


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


def _key(path: Path) -> str:
    return ".".join(part if _BARE_KEY.fullmatch(part) else json.dumps(part, ensure_ascii=False) for part in path)
