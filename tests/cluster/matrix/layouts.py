"""Configurations of containerd, as administrators and distributions write them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ..harness import ROOT

_FIXTURES = ROOT / "tests" / "unit" / "trust" / "agent" / "fixtures" / "layouts"

DEBIAN = {"1.6.20": "/opt/bookworm/usr/bin", "1.7.24": "/usr/bin"}
NEWEST = {
    "1.6.38": "/opt/extra/containerd-1.6",
    "1.7.36": "/opt/extra/containerd-1.7",
    "2.0.14": "/opt/extra/containerd-2.0",
    "2.1.9": "/opt/extra/containerd-2.1",
    "2.2.9": "/opt/extra/containerd-2.2",
    "2.3.7": "/opt/extra/containerd-2.3",
    "2.4.2": "/opt/base",
}
"""The newest of each release line."""
VERSIONS = {**DEBIAN, **NEWEST}
"""Folders with the containerd of each version, on the machine."""

CONFIG = "/etc/containerd/config.toml"
SOCKET = "/run/containerd/containerd.sock"
_K3S = "/var/lib/rancher/k3s/agent"
_MICROK8S = "/var/snap/microk8s"

_REGISTRY = {
    1: "[plugins.cri.registry",
    2: '[plugins."io.containerd.grpc.v1.cri".registry',
    3: "[plugins.'io.containerd.cri.v1.images'.registry",
    4: "[plugins.'io.containerd.cri.v1.images'.registry",
}
"""What the header of the table of registries starts with, by version of the file."""
_DISCARD = {
    2: '[plugins."io.containerd.grpc.v1.cri".containerd]\ndiscard_unpacked_layers = true\n'
    '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]\nruntime_type = "io.containerd.runc.v2"\n',
    3: "[plugins.'io.containerd.cri.v1.images']\ndiscard_unpacked_layers = true\n",
}
_SINGLE = ']\nconfig_path = "/etc/containerd/certs.d"\n'
_LIST = ']\nconfig_path = "/etc/containerd/certs.d:/etc/docker/certs.d"\n'
_EMPTY = ']\nconfig_path = ""\n'
_MIRRORS = '.mirrors."docker.io"]\nendpoint = ["https://mirror.example"]\n'
_TLS = '.configs."other.example".tls]\ninsecure_skip_verify = true\n'


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One configuration, and how containerd is started on it."""

    since: str = "1.6"
    """The first minor version of containerd that it is tried with."""
    until: str = "2.9"
    """The last one."""
    files: Mapping[str, str] = field(default_factory=dict[str, str])
    """Texts of files by path."""
    generated: bool = False
    """`CONFIG` is what `containerd config default` prints."""
    links: Mapping[str, str] = field(default_factory=dict[str, str])
    """Targets of symbolic links by path."""
    folders: tuple[str, ...] = ()
    """Empty folders."""
    arguments: tuple[str, ...] = ()
    """Arguments of containerd."""
    socket: str = SOCKET
    wipes: str = ""
    """A folder that is emptied at each start, by the parent process that containerd then has: K3s and RKE2."""
    host: str = ""
    """Another host of the registry than the usual one."""
    broken: bool = False
    """containerd does not serve CRI on it, whether there is an agent or not."""

    def fits(self, version: str) -> bool:
        """Whether it is tried with this version of containerd."""
        return _number(self.since) <= _number(version)[:2] <= _number(self.until)


def _number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _versioned(version: int, *parts: str) -> str:
    return (f"version = {version}\n" if version > 1 else "") + "".join(parts)


def _main(version: int, *parts: str, since: str = "", until: str = "2.9", host: str = "") -> Layout:
    """One file; containerd reads version 3 since 2.0, and version 4 since 2.3."""
    since = since or {1: "1.6", 2: "1.6", 3: "2.0", 4: "2.3"}[version]
    return Layout(since=since, until=until, files={CONFIG: _versioned(version, *parts)}, host=host)


def _imports(version: int, main: str, drop_in: str) -> Layout:
    files = {
        CONFIG: _versioned(version, 'imports = ["/etc/containerd/conf.d/*.toml"]\n', main),
        "/etc/containerd/conf.d/registry.toml": _versioned(version, drop_in),
    }
    return Layout(since="2.0" if version == 3 else "1.6", files=files)


def _mixed(main: str, drop_in: str, since: str) -> Layout:
    files = {
        CONFIG: main.replace("\n", '\nimports = ["/etc/containerd/conf.d/*.toml"]\n', 1),
        "/etc/containerd/conf.d/other.toml": drop_in,
    }
    return Layout(since=since, files=files)


def _vendor(name: str, since: str, until: str) -> Layout:
    return Layout(since=since, until=until, files={CONFIG: (_FIXTURES / f"{name}.toml").read_text()})


def _k3s(name: str, since: str, until: str) -> Layout:
    config = f"{_K3S}/etc/containerd/config.toml"
    return Layout(
        since=since,
        until=until,
        files={config: (_FIXTURES / f"{name}.toml").read_text()},
        arguments=("-c", config, "-a", "/run/k3s/containerd/containerd.sock", "--state", "/run/k3s/containerd")
        + ("--root", f"{_K3S}/containerd"),
        socket="/run/k3s/containerd/containerd.sock",
        wipes=f"{_K3S}/etc/containerd/certs.d",
    )


def _microk8s(since: str, until: str) -> Layout:
    folder, common = f"{_MICROK8S}/8511/args", f"{_MICROK8S}/common"
    return Layout(
        since=since,
        until=until,
        files={f"{folder}/containerd.toml": (_FIXTURES / "microk8s.toml").read_text()},
        links={f"{_MICROK8S}/current": "8511"},
        folders=(f"{folder}/certs.d",),
        arguments=("--config", f"{folder}/containerd.toml", "--root", f"{common}/var/lib/containerd")
        + ("--state", f"{common}/run/containerd", "--address", f"{common}/run/containerd.sock"),
        socket=f"{common}/run/containerd.sock",
    )


LAYOUTS = {
    "no file": Layout(),
    "`config default`": Layout(generated=True),
    **{f"version {v}, no config_path": _main(v) for v in (1, 2, 3, 4)},
    **{f'version {v}, config_path = ""': _main(v, _REGISTRY[v], _EMPTY) for v in (2, 3)},
    **{f"version {v}, one folder": _main(v, _REGISTRY[v], _SINGLE) for v in (1, 2, 3, 4)},
    **{f"version {v}, list": _main(v, _REGISTRY[v], _LIST) for v in (2, 3)},
    **{f"version {v}, list, discard_unpacked_layers": _main(v, _REGISTRY[v], _LIST, _DISCARD[v]) for v in (2, 3)},
    **{f"version {v}, mirrors": _main(v, _REGISTRY[v], _MIRRORS) for v in (1, 2, 3)},
    **{
        f"version {v}, mirrors and config_path": replace(
            _main(v, _REGISTRY[v], _SINGLE, _REGISTRY[v], _MIRRORS), broken=True
        )
        for v in (2, 3)
    },
    **{f"version {v}, TLS of another host": _main(v, _REGISTRY[v], _TLS) for v in (2, 3)},
    **{
        f"version {v}, config_path in conf.d": _imports(v, _REGISTRY[v] + _EMPTY, _REGISTRY[v] + _SINGLE)
        for v in (2, 3)
    },
    **{
        f"version {v}, config_path beside conf.d": _imports(v, _REGISTRY[v] + _SINGLE, '[debug]\nlevel = "info"\n')
        for v in (2, 3)
    },
    **{
        f"version {v}, nothing in conf.d": _imports(v, _REGISTRY[v] + _EMPTY, '[debug]\nlevel = "info"\n')
        for v in (2, 3)
    },
    "version 2, version 3 in conf.d": _mixed(
        _versioned(2, _REGISTRY[2], _SINGLE), 'version = 3\n[debug]\nlevel = "info"\n', "2.0"
    ),
    "version 3, version 2 in conf.d": _mixed(
        _versioned(3, _REGISTRY[3], _LIST), _versioned(2, _REGISTRY[2], _SINGLE), "2.0"
    ),
    "version 3, no version in conf.d": _mixed(_versioned(3, _REGISTRY[3], _EMPTY), _REGISTRY[3] + _SINGLE, "2.0"),
    "version 2, no version in conf.d": _mixed(_versioned(2, _REGISTRY[2], _EMPTY), _REGISTRY[2] + _SINGLE, "1.6"),
    "version 2, one folder, host with port": _main(2, _REGISTRY[2], _SINGLE, host="registry.example:5000"),
    "no file, host with port": Layout(host="registry.example:5000"),
    "Debian 13": _vendor("debian-1.7", "1.6", "1.7"),
    "K3s, RKE2 (version 2)": _k3s("k3s-v2", "1.6", "1.7"),
    "K3s, RKE2 (version 3)": _k3s("k3s-v3", "2.0", "2.2"),
    "MicroK8s": _microk8s("1.6", "2.1"),
    "Canonical Kubernetes (k8s snap)": _vendor("k8s-snap", "1.6", "2.1"),
    "AKS": _vendor("aks", "1.6", "2.1"),
    "EKS, Amazon Linux 2023 (version 2)": _vendor("eks-v2", "1.7", "2.1"),
    "EKS, Amazon Linux 2023 (version 3)": _vendor("eks-v3", "2.1", "2.2"),
    "GKE 1.32": _vendor("gke-1.32", "1.7", "2.0"),
    "GKE 1.33": _vendor("gke-1.33", "1.7", "2.0"),
    "minikube": _vendor("minikube", "1.7", "2.2"),
    "kind": _vendor("kind", "2.0", "2.3"),
    "kind, config_path": _vendor("kind-patched", "2.0", "2.3"),
}
"""By the name that the table shows."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One containerd on one configuration."""

    version: str
    configuration: str
    """A key of `LAYOUTS`."""

    @property
    def layout(self) -> Layout:
        """The configuration."""
        return LAYOUTS[self.configuration]


CORE = (
    Cell(version="1.6.20", configuration="`config default`"),
    Cell(version="1.6.20", configuration="version 2, mirrors"),
    Cell(version="1.7.24", configuration="no file"),
    Cell(version="1.7.24", configuration="version 2, one folder"),
    Cell(version="1.7.24", configuration="K3s, RKE2 (version 2)"),
    Cell(version="2.4.2", configuration="no file"),
    Cell(version="2.4.2", configuration="version 3, list, discard_unpacked_layers"),
)
"""What is tried in every run of the tests; needs no other containerd than the cluster's."""

CELLS = (
    *(cell for cell in CORE if cell.version in DEBIAN),
    *(
        Cell(version=version, configuration=name)
        for version in NEWEST
        for name, layout in LAYOUTS.items()
        if layout.fits(version)
    ),
)
"""The whole matrix of containerd. Debian's are patched ones of lines whose newest one is tried with everything."""
