"""From containerd's configuration to what it reads at a pull. Nothing is written here.

`Containerd` fulfils the contract of a runtime, and the functions below it are pure. The facts are from containerd's
source, 1.5 to 2.4: loading and merging from `services/server/config` (1.x) and `cmd/containerd/server/config` (2.x),
the two ways to pull from `pkg/cri/server/image_pull.go` (1.x), `internal/cri/config/config.go` and
`internal/cri/server/images/image_pull.go` (2.x), defaults and migration from `plugins/cri/images/plugin.go`, and hosts
directories from `remotes/docker/config/hosts.go`.
"""

import copy
import functools
import hashlib
import posixpath
import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from . import tomledit
from .certificates import holds_certificate
from .faults import Fault, Reason
from .files import Tree, read_text
from .node import Runtime, option
from .runtime_contract import Edit, Plan

CERTS_D = "/etc/containerd/certs.d"
IMPLIED = "/etc/containerd/certs.d:/etc/docker/certs.d"
"""The built-in value that containerd 2.2 and newer use for an empty config_path."""

_CRI = "io.containerd.grpc.v1.cri"
_IMAGES = "io.containerd.cri.v1.images"
_NAMES_ROOTS = re.compile(r"""config_path["']?\s*=\s*["'][^"']""")

Release = tuple[int, int]
Table = dict[str, Any]


@dataclass(frozen=True)
class Source:
    """One configuration file, in the order in which containerd loads them."""

    path: str
    text: str


@dataclass(frozen=True)
class Containerd:
    """What a running containerd reads; see `runtime_contract.RuntimeLayout`."""

    runtime: Runtime
    tree: Tree
    """The files that its process sees."""
    node_name: str
    original: Callable[[str, str | None], str | None]
    """`original(path, text)`: what a configuration file with this text would be without our own changes."""

    def plan(self, host: str, ca_file: str) -> Plan:
        """Decide from the configuration files, as they would be without our own changes."""
        config = config_path(self.runtime)
        try:
            sources = load(config, self.runtime.release, self._read, self.tree.glob)
            found = plan(self.runtime.release, config, sources, host, ca_file)
        except (TypeError, AttributeError) as error:
            sentence = f"{config} has no table where containerd has one ({error}); repair it."
            raise Fault(Reason.CONFIG_INVALID, sentence, path=config, error=str(error)) from error
        naming = [source.path for source in sources if not found.edit and _NAMES_ROOTS.search(source.text)]
        fingerprint = hashlib.sha256(repr([(source.path, source.text) for source in sources]).encode()).hexdigest()
        return replace(found, fingerprint=fingerprint, explicit=naming[-1] if naming else "")

    def host_folders(self, root: str, host: str) -> list[str]:
        """A folder for a host with a port has one of two names, see the function `host_folders`."""
        return host_folders(root, host)

    def check_neighbours(self, file: str) -> None:
        """Two files of others spoil ours: a hosts.toml that does not name it, and a .crt without a certificate."""
        folder = file.rpartition("/")[0]
        path = f"{folder}/hosts.toml"
        hosts_toml = self.tree.read(path) or b""
        if hides_certificates(hosts_toml, file):
            raise Fault(
                Reason.FOREIGN_HOSTS_TOML,
                f"{path} on node {self.node_name} is not ours, and containerd ignores every .crt beside a hosts.toml; "
                f'remove it, or add ca = "{file}" at its top.',
                path=path,
                value=file,
            )
        for path in self.tree.glob(f"{folder}/*.crt") if not hosts_toml else []:
            if self.tree.is_file(path) and not holds_certificate(self.tree.read(path) or b""):
                raise Fault(
                    Reason.CONFIG_INVALID,
                    f"{path} on node {self.node_name} is not ours and holds no certificate, and containerd then "
                    "refuses every pull from this registry; remove it.",
                    path=path,
                )

    def _read(self, path: str) -> str | None:
        return self.original(path, read_text(self.tree, path))


def config_path(runtime: Runtime) -> str:
    """Path of the configuration file that a running containerd was started with. The file need not exist."""
    return option(runtime.arguments, "c", "config") or "/etc/containerd/config.toml"


def load(
    path: str, release: Release, read: Callable[[str], str | None], glob: Callable[[str], list[str]]
) -> list[Source]:
    """Read a configuration file and its imports as containerd does: breadth first, each file once.

    `read` returns a file's text, None if there is none; `glob` the files that match a pattern. If the main file does
    not exist, containerd uses its built-in defaults, and the list is empty.
    Raises Fault CONFIG_INVALID if a file is no TOML.
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

    `config` is the path of its main file, which need not exist. `ca_file` is a file that the CA may be put into where
    no hosts directory can be used.
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
            path=config,
            key="config_path",
            value=CERTS_D,
        )
    with_tls = release < (2, 0) and any("tls" in entry for entry in configs.values())
    if release < (1, 5) or mirrors or with_tls:  # 1.x refuses config_path beside mirrors or configs.*.tls
        entry: Table = configs.get(host) or {}
        if entry.get("tls", {}).get("ca_file"):
            raise Fault(
                Reason.INLINE_MIRRORS,
                f"registry.configs of {host} already has ca_file = {entry['tls']['ca_file']!r}; remove it.",
                path=config,
                key="ca_file",
                value=str(entry["tls"]["ca_file"]),
            )
        return Plan((), _edit(release, config, sources, ("configs", host, "tls", "ca_file"), ca_file), ca_file)
    return Plan((CERTS_D,), _edit(release, config, sources, ("config_path",), CERTS_D))


def host_folders(root: str, host: str) -> list[str]:
    """The folders that containerd looks for below a root; it reads the first that exists, even if it is empty."""
    name, colon, port = host.rpartition(":")
    folders = [f"{name}_{port}_", host] if colon and name else [host]
    return [f"{root}/{folder}" for folder in folders]


def hides_certificates(hosts_toml: bytes, own_file: str) -> bool:
    """Whether a hosts.toml makes containerd ignore the certificates beside it.

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
    """Find the file and the table in which the key has an effect. They are tried in turn, the most natural ones first.

    Raises Fault CONFIG_INVALID if there is none.
    """
    if not sources:
        number, plugin = (2, _CRI) if release < (2, 0) else (3, _IMAGES)
        return Edit(config, ("plugins", plugin, "registry", *key), value, f"version = {number}\n")
    documents = [_parse(source) for source in sources]
    places = [(place, plugin) for place in range(len(sources)) for plugin in _plugins(release, documents, place)]
    present = [(place, plugin) for place, plugin in places if plugin in documents[place].get("plugins", {})]
    if release >= (2, 0):  # 2.x merges files key by key, while in 1.x a later file replaces a plugin's whole table
        present = [(place, plugin) for place, plugin in present if "registry" in documents[place]["plugins"][plugin]]
    present.sort(key=lambda found: -found[0])  # the value of a later file counts
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
        path=config,
        key=".".join(key),
        value=value,
    )


def _plugins(release: Release, documents: Sequence[Table], place: int) -> tuple[str, ...]:
    """Names that the plugin which pulls images may have in a file. The one that fits the file's version comes first."""
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
        if own < 2 and "cri" in plugins:  # 2.x reads a version 1 file's plugins as if the file had the version so far
            plugins = {_CRI if name == "cri" else name: table for name, table in plugins.items()}
        if release >= (2, 3):  # 2.3 and newer migrate each file by itself
            plugins = _migrated(plugins) if own < newest else plugins
        elif own >= 2:
            version = own
        merged = _merge(merged, plugins)
    # Before 2.3 the last file's version counts for all files: if it is 3, tables of version 2 are ignored.
    return (_migrated(merged) if version < newest else merged).get(_IMAGES, {})


def _migrated(plugins: Table) -> Table:
    """What 2.x makes of the plugin tables of an older version. The old table's values replace the new one's."""
    old: Table = plugins.get(_CRI, {})
    images: Table = dict(plugins.get(_IMAGES, {}))
    images |= {
        key: old[key] for key in ("registry", "max_concurrent_downloads", "image_pull_with_sync_fs") if key in old
    }
    # containerd moves the keys of the nested table only if that table has runtimes.
    nested: Table = old.get("containerd", {}) if "runtimes" in old.get("containerd", {}) else {}
    images |= {key: nested[key] for key in ("disable_snapshot_annotations", "discard_unpacked_layers") if key in nested}
    return plugins | {_IMAGES: images} if old else plugins


def _pulls_locally(images: Table) -> bool:
    """Whether 2.1 and newer pull in the CRI plugin, not through the transfer service (CheckLocalImagePullConfigs)."""
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
        sentence = f"{source.path} is no valid TOML ({error}); repair it."
        raise Fault(Reason.CONFIG_INVALID, sentence, path=source.path, error=str(error)) from error
