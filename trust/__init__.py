"""Trust on every node: the DaemonSet and its agent."""
