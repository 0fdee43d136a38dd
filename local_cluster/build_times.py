"""How long the rest of a build takes: what each program took elsewhere, and the pace of the first ones here."""

from collections.abc import Sequence

SECONDS = {
    "kube": 720,
    "coredns": 15,
    "crane": 4,
    "local-path-provisioner": 3,
    "traefik": 239,
    "containerd": 33,
    "containerd-shim-runc-v2": 2,
    "ctr": 5,
    "crictl": 12,
    "registry": 15,
    "pulumi": 176,
    "plugins/pulumi-resource-kubernetes": 477,
    "plugins-unchanged/pulumi-resource-kubernetes": 20,
    "plugins/pulumi-resource-tls": 113,
    "metallb/controller": 23,
    "metallb/speaker": 10,
    "versitygw": 60,
    "oras": 75,
    "helm": 133,
    "ko": 62,
    "buildctl": 40,
    "buildkitd": 53,
    "cosign": 79,
    "cert-manager-controller": 136,
}
"""Seconds that each program took in a build of everything, one after the other with an empty cache, on two cores of
2026. The first program of a Go module compiles most of what the others need."""
_OTHER = 20


class Remaining:
    """Estimates how long the programs take that are left; it learns from those that were built."""

    def __init__(self, programs: Sequence[str]) -> None:
        """Begin with the names of the programs that are to be built, in this order."""
        self._left = [SECONDS.get(name, _OTHER) for name in programs]
        self._expected = self._took = 0.0

    def built(self, seconds: float) -> None:
        """Take note that the next program was built in so many seconds."""
        self._expected += self._left.pop(0)
        self._took += seconds

    def skipped(self) -> None:
        """Take note that the next program was there already; that says nothing of this machine."""
        self._left.pop(0)

    def minutes(self) -> int:
        """How many minutes are left, rounded up."""
        pace = self._took / self._expected if self._expected > _OTHER else 1.0
        return -int(-sum(self._left) * pace // 60)
