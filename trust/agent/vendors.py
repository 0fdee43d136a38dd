"""Operating systems on which no pod can write the CA, and the setting of their own that does it instead."""

import errno

from .faults import Fault, Reason

_SETTINGS = {
    "talos": "Talos: set machine.registries.config.<host>.tls.ca in the machine configuration",
    "bottlerocket": "Bottlerocket: set settings.pki.<name>.data and .trusted in the user data",
    "flatcar": "Flatcar: copy the file to /etc/containerd/config.toml, and set "
    "Environment=CONTAINERD_CONFIG=/etc/containerd/config.toml in a drop-in of containerd.service",
    "nixos": 'NixOS: set config_path = "/etc/containerd/certs.d" in virtualisation.containerd.settings, in the table '
    'plugins."io.containerd.grpc.v1.cri".registry',
    "cos": "GKE: use a node pool with containerd configuration (privateRegistryAccessConfig)",
}
"""The advice for each system, by the ID of its /etc/os-release."""

_SUPERVISORS = {"/var/lib/k0s/": "a file of /etc/k0s/containerd.d/, which k0s reads when its service is restarted"}
"""Where the configuration of a runtime comes from that another program starts, by the folder of the runtime's own."""


def source_of_config(program: str) -> str:
    """Where to set a key of a runtime that is no service of its own; `program` is the path of its program."""
    found = (where for folder, where in _SUPERVISORS.items() if program.startswith(folder))
    return next(found, "the configuration that its distribution generates")


def cannot_write(error: OSError, path: str, node_name: str, os_release: str) -> Fault:
    """The fault for a file of the node that cannot be written; `os_release` is the node's /etc/os-release."""
    system = next((line[3:].strip("\"'") for line in os_release.splitlines() if line.startswith("ID=")), "")
    vendor = _SETTINGS.get(system, "")
    reason, fix = Reason.NOT_WRITABLE, "repair it"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        reason, fix = Reason.DISK_FULL, "free some space or inodes on its file system"
    elif error.errno == errno.EROFS:
        fix = vendor or "no pod can configure such a node, use its operating system's own settings"
        reason = Reason.READ_ONLY
    elif error.errno == errno.EBUSY:
        fix = "another file is mounted there, and is not replaced: change that one where it comes from"
    elif error.errno in (errno.EACCES, errno.EPERM):
        fix = vendor or "look for an immutable attribute (lsattr), and in the audit log for SELinux or AppArmor"
    why = error.strerror or str(error)
    sentence = f"{path or 'A file'} on node {node_name} cannot be written ({why}); {fix}."
    return Fault(reason, sentence, path=path, error=why)
