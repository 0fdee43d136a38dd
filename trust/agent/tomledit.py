"""Change one key of a TOML text and nothing else: comments, order and spelling stay, the result is proved by parsing.

The standard library reads TOML (tomllib) but cannot write it. Here a small scanner only finds where things stand;
tomllib says afterwards whether the text means what it meant before, plus or minus that one key.
Grammar: https://toml.io/en/v1.0.0
"""

import copy
import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Path = tuple[str, ...]

_BLANK = re.compile(r"(?:[ \t\r\n,]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}(?!")' r"|'''.*?'{3,5}(?!')" r'|"(?:[^"\\\n]|\\.)*"' r"|'[^'\n]*'"
    r"|\d{4}-\d\d-\d\d \d\d:[^\s,\]}#]*" r"|[^\s,\]}#]+",
    re.DOTALL,
)  # fmt: skip


class EditError(ValueError):
    """The text is no TOML, or no way was found to change this key that could be proved to change nothing else."""


@dataclass(frozen=True)
class _Statement:
    """A `[table]` header (no value) or a `key = value`, with its place in the text."""

    path: Path
    table: Path
    start: int
    value: int | None
    end: int
    inline: bool = False
    array: bool = False


def get(document: dict[str, Any], path: Path) -> Any:  # noqa: ANN401 - whatever TOML can hold
    """The value at `path`, None if it or one of its tables is missing."""
    found: Any = document
    for part in path:
        if not isinstance(found, dict) or part not in found:
            return None
        found = found[part]  # pyright: ignore[reportUnknownVariableType]
    return found  # pyright: ignore[reportUnknownVariableType]


def set_key(text: str, path: Path, value: str) -> str:
    """Return `text` with the string `value` at `path`. Raises EditError."""
    old = _parse(text)
    wanted = copy.deepcopy(old)
    table: Any = wanted
    for part in path[:-1]:
        table = table.setdefault(part, {}) if isinstance(table, dict) else None  # pyright: ignore
    if not isinstance(table, dict):
        raise EditError(f"{'.'.join(path)} runs through a value that is no table")
    table[path[-1]] = value
    if wanted == old:
        return text
    for candidate in _with_key(text, path, json.dumps(value, ensure_ascii=False)):
        if _means(candidate, wanted):
            return candidate
    raise EditError(f"no way to set {'.'.join(path)} leaves the rest as it is")


def unset_key(text: str, path: Path, original: str) -> str:
    """Return `text` with the key at `path` as it was in `original`: its old value, or not there. Raises EditError."""
    old = _parse(text)
    if get(old, path) is None:
        return text
    before = get(_parse(original), path)
    statement = next((s for s in _scan(text) if s.path == path and s.value is not None), None)
    if statement is None:
        raise EditError(f"{'.'.join(path)} stands nowhere by itself")
    if before is not None:
        source = next(s for s in _scan(original) if s.path == path and s.value is not None)
        candidate = text[: statement.value] + original[source.value : source.end] + text[statement.end :]
        wanted = copy.deepcopy(old)
        get(wanted, path[:-1])[path[-1]] = before
        if _means(candidate, wanted):
            return candidate
    else:
        for candidate in _without(text, statement):
            wanted = copy.deepcopy(old)
            for depth in range(len(path) - 1, -1, -1):  # tables that were there only for this key may go with it
                del get(wanted, path[:depth])[path[depth]]
                if _means(candidate, wanted):
                    return candidate
                if get(wanted, path[:depth]) or get(_parse(original), path[:depth]) is not None:
                    break
    raise EditError(f"no way to take {'.'.join(path)} out leaves the rest as it is")


def _parse(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise EditError(str(error)) from error


def _means(text: str, wanted: dict[str, Any]) -> bool:
    try:
        return repr(_sorted(tomllib.loads(text))) == repr(_sorted(wanted))  # repr: 1, 1.0 and true differ, nan does not
    except tomllib.TOMLDecodeError:
        return False


def _sorted(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}  # pyright: ignore
    return [_sorted(item) for item in value] if isinstance(value, list) else value  # pyright: ignore


def _with_key(text: str, path: Path, value: str) -> Iterator[str]:
    """Texts that may have the key, the least change first."""
    newline = "\r\n" if "\r\n" in text else "\n"
    table, key = path[:-1], path[-1]
    statements = list(_scan(text))
    for s in statements:  # the key is there: replace its value
        if s.path == path and s.value is not None:
            yield text[: s.value] + value + text[s.end :]
    for s in statements:  # its table is there: put the key right below the header
        if s.path == table and s.value is None and not s.array:
            line = text.find("\n", s.end)
            head = text[: line + 1] if line >= 0 else text + newline
            yield f"{head}{_indent(text, s.start)}  {_key((key,))} = {value}{newline}{text[len(head) :]}"
    for s in statements:  # its table, or a parent, is an inline table: put the key first in there
        if s.value is not None and s.path == table[: len(s.path)] and text[s.value] == "{":
            rest = text[s.value + 1 :]
            comma = "" if rest.lstrip().startswith("}") else ","
            yield f"{text[: s.value + 1]} {_key(path[len(s.path) :])} = {value}{comma}{rest}"
    for s in statements:  # its table is spelled by dotted keys under a parent's header: put another one before
        if s.value is not None and not s.inline and s.path[: len(table)] == table:
            line = f"{_key(path[len(s.table) :])} = {value}{newline}{_indent(text, s.start)}"
            yield text[: s.start] + line + text[s.start :]
    end = "" if not text or text.endswith("\n") else newline
    yield f"{text}{end}[{_key(table)}]{newline}  {_key((key,))} = {value}{newline}"


def _without(text: str, statement: _Statement) -> Iterator[str]:
    """Texts that may lack the statement, first with its header gone, too."""
    if statement.inline:
        before, after = text[: statement.start].rstrip(" \t"), text[statement.end :].lstrip(" \t")
        yield before + (after[1:] if after.startswith(",") else after)
        yield before.removesuffix(",") + after
        return
    start, end = text.rfind("\n", 0, statement.start) + 1, text.find("\n", statement.end) + 1 or len(text)
    header = next((s for s in _scan(text) if s.path == statement.table and s.value is None and s.end < start), None)
    if header and not text[header.end : start].strip():
        yield text[: text.rfind("\n", 0, header.start) + 1] + text[end:]
    yield text[:start] + text[end:]


def _indent(text: str, place: int) -> str:
    line = text[text.rfind("\n", 0, place) + 1 : place]
    return line if not line.strip() else ""


def _key(path: Path) -> str:
    return ".".join(part if _BARE_KEY.fullmatch(part) else json.dumps(part, ensure_ascii=False) for part in path)


def _scan(text: str) -> Iterator[_Statement]:
    """All headers and keys in order, inline ones after the key that holds them. `text` must be valid TOML."""
    table: Path = ()
    place = _skip(_BLANK, text, 0)
    while place < len(text):
        start = place
        if text[place] == "[":
            array = text.startswith("[[", place)
            table, place = _read_key(text, place + 1 + array)
            place += 1 + array
            yield _Statement(table, table, start, None, place, array=array)
        else:
            found: list[_Statement] = []
            place = _pair(text, place, table, table, found, inline=False)
            yield from found
        place = _skip(_BLANK, text, place)


def _pair(text: str, place: int, prefix: Path, table: Path, found: list[_Statement], *, inline: bool) -> int:
    """Read `key = value`, note it and what is inside; return where it ends."""
    start = place
    key, place = _read_key(text, place)
    value = _skip(_SPACE, text, place + 1)
    inside: list[_Statement] = []
    end = _value(text, value, prefix + key, table, inside)
    found += [_Statement(prefix + key, table, start, value, end, inline), *inside]
    return end


def _value(text: str, place: int, path: Path, table: Path, found: list[_Statement]) -> int:
    if text[place] not in "[{":
        return _skip(_SCALAR, text, place)
    closing = "]" if text[place] == "[" else "}"
    place = _skip(_BLANK, text, place + 1)
    while text[place] != closing:
        if closing == "}":
            place = _pair(text, place, path, table, found, inline=True)
        else:
            place = _value(text, place, path, table, [])  # nothing inside an array has a path of its own
        place = _skip(_BLANK, text, place)
    return place + 1


def _read_key(text: str, place: int) -> tuple[Path, int]:
    """Read a dotted key; return it and the place of what follows, `=` or `]`."""
    parts: list[str] = []
    while True:
        place = _skip(_SPACE, text, place)
        end = _skip(_SCALAR if text[place] in "\"'" else _BARE_KEY, text, place)
        raw = text[place:end]
        parts.append(tomllib.loads(f"key = {raw}")["key"] if raw[0] in "\"'" else raw)
        place = _skip(_SPACE, text, end)
        if text[place] != ".":
            return tuple(parts), place
        place += 1


def _skip(pattern: re.Pattern[str], text: str, place: int) -> int:
    found = pattern.match(text, place)
    if not found:
        raise EditError(f"unexpected text at character {place}")
    return found.end()
