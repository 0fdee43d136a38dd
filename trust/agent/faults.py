"""Why a node is not trusted: a code for programs, a sentence for people."""

from enum import StrEnum


class Reason(StrEnum):
    """What stands in the way; the value is what logs and the status file show."""

    CA_INVALID = "CA_INVALID"
    UNREACHABLE = "UNREACHABLE"
    CERTIFICATE_MISMATCH = "CERTIFICATE_MISMATCH"
    RUNTIME_UNKNOWN = "RUNTIME_UNKNOWN"
    CONFIG_INVALID = "CONFIG_INVALID"
    INLINE_MIRRORS = "INLINE_MIRRORS"
    FOREIGN_HOSTS_TOML = "FOREIGN_HOSTS_TOML"
    SYMLINK_LEAVES_TREE = "SYMLINK_LEAVES_TREE"
    READ_ONLY = "READ_ONLY"
    RESTART_NOT_ALLOWED = "RESTART_NOT_ALLOWED"
    RESTART_FAILED = "RESTART_FAILED"
    CONFIG_REVERTED = "CONFIG_REVERTED"


class Fault(Exception):
    """A reason and one sentence that names the part, its value and the fix."""

    def __init__(self, reason: Reason, sentence: str) -> None:
        super().__init__(f"{reason}: {sentence}")
        self.reason = reason
        self.sentence = sentence


class Stopped(Exception):
    """The pod was told to end while the agent waited for something."""
