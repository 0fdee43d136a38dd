"""Every change of a running stack that is tried while kubelets pull and a client pushes, and what may fail meanwhile.

The table in docs/settings.md is made from this one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

GAP = 15
"""The most seconds for which pulls or pushes may fail where something may fail at all."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """A change of a running stack."""

    what: str
    """What changes, in the docs' words."""
    allowed: int = 0
    """For how many seconds in a row pulls or pushes may fail; 0: not one does."""
    until_the_end: bool = False
    """Whether they may instead fail for as long as the rest of the `up` takes."""
    why: str = ""
    """Why they may."""
    steps: Sequence[Mapping[str, str]] = ()
    """The settings that each `up` changes; an empty text takes a setting back to its default. `{address}` in a value
    is the address of the registry with dashes. Empty: a test of its own takes the steps."""

    @property
    def gap(self) -> str:
        """The longest gap, as the docs say it."""
        if self.until_the_end:
            return "the rest of the `up`"
        return f"{self.allowed} s" if self.allowed else "none"


_NEW_POD = "the registry's pod is made anew"
_OLD_HOST = "the old host fails once its way in is gone"

CHANGES = {
    "nginxImage": Change(
        what="`nginxImage`", allowed=GAP, why=_NEW_POD, steps=[{"nginxImage": "nginx:stable-alpine-slim"}]
    ),
    "registryImage": Change(what="`registryImage`", allowed=GAP, why=_NEW_POD, steps=[{"registryImage": "registry:3"}]),
    "pythonImage": Change(
        what="`pythonImage`", allowed=GAP, why=_NEW_POD, steps=[{"pythonImage": "python:3.13-alpine"}]
    ),
    "auth": Change(
        what="`auth`",
        allowed=GAP,
        why=f"{_NEW_POD}, and may ask for a password that clients get when `up` ends",
        steps=[{"auth": mode} for mode in ("none", "push", "basic", "push", "none", "")],
    ),
    "memory": Change(
        what="`storageSize` with `storage: memory`", allowed=GAP, why=f"{_NEW_POD}, and its images are gone"
    ),
    "host": Change(what="`host`", allowed=GAP, why=_OLD_HOST, steps=[{"host": "own.{address}.sslip.io"}, {"host": ""}]),
    "dnsSuffix": Change(
        what="`dnsSuffix`", allowed=GAP, why=_OLD_HOST, steps=[{"dnsSuffix": "sslip.io"}, {"dnsSuffix": ""}]
    ),
    "exposure": Change(what="`exposure`, from each value to each other", allowed=GAP, why=_OLD_HOST),
    "nodePort": Change(
        what="`nodePort`", until_the_end=True, why="there is one Service, which has the new port before nodes know it"
    ),
    "ingressClass": Change(what="`ingressClass`, `gatewayClass`, `gatewayPort`", allowed=GAP, why=_OLD_HOST),
    "passwordVersion": Change(what="`passwordVersion`, also twice within a minute"),
    "pullNamespaces": Change(what="`pullNamespaces`, for other namespaces"),
    "storageSize": Change(what="`storageSize` of a volume, which grows"),
    "renewal": Change(what="a renewed certificate, also of the CA"),
    "agent": Change(what="the program of the node agents"),
}
"""What is tried. What has steps is tried on one stack with exposure `loadBalancer`, one after the other."""
REPRESENTATIVE = "nginxImage"
"""The one of them that everyone tries, since it makes the registry's pod anew, as most do."""
