"""What the doctor can say: codes, links of the chain, and verdicts."""

from dataclasses import dataclass
from enum import StrEnum

from trust.agent.faults import Reason
from trust.agent.outcome import Outcome


class Code(StrEnum):
    """The doctor's own codes. Beside these, a verdict has the reason of an agent's fault as its code."""

    PROVED = "PROVED"
    """Nothing is broken: the node trusts the registry and has pulled from it."""
    NOT_DEPLOYED = "NOT_DEPLOYED"
    """The stack has no namespace on the cluster."""
    REGISTRY_MISSING = "REGISTRY_MISSING"
    """The registry's Deployment is not there."""
    REGISTRY_DOWN = "REGISTRY_DOWN"
    """No pod of the registry is ready."""
    STORAGE_FULL = "STORAGE_FULL"
    """The registry's storage is full. Pulls work, pushes do not."""
    STORAGE_NOT_WRITABLE = "STORAGE_NOT_WRITABLE"
    """The registry may not write to its storage."""
    STORAGE_FAILS = "STORAGE_FAILS"
    """The registry cannot write to its storage for another cause."""
    NO_ADDRESS = "NO_ADDRESS"
    """The way in has no address."""
    CONFIG_MAP_MISSING = "CONFIG_MAP_MISSING"
    """The ConfigMap with host and CA is not there."""
    CA_REPLACED = "CA_REPLACED"
    """The ConfigMap has another CA than the stack made."""
    HOST_REPLACED = "HOST_REPLACED"
    """The ConfigMap has another host than the stack made."""
    DAEMON_SET_MISSING = "DAEMON_SET_MISSING"
    """The DaemonSet of the agents is not there."""
    NOT_LINUX = "NOT_LINUX"
    """The node does not run Linux, so it gets no agent."""
    VIRTUAL_NODE = "VIRTUAL_NODE"
    """The node is no machine, such as Fargate's, so it gets no agent."""
    OTHER_ARCHITECTURE = "OTHER_ARCHITECTURE"
    """The proof image is not for the node's machine, so it gets no agent."""
    NODE_NOT_READY = "NODE_NOT_READY"
    """The kubelet does not report, or reports that it is not ready."""
    NO_MATCHING_NODE = "NO_MATCHING_NODE"
    """The DaemonSet's node selector does not match the node."""
    POD_REFUSED = "POD_REFUSED"
    """The API server refuses the agent's pod."""
    NO_POD = "NO_POD"
    """The node has no agent's pod, and nothing says why."""
    AGENT_NOT_RUNNING = "AGENT_NOT_RUNNING"
    """The agent's container does not run."""
    AGENT_STOPPED = "AGENT_STOPPED"
    """The agent's process is dead or stopped by a signal."""
    STARTING = "STARTING"
    """The agent or the proof has just started."""
    CA_FILE_LOST = "CA_FILE_LOST"
    """A file that the agent wrote has changed or is gone, and the agent does not put it back."""
    CA_OLD = "CA_OLD"
    """The node still has the CA that the ConfigMap had before."""
    NOT_TRUSTED = "NOT_TRUSTED"
    """The node does not trust the CA, and it is not the agent that would make it do so."""
    PULL_FAILED = "PULL_FAILED"
    """Nothing else is known to be wrong, and yet the kubelet cannot run an image of the registry."""


class BrokenLink(StrEnum):
    """A link of the chain, as it is printed."""

    NONE = ""
    STACK = "stack"
    REGISTRY = "registry"
    ADDRESS = "address"
    CONFIG_MAP = "ConfigMap"
    NODE = "node"
    POLICY = "policy"
    AGENT = "agent"
    DNS = "DNS"
    NETWORK = "network"
    CERTIFICATE = "certificate"
    RUNTIME = "runtime"
    CONFIG = "configuration"
    RESTART = "restart"
    FILES = "files"
    PULL = "pull"


_LINKS: dict[str, BrokenLink] = {
    Reason.CA_INVALID: BrokenLink.CONFIG_MAP,
    Reason.NAME_NOT_RESOLVED: BrokenLink.DNS,
    Reason.NO_CONNECTION: BrokenLink.NETWORK,
    Reason.PROXY_IN_THE_WAY: BrokenLink.NETWORK,
    Reason.NO_TLS: BrokenLink.NETWORK,
    Reason.NO_REGISTRY: BrokenLink.REGISTRY,
    Reason.CERTIFICATE_MISMATCH: BrokenLink.CERTIFICATE,
    Reason.RUNTIME_UNKNOWN: BrokenLink.RUNTIME,
    Reason.READ_ONLY: BrokenLink.RUNTIME,
    Reason.DISK_FULL: BrokenLink.RUNTIME,
    Reason.NOT_WRITABLE: BrokenLink.RUNTIME,
    Reason.CONFIG_INVALID: BrokenLink.CONFIG,
    Reason.INLINE_MIRRORS: BrokenLink.CONFIG,
    Reason.FOREIGN_HOSTS_TOML: BrokenLink.CONFIG,
    Reason.SYMLINK_LEAVES_TREE: BrokenLink.CONFIG,
    Reason.RESTART_NOT_ALLOWED: BrokenLink.RESTART,
    Reason.RESTART_FAILED: BrokenLink.RESTART,
    Reason.CONFIG_REVERTED: BrokenLink.RESTART,
}


@dataclass(frozen=True)
class Verdict:
    """PROVED, or a code, the broken link, and one sentence that ends in the fix."""

    code: str
    """A `Code`, or the reason of an agent's fault. An agent of another version may have reasons unknown here."""
    link: BrokenLink = BrokenLink.NONE
    sentence: str = ""


def link_of(reason: str) -> BrokenLink:
    """The link that a fault of an agent is about. For a reason that is not known here it is the agent itself."""
    return _LINKS.get(reason, BrokenLink.AGENT)


def verdict_of(outcome: Outcome) -> Verdict:
    """An agent's fault as a verdict."""
    return Verdict(outcome.reason, link_of(outcome.reason), outcome.sentence)
