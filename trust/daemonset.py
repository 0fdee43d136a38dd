"""The DaemonSet that makes every node's container runtime trust the registry, and proves it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pulumi
import pulumi_kubernetes as k8s

from registry import names
from registry.pod.pods import Waiter
from trust.admission import PRIORITY_CLASS, Sample
from trust.constraints import AGENT
from trust.machines import ARCHITECTURE, VIRTUAL
from trust.proving import Unproved, prove

_LABELS = names.labels("trust")
_AGENT = Path(__file__).parent / "agent"
_APP = "/app"
_CA = f"{_APP}/ca"
# This is not on a volume: after a reboot, a stale "ready" would start the proof container before the agent has written
# the CA again.
_READY = "/tmp/ready"  # noqa: S108 - nobody else is in the container
_BYTECODE = "/tmp/bytecode"  # noqa: S108 - as above
# A probe that waits by itself sees at once that the file is there. And each one that fails makes an event, which on
# thousands of nodes would be most of what the API server writes.
_WAIT = f"for _ in $(seq 45); do test -f {_READY} && exit; sleep 0.2; done; exit 1"

# The provider's own wait counts nodes that are down, and says of none what is missing. This condition holds at once.
# The wait for the deletion stays.
_MADE = "jsonpath={.metadata.uid}"


class Images(Protocol):
    """What the settings say of the program's images, as far as it counts here."""

    @property
    def python(self) -> str:
        """Image with Python 3.12 or newer, from anywhere but this registry."""
        ...

    @property
    def pull_secret(self) -> str | None:
        """Name of the Secret with the login that this image takes; None: it takes none."""
        ...


class TrustSettings(Protocol):
    """Those of the program's settings that this part needs."""

    @property
    def host(self) -> str:
        """The registry's host, if the settings name it; empty if it will be made from an address."""
        ...

    @property
    def dns_suffix(self) -> str:
        """The domain in which it will be made."""
        ...

    @property
    def images(self) -> Images:
        """The agent's image, and how nodes get it."""
        ...

    @property
    def node_trust(self) -> str:
        """Who makes the nodes trust the CA: `agent` or `external`."""
        ...

    @property
    def runtime_restart(self) -> bool:
        """Whether a container runtime that reads its configuration only at start may be restarted."""
        ...

    @property
    def ready_timeout(self) -> str:
        """How long to wait for all nodes, such as `2m`."""
        ...


class Lookup(Protocol):
    """Where host and CA can be looked up."""

    @property
    def config_map(self) -> pulumi.Output[str]:
        """ConfigMap that holds the CA certificates to trust, PEM, under the key `ca.crt`."""
        ...

    @property
    def data(self) -> pulumi.Output[Mapping[str, str]]:
        """What is in it."""
        ...


@dataclass(frozen=True, kw_only=True)
class NodeTrustArgs:
    """What `NodeTrust` needs."""

    settings: TrustSettings
    """The settings."""
    namespace: pulumi.Input[str]
    """Namespace of its objects."""
    cluster: Waiter
    """The cluster, which is asked how far the nodes are."""
    host: pulumi.Input[str]
    """The registry's host, with `:port` where image references have one."""
    lookup: Lookup
    """Where the nodes find the CA."""
    proof: pulumi.Input[str]
    """Image in the registry that waits for a signal, as `repository@digest`."""
    ready: pulumi.Input[object]
    """Known once the registry holds that image."""
    first: bool
    """Whether the stack has no DaemonSet yet."""
    pull_secret: pulumi.Input[str | None]
    """Secret with the login that the registry asks pulls for; None: it asks for none."""


def agent_files() -> dict[str, str]:
    """The agent's source files by name, as its ConfigMap holds them; the keys of a ConfigMap cannot name folders."""
    return {path.name: path.read_text() for path in sorted(_AGENT.glob("*.py"))}


def owner_name(namespace: str) -> str:
    """The name of this stack in file names on nodes. It is unique since each stack has a namespace of its own."""
    return f"private-registry.{namespace}"


def is_external(settings: TrustSettings) -> bool:
    """Whether somebody else makes the nodes trust the CA, so that there is no agent."""
    return settings.node_trust == "external"


class NodeTrust(pulumi.ComponentResource):
    """A pod on every Linux node: first an agent that makes the node's runtime trust the CA, then the proof.

    The agent is a native sidecar container. The kubelet starts the proof container, whose image is in the registry
    itself, only after the agent's startup probe has passed, for which the registry has to answer over verified TLS; so
    the first pull succeeds, and a ready pod is a node that has pulled. No way in leads to a pod of the registry that
    has not the image, so the agents of a new stack start while the registry does. Where
    the settings say that somebody else makes the nodes trust the CA, there is the proof alone, in a pod that keeps
    Kubernetes' standard `restricted`.
    Ready when, on every node that is Ready, schedulable and a machine: 1. the agent, if there is one, has configured
    the node; 2. the proof runs. That is looked at again at each `up`, also when nothing changes. Nodes that are not
    Ready are named, and are proved when they return.
    Delete stops the agents, which take their files off the nodes before they end.
    Does not: trust anything but the one host, or use the Kubernetes API.
    """

    daemon_set: pulumi.Output[str]
    """Name of the DaemonSet, known once every node is proved."""

    def __init__(self, name: str, args: NodeTrustArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make the DaemonSet. `name` is the name of its objects in the namespace."""
        super().__init__("private-registry:trust:NodeTrust", name, None, opts)
        timeout = args.settings.ready_timeout
        child = pulumi.ResourceOptions(
            parent=self, custom_timeouts=pulumi.CustomTimeouts(create=timeout, update=timeout, delete=timeout)
        )
        if not (args.first and not is_external(args.settings)):
            # A registry that is replaced could answer the agent and be gone at the pull; and without an agent nobody
            # asks before the pull.
            both = pulumi.Output.all(args.proof, args.ready)
            args = replace(args, proof=both.apply(lambda known: known[0]))
        daemon_set = k8s.apps.v1.DaemonSet(
            f"{name}-daemonset",
            metadata=k8s.meta.v1.ObjectMetaArgs(
                name=name, namespace=args.namespace, labels=_LABELS, annotations={"pulumi.com/waitFor": _MADE}
            ),
            spec=k8s.apps.v1.DaemonSetSpecArgs(
                selector=k8s.meta.v1.LabelSelectorArgs(match_labels=_LABELS),
                update_strategy=k8s.apps.v1.DaemonSetUpdateStrategyArgs(
                    type="RollingUpdate", rolling_update=_rolling_update(args.settings)
                ),
                template=_proof_alone(args) if is_external(args.settings) else _with_agent(name, args, child),
            ),
            opts=child,
        )

        async def proved(known: list[str]) -> str:
            namespace, host, *_ = known
            if not pulumi.runtime.is_dry_run():
                say, warn = (partial(log, resource=self) for log in (pulumi.log.info, pulumi.log.warn))
                try:
                    await prove(args.cluster, namespace, host, timeout, say, warn)
                except Unproved as error:
                    raise pulumi.RunError(str(error)) from None
            return name

        # A node waits for the registry before that is ready, and whoever waits for the nodes need not hear of it.
        made = pulumi.Output.all(args.namespace, args.host, daemon_set.id, args.ready)
        self.daemon_set = made.apply(proved)
        self.register_outputs({"daemonSet": self.daemon_set})


def trust_pod(settings: TrustSettings) -> Sample:
    """The DaemonSet's pod, as it will be made but for values that are not known yet."""
    args = NodeTrustArgs(
        settings=settings,
        namespace="sample",
        cluster=_Nobody(),
        host=settings.host or f"registry-sample.{settings.dns_suffix}",
        lookup=_Somewhere(),
        proof=f"private-registry/proof@sha256:{'0' * 64}",
        ready=True,
        first=False,
        pull_secret="sample",  # noqa: S106 - a name
    )
    if is_external(settings):
        return "the proof's", _proof_alone(args)
    return "the node agent's", _template(args, "sample", "0" * 64)


class _Nobody:
    """The cluster of a sample, which nobody asks."""

    def ask(self, path: str, **query: str) -> str:
        raise LookupError(path, query)

    def wake(self, workloads: str, namespace: str, name: str) -> None:
        raise LookupError(workloads, namespace, name)


class _Somewhere:
    """The place of a sample where nothing is looked up."""

    @property
    def config_map(self) -> pulumi.Output[str]:
        return pulumi.Output.from_input("sample")

    @property
    def data(self) -> pulumi.Output[Mapping[str, str]]:
        return pulumi.Output.from_input({"ca.crt": ""})


def _rolling_update(settings: TrustSettings) -> k8s.apps.v1.RollingUpdateDaemonSetArgs:
    """How a changed pod takes the place of the one before."""
    if is_external(settings):
        # An agent that was there has to be gone, with its file, before the proof is pulled: else this proves nothing.
        return k8s.apps.v1.RollingUpdateDaemonSetArgs(max_surge=0, max_unavailable="100%")
    # The new pod takes the files over before the old one has to end, so the old one does not remove them. All nodes
    # change at once: that disturbs none of them, and an old host serves no longer than need be.
    return k8s.apps.v1.RollingUpdateDaemonSetArgs(max_surge="100%", max_unavailable=0)


def _with_agent(name: str, args: NodeTrustArgs, opts: pulumi.ResourceOptions) -> k8s.core.v1.PodTemplateSpecArgs:
    """The pod's template with the agent, whose program is in a ConfigMap that is made here."""
    files = agent_files()
    # What runs as root on every node cannot be changed in place: the API server refuses it, and another content is
    # another object, to which only a change of the DaemonSet leads.
    checksum = hashlib.sha256(repr(files).encode()).hexdigest()[:12]
    # Pulumi writes the whole state after each step, and this is the largest part of it: so it is made late.
    late = pulumi.Output.all(args.namespace, args.lookup.config_map).apply(lambda known: known[0])
    agent = k8s.core.v1.ConfigMap(
        f"{name}-agent",
        metadata=k8s.meta.v1.ObjectMetaArgs(name=f"{name}-agent-{checksum}", namespace=late, labels=_LABELS),
        data=files,
        immutable=True,
        opts=opts,
    )
    return _template(args, agent.metadata.name, checksum)


def _template(
    args: NodeTrustArgs, agent_config_map: pulumi.Input[str], checksum: str
) -> k8s.core.v1.PodTemplateSpecArgs:
    return k8s.core.v1.PodTemplateSpecArgs(
        metadata=k8s.meta.v1.ObjectMetaArgs(
            labels={**_LABELS, **names.POD_OUT_OF_MESH},
            annotations={**names.OUT_OF_MESH, "private-registry/agent": checksum},
        ),
        spec=_pod(args, agent_config_map),
    )


def _proof_alone(args: NodeTrustArgs) -> k8s.core.v1.PodTemplateSpecArgs:
    """The pod's template without an agent. Another CA makes another pod, so that each node is asked again."""
    ca = args.lookup.data.apply(lambda data: hashlib.sha256(data["ca.crt"].encode()).hexdigest()[:12])
    return k8s.core.v1.PodTemplateSpecArgs(
        metadata=k8s.meta.v1.ObjectMetaArgs(
            labels={**_LABELS, **names.POD_OUT_OF_MESH}, annotations={**names.OUT_OF_MESH, "private-registry/ca": ca}
        ),
        spec=k8s.core.v1.PodSpecArgs(
            **_everywhere(args),
            containers=[_proof(args)],
            security_context=k8s.core.v1.PodSecurityContextArgs(
                run_as_non_root=True, seccomp_profile=k8s.core.v1.SeccompProfileArgs(type="RuntimeDefault")
            ),
        ),
    )


def _pod(args: NodeTrustArgs, agent_config_map: pulumi.Input[str]) -> k8s.core.v1.PodSpecArgs:
    core, settings = k8s.core.v1, args.settings

    def from_field(path: str) -> k8s.core.v1.EnvVarSourceArgs:
        return core.EnvVarSourceArgs(field_ref=core.ObjectFieldSelectorArgs(field_path=path))

    agent = core.ContainerArgs(
        name="agent",
        image=settings.images.python,
        restart_policy="Always",  # this makes an init container a native sidecar (Kubernetes 1.29)
        command=["python3", "-m", "agent"],
        working_dir=_APP,
        env=[
            # The folder of the agent's modules is read-only, and that of Python may be.
            core.EnvVarArgs(name="PYTHONPYCACHEPREFIX", value=_BYTECODE),
            core.EnvVarArgs(name="REGISTRY_HOST", value=args.host),
            core.EnvVarArgs(name="OWNER", value=pulumi.Output.from_input(args.namespace).apply(owner_name)),
            core.EnvVarArgs(name="POD_UID", value_from=from_field("metadata.uid")),
            core.EnvVarArgs(name="NODE_NAME", value_from=from_field("spec.nodeName")),
            core.EnvVarArgs(name="CA_FILE", value=f"{_CA}/ca.crt"),
            core.EnvVarArgs(name="RUNTIME_RESTART", value="allow" if settings.runtime_restart else "deny"),
            core.EnvVarArgs(name="READY_FILE", value=_READY),
            core.EnvVarArgs(name="TERMINATION_LOG", value="/dev/termination-log"),
        ],
        # The agent retries by itself and reports why, and Pulumi's own timeout ends the wait. After ten minutes without
        # success the kubelet starts the agent afresh.
        startup_probe=core.ProbeArgs(
            exec_=core.ExecActionArgs(command=["sh", "-c", _WAIT]),
            period_seconds=1,
            timeout_seconds=15,
            failure_threshold=60,
        ),
        security_context=core.SecurityContextArgs(privileged=True),
        resources=core.ResourceRequirementsArgs(
            requests={"cpu": "10m", "memory": "32Mi"}, limits={"cpu": "1", "memory": "128Mi"}
        ),
        volume_mounts=[
            core.VolumeMountArgs(name="agent", mount_path=f"{_APP}/agent", read_only=True),
            # The whole folder is mounted, since a single mounted file would not follow changes of the ConfigMap.
            core.VolumeMountArgs(name="ca", mount_path=_CA, read_only=True),
        ],
    )
    return core.PodSpecArgs(
        **_everywhere(args, settings.images.pull_secret),
        service_account_name=AGENT,
        host_pid=True,  # the agent finds the runtime's process and the node's files through /proc
        host_network=True,  # the agent resolves and connects as the kubelet's pulls do
        dns_policy="Default",
        priority_class_name=PRIORITY_CLASS,
        termination_grace_period_seconds=60,  # the agent tries to clean up for 40 s, see trust/agent/__main__.py
        init_containers=[agent],
        containers=[_proof(args)],
        volumes=[
            core.VolumeArgs(name="agent", config_map=core.ConfigMapVolumeSourceArgs(name=agent_config_map)),
            core.VolumeArgs(
                name="ca",
                config_map=core.ConfigMapVolumeSourceArgs(
                    name=args.lookup.config_map, items=[core.KeyToPathArgs(key="ca.crt", path="ca.crt")]
                ),
            ),
        ],
    )


def _proof(args: NodeTrustArgs) -> k8s.core.v1.ContainerArgs:
    """The container that runs the proof: when it runs, the kubelet has pulled from the registry."""
    core = k8s.core.v1
    return core.ContainerArgs(
        name="proof",
        image=pulumi.Output.concat(args.host, "/", args.proof),
        image_pull_policy="Always",
        security_context=core.SecurityContextArgs(
            allow_privilege_escalation=False,
            read_only_root_filesystem=True,
            run_as_non_root=True,
            run_as_user=65534,
            capabilities=core.CapabilitiesArgs(drop=["ALL"]),
        ),
        resources=core.ResourceRequirementsArgs(
            requests={"cpu": "1m", "memory": "4Mi"}, limits={"cpu": "50m", "memory": "16Mi"}
        ),
    )


def _everywhere(args: NodeTrustArgs, login: str | None = None) -> dict[str, Any]:
    """What a pod needs on every node that is a machine, with or without an agent.

    Args:
        args: What the component needs.
        login: Name of the Secret with a login for an image that is not in the registry; None: there is none.
    """
    core = k8s.core.v1
    return {
        "automount_service_account_token": False,
        "enable_service_links": False,
        "image_pull_secrets": pulumi.Output.from_input(args.pull_secret).apply(
            lambda own: [core.LocalObjectReferenceArgs(name=name) for name in (own, login) if name]
        ),
        "node_selector": {"kubernetes.io/os": "linux"},
        "affinity": core.AffinityArgs(
            node_affinity=core.NodeAffinityArgs(
                required_during_scheduling_ignored_during_execution=core.NodeSelectorArgs(
                    node_selector_terms=_machines()
                )
            )
        ),
        "tolerations": [core.TolerationArgs(operator="Exists")],
    }


def _machines() -> list[k8s.core.v1.NodeSelectorTermArgs]:
    """What a node's labels have to say, so that a pull can be proved there: one of these terms has to hold."""
    core = k8s.core.v1
    no_virtual = [
        core.NodeSelectorRequirementArgs(key=key, operator="NotIn", values=list(values))
        for key, values in VIRTUAL.items()
    ]
    fits = core.NodeSelectorRequirementArgs(key=ARCHITECTURE, operator="In", values=list(names.ARCHITECTURES))
    unknown = core.NodeSelectorRequirementArgs(key=ARCHITECTURE, operator="DoesNotExist")
    return [core.NodeSelectorTermArgs(match_expressions=[*no_virtual, each]) for each in (fits, unknown)]
