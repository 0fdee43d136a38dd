"""The contract of a kind of container runtime: what it reads, which folder for a host, what spoils it.

`runtimes.py` says which kinds there are; each fulfils `RuntimeLayout`.
"""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Edit:
    """One string to set in one configuration file. The runtime reads it only when it starts."""

    file: str
    key: tuple[str, ...]
    value: str
    new_file: str = ""
    """What the file starts with if it does not exist."""


@dataclass(frozen=True)
class Plan:
    """Where the CA must be, and what must change so that the runtime looks there."""

    roots: tuple[str, ...]
    """Hosts directories in which to write the CA. The running runtime reads the first. The others are for a runtime
    that is restarted or upgraded later."""
    edit: Edit | None = None
    ca_file: str | None = None
    """A single file instead of hosts directories."""
    fingerprint: str = ""
    """SHA-256 of the configuration, without our own changes, from which this was decided; empty for a runtime in whose
    configuration nothing decides it."""
    explicit: str = ""
    """The file of the configuration in which others name `roots`; empty if none does."""


class RuntimeLayout(Protocol):
    """What one running container runtime reads at a pull."""

    def plan(self, host: str, ca_file: str) -> Plan:
        """Decide what the runtime needs in order to trust `host`, a host as in image references.

        `ca_file` is a file that the CA may be put into where no hosts directory can be used.
        Raises Fault: CONFIG_INVALID, INLINE_MIRRORS or RUNTIME_UNKNOWN.
        """
        ...

    def host_folders(self, root: str, host: str) -> list[str]:
        """The folders below a hosts directory that the runtime looks for; it reads the first that exists."""
        ...

    def check_neighbours(self, file: str) -> None:
        """Check that no file of others beside our `file` keeps the runtime from using it.

        Raises Fault: FOREIGN_HOSTS_TOML or CONFIG_INVALID.
        """
        ...
