"""Why a node does not trust the registry: a reason and details for programs, a sentence for people."""

from enum import StrEnum
from typing import TypedDict, Unpack


class Reason(StrEnum):
    """What stands in the way. Logs, termination message and status file show the value."""

    CA_INVALID = "CA_INVALID"
    """The ConfigMap holds no readable CA certificate."""
    NAME_NOT_RESOLVED = "NAME_NOT_RESOLVED"
    """DNS has no address for the registry's host."""
    NO_CONNECTION = "NO_CONNECTION"
    """No TCP connection to the host comes about, or it breaks."""
    PROXY_IN_THE_WAY = "PROXY_IN_THE_WAY"
    """The runtime's environment has it pull through a proxy, and that does not lead to the registry."""
    NO_TLS = "NO_TLS"
    """Something accepts connections at the host, but it does not speak TLS, or refuses the handshake."""
    NO_REGISTRY = "NO_REGISTRY"
    """The host speaks TLS with the right certificate, but gives no answer, or not that of a registry."""
    CERTIFICATE_MISMATCH = "CERTIFICATE_MISMATCH"
    """The host serves a certificate that is not valid for it under the registry's CA."""
    RUNTIME_UNKNOWN = "RUNTIME_UNKNOWN"
    """The kubelet's container runtime was not found, does not answer, or is of an unknown kind."""
    CONFIG_INVALID = "CONFIG_INVALID"
    """A file of the runtime is broken, or cannot be changed without changing its meaning."""
    INLINE_MIRRORS = "INLINE_MIRRORS"
    """containerd's configuration has registry settings that leave no place for the CA."""
    FOREIGN_HOSTS_TOML = "FOREIGN_HOSTS_TOML"
    """Somebody else's hosts.toml makes containerd ignore our certificate."""
    SYMLINK_LEAVES_TREE = "SYMLINK_LEAVES_TREE"
    """The folder for the host is a symbolic link out of the hosts directory."""
    READ_ONLY = "READ_ONLY"
    """A file of the node is on a file system that is read-only."""
    DISK_FULL = "DISK_FULL"
    """A file of the node does not fit on its file system, or into its quota."""
    NOT_WRITABLE = "NOT_WRITABLE"
    """A file of the node cannot be written for another cause: it is not permitted, or the disk is broken."""
    RESTART_NOT_ALLOWED = "RESTART_NOT_ALLOWED"
    """The runtime needs a restart, and may not or cannot be restarted."""
    RESTART_FAILED = "RESTART_FAILED"
    """The runtime did not start with the changed configuration, so the old one is back."""
    CONFIG_REVERTED = "CONFIG_REVERTED"
    """The runtime was restarted for the change already, but something puts the old configuration back."""


class Details(TypedDict, total=False):
    """The facts of a fault as values, so that no program has to read the sentence; each reason sets those it knows."""

    host: str
    """Name of the registry's host, without its port."""
    port: int
    addresses: list[str]
    """IP addresses to which the name resolved."""
    resolvers: list[str]
    """IP addresses of the DNS servers that were asked."""
    proxy: str
    """The proxy through which the host is asked for, without credentials."""
    status: int
    """HTTP status of the answer."""
    served: str
    """SHA-256 of the certificate that the host serves, `unknown` if it could not be seen."""
    trusted: list[str]
    """SHA-256 of each certificate of the CA."""
    runtime: str
    """Name and version of the container runtime."""
    path: str
    """File or folder on the node."""
    key: str
    value: str
    """Key in the runtime's configuration, and the value that it must have."""
    unit: str
    """The runtime's systemd unit."""
    error: str
    """What the library, the system or another program said."""


class Fault(Exception):
    """A reason, its details, and one sentence that names the part, its value and the fix."""

    def __init__(self, reason: Reason, sentence: str, **details: Unpack[Details]) -> None:
        super().__init__(f"{reason}: {sentence}")
        self.reason = reason
        self.sentence = sentence
        self.details = details


class Stopped(Exception):
    """The pod was asked to end while the agent waited for something."""


class Left(Exception):
    """Something of this owner is still on the node; the message says what, and why."""
