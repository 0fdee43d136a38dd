r"""The settings by which nodes themselves trust the registry, one per vendor; `--node NAME` prints one.

They are for `nodeTrust: external`, where no pod of the program makes a node trust the CA. Each is whole: host and CA
are in it, and its first lines say where it goes. The field names are those of the vendors' documents (docs/support.md
says of each what was run). What this deliberately does not do: it restarts no node and overwrites no other setting.

This module runs with Python 3.9 and the standard library.
"""

import base64
import re
from collections.abc import Callable, Mapping, Sequence

_HERE = "<<'END-OF-FILE'"
_AGAIN = "When pulumi up says that the CA was renewed, this is needed again: the certificate in it ends."


def node_setup(host: str, ca: str) -> dict[str, str]:
    """One setting per kind of node, by the name that `NODES` has.

    Args:
        host: The registry's host, as image references spell it.
        ca: The CA's certificates, PEM. Both have been checked: nothing in them could be more than text to a shell.
    """
    return {node: make(host, ca) for node, make in _SETTINGS.items()}


def _name(host: str) -> str:
    """A name for what belongs to the host: letters, digits and dashes."""
    return f"private-registry-{re.sub('[^a-z0-9]+', '-', host)}"


def _indent(text: str, spaces: int) -> str:
    return "\n".join(" " * spaces + line for line in text.splitlines())


def _base64(ca: str) -> str:
    return base64.b64encode(ca.encode()).decode()


def _as_root(comment: Sequence[str], *body: str) -> str:
    """A shell script for root, or with sudo. As a subshell it is read as a whole before anything of it runs."""
    return "\n".join(
        [
            *(f"# {line}" for line in comment),
            "(",
            "set -eu; umask 022",
            'sudo=; [ "$(id -u)" -eq 0 ] || sudo=sudo',
            *body,
            ")",
            "",
        ]
    )


def _folders(host: str) -> tuple[str, str]:
    """Where containerd looks for the CA.

    With a list of two folders, which is its built-in value and that of EKS, containerd 2.1 and newer may take the whole
    list for the name of one.
    """
    return f"/etc/containerd/certs.d/{host}", f"/etc/containerd/certs.d:/etc/docker/certs.d/{host}"


def _containerd(host: str, ca: str) -> str:
    first, second = _folders(host)
    return _as_root(
        [
            f"A node with containerd trusts {host}. Run it on each node. Undo: sudo rm -r {first} {second}",
            'containerd reads this at each pull if its config.toml has config_path = "/etc/containerd/certs.d" in the',
            "table of the registry, and from 2.2 on by itself. Where it has not, set that and restart containerd.",
            _AGAIN,
        ],
        f'for folder in "{first}" "{second}"; do',
        '$sudo mkdir -p "$folder"',
        f'$sudo tee "$folder/ca.crt" >/dev/null {_HERE}\n{ca}END-OF-FILE',
        "done",
        f"echo 'containerd trusts {host}'",
    )


def _eks(host: str, ca: str) -> str:
    return f"""\
# EKS with Amazon Linux 2023 (nodeadm): the part for {host} of the user data in the launch template of the nodes.
# nodeadm has containerd read these folders. Undo: take it out of the user data, and make the nodes anew.
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="private-registry"

--private-registry
Content-Type: text/x-shellscript; charset="us-ascii"

#!/bin/sh
{_containerd(host, ca)}
--private-registry--
"""


def _rancher(product: str, host: str, ca: str) -> str:
    folder = f"/etc/rancher/{product}"
    file, registries = f"{folder}/{_name(host)}.crt", f"{folder}/registries.yaml"
    return _as_root(
        [
            f"A node with {product} trusts {host}. Run it on each node, and restart {product} there.",
            f"Undo: sudo rm {file}, and take {host} out of {registries}",
            _AGAIN,
        ],
        f"$sudo mkdir -p {folder}",
        f"$sudo tee {file} >/dev/null {_HERE}\n{ca}END-OF-FILE",
        "# The file may be one that root alone reads, since it may hold passwords.",
        f"if $sudo grep -qsF 'ca_file: {file}' {registries}; then",
        f"echo '{registries} has this CA already'",
        f"""elif $sudo grep -qsE "^[\\"']?configs[\\"']? *:" {registries}; then""",
        f"echo 'put this under configs: in {registries}:' >&2",
        f"cat >&2 {_HERE}\n{_registries(host, file)}END-OF-FILE",
        "exit 1",
        "else",
        "# Its last line may have no end.",
        f'[ -z "$($sudo tail -c 1 {registries} 2>/dev/null)" ] || echo | $sudo tee -a {registries} >/dev/null',
        f"$sudo tee -a {registries} >/dev/null {_HERE}\nconfigs:\n{_registries(host, file)}END-OF-FILE",
        "fi",
        f"echo '{product} trusts {host}, once it is restarted: systemctl restart {product}* (server or agent)'",
    )


def _registries(host: str, file: str) -> str:
    return f'  "{host}":\n    tls:\n      ca_file: {file}\n'


def _talos(host: str, ca: str) -> str:
    return f"""\
# Talos 1.12 or newer trusts {host}: save this as registry.yaml, and then
#   talosctl patch machineconfig --nodes NODE,NODE --patch @registry.yaml
# Undo: take the document out of the machine configuration.
# {_AGAIN}
apiVersion: v1alpha1
kind: RegistryTLSConfig
name: {host}
ca: |-
{_indent(ca, 4)}
# Before 1.12 it is this patch of the machine configuration:
# machine:
#   registries:
#     config:
#       "{host}":
#         tls:
#           ca: {_base64(ca)}
"""


def _bottlerocket(host: str, ca: str) -> str:
    return f"""\
# Bottlerocket trusts the CA of {host}, for every host: put this into the user data of the nodes. On a node that runs,
# apiclient set takes the same two keys. Undo: trusted = false
# {_AGAIN}
[settings.pki.{_name(host)}]
data = "{_base64(ca)}"
trusted = true
"""


def _gke(host: str, ca: str) -> str:
    name = _name(host)
    return f"""\
# GKE, Standard and Autopilot: nodes trust {host}. With the certificate below in the file ca.crt, and this in gke.yaml:
#   gcloud secrets create {name} --data-file=ca.crt
#   gcloud container clusters update CLUSTER --location=LOCATION --containerd-config-from-file=gke.yaml
# PROJECT is the project's number. The nodes' service account needs the roles secretmanager.secretAccessor and
# secretmanager.viewer for the secret, and the nodes the scope cloud-platform. GKE makes the nodes anew.
# Undo: the same with enabled: false
# {_AGAIN}
# Then the first command is gcloud secrets versions add {name} --data-file=ca.crt, and its number takes the place of 1.
privateRegistryAccessConfig:
  enabled: true
  certificateAuthorityDomainConfig:
  - gcpSecretManagerCertificateConfig:
      secretURI: "projects/PROJECT/secrets/{name}/versions/1"
    fqdns:
    - "{host}"
{_commented(ca)}"""


def _commented(text: str) -> str:
    return "".join(f"# {line}\n" for line in text.splitlines())


def _aks(host: str, ca: str) -> str:
    return f"""\
# AKS trusts the CA of {host} on every Linux node, for every host (az 2.72 or newer). Set GROUP and CLUSTER first. This
# takes the place of the CAs that the cluster was given this way before. Undo: the same with an empty file (az 2.79).
# {_AGAIN}
(
set -eu; umask 022
: "${{GROUP:?the resource group}}" "${{CLUSTER:?the name of the cluster}}"
file=$(mktemp)
cat >"$file" {_HERE}
{ca}END-OF-FILE
az aks update --resource-group "$GROUP" --name "$CLUSTER" --custom-ca-trust-certificates "$file"
rm "$file"
)
"""


def _openshift(host: str, ca: str) -> str:
    name = _name(host)
    patch = f'{{"spec":{{"additionalTrustedCA":{{"name":"{name}"}}}}}}'
    return f"""\
# OpenShift trusts {host}: python3 -m registry.clients --node openshift | oc apply -f - and then
#   oc patch image.config.openshift.io/cluster --type=merge -p '{patch}'
# If additionalTrustedCA names a ConfigMap already, put the key below into that one instead.
# Undo: the same patch with {{"spec":{{"additionalTrustedCA":null}}}}, or take the key out again.
# {_AGAIN}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {name}
  namespace: openshift-config
data:
  {host.replace(":", "..")}: |
{_indent(ca, 4)}
"""


def _kind(host: str, ca: str) -> str:
    return f"""\
# The nodes of a kind cluster trust {host}. Set CLUSTER if it is not called kind. Undo: make the cluster anew.
# Before kind 0.31 its containerd reads this only if the cluster's configuration has this patch:
# containerdConfigPatches:
# - |-
#   [plugins."io.containerd.grpc.v1.cri".registry]
#     config_path = "/etc/containerd/certs.d"
# (from kind 0.27 on the table is [plugins."io.containerd.cri.v1.images".registry])
(
set -eu
for node in $(kind get nodes --name "${{CLUSTER:-kind}}"); do
docker exec -i "$node" sh <<'END-OF-SCRIPT'
{_containerd(host, ca)}END-OF-SCRIPT
done
)
"""


def _minikube(host: str, ca: str) -> str:
    # minikube's folder is .minikube below MINIKUBE_HOME, unless that is its name already (localpath.MiniPath).
    home = 'home=${MINIKUBE_HOME:-$HOME}; [ "$(basename "$home")" = .minikube ] || home=$home/.minikube'
    file = f'"$home/certs/{_name(host)}.crt"'
    return f"""\
# minikube's node trusts the CA of {host}, for every host, from the next start on: minikube start --embed-certs
# Undo: {home}; rm {file}, and make the cluster anew.
# {_AGAIN}
(
set -eu; umask 022
{home}
mkdir -p "$home/certs"
cat >{file} {_HERE}
{ca}END-OF-FILE
echo 'minikube trusts {host}, after: minikube start --embed-certs'
)
"""


_SETTINGS: Mapping[str, Callable[[str, str], str]] = {
    "containerd": _containerd,
    "talos": _talos,
    "bottlerocket": _bottlerocket,
    "gke": _gke,
    "eks": _eks,
    "aks": _aks,
    "openshift": _openshift,
    "k3s": lambda host, ca: _rancher("k3s", host, ca),
    "rke2": lambda host, ca: _rancher("rke2", host, ca),
    "kind": _kind,
    "minikube": _minikube,
}

NODES = tuple(_SETTINGS)
"""The names of the kinds of nodes."""


def key_of(node: str) -> str:
    """The key of a setting among the snippets of clients, from which its name tells it apart, such as `nodeTalos`."""
    return f"node{node[0].upper()}{node[1:]}"
