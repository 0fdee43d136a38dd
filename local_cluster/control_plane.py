"""The control plane: etcd, API server, controller manager, scheduler and DNS server, as processes in the namespace.

kubeadm makes the certificates and kubeconfigs. The state of the API is new at each start, so that nothing that an
earlier run left behind can matter.
"""

import os
import subprocess
import time
from pathlib import Path

from . import network, processes
from .errors import ClusterError
from .paths import BIN, CLUSTER, KUBECONFIG, PKI

VERSION = "v1.36.3"
SERVER = f"https://{network.CONTROL_PLANE}:6443"
DNS_ZONES = ("nip.io", "sslip.io")

_KUBEADM = CLUSTER / "kubeadm.yaml"
_COREFILE = CLUSTER / "Corefile"

KUBEADM = f"""\
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
localAPIEndpoint: {{advertiseAddress: {network.CONTROL_PLANE}, bindPort: 6443}}
nodeRegistration: {{name: control-plane, criSocket: "unix:///run/containerd/containerd.sock"}}
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
clusterName: private-registry
kubernetesVersion: {VERSION}
certificatesDir: {PKI}
encryptionAlgorithm: ECDSA-P256
controlPlaneEndpoint: {network.CONTROL_PLANE}:6443
networking: {{serviceSubnet: {network.SERVICES}, podSubnet: {network.PODS}, dnsDomain: cluster.local}}
"""

_OCTET = "(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])"


def corefile() -> str:
    """Return the DNS server's configuration: the cluster's names, nip.io and sslip.io, and nothing else.

    Like those two, it takes the first address in a name, dots before dashes: `10.0.0.1.nip.io`, `x.10.0.0.1.nip.io`,
    `10-0-0-1.nip.io`, `x.10-0-0-1.nip.io`, `x-10-0-0-1.nip.io`. They have no IPv6 address. Other names do not exist.
    """
    patterns = " ".join(f'"^(?:.*?[.-])??{separator.join([_OCTET] * 4)}[.-]"' for separator in (r"\.", "-"))
    address = ".".join(f"{{{{ index .Match {group} }}}}" for group in range(1, 5))
    zones = " ".join(DNS_ZONES)
    return f"""\
cluster.local in-addr.arpa {{
    errors
    kubernetes {{
        kubeconfig "{CLUSTER / "coredns.kubeconfig"}"
        ttl 5
    }}
}}
{zones} {{
    errors
    template IN A {{
        match {patterns}
        answer "{{{{ .Name }}}} 60 IN A {address}"
        fallthrough
    }}
    template IN AAAA {{
        match {patterns}
        rcode NOERROR
        fallthrough
    }}
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
. {{
    errors
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
"""


def commands(etcd: Path) -> dict[str, list[str]]:
    """Return the command of each component, in the order of their start."""
    kubeconfigs = {name: str(CLUSTER / f"{name}.kubeconfig") for name in ("controller-manager", "scheduler")}
    options = ("kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig")
    client = {name: [f"--{option}={path}" for option in options] for name, path in kubeconfigs.items()}
    return {
        "etcd": [
            str(etcd),
            f"--data-dir={CLUSTER / 'etcd'}",
            "--unsafe-no-fsync",  # its data is thrown away in any case
            "--log-level=warn",
        ],
        "kube-apiserver": [
            str(BIN / "kube-apiserver"),
            f"--advertise-address={network.CONTROL_PLANE}",
            f"--bind-address={network.CONTROL_PLANE}",
            "--etcd-servers=http://127.0.0.1:2379",
            f"--service-cluster-ip-range={network.SERVICES}",
            f"--client-ca-file={PKI / 'ca.crt'}",
            f"--tls-cert-file={PKI / 'apiserver.crt'}",
            f"--tls-private-key-file={PKI / 'apiserver.key'}",
            f"--kubelet-client-certificate={PKI / 'apiserver-kubelet-client.crt'}",
            f"--kubelet-client-key={PKI / 'apiserver-kubelet-client.key'}",
            "--kubelet-preferred-address-types=InternalIP",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={PKI / 'sa.pub'}",
            f"--service-account-signing-key-file={PKI / 'sa.key'}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
        ],
        "kube-controller-manager": [
            str(BIN / "kube-controller-manager"),
            *client["controller-manager"],
            "--bind-address=127.0.0.1",
            "--leader-elect=false",
            "--use-service-account-credentials=true",
            f"--root-ca-file={PKI / 'ca.crt'}",
            f"--service-account-private-key-file={PKI / 'sa.key'}",
            f"--cluster-signing-cert-file={PKI / 'ca.crt'}",
            f"--cluster-signing-key-file={PKI / 'ca.key'}",
        ],
        "kube-scheduler": [
            str(BIN / "kube-scheduler"),
            *client["scheduler"],
            "--bind-address=127.0.0.1",
            "--leader-elect=false",
        ],
        "coredns": [str(BIN / "coredns"), f"-conf={_COREFILE}"],
    }


def make_pki() -> None:
    """Make the certificates and kubeconfigs of the control plane, and the kubeconfig of the cluster's administrator."""
    PKI.mkdir(parents=True, mode=0o700)
    _KUBEADM.write_text(KUBEADM)
    _COREFILE.write_text(corefile())
    kubeadm = [str(BIN / "kubeadm"), "init", "phase", "certs", "all", f"--config={_KUBEADM}"]
    done = subprocess.run(network.inside(*kubeadm), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ClusterError(f"kubeadm could not make the certificates: {done.stderr.strip()}")
    users = {
        KUBECONFIG: ("kubernetes-admin", "system:masters"),
        CLUSTER / "controller-manager.kubeconfig": ("system:kube-controller-manager", None),
        CLUSTER / "scheduler.kubeconfig": ("system:kube-scheduler", None),
        CLUSTER / "kube-proxy.kubeconfig": ("system:kube-proxy", None),
        CLUSTER / "coredns.kubeconfig": ("system:coredns", None),  # manifests/control-plane.yaml gives it its rights
    }
    for path, (user, group) in users.items():
        write_kubeconfig(path, user=user, group=group)


def write_kubeconfig(path: Path, *, user: str, group: str | None) -> None:
    """Write a kubeconfig with a new client certificate for a user in a group, readable by root only."""
    command = [str(BIN / "kubeadm"), "kubeconfig", "user", f"--config={_KUBEADM}", f"--client-name={user}"]
    if group is not None:
        command.append(f"--org={group}")
    done = subprocess.run(network.inside(*command), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ClusterError(f"kubeadm could not make the kubeconfig of {user}: {done.stderr.strip()}")
    path.touch(mode=0o600)
    path.write_text(done.stdout)


def start(etcd: Path, *names: str) -> None:
    """Start these components."""
    every = commands(etcd)
    for name in names:
        processes.start(name, network.inside(*every[name]), env=_environment())


def wait_ready(*, seconds: float = 90) -> None:
    """Wait until the API server is ready.

    Raises:
        ClusterError: It ended, or was not ready in time; with the last lines of its output.
    """
    deadline = time.monotonic() + seconds
    server = processes.recorded()["kube-apiserver"]
    while not ready():
        if not server.alive() or time.monotonic() > deadline:
            what = f"was not ready after {seconds:.0f} s" if server.alive() else "ended"
            raise ClusterError(f"kube-apiserver {what}; its last lines:\n{processes.log_tail('kube-apiserver')}")
        time.sleep(0.2)


def ready() -> bool:
    """Tell whether the API server says that it is ready."""
    probe = kubectl_command("get", "--raw=/readyz", "--request-timeout=2s")
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


def wait_dns(*, seconds: float = 30) -> None:
    """Wait until clients can resolve names of Services and of nip.io.

    Raises:
        ClusterError: The DNS server ended, or did not answer in time; with the last lines of its output.
    """
    deadline = time.monotonic() + seconds
    server = processes.recorded()["coredns"]
    # getent fails when it can't resolve one of them.
    names = ("kubernetes.default.svc.cluster.local", f"{network.CONTROL_PLANE}.nip.io")
    while subprocess.run(network.client("getent", "hosts", *names), capture_output=True, check=False).returncode != 0:
        if not server.alive() or time.monotonic() > deadline:
            what = f"did not answer within {seconds:.0f} s" if server.alive() else "ended"
            raise ClusterError(f"coredns {what}; its last lines:\n{processes.log_tail('coredns')}")
        time.sleep(0.2)


def kubectl_command(*arguments: str) -> list[str]:
    """Return the command that runs kubectl in the cluster's network as administrator."""
    return network.client(str(BIN / "kubectl"), f"--kubeconfig={KUBECONFIG}", *arguments)


def kubectl(*arguments: str, stdin: str | None = None) -> str:
    """Run kubectl as administrator and return its output.

    Raises:
        ClusterError: It failed; with its own message.
    """
    command = kubectl_command(*arguments)
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ClusterError(f"`kubectl {' '.join(arguments)}` failed: {done.stderr.strip()}")
    return done.stdout


def _environment() -> dict[str, str]:
    """Return our environment without the variables that would lead a server away from the cluster."""
    dropped = ("kubeconfig", "etcd_")
    return {name: value for name, value in os.environ.items() if not name.lower().startswith(dropped)}
