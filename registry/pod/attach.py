"""Names the registry's Secret in the default ServiceAccounts of other namespaces, and takes it out at `destroy`.

This runs as a program in a pod of its own, with the standard library only: `attach.py SECRET NAMESPACE...`. `pulumi
destroy` runs no program of ours, and a patch that the provider made could not be taken back where the namespace has
gone before. So the pod takes the name out again when it is told to end, if its Deployment is being deleted or names the
namespace no longer. Entries of others in the list imagePullSecrets stay as they are.

What this deliberately does not do: it makes neither Secret nor ServiceAccount.
"""

import json
import os
import signal
import ssl
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

DEPLOYMENT = "attach"
"""Name of the Deployment that runs this program."""
READY = Path("/run/attach/ready")
"""A file that is there once every namespace has been served."""

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_SECONDS = 10.0
_INTERVALS = {True: 10.0, False: 1.0}
"""Seconds until the next look, by whether all was well."""
_CONFLICT, _FORBIDDEN, _NOT_FOUND = 409, 403, 404


class Api:
    """The Kubernetes API, as this pod may use it."""

    def __init__(self, server: str, account: Path = _ACCOUNT) -> None:
        """Trust the cluster's CA as kubectl does: also one whose certificates have no key identifiers."""
        self._server, self._account = server, account
        self._tls = ssl.create_default_context(cafile=str(account / "ca.crt"))
        self._tls.verify_flags &= ~ssl.VERIFY_X509_STRICT

    def call(self, path: str, patch: object = None) -> dict[str, Any]:
        """The answer to a GET, or to a merge patch if there is one.

        Raises:
            OSError: there is none; an HTTPError if the API refuses.
        """
        data = None if patch is None else json.dumps(patch).encode()
        # The kubelet renews the token, so it is read each time.
        headers = {
            "Authorization": f"Bearer {(self._account / 'token').read_text()}",
            "Content-Type": "application/merge-patch+json",
        }
        request = urllib.request.Request(  # noqa: S310 - the server is the cluster's
            self._server + path, data, headers, method="GET" if data is None else "PATCH"
        )
        with urllib.request.urlopen(request, timeout=_SECONDS, context=self._tls) as answer:  # noqa: S310
            return json.load(answer)


def change(api: Api, namespace: str, secret: str, *, attached: bool) -> None:
    """Have the default ServiceAccount of a namespace name a Secret, or name it no longer.

    Raises:
        OSError: the API does not answer, or refuses.
    """
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/default"
    while True:
        account = api.call(path)
        entries: list[dict[str, str]] = account.get("imagePullSecrets") or []
        if ({"name": secret} in entries) == attached:
            return
        others = [entry for entry in entries if entry != {"name": secret}]
        wanted = [*others, {"name": secret}] if attached else others
        # With the version that was read, the API refuses this if somebody else has changed the account meanwhile.
        version = {"resourceVersion": account["metadata"]["resourceVersion"]}
        try:
            api.call(path, {"metadata": version, "imagePullSecrets": wanted or None})
        except urllib.error.HTTPError as error:
            if error.code != _CONFLICT:
                raise
        else:
            return


def still_wanted(api: Api, own: str) -> Sequence[str]:
    """The namespaces that the Deployment names; none if it is being deleted.

    Raises:
        OSError: the API does not answer.
    """
    try:
        deployment = api.call(f"/apis/apps/v1/namespaces/{own}/deployments/{DEPLOYMENT}")
    except urllib.error.HTTPError as error:
        if error.code in (_NOT_FOUND, _FORBIDDEN):  # its role goes when its namespace does
            return []
        raise
    if "deletionTimestamp" in deployment["metadata"]:
        return []
    return deployment["spec"]["template"]["spec"]["containers"][0]["args"][2:]


def attach_all(api: Api, secret: str, namespaces: Sequence[str]) -> bool:
    """Serve each namespace, and say where that was not possible; whether it was everywhere."""
    well = True
    for namespace in namespaces:
        try:
            change(api, namespace, secret, attached=True)
        except OSError as error:
            well = False
            print(f"{namespace}: not attached: {error}", flush=True)
    return well


def detach_all(api: Api, own: str, secret: str, namespaces: Sequence[str]) -> None:
    """Take the Secret's name out where it is wanted no longer. A namespace that has gone needs nothing."""
    wanted = still_wanted(api, own)
    for namespace in namespaces:
        if namespace in wanted:
            continue
        try:
            change(api, namespace, secret, attached=False)
        except OSError as error:
            # Where a namespace has gone, the role has gone, too, and the API does not tell a stranger what exists.
            gone = isinstance(error, urllib.error.HTTPError) and error.code in (_NOT_FOUND, _FORBIDDEN)
            print(
                f"{namespace}: {'gone, or not ours to change any more' if gone else 'not detached'}: {error}",
                flush=True,
            )


def main(secret: str, namespaces: Sequence[str]) -> None:
    """Serve the namespaces until the pod is told to end."""
    ends = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        ends.set()

    signal.signal(signal.SIGTERM, end)
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    api = Api(f"https://{f'[{host}]' if ':' in host else host}:{port}")
    while not ends.is_set():
        well = attach_all(api, secret, namespaces)
        if well:
            READY.touch()
        ends.wait(_INTERVALS[well])
    detach_all(api, (_ACCOUNT / "namespace").read_text(), secret, namespaces)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
