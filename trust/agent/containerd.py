"""From containerd's configuration to what it reads at a pull: pure functions, no file is touched here.

Facts and where they stand in containerd's source (1.5 to 2.4): `services/server/config` (1.x) and
`cmd/containerd/server/config` (2.x) for loading and merging, `pkg/cri/server/image_pull.go` (1.x),
`internal/cri/config/config.go` and `internal/cri/server/images/image_pull.go` (2.x) for the two ways to
pull, `plugins/cri/images/plugin.go` for defaults and migration, `remotes/docker/config/hosts.go` for hosts directories.
"""

import copy
import functools
import posixpath
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from . import tomledit
from .faults import Fault, Reason

CERTS_D = "/etc/containerd/certs.d"
IMPLIED = "/etc/containerd/certs.d:/etc/docker/certs.d"
"""What containerd 2.2 and newer take for an empty config_path."""

_CRI = "io.containerd.grpc.v1.cri"
_IMAGES = "io.containerd.cri.v1.images"

Release = tuple[int, int]
Table = dict[str, Any]


@dataclass(frozen=True)
class Source:
    """One configuration file, in the order in which containerd loads them."""

    path: str
    text: str


@dataclass(frozen=True)
class Edit:
    """One string to set in one configuration file; containerd reads it only when it starts."""

    file: str
    key: tuple[str, ...]
    value: str
    new_file: str = ""
    """What the file starts with if it does not exist."""


@dataclass(frozen=True)
class Plan:
    """Where the CA must be, and what must change so that the runtime looks there."""

    roots: tuple[str, ...]
    """Hosts directories, the one that is really read first; the others are there for what a restart may change."""
    edit: Edit | None = None
    ca_file: str | None = None
    """A single file instead of hosts directories."""


def load(
    path: str, release: Release, read: Callable[[str], str | None], glob: Callable[[str], list[str]]
) -> list[Source]:
    """Read a configuration file and its imports as containerd does: breadth first, each file once.

    Raises Fault CONFIG_INVALID if a file is no TOML. A missing main file means built-in defaults, and an empty list.
    """
    sources: list[Source] = []
    pending = [path]
    while pending:
        current = pending.pop(0)
        text = read(current)
        if text is None or any(source.path == current for source in sources):
            continue
        sources.append(Source(current, text))
        for pattern in _parse(sources[-1]).get("imports", []):
            relative_to = posixpath.dirname(current)
            if "*" in pattern and release < (2, 0):
                relative_to = "/"  # 1.x looks for relative patterns in its working folder
            absolute = posixpath.normpath(posixpath.join(relative_to, pattern))
            pending += glob(absolute) if "*" in absolute else [absolute]
    return sources


def plan(release: Release, config: str, sources: Sequence[Source], host: str, ca_file: str) -> Plan:
    """Decide what a containerd with this configuration needs in order to trust `host`.

    `config` is the path of its main file (there or not), `ca_file` one for the CA where no hosts directory can be used.
    Raises Fault: INLINE_MIRRORS or CONFIG_INVALID.
    """
    images = _images(release, [_parse(source) for source in sources])
    registry: Table = images.get("registry") or {}
    configured: str = registry.get("config_path") or ""
    mirrors: Table = registry.get("mirrors") or {}
    configs: Table = registry.get("configs") or {}
    if not configured and not mirrors and release >= (2, 2):
        configured = IMPLIED
    if configured:
        split = tuple(posixpath.normpath(root) for root in configured.split(":") if root)
        if release < (2, 1) or len(split) == 1 or _pulls_locally(images):
            return Plan(split[:1])
        return Plan((posixpath.normpath(configured), *split))
    if release >= (2, 0) and mirrors:
        raise Fault(
            Reason.INLINE_MIRRORS,
            f"containerd {release[0]}.{release[1]} has registry.mirrors for {', '.join(sorted(mirrors))} in its "
            f"configuration and no config_path, and then reads no CA for a single registry; move the mirrors to "
            f'{CERTS_D}/<host>/hosts.toml and set config_path = "{CERTS_D}".',
        )
    with_tls = release < (2, 0) and any("tls" in entry for entry in configs.values())
    if release < (1, 5) or mirrors or with_tls:  # 1.x refuses config_path beside mirrors or configs.*.tls
        entry: Table = configs.get(host) or {}
        if entry.get("tls", {}).get("ca_file"):
            raise Fault(
                Reason.INLINE_MIRRORS,
                f"registry.configs of {host} already has ca_file = {entry['tls']['ca_file']!r}; remove it.",
            )
        return Plan((), _edit(release, config, sources, ("configs", host, "tls", "ca_file"), ca_file), ca_file)
    return Plan((CERTS_D,), _edit(release, config, sources, ("config_path",), CERTS_D))


def host_folders(root: str, host: str) -> list[str]:
    """The folders that containerd looks for below a root; it reads the first that exists, even if it is empty."""
    name, colon, port = host.rpartition(":")
    folders = [f"{name}_{port}_", host] if colon and name else [host]
    return [f"{root}/{folder}" for folder in folders]


def hides_certificates(hosts_toml: bytes, own_file: str) -> bool:
    """Whether a hosts.toml makes containerd pass over the certificates beside it.

    It does unless it is empty or no TOML, or its own `ca` names our file.
    """
    try:
        document = tomllib.loads(hosts_toml.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        return False
    named = document.get("ca", [])
    folder = posixpath.dirname(own_file)
    paths = [posixpath.join(folder, str(path)) for path in (named if isinstance(named, list) else [named])]  # pyright: ignore
    return bool(hosts_toml) and own_file not in paths


def _edit(release: Release, config: str, sources: Sequence[Source], key: tuple[str, ...], value: str) -> Edit:
    """The one change that has this effect; files and tables are tried in turn, the natural ones first.

    Raises Fault CONFIG_INVALID if there is none.
    """
    if not sources:
        number, plugin = (2, _CRI) if release < (2, 0) else (3, _IMAGES)
        return Edit(config, ("plugins", plugin, "registry", *key), value, f"version = {number}\n")
    documents = [_parse(source) for source in sources]
    places = [(place, plugin) for place in range(len(sources)) for plugin in _plugins(release, documents, place)]
    present = [(place, plugin) for place, plugin in places if plugin in documents[place].get("plugins", {})]
    if release >= (2, 0):  # which merges key by key; 1.x replaces a plugin's whole table
        present = [(place, plugin) for place, plugin in present if "registry" in documents[place]["plugins"][plugin]]
    present.sort(key=lambda found: -found[0])  # later files win
    for place, plugin in [*present, *places]:
        changed = copy.deepcopy(documents)
        table: Any = changed[place]
        for name in ("plugins", plugin, "registry", *key[:-1]):
            table = table.setdefault(name, {})
        table[key[-1]] = value
        if tomledit.get(_images(release, changed), ("registry", *key)) == value:
            return Edit(sources[place].path, ("plugins", plugin, "registry", *key), value)
    raise Fault(
        Reason.CONFIG_INVALID,
        f"{config} and its imports leave no place where containerd {release[0]}.{release[1]} would read "
        f'{".".join(key)}; set it to "{value}" there.',
    )


def _plugins(release: Release, documents: Sequence[Table], place: int) -> tuple[str, ...]:
    """Names of the plugin that pulls images, the one that fits the file's version first."""
    if release < (2, 0):
        return ("cri",) if _version(documents) < 2 else (_CRI,)
    version = documents[place].get("version", 1)
    return ("cri", _CRI, _IMAGES) if version < 2 else (_CRI, _IMAGES) if version == 2 else (_IMAGES, _CRI)


def _version(documents: Sequence[Table]) -> int:
    numbers = [document.get("version", 0) for document in documents]
    return next((number for number in reversed(numbers) if number), 1)


def _images(release: Release, documents: Sequence[Table]) -> Table:
    """The options of the plugin that pulls images, as containerd has them after merging all files."""
    merged: Table = {}
    if release < (2, 0):
        for document in documents:
            merged.update(document.get("plugins", {}))
        return merged.get("cri" if _version(documents) < 2 else _CRI, {})
    newest = version = 3 if release < (2, 3) else 4
    for document in documents:
        plugins: Table = document.get("plugins", {})
        own = document.get("version", 0)
        if own < 2 and "cri" in plugins:  # 2.x takes a first format's plugins for those of the version so far
            plugins = {_CRI if name == "cri" else name: table for name, table in plugins.items()}
        if release >= (2, 3):  # which migrates each file by itself
            plugins = _migrated(plugins) if own < newest else plugins
        elif own >= 2:
            version = own
        merged = _merge(merged, plugins)
    # Before 2.3 the last file's version is that of all: with version 3, the older table is passed over.
    return (_migrated(merged) if version < newest else merged).get(_IMAGES, {})


def _migrated(plugins: Table) -> Table:
    """What 2.x makes of the plugin tables of an older version; the old table's values win."""
    old: Table = plugins.get(_CRI, {})
    images: Table = dict(plugins.get(_IMAGES, {}))
    images |= {
        key: old[key] for key in ("registry", "max_concurrent_downloads", "image_pull_with_sync_fs") if key in old
    }
    nested: Table = old.get("containerd", {}) if "runtimes" in old.get("containerd", {}) else {}  # as containerd has it
    images |= {key: nested[key] for key in ("disable_snapshot_annotations", "discard_unpacked_layers") if key in nested}
    return plugins | {_IMAGES: images} if old else plugins


def _pulls_locally(images: Table) -> bool:
    """Whether 2.1 and newer pull by themselves and not through the transfer service (CheckLocalImagePullConfigs)."""
    registry: Table = images.get("registry") or {}
    return bool(
        images.get("use_local_image_pull")
        or images.get("discard_unpacked_layers")
        or images.get("image_pull_with_sync_fs")
        or not images.get("disable_snapshot_annotations", True)
        or images.get("max_concurrent_downloads", 3) != 3
        or any(registry.get(key) for key in ("mirrors", "configs", "auths"))
    )


def _merge(older: Table, newer: Table) -> Table:
    merged = copy.copy(older)
    for key, value in newer.items():
        mine = merged.get(key)
        merged[key] = _merge(mine, value) if isinstance(mine, dict) and isinstance(value, dict) else value  # pyright: ignore
    return merged


@functools.lru_cache(maxsize=32)
def _parse(source: Source) -> Table:
    try:
        return tomllib.loads(source.text)
    except tomllib.TOMLDecodeError as error:
        raise Fault(Reason.CONFIG_INVALID, f"{source.path} is no valid TOML ({error}); repair it.") from error
