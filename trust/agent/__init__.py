"""The node agent: puts a registry's CA where the node's container runtime looks, keeps it there, takes it away again.

Runs in a privileged pod with the node's processes and network in view (hostPID, hostNetwork) and reaches the node's
file system through `/proc/<pid>/root`. Standard library only: the pod mounts these files from a ConfigMap into a plain
`python` image. Started as `python3 -m agent`.

What it does not do: it never trusts a certificate only because the registry serves it, never touches a file that others
put there (but for one key of the runtime's configuration), and never restarts a runtime twice for the same content.
"""
