"""A cluster of the user's own instead of the local one: KUBECONFIG or CONTEXT names it.

Nothing of a local cluster is built for it, and no root is needed. Pulumi has to be installed, or is built with BUILD=1.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any, cast

import kubernetes
import urllib3
from kubernetes.client.exceptions import ApiException

from registry import kubeconfig

from . import programs, shell
from .errors import ClusterError
from .paths import KUBECONFIG, REPOSITORY, SHELL

_CONTEXT_FILE = SHELL / "context.json"
INSTALL = "https://www.pulumi.com/docs/install/"


def is_named() -> bool:
    """Tell whether KUBECONFIG or CONTEXT names a cluster that is not the local one."""
    named = os.environ.get("KUBECONFIG")
    return bool(os.environ.get("CONTEXT")) or bool(named) and named != str(KUBECONFIG)


def environment() -> dict[str, str]:
    """Return the variables of a shell on that cluster: what is installed goes before what we built.

    Raises:
        ClusterError: There is no Pulumi, or the cluster does not answer.
        BuildError: BUILD=1 is set, and Pulumi cannot be built.
    """
    _check()
    variables = _kubeconfig()
    # The program's Python goes first: a language host that was built here runs in the python3 that is first on PATH.
    path = [str(REPOSITORY / ".venv" / "bin"), *os.environ.get("PATH", os.defpath).split(":")]
    if os.environ.get("BUILD") == "1":
        path.append(str(programs.ensure()))
    elif not shutil.which("pulumi"):
        raise ClusterError(
            f"there is no program pulumi on PATH: install it ({INSTALL}), or build it here, which takes half an hour: "
            "make up BUILD=1"
        )
    variables["PATH"] = ":".join(dict.fromkeys(path))
    if "PULUMI_BACKEND_URL" in os.environ or (Path.home() / ".pulumi" / "credentials.json").exists():
        return variables  # they keep their stacks where they always do
    return variables | shell.own_backend()


def _kubeconfig() -> dict[str, str]:
    """Return KUBECONFIG such that CONTEXT is the current context; nothing where CONTEXT is not set.

    The first file that names a current context counts. So one with nothing else in it goes before the others.
    """
    context = os.environ.get("CONTEXT")
    if not context:
        return {}
    SHELL.mkdir(parents=True, exist_ok=True)
    _CONTEXT_FILE.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", "current-context": context}))
    files = (os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")).split(os.pathsep)
    return {"KUBECONFIG": os.pathsep.join(dict.fromkeys([str(_CONTEXT_FILE), *files]))}


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
