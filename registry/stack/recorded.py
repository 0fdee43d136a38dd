"""What the stack's own state says of its last `up`: its cluster, instance, namespace, certificates and way in."""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import pulumi

from .. import names
from ..certificate.contract import COMPONENTS, CertificateState, Issued
from ..exposure import contract as exposures
from ..storage.bucket import KEPT, Kept

_STATE = "pulumi:pulumi:readStackResourceOutputs"
"""A function of the engine itself: type and outputs of every resource in the state of a stack. It works in
`up` and in `preview`, before anything is registered."""

_NOT_WHOLE = "failed to load checkpoint"
"""Part of the engine's error when the file with the state is not whole."""
_READ_SECONDS = 10.0
"""How long (s) to try to read the state."""
_READ_INTERVAL = 0.1

IDENTITY = "private-registry:registry:Identity"
"""Type of the component whose outputs are read here."""
_NAMESPACE = "kubernetes:core/v1:Namespace"
_DAEMON_SET = "kubernetes:apps/v1:DaemonSet"
_DEPLOYMENT = "kubernetes:apps/v1:Deployment"
_BINDING = "kubernetes:rbac.authorization.k8s.io/v1:RoleBinding"
_SEED = "tls:index/privateKey:PrivateKey"
_SERVER = "tls:index/locallySignedCert:LocallySignedCert"
_REQUEST = "tls:index/certRequest:CertRequest"
SPARED = ("Certificate", "ConfigMap", "Issuer")
"""Kinds of which the program deletes what the state had at the beginning of an `up` no sooner than at the next one."""
SEED_NAME = "identity-seed"
"""Name of the resource from whose public key the instance's id is made."""
_ONE_OF_SEVERAL = {_SEED: SEED_NAME, _DEPLOYMENT: f"{names.REGISTRY}-deployment"}
"""Which resource counts of a kind that the stack has more of."""


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What the state says; each text is empty if it says nothing, as before the first `up`."""

    cluster: str = ""
    """UID of the cluster's namespace kube-system."""
    context: str = ""
    """The kubeconfig's context that led there."""
    instance: str = ""
    """Id of this instance of the stack; see `instance_id`."""
    namespace: str = ""
    """Name of the stack's namespace."""
    wanted: str = ""
    """Name of the namespace that the last `up` was for, whether it has ended or not; empty if the program chose it."""
    telling: frozenset[tuple[str, str]] = frozenset()
    """Kind and name of each object of the kinds in `SPARED`."""
    registry: bool = False
    """Whether the stack has the registry's Deployment."""
    daemon_set: bool = False
    """Whether the stack has the DaemonSet of its nodes."""
    constraints: tuple[str, ...] = ()
    """The security context constraints of OpenShift that the stack's pods are let use."""
    certificates: CertificateState = field(default_factory=CertificateState)
    """What had to be trusted, and the server certificate."""
    kept: Kept | None = None
    """The bucket that the images are in; None if they are in none."""
    exposure: exposures.ExposureState = field(default_factory=exposures.ExposureState)
    """The address in use, and the class of what serves it."""


def instance_id(public_key: str) -> str:
    """The id of an instance of the stack: 12 hexadecimal digits, made from the public key of its seed.

    `destroy` removes the seed from the state, so a stack that is made anew under the same name is another instance.
    """
    return hashlib.sha256(public_key.encode()).hexdigest()[:12]


def recorded_in(resources: Mapping[str, Mapping[str, Any]]) -> Recorded:
    """What a state says.

    Args:
        resources: Type and outputs of each resource, by its URN.
    """
    found: dict[str, Mapping[str, Any]] = {}
    trusted, before_renewal, addresses = "", "", set[str]()
    constraints: list[str] = []
    telling = set[tuple[str, str]]()
    for urn, resource in resources.items():
        kind, name = str(resource["type"]), urn.rpartition("::")[2]
        made = resource["outputs"].get("metadata", {}).get("name")
        if made and (short := kind.rpartition(":")[2]) in SPARED:
            telling.add((short, str(made)))
        if kind in (IDENTITY, _NAMESPACE, _DAEMON_SET, _SERVER, _REQUEST) or _ONE_OF_SEVERAL.get(kind) == name:
            found[kind] = resource["outputs"]
        elif kind == _BINDING:
            role = str(resource["outputs"].get("roleRef", {}).get("name", ""))
            constraints += [role.removeprefix(names.CONSTRAINT)] if role.startswith(names.CONSTRAINT) else []
        elif kind in COMPONENTS:
            # Unlike an object of the cluster, a component is not refreshed: what somebody has put into the ConfigMap
            # must not be taken for a CA of the stack. Both are there after an `up` that was killed.
            trusted = max(trusted, str(resource["outputs"].get("caCertificate") or ""), key=len)
            before_renewal += str(resource["outputs"].get("beforeRenewal") or "")
        elif kind == KEPT and resource["outputs"].get("bucket"):
            found[kind] = resource["outputs"]
        elif kind in exposures.COMPONENTS:
            found[kind] = resource["outputs"]
            addresses.add(str(resource["outputs"].get("address") or ""))
    identity, metadata = found.get(IDENTITY, {}), found.get(_NAMESPACE, {}).get("metadata", {})
    server = found.get(_SERVER, {})
    public_key = str(found.get(_SEED, {}).get("publicKeyPem", ""))
    ingress = found.get(exposures.INGRESS, {})
    ingress_class = ingress.get("className")
    return Recorded(
        cluster=str(identity.get("clusterId") or ""),
        context=str(identity.get("context") or ""),
        instance=instance_id(public_key) if public_key else "",
        namespace=str(metadata.get("name") or ""),
        wanted=str(identity.get("wanted") or ""),
        telling=frozenset(telling),
        registry=_DEPLOYMENT in found,
        daemon_set=_DAEMON_SET in found,
        constraints=tuple(sorted(constraints)),
        certificates=CertificateState(
            trusted=trusted,
            before_renewal=before_renewal,
            issued=Issued(
                request=str(server.get("certRequestPem") or ""),
                ca=str(server.get("caCertPem") or ""),
                hours=int(server.get("validityPeriodHours") or 0),
                names=tuple(map(str, found.get(_REQUEST, {}).get("dnsNames") or ())),
            ),
        ),
        kept=Kept(bucket=found[KEPT]["bucket"], endpoint=found[KEPT].get("endpoint", "")) if KEPT in found else None,
        exposure=exposures.ExposureState(
            addresses=frozenset(addresses - {""}),
            namespace=str(metadata.get("name") or ""),
            silent=ingress.get("addresses") == [],
            ingress_class=None if ingress_class is None else str(ingress_class),
            gateway_class=str(found.get(exposures.GATEWAY, {}).get("className") or ""),
        ),
    )


def read_state() -> Recorded:
    """What the state of this stack says.

    With a `file://` backend the engine writes the state in place, and it does so at the very start of the program. Who
    reads a file that is not whole gets an error (pulumi source, pkg/backend/diy), so the read is tried again.

    Raises:
        Exception: the state cannot be read, also not `_READ_SECONDS` later.
    """
    name = f"{pulumi.get_organization()}/{pulumi.get_project()}/{pulumi.get_stack()}"
    deadline = time.monotonic() + _READ_SECONDS
    while True:
        try:
            answer = cast("Mapping[str, Any] | None", pulumi.runtime.invoke(_STATE, {"stackName": name}).value)
        except Exception as error:
            if _NOT_WHOLE not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(_READ_INTERVAL)
        else:
            return recorded_in((answer or {}).get("outputs") or {})
