"""Operating systems on which no pod can write the CA, and the setting of their own that does it instead."""

import errno

from .faults import Fault, Reason

_SETTINGS = {
    "talos": "Talos: set machine.registries.config.<host>.tls.ca in the machine configuration",
    "bottlerocket": "Bottlerocket: set settings.pki.<name>.data and .trusted in the user data",
    "cos": "GKE: use a node pool with containerd configuration (privateRegistryAccessConfig)",
}
"""The advice for each system, by the ID of its /etc/os-release."""


def cannot_write(error: OSError, path: str, node_name: str, os_release: str) -> Fault:
    """The fault for a file of the node that cannot be written; `os_release` is the node's /etc/os-release."""
    fix = "make it writable"
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        system = next((line[3:].strip("\"'") for line in os_release.splitlines() if line.startswith("ID=")), "")
        fix = _SETTINGS.get(system, "no pod can configure such a node, use its operating system's own settings")
    why = error.strerror or str(error)
    sentence = f"{path or 'A file'} on node {node_name} cannot be written ({why}); {fix}."
    return Fault(Reason.READ_ONLY, sentence, path=path, error=why)
