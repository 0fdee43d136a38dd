"""Trust on every node: the DaemonSet and its agent."""

from .daemonset import Trust, TrustArgs

__all__ = ["Trust", "TrustArgs"]
