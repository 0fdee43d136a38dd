"""A cluster of the user's own instead of the local one: KUBECONFIG or CONTEXT names it.

Nothing of a local cluster is built for it, and no root is needed. Pulumi has to be installed, or is built with BUILD=1.
"""

import hashlib
import json
import os
import shlex
import shutil
from pathlib import Path
from typing import Any, cast

import kubernetes
import urllib3
from kubernetes.client.exceptions import ApiException

from registry import kubeconfig

from . import programs, shell
from .errors import ClusterError
from .paths import BIN, KUBECONFIG, REPOSITORY, SHELL

_CONTEXTS = SHELL / "contexts"
"""Folder with a kubeconfig for each context, since shells with different ones live side by side."""
INSTALL = "https://www.pulumi.com/docs/install/"


def is_named() -> bool:
    """Tell whether KUBECONFIG or CONTEXT names a cluster that is not the local one."""
    named = os.environ.get("KUBECONFIG")
    return bool(os.environ.get("CONTEXT")) or bool(named) and named != str(KUBECONFIG)


def arguments() -> str:
    """Return what makes `make shell-env` mean the same cluster in another shell: empty for the local one."""
    if not is_named():
        return ""
    given = {name: os.environ.get(name, "") for name in ("KUBECONFIG", "CONTEXT")}
    if given["CONTEXT"]:
        files = [file for file in given["KUBECONFIG"].split(os.pathsep) if Path(file).parent != _CONTEXTS]
        given["KUBECONFIG"] = "" if files == [_default_kubeconfig()] else os.pathsep.join(files)
    if os.environ.get("BUILD") == "1":
        given["BUILD"] = "1"
    return "".join(f" {name}={shlex.quote(value.replace('$', '$$'))}" for name, value in given.items() if value)


def environment(*, pulumi: bool = True) -> shell.Variables:
    """Return the variables of a shell on that cluster: what is installed goes before what we built.

    What the shell has from the local cluster is taken from it, and from our own environment.

    Args:
        pulumi: Whether Pulumi is to run in it.

    Raises:
        ClusterError: There is no Pulumi, or the cluster does not answer.
        BuildError: BUILD=1 is set, and Pulumi cannot be built.
    """
    variables: shell.Variables = dict.fromkeys(_of_the_local_cluster())
    for name in variables:
        del os.environ[name]
    _check()
    variables |= _kubeconfig()
    given = os.environ.get("PATH", os.defpath).split(":")
    installed = [folder for folder in given if folder not in (str(shell.WRAPPERS), str(BIN))]
    # The program's Python goes first: a language host that was built here runs in the python3 that is first on PATH.
    path = [str(REPOSITORY / ".venv" / "bin"), *installed, *(folder for folder in given if folder == str(BIN))]
    if pulumi and os.environ.get("BUILD") == "1":
        path.append(str(programs.ensure()))
    elif pulumi and not shutil.which("pulumi", path=":".join(path)):
        raise ClusterError(
            f"there is no program pulumi on PATH: install it ({INSTALL}), or build it here, which takes half an hour: "
            "make up BUILD=1"
        )
    variables["PATH"] = ":".join(dict.fromkeys(path))
    if not pulumi or _has_backend():
        return variables
    return variables | shell.own_backend()


def _of_the_local_cluster() -> list[str]:
    """Return the variables that our environment has from `make shell-env` on the local cluster, but for PATH."""
    if os.environ.get("PULUMI_HOME") != str(shell.PULUMI_HOME):
        return []
    theirs = {name: value for name, value in shell.environment().items() if name != "PATH"}
    return [name for name, value in theirs.items() if value is not None and os.environ.get(name) == value]


def _has_backend() -> bool:
    """Tell whether the user keeps stacks somewhere already: they are logged in, or a variable says where.

    Pulumi looks in the same places, in this order.
    """
    chosen = os.environ.get("PULUMI_BACKEND_URL")
    if chosen:
        return chosen != f"file://{shell.STACKS}"
    folder = os.environ.get("PULUMI_CREDENTIALS_PATH") or os.environ.get("PULUMI_HOME") or Path.home() / ".pulumi"
    return bool(os.environ.get("PULUMI_ACCESS_TOKEN")) or (Path(folder) / "credentials.json").exists()


def _default_kubeconfig() -> str:
    return str(Path.home() / ".kube" / "config")


def _kubeconfig() -> shell.Variables:
    """Return KUBECONFIG such that CONTEXT is the current context; as it is where CONTEXT is not set.

    The first file that names a current context counts. So one with nothing else in it goes before the others.
    """
    context = os.environ.get("CONTEXT")
    if not context:
        return {"KUBECONFIG": os.environ["KUBECONFIG"]}
    _CONTEXTS.mkdir(parents=True, exist_ok=True)
    first = _CONTEXTS / f"{hashlib.sha256(context.encode()).hexdigest()[:12]}.json"
    first.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", "current-context": context}))
    files = (os.environ.get("KUBECONFIG") or _default_kubeconfig()).split(os.pathsep)
    others = [file for file in files if Path(file).parent != _CONTEXTS]
    return {"KUBECONFIG": os.pathsep.join([str(first), *others])}


def _check() -> None:
    """Check that the cluster answers, as the program will ask it.

    Raises:
        ClusterError: It does not.
    """
    try:
        found = kubeconfig.connect(context=os.environ.get("CONTEXT", ""))
        cast(Any, kubernetes.client).VersionApi(found.client).get_code(_request_timeout=(5, 5))
    except kubeconfig.KubeconfigError as error:
        raise ClusterError(str(error)) from None
    except (ApiException, urllib3.exceptions.HTTPError) as error:
        reason = getattr(error, "reason", None) or error
        named = " ".join(f"{name}={os.environ[name]}" for name in ("KUBECONFIG", "CONTEXT") if os.environ.get(name))
        raise ClusterError(f"the cluster of {named} does not answer ({reason}): unset it for the local one") from None
