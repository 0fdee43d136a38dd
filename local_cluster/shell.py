"""The environment of a shell on the cluster, in which plain `pulumi`, `kubectl`, `crane` and `skopeo` work.

Programs that talk to the cluster are wrapped: a wrapper runs the real one in the cluster's network.
"""

import os
import secrets
import shlex
import shutil
from pathlib import Path

from . import network, programs
from .paths import BIN, KUBECONFIG, PULUMI_BACKEND, REPOSITORY, SHELL

CLIENTS = ("crane", "curl", "helm", "kubectl", "openssl", "oras", "pulumi", "skopeo")
"""Programs that get a wrapper, where they exist."""

WRAPPERS = SHELL / "bin"
PULUMI_HOME = SHELL / "pulumi"
PASSPHRASE = SHELL / "passphrase"
STACKS = SHELL / "stacks"
"""Pulumi's state of the stacks on other clusters, for users who have no place for it."""

_WRAPPER = """\
#!/bin/sh
# Runs the real program inside the cluster's network, unless we are inside. No proxy is reached from there.
[ -e {handle} ] || {{ echo "the local cluster does not run: start it with 'make cluster'" >&2; exit 1; }}
unset {proxies}
[ /proc/self/ns/net -ef {handle} ] && exec {program} "$@"
exec ip netns exec {namespace} {program} "$@"
"""


Variables = dict[str, str | None]
"""What a program's environment has to have: variables with their values, and with None those that must not be there."""


def write() -> None:
    """Write the wrappers, and what Pulumi needs to keep the state of local stacks."""
    WRAPPERS.mkdir(parents=True, exist_ok=True)
    for old in WRAPPERS.iterdir():
        old.unlink()
    for name in CLIENTS:
        program = _real(name)
        if program is not None:
            wrapper = WRAPPERS / name
            text = _WRAPPER.format(
                handle=network.HANDLE,
                namespace=network.NAMESPACE,
                proxies=" ".join(network.PROXIES),
                program=shlex.quote(str(program)),
            )
            wrapper.write_text(text)
            wrapper.chmod(0o755)
    _write_pulumi_files(PULUMI_BACKEND)
    programs.install_plugins(PULUMI_HOME)


def environment() -> Variables:
    """Return the variables of a shell on the running cluster."""
    return {
        "PATH": _path(WRAPPERS, REPOSITORY / ".venv" / "bin", BIN),
        "KUBECONFIG": str(KUBECONFIG),
        "PULUMI_HOME": str(PULUMI_HOME),
        "PULUMI_BACKEND_URL": f"file://{PULUMI_BACKEND}",
        **_passphrase(),
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        # In a network without a way out, a missing plugin is an error at once and not after a minute.
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
    }


def own_backend() -> Variables:
    """Return the variables of a Pulumi that keeps its stacks in our folder, for users who have no place for them."""
    _write_pulumi_files(STACKS)
    return {
        "PULUMI_BACKEND_URL": f"file://{STACKS}",
        **_passphrase(),
        "PULUMI_SKIP_UPDATE_CHECK": "true",
    }


def exports(variables: Variables) -> str:
    """Return shell commands that give a shell these variables."""
    return "".join(
        f"unset {name}\n" if value is None else f"export {name}={shlex.quote(value)}\n"
        for name, value in variables.items()
    )


def applied(variables: Variables) -> dict[str, str]:
    """Return our environment with these variables."""
    return {name: value for name, value in (os.environ | variables).items() if value is not None}


def _passphrase() -> Variables:
    """Return what makes Pulumi take the passphrase in our file: one in the environment itself would come first."""
    return {"PULUMI_CONFIG_PASSPHRASE": None, "PULUMI_CONFIG_PASSPHRASE_FILE": str(PASSPHRASE)}


def _write_pulumi_files(backend: Path) -> None:
    for folder in (PULUMI_HOME, backend):
        folder.mkdir(parents=True, exist_ok=True)
    if not PASSPHRASE.exists():
        PASSPHRASE.touch(mode=0o600)
        PASSPHRASE.write_text(secrets.token_urlsafe())


def _path(*first: Path) -> str:
    """Return PATH with these folders before all others."""
    own = [str(folder) for folder in first]
    return ":".join(own + [folder for folder in os.environ.get("PATH", os.defpath).split(":") if folder not in own])


def _real(name: str) -> Path | None:
    """Return the program of this name: ours, else the first on PATH that is not a wrapper."""
    if (BIN / name).exists():
        return BIN / name
    path = [folder for folder in os.environ.get("PATH", os.defpath).split(":") if Path(folder) != WRAPPERS]
    found = shutil.which(name, path=":".join(path))
    return Path(found) if found else None
