"""What other namespaces get of the registry: the login for pulls, the CA for builders, and its name."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s

from .credentials import DOCKER_CONFIG

_LABELS = {"app.kubernetes.io/name": "registry", "app.kubernetes.io/part-of": "private-registry"}


@dataclass(frozen=True, kw_only=True)
class SharingArgs:
    """What a `Sharing` needs."""

    object_name: str
    """Name of its Secrets and ConfigMaps, which no other stack of the cluster uses."""
    host: pulumi.Input[str]
    """The registry's host as image references spell it."""
    lookup: pulumi.Input[Mapping[str, str]]
    """Data of the ConfigMap that tells of the registry."""
    docker_config: pulumi.Input[str]
    """The login in the format of Docker's config.json."""
    pull_namespaces: Sequence[str]
    """Namespaces that get a Secret with the login."""
    attach: bool
    """Whether their default ServiceAccounts name the Secret."""
    ca_namespaces: Sequence[str]
    """Namespaces that get the ConfigMap."""
    advertise: bool
    """Whether to make the ConfigMap of KEP-1755."""


class Sharing(pulumi.ComponentResource):
    """Objects in namespaces that are not the stack's.

    Each is new, and an object that is there already under its name is an error. The one thing of others that it changes
    is the list imagePullSecrets of ServiceAccounts, and that only where it is empty: to server-side apply the list is
    one value with one owner (`+listType=atomic`, k8s.io/api/core/v1/types.go), so an entry among others' could not be
    taken back.
    Ready when: 1. the objects exist. Delete removes them, and empties the lists again.
    Does not: make a namespace, or follow ones that are made later.
    """

    pull_secret: pulumi.Output[str | None]
    """Name of the Secrets for pulls, known once they are there; None: there are none."""
    ca_config_map: pulumi.Output[str | None]
    """Name of the copies of the lookup ConfigMap, known once they are there; None: there are none."""

    def __init__(self, name: str, args: SharingArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make the objects. `name` is the prefix of the resources' names."""
        super().__init__("private-registry:registry:Sharing", name, None, opts)
        core, child = k8s.core.v1, pulumi.ResourceOptions(parent=self)
        secrets: list[pulumi.Output[str]] = []
        copies: list[pulumi.Output[str]] = []
        for namespace in args.pull_namespaces:
            secret = core.Secret(
                f"{name}-pull-{namespace}",
                metadata=k8s.meta.v1.ObjectMetaArgs(name=args.object_name, namespace=namespace, labels=_LABELS),
                type="kubernetes.io/dockerconfigjson",
                string_data={DOCKER_CONFIG: args.docker_config},
                opts=child,
            )
            secrets.append(secret.metadata.name)
            if args.attach:
                core.ServiceAccountPatch(
                    f"{name}-attach-{namespace}",
                    metadata=k8s.meta.v1.ObjectMetaPatchArgs(name="default", namespace=namespace),
                    image_pull_secrets=[core.LocalObjectReferencePatchArgs(name=secret.metadata.name)],
                    opts=self._explain(
                        f"{name}-attach-{namespace}",
                        f"The default ServiceAccount of the namespace {namespace} was not given the registry's Secret. "
                        "If the reason is a conflict, it has imagePullSecrets of somebody else, and the list can have "
                        f"one owner only: name {args.object_name} in the imagePullSecrets of the pods, and do not "
                        "attach it (pulumi config set attachPullSecret false).",
                    ),
                )
        for namespace in args.ca_namespaces:
            copy = core.ConfigMap(
                f"{name}-ca-{namespace}",
                metadata=k8s.meta.v1.ObjectMetaArgs(name=args.object_name, namespace=namespace, labels=_LABELS),
                data=args.lookup,
                opts=child,
            )
            copies.append(copy.metadata.name)
        if args.advertise:
            hosting = pulumi.Output.from_input(args.host).apply(local_registry_hosting)
            core.ConfigMap(
                f"{name}-advertise",
                metadata=k8s.meta.v1.ObjectMetaArgs(
                    name="local-registry-hosting", namespace="kube-public", labels=_LABELS
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
        self.pull_secret, self.ca_config_map = _one_name(secrets), _one_name(copies)
        self.register_outputs({"pullSecret": self.pull_secret, "caConfigMap": self.ca_config_map})

    def _explain(self, name: str, text: str) -> pulumi.ResourceOptions:
        """Options of an object whose creation can meet somebody else's: tell what to do then."""

        def tell(_: pulumi.ErrorHookArgs) -> bool:
            pulumi.log.error(text)
            return False  # another try would meet it again

        return pulumi.ResourceOptions(
            parent=self, hooks=pulumi.ResourceHookBinding(on_error=[pulumi.ErrorHook(name, tell)])
        )


def _one_name(names: Sequence[pulumi.Output[str]]) -> pulumi.Output[str | None]:
    """The name that objects in several namespaces share, known once all of them are there; None: there are none."""
    return pulumi.Output.all(*names).apply(lambda made: made[0] if made else None)


def local_registry_hosting(host: str) -> str:
    """What the ConfigMap of KEP-1755 says of a registry that has one name from everywhere (sig-cluster-lifecycle)."""
    fields = {"host": host, "hostFromContainerRuntime": host, "hostFromClusterNetwork": host}
    return json.dumps(fields, indent=2) + "\n"  # JSON is YAML
