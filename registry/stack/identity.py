"""The stack as the cluster sees it: its namespace, the connection to the cluster, and the seed of its secrets."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import pulumi
import pulumi_kubernetes as k8s
import pulumi_tls as tls

from .. import names
from ..certificate.tls import KEY_OUTPUTS
from ..cluster import Cluster
from ..hostname import stack_namespace
from ..settings import Settings
from ..waiting import timeouts
from .former import has_telling_name, remove_former
from .guard import make_guard
from .provider import make_provider
from .recorded import IDENTITY, SEED_NAME, Recorded, instance_id

_MANAGER = "pulumi.com/patchFieldManager"
TAKEN_OVER = {
    # The same name at each `up`, so that what an earlier one has set, and this one does not, is removed.
    _MANAGER: "private-registry",
    # What somebody has changed by hand in our own objects is set back.
    "pulumi.com/patchForce": "true",
}
"""Annotations of the objects in the stack's own namespace, by which the provider takes over those that exist."""
_CONFLICT = "Apply failed with"
"""Part of the API server's answer to a server-side apply of fields that somebody else manages (apimachinery,
util/managedfields/internal/conflict.go)."""

_DOCS = "docs/troubleshooting.md in the source of private-registry"


def label_value(text: str) -> str:
    """A text made fit for the value of a label: at most 63 letters, digits, dashes, dots and underscores."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", text)[:63].strip("-_.")


def namespace_labels(project: str, stack: str, instance: str) -> dict[str, str]:
    """The labels by which somebody without the stack's state finds out whose a namespace is."""
    own = {names.INSTANCE: instance, names.PROJECT: label_value(project), names.STACK: label_value(stack)}
    return {**names.labels("namespace"), "app.kubernetes.io/version": names.VERSION, **own}


def namespace_annotations(project: str, stack: str, instance: str) -> dict[str, str]:
    """The annotations of the namespace.

    Two stacks that start at once both find no namespace of a name that both have in their settings. So each makes it
    under the name of its own instance, and forces nothing: the later one is refused, and no images are lost with a
    namespace of two stacks. An `up` after one that was killed is of the same instance.
    """
    own = {names.PROJECT: project, names.STACK: stack, names.DOCS: _DOCS, **names.OUT_OF_MESH, **names.ON_EVERY_NODE}
    return {**own, _MANAGER: f"private-registry-{instance}"}


def other_name(name: str) -> str:
    """The name of a namespace that is not the one which does not do."""
    return "registry-pr-43" if name == "registry-pr-42" else "registry-pr-42"


def explain_conflict(failed: pulumi.ErrorHookArgs) -> bool:
    """Say whose the namespace is, if the cluster refuses to have its fields set since somebody else has set them.

    The provider's own error names the fields, and who has set them.
    """
    if not any(_CONFLICT in error for error in failed.errors):
        return False
    name = str((failed.new_inputs or {}).get("metadata", {}).get("name", ""))
    if failed.failed_operation == "update":
        pulumi.log.error(
            f"The namespace {name} is this stack's, but somebody else has changed labels or annotations of it, which "
            f"the error names. Take them off, so that they are set again: kubectl label namespace {name} KEY- (or "
            "kubectl annotate), then pulumi up --refresh"
        )
    else:
        pulumi.log.error(
            f"The namespace {name} is not this stack's: somebody else has made it at the same moment, such as another "
            "stack with the same setting namespace. Nothing of it was changed. Choose another name: pulumi config set "
            f"namespace {other_name(name)}"
        )
    return False  # do not try again: the conflict would be the same


POD_SECURITY = "pod-security.kubernetes.io/enforce"
"""Label of a namespace that says which pods may run there (Pod Security Standards)."""


def required_labels(settings: Settings) -> dict[str, str]:
    """Labels that the namespace needs. It has to allow the node agent, which is privileged.

    All other pods keep the standard `restricted` anyway, and where there is no agent the namespace demands it.
    """
    standard = "restricted" if settings.node_trust == "external" else "privileged"
    return {POD_SECURITY: standard, **names.NAMESPACE_OUT_OF_MESH}


_PASSIVE = (
    "ConfigMap",
    "NetworkPolicy",
    "PersistentVolumeClaim",
    "PodDisruptionBudget",
    "ResourceQuota",
    "Role",
    "RoleBinding",
    "Secret",
    "Service",
    "ServiceAccount",
)
"""Kinds whose objects nobody has to clean up after, but for a Service of type LoadBalancer."""


def _ends_with_its_namespace(kind: str, props: Mapping[str, object]) -> bool:
    """Whether `destroy` may leave an object to the end of the stack's namespace, and so has less to ask and wait for.

    A claim has to be left: it stays while a pod uses it, and an `up` that was killed may leave a pod that no state
    knows. The end of the namespace ends every pod in it first. The Deployment and the DaemonSet are no such objects:
    their pods should be gone when the namespace's controller first looks, five seconds after the deletion. Where pods
    are left, it comes back after half of the longest time that they may take.
    """
    metadata, spec = props.get("metadata"), props.get("spec")
    own = isinstance(metadata, k8s.meta.v1.ObjectMetaArgs) and isinstance(metadata.namespace, pulumi.Output)
    balanced = isinstance(spec, k8s.core.v1.ServiceSpecArgs) and spec.type == "LoadBalancer"
    return own and not balanced and kind.rpartition(":")[2] in _PASSIVE


@dataclass(frozen=True, kw_only=True)
class IdentityArgs:
    """What an `Identity` needs."""

    cluster: Cluster
    """The cluster, which is the one that `recorded` names."""
    recorded: Recorded
    """What the stack's state says."""
    namespace: str
    """Name of the namespace; empty for the one that the stack has, or a new one."""
    labels: Mapping[str, str]
    """Labels that the namespace needs."""
    timeout: str
    """How long to wait until the namespace is gone, such as `2m`."""


class Identity(pulumi.ComponentResource):
    """The stack's namespace, the provider through which all its objects are made, and the seed of its secrets.

    Ready when: 1. the namespace exists. Delete removes it last, and the seed from the state.
    Does not: take a namespace that somebody else has made; see the module `strangers`.
    """

    namespace: pulumi.Output[str]
    """The namespace's name. No other stack of the cluster has the same."""
    seed: pulumi.Output[str]
    """A random key, PEM, from which all secrets of the stack are derived; a secret."""
    instance: pulumi.Output[str]
    """The id of this instance of the stack."""
    cluster_id: str
    """UID of the cluster's namespace kube-system; empty if the user may not read it."""

    def __init__(self, name: str, args: IdentityArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make seed, provider and namespace."""
        super().__init__(IDENTITY, name, None, opts)
        self._made: list[pulumi.Resource] = []
        self._cluster, self._spared = args.cluster, args.recorded.telling
        self._telling: list[tuple[str, pulumi.Resource]] = []
        self._child = pulumi.ResourceOptions(parent=self, transformations=[self.bind])
        # Every secret is derived from this one. Secrets have to be random, and have to stay the same even if all
        # objects of the cluster are lost. A generated key is the only random value that this program's packages keep
        # in the stack's state, as a secret.
        seed = tls.PrivateKey(
            SEED_NAME,
            algorithm="ED25519",
            opts=pulumi.ResourceOptions.merge(
                self._child, pulumi.ResourceOptions(additional_secret_outputs=KEY_OUTPUTS)
            ),
        )
        self.seed = seed.private_key_pem
        self.instance = seed.public_key_pem.apply(instance_id)
        self.cluster_id = args.cluster.uid or args.recorded.cluster
        self._provider_of_all = make_provider("kubernetes", args.cluster, pulumi.ResourceOptions(parent=self))
        project, stack = pulumi.get_project(), pulumi.get_stack()
        given = args.namespace or args.recorded.namespace
        self._namespace = k8s.core.v1.Namespace(
            "namespace",
            metadata=k8s.meta.v1.ObjectMetaArgs(
                name=given or self.instance.apply(lambda instance: stack_namespace(stack, instance)),
                labels=self.instance.apply(
                    lambda instance: {**namespace_labels(project, stack, instance), **args.labels}
                ),
                annotations=self.instance.apply(lambda instance: namespace_annotations(project, stack, instance)),
            ),
            opts=pulumi.ResourceOptions.merge(
                self._child,
                pulumi.ResourceOptions(
                    custom_timeouts=timeouts(args.timeout),
                    hooks=pulumi.ResourceHookBinding(on_error=[pulumi.ErrorHook(f"{name}-conflict", explain_conflict)]),
                ),
            ),
        )
        self.namespace = self._namespace.metadata.name
        # The namespace is not among the outputs: these are in the state before it is made, so that an `up` that is
        # killed while it is made has recorded where that was.
        self.register_outputs(
            {
                "clusterId": self.cluster_id,
                "context": args.cluster.context,
                "instanceId": self.instance,
                "wanted": given,
            }
        )

    def bind(self, args: pulumi.ResourceTransformationArgs) -> pulumi.ResourceTransformationResult | None:
        """Give a resource that is about to be made the stack's provider; and mark it to be taken over if it exists.

        That is for objects in the stack's own namespace, not for the namespace itself. A name of a namespace that is
        known before anything is made is that of somebody else's.
        """
        if not args.type_.startswith("kubernetes:"):
            if args.type_.startswith("tls:"):
                self._made.append(args.resource)
            return None
        self._made.append(args.resource)
        metadata: object = args.props.get("metadata")
        # A patch is none of these: it has a field manager of its own, beside that of the object.
        if isinstance(metadata, k8s.meta.v1.ObjectMetaArgs) and isinstance(metadata.namespace, pulumi.Output):
            annotations = cast("pulumi.Input[Mapping[str, str] | None]", metadata.annotations)
            metadata.annotations = pulumi.Output.from_input(annotations).apply(
                lambda known: {**(known or {}), **TAKEN_OVER}
            )
        chosen = pulumi.ResourceOptions(provider=self._provider_of_all)
        if _ends_with_its_namespace(args.type_, args.props):
            chosen.deleted_with = self._namespace
        kind = args.type_.rpartition(":")[2]
        if has_telling_name(kind, args.props):
            chosen.retain_on_delete = True
            self._telling.append((kind, args.resource))
        return pulumi.ResourceTransformationResult(args.props, pulumi.ResourceOptions.merge(args.opts, chosen))

    def without_former(self, done: pulumi.Output[str]) -> pulumi.Output[str]:
        """`done`, when what the stack used before is deleted; see the module `former`.

        Args:
            done: What is known once nothing needs that any more.
        """
        present = [pulumi.Output.all(kind, cast(Any, made).metadata["name"]) for kind, made in self._telling]

        async def removed(known: Sequence[Any]) -> str:
            own, namespace, *pairs = known
            if not pulumi.runtime.is_dry_run():
                # An `up` that is limited to some targets may have in use what the state has, and the program has not.
                kept = self._spared | {tuple(pair) for pair in pairs}
                await asyncio.to_thread(remove_former, self._cluster, namespace, kept)
            return own

        return pulumi.Output.all(done, self.namespace, *present).apply(removed)

    def guard(self, namespace: pulumi.Input[str]) -> None:
        """Make what stops a `destroy` on another cluster; call it when everything else is declared.

        Args:
            namespace: The stack's namespace, once it is known to take the stack's pods.
        """
        if self.cluster_id:
            make_guard(self.cluster_id, namespace, list(self._made), self._child)


def make_identity(name: str, settings: Settings, cluster: Cluster, recorded: Recorded) -> Identity:
    """Make the stack's identity, and have everything that is made after it belong to it.

    Args:
        name: Name of the component.
        settings: The settings.
        cluster: The cluster, on which `strangers` found nothing that is in the way.
        recorded: What the stack's state says.
    """
    identity = Identity(
        name,
        IdentityArgs(
            cluster=cluster,
            recorded=recorded,
            namespace=settings.namespace,
            labels=required_labels(settings),
            timeout=settings.ready_timeout,
        ),
    )
    pulumi.runtime.register_stack_transformation(identity.bind)
    return identity
