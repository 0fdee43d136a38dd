"""What the doctor knows: plain data, objects as the Kubernetes API's JSON has them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from registry import names
from registry.pod.trouble import Crash

Json = dict[str, Any]

LOOKUP = names.LOOKUP
"""Name of the ConfigMap that holds host, address and CA."""
TRUST = "trust"
REGISTRY = names.REGISTRY
"""Values of the label app.kubernetes.io/name on what belongs to the DaemonSet and to the registry."""


@dataclass(frozen=True, kw_only=True)
class Declared:
    """What the stack's state says. A field is empty if `pulumi up` did not get that far."""

    stack: str
    namespace: str = ""
    host: str = ""
    ca: str = ""
    """PEM."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What the probe in an agent's pod found out about its node at this moment, see `trust.agent.probe`."""

    process: str
    """State letter of the agent's process, see proc(5); empty if it has none."""
    status: Json
    """The agent's status file: the fields of its `Outcome` and of its `Status`. Empty if there is no file."""
    files: dict[str, bool]
    """Every file that the agent put on the node, and whether it is still as it was written."""
    ca: list[str]
    """SHA-256 of each certificate of the CA that the pod has."""
    connection: Json | None
    """The `Outcome` that says what keeps the node from the registry; None if nothing does."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """One look at a stack and its cluster."""

    declared: Declared
    nodes: list[Json]
    namespace: Json | None = None
    deployment: Json | None = None
    """The registry's Deployment."""
    daemon_set: Json | None = None
    revisions: list[Json] = field(default_factory=list[Json])
    """The DaemonSet's ControllerRevisions, of those who wait for its pods."""
    config_map: Json | None = None
    entrances: list[Json] = field(default_factory=list[Json])
    """Ingresses, Gateways, and Services of type LoadBalancer."""
    pods: list[Json] = field(default_factory=list[Json])
    """All pods of the namespace."""
    events: list[Json] = field(default_factory=list[Json])
    """All events of the namespace of type Warning."""
    probes: dict[str, Probe] = field(default_factory=dict[str, Probe])
    """What agents' pods found, by name of the pod. Pods that could not be asked are missing."""
    logs: dict[str, str] = field(default_factory=dict[str, str])
    """The end of the agent's log, by name of the pod, of those pods that could not be asked."""
    unasked: int = 0
    """How many agents that run were not asked, for want of time."""
    crashed: Mapping[Crash, str] = field(default_factory=dict[Crash, str])
    """The end of the log of each container of the registry's pods that has crashed."""
    served: str = ""
    """SHA-256 of the certificate that the host serves to this machine; empty if it serves none."""
    storage: str = ""
    """The end of the log in which a pod of the registry says whether its storage takes what is pushed."""
    stored: str = ""
    """SHA-256 of the certificate in the registry's TLS Secret; empty if there is none."""
    here: str = ""
    """What keeps this machine from the registry, one sentence; empty if nothing does."""
