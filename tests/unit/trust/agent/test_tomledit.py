"""A config edit changes one key and nothing else, whatever the TOML looks like."""

import copy
import difflib
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomlkit
from hypothesis import given
from hypothesis import strategies as st

from trust.agent.tomledit import EditError, get, set_key, unset_key

FIXTURES = Path(__file__).parent / "fixtures"
CRI = ("plugins", "io.containerd.grpc.v1.cri", "registry", "config_path")
VALUE = "/etc/containerd/certs.d"

keys = st.sampled_from(
    ["a", "b", "registry", "config_path", "io.containerd.grpc.v1.cri", 'q"uo\\te', "tls", "ümlaut", "#"]
)
scalars = st.one_of(
    st.integers(-9, 9),
    st.booleans(),
    st.floats(allow_nan=False, allow_infinity=False, width=16),
    st.text(alphabet='ab"\\#[]{}=\n\t,', max_size=6),
    st.datetimes(),
    st.lists(st.integers(0, 3), max_size=3),
    st.lists(st.text(alphabet="a]}#,", max_size=3), max_size=2),
)
documents = st.recursive(
    st.dictionaries(keys, scalars, max_size=3),
    lambda inner: st.dictionaries(keys, st.one_of(scalars, inner), max_size=3),
    max_leaves=12,
)
paths = st.lists(keys, min_size=2, max_size=4).map(tuple)


def _spelled(key: str) -> str:
    return key if key.replace("_", "").isalnum() and key.isascii() else json.dumps(key, ensure_ascii=False)


@st.composite
def texts(draw: st.DrawFn) -> str:
    """The same kinds of documents, spelled with headers, dotted keys, inline tables, comments and odd white space."""
    lines: list[str] = []

    def comment() -> str:
        return draw(st.sampled_from(["", "", "  # said, by = {someone} [here]"]))

    def scalar(value: Any) -> str:  # noqa: ANN401
        return tomlkit.item(value).as_string()

    def inline(value: Any) -> str:  # noqa: ANN401
        if isinstance(value, dict):
            return "{ " + ", ".join(f"{_spelled(key)} = {inline(item)}" for key, item in value.items()) + " }"
        return scalar(value).replace("\n", " ") if not isinstance(value, str) else json.dumps(value)

    def write(table: dict[str, Any], prefix: str, dotted: str, indent: str) -> None:
        later: list[tuple[str, dict[str, Any]]] = []
        for key, value in table.items():
            name = dotted + _spelled(key)
            if not isinstance(value, dict):
                lines.append(f"{indent}{name} = {scalar(value)}{comment()}")
            elif dotted or (value and draw(st.sampled_from(["header", "header", "dotted", "inline"])) == "dotted"):
                if value:
                    write(value, prefix, name + ".", indent)
                else:
                    lines.append(f"{indent}{name} = {{}}{comment()}")
            elif draw(st.booleans()):
                later.append((prefix + _spelled(key), value))
            else:
                lines.append(f"{indent}{name} = {inline(value)}{comment()}")
        for name, value in later:
            lines.append(f"{indent}[ {name} ]{comment()}" if draw(st.booleans()) else f"[{name}]{comment()}")
            write(value, name + ".", "", indent + draw(st.sampled_from(["", "  ", "\t"])))
            if draw(st.booleans()):
                lines.append("")

    write(draw(documents), "", "", "")
    return draw(st.sampled_from(["", "# head\n"])) + "\n".join(lines) + draw(st.sampled_from(["", "\n", "\n\n"]))


def expected(text: str, path: tuple[str, ...]) -> dict[str, Any] | None:
    """The document with the key set, None if the path runs through a value or what is there is no string."""
    document = tomllib.loads(text)
    if not isinstance(get(document, path), str | None):
        return None
    table: Any = document
    for part in path[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            return None
    table[path[-1]] = VALUE
    return document


@given(texts(), paths)
def test_one_key_is_set_and_nothing_else_is_touched(text: str, path: tuple[str, ...]) -> None:
    wanted = expected(text, path)
    if wanted is None:
        return
    new = set_key(text, path, VALUE)
    assert tomllib.loads(new) == wanted
    assert tomlkit.parse(new).unwrap() == wanted, "another parser reads it the same way"
    assert set_key(new, path, VALUE) == new, "idempotent"
    assert new.count("# said") == text.count("# said"), "comments stay"
    if get(tomllib.loads(text), path) is None:
        changed = [line for line in difflib.ndiff(text.splitlines(), new.splitlines()) if line[0] == "-"]
        assert len(changed) <= 1, "at most the line of an inline table is another one"


@given(texts(), paths)
def test_a_key_that_was_set_can_be_taken_back(text: str, path: tuple[str, ...]) -> None:
    if expected(text, path) is None:
        return
    new = set_key(text, path, VALUE)
    back = unset_key(new, path, text)
    assert _without_empty(tomllib.loads(back)) == _without_empty(tomllib.loads(text))
    assert get(tomllib.loads(back), path) == get(tomllib.loads(text), path)
    if text.endswith("\n") and "{" not in text:
        assert back == text


@given(texts(), paths, st.sampled_from(["# stranger\n", "\n[zz]\nkey = 1\n"]))
def test_taking_a_key_back_leaves_what_a_stranger_added_since(text: str, path: tuple[str, ...], added: str) -> None:
    if expected(text, path) is None:
        return
    theirs = set_key(text, path, VALUE).rstrip("\n") + "\n" + added
    back = unset_key(theirs, path, text)
    assert added.strip() in back
    assert get(tomllib.loads(back), path) == get(tomllib.loads(text), path)


def _without_empty(document: dict[str, Any]) -> dict[str, Any]:
    document = copy.deepcopy(document)
    for key, value in list(document.items()):
        if isinstance(value, dict):
            document[key] = _without_empty(value)
            if not document[key]:
                del document[key]
    return document


@pytest.mark.parametrize(
    ("text", "new"),
    [
        ("", "[CRI.registry]\n  config_path = VALUE\n"),
        ("version = 2", "version = 2\n[CRI.registry]\n  config_path = VALUE\n"),
        (
            "[CRI.registry] # here\r\n  config_path = ''  # no\r\n",
            "[CRI.registry] # here\r\n  config_path = VALUE  # no\r\n",
        ),
        ("  [CRI.registry]\n    headers = {}\n", "  [CRI.registry]\n    config_path = VALUE\n    headers = {}\n"),
        ("[CRI]\n  registry.headers = {}\n", "[CRI]\n  registry.config_path = VALUE\n  registry.headers = {}\n"),
        ("[CRI]\nregistry = { headers = {} }\n", "[CRI]\nregistry = { config_path = VALUE, headers = {} }\n"),
        ("plugins = {}\n", 'plugins = { "io.containerd.grpc.v1.cri".registry.config_path = VALUE}\n'),
        (
            'a = """\n[CRI.registry]\nconfig_path = ""\n"""\n',
            'a = """\n[CRI.registry]\nconfig_path = ""\n"""\n[CRI.registry]\n  config_path = VALUE\n',
        ),
    ],
)
def test_how_an_edit_looks(text: str, new: str) -> None:
    def spelled(short: str) -> str:
        return short.replace("CRI", 'plugins."io.containerd.grpc.v1.cri"').replace("VALUE", f'"{VALUE}"')

    assert set_key(spelled(text), CRI, VALUE) == spelled(new)


@pytest.mark.parametrize("name", ["layouts/default-1.6.toml", "layouts/default-2.4.toml"])
def test_generated_configurations_change_in_one_line(name: str) -> None:
    text = (FIXTURES / name).read_text()
    plugin = "io.containerd.grpc.v1.cri" if "1.6" in name else "io.containerd.cri.v1.images"
    new = set_key(text, ("plugins", plugin, "registry", "config_path"), VALUE)
    changed = [line for line in difflib.ndiff(text.splitlines(), new.splitlines()) if line[0] in "+-"]
    assert [line[0] for line in changed] == ["-", "+"]
    assert unset_key(new, ("plugins", plugin, "registry", "config_path"), text) == text


@pytest.mark.parametrize("text", ["plugins = 1\n", "[plugins]\n[plugins]\n", '[[plugins]]\nname = "x"\n'])
def test_what_cannot_be_proved_is_refused(text: str) -> None:
    with pytest.raises(EditError):
        set_key(text, CRI, VALUE)
