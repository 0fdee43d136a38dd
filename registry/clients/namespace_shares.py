"""What other namespaces get of the registry: a login for pulls, the CA for builders, and an advertisement."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s

from .. import names
from ..credentials import DOCKER_CONFIG
from ..hostname import registry_label
from ..pod.images import Images
from ..settings import Settings
from ..stack.identity import Identity
from .attachment import Attachment, AttachmentArgs

_LABELS = names.labels(names.REGISTRY)


@dataclass(frozen=True, kw_only=True)
class NamespaceSharesArgs:
    """What `NamespaceShares` need."""

    namespace: pulumi.Input[str]
    """The stack's namespace."""
    object_name: pulumi.Input[str]
    """Name of the Secrets and ConfigMaps; no other stack of the cluster may use the same."""
    host: pulumi.Input[str]
    """The registry's host as image references spell it."""
    lookup: pulumi.Input[Mapping[str, str]]
    """Data of the lookup ConfigMap, which the copies hold too."""
    docker_config: pulumi.Input[str]
    """The login in the format of Docker's config.json."""
    pull_namespaces: Sequence[str]
    """Namespaces that get a Secret with the login."""
    attach: bool
    """Whether their default ServiceAccounts name the Secret."""
    ca_namespaces: Sequence[str]
    """Namespaces that get a copy of the lookup ConfigMap."""
    advertise: bool
    """Whether to make the ConfigMap of KEP-1755."""
    instance: pulumi.Input[str]
    """Id of this instance of the stack, by which a later `up` knows the objects for its own."""
    images: Images
    """The images of the program's pods, for the one that changes the ServiceAccounts."""
    timeout: str
    """How long to wait for that pod, such as `2m`."""


class NamespaceShares(pulumi.ComponentResource):
    """Objects in namespaces that are not the stack's.

    Each object is new: if somebody else's of its name exists already, `preflight` says so. Only one thing that belongs
    to others is changed, the list imagePullSecrets of ServiceAccounts: a pod adds an entry, and takes it out again.
    Ready when: 1. the objects exist; 2. the ServiceAccounts name the Secret. Delete removes them, and the entries.
    Does not: make a namespace, or watch for namespaces that are made later.
    """

    object_name: pulumi.Output[str | None]
    """Name of the Secrets for pulls and of the copies of the lookup ConfigMap, known once all of them exist; None if
    there are none."""

    def __init__(self, name: str, args: NamespaceSharesArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make the objects. `name` is the prefix of the resources' names."""
        super().__init__("private-registry:registry:NamespaceShares", name, None, opts)
        core, child = k8s.core.v1, pulumi.ResourceOptions(parent=self)
        labels = {**_LABELS, names.INSTANCE: args.instance}
        # An `up` after one that was killed applies the objects under the same name, and so owns all that it has set.
        manager = {"pulumi.com/patchFieldManager": args.object_name}
        secrets: list[pulumi.Output[str]] = []
        copies: list[pulumi.Output[str]] = []
        for namespace in args.pull_namespaces:
            secret = core.Secret(
                f"{name}-pull-{namespace}",
                metadata=k8s.meta.v1.ObjectMetaArgs(
                    name=args.object_name, namespace=namespace, labels=labels, annotations=manager
                ),
                type="kubernetes.io/dockerconfigjson",
                string_data={DOCKER_CONFIG: args.docker_config},
                opts=child,
            )
            secrets.append(secret.metadata.name)
        if args.attach and secrets:
            Attachment(
                f"{name}-attach",
                AttachmentArgs(
                    namespace=args.namespace,
                    namespaces=args.pull_namespaces,
                    secret=_one_name(secrets).apply(str),
                    labels=labels,
                    manager=manager,
                    images=args.images,
                    timeout=args.timeout,
                ),
                opts=child,
            )
        for namespace in args.ca_namespaces:
            copy = core.ConfigMap(
                f"{name}-ca-{namespace}",
                metadata=k8s.meta.v1.ObjectMetaArgs(
                    name=args.object_name, namespace=namespace, labels=labels, annotations=manager
                ),
                data=args.lookup,
                opts=child,
            )
            copies.append(copy.metadata.name)
        if args.advertise:
            hosting = pulumi.Output.from_input(args.host).apply(local_registry_hosting)
            core.ConfigMap(
                f"{name}-advertise",
                metadata=k8s.meta.v1.ObjectMetaArgs(
                    name="local-registry-hosting", namespace="kube-public", labels=labels, annotations=manager
                ),
                data={"localRegistryHosting.v1": hosting},
                opts=self._explain(
                    f"{name}-advertise",
                    "The registry is not advertised. If the reason is that a ConfigMap local-registry-hosting is "
                    "in kube-public already, the cluster tells of another registry, and can tell of one only: "
                    "leave that one there (pulumi config set advertise false), or delete it if nobody uses it (kubectl "
                    "delete configmap -n kube-public local-registry-hosting).",
                ),
            )
        self.object_name = _one_name([*secrets, *copies])
        self.register_outputs({"objectName": self.object_name})

    def _explain(self, name: str, text: str) -> pulumi.ResourceOptions:
        """Options of an object that may conflict with somebody else's: the text says what to do then."""

        def explain(_: pulumi.ErrorHookArgs) -> bool:
            pulumi.log.error(text)
            return False  # do not try again: the conflict would be the same

        return pulumi.ResourceOptions(
            parent=self, hooks=pulumi.ResourceHookBinding(on_error=[pulumi.ErrorHook(name, explain)])
        )


def make_shares(
    name: str,
    settings: Settings,
    identity: Identity,
    host: pulumi.Input[str],
    lookup: pulumi.Input[Mapping[str, str]],
    docker_config: pulumi.Input[str],
) -> NamespaceShares | None:
    """Make what the settings share with other namespaces; None if they share nothing.

    Args:
        name: Name of the component, and prefix of its resources' names.
        settings: The settings.
        identity: The stack, from whose namespace the name of the objects is made.
        host: The registry's host as image references spell it.
        lookup: Data of the lookup ConfigMap.
        docker_config: The login in the format of Docker's config.json.
    """
    if not (settings.pull_namespaces or settings.ca_namespaces or settings.advertise):
        return None
    return NamespaceShares(
        name,
        NamespaceSharesArgs(
            namespace=identity.namespace,
            object_name=identity.namespace.apply(registry_label),
            instance=identity.instance,
            host=host,
            lookup=lookup,
            docker_config=docker_config,
            pull_namespaces=settings.pull_namespaces,
            attach=settings.attach_pull_secret,
            ca_namespaces=settings.ca_namespaces,
            advertise=settings.advertise,
            images=settings.images,
            timeout=settings.ready_timeout,
        ),
    )


def _one_name(names: Sequence[pulumi.Output[str]]) -> pulumi.Output[str | None]:
    """The name that objects in several namespaces share, known once all of them exist; None if there are none."""
    return pulumi.Output.all(*names).apply(lambda made: made[0] if made else None)


def local_registry_hosting(host: str) -> str:
    """What the ConfigMap of KEP-1755 (sig-cluster-lifecycle) says of a registry that has the same host everywhere."""
    fields = {"host": host, "hostFromContainerRuntime": host, "hostFromClusterNetwork": host}
    return json.dumps(fields, indent=2) + "\n"  # JSON is YAML
