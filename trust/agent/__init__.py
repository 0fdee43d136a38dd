"""The node agent puts a registry's CA where the node's container runtime looks, keeps it there, and removes it again.

It runs in a privileged pod that sees the node's processes and network (hostPID, hostNetwork), and it reaches the node's
file system through `/proc/<pid>/root`. The pod mounts these files from a ConfigMap into a plain `python` image, so they
use the standard library only and lie in one flat folder. The pod starts `python3 -m agent`.

What it does not do: it never trusts a certificate only because the registry serves it. It never touches a file that
others put there, except for one key of the runtime's configuration. It never restarts a runtime twice for the same
content.

Where to look: `agent` is the order of effects, `discover` finds the runtime, `runtimes` and `runtime_contract` say what
each kind of runtime reads, `placement` owns files, `runtime_config` changes configurations with the help of `host`, and
`faults` and `outcome` say what is reported.
"""
