"""What stops a `pulumi destroy` on another cluster than that of `up`, before anything is deleted there.

`destroy` does not run this program, and the provider takes every object that is missing for one that is deleted. So on
a wrong cluster it would delete strangers' objects of the same names, say success, and forget the real ones. The state
keeps the kubeconfig's context, but two clusters can have contexts of one name, such as `kind-kind`.

The guard is a Service that has the cluster's UID in its name and leads nowhere, and a patch of it that depends on every
other resource, so that it is deleted first. To delete a patch means to give its fields up, with another patch. Where
the Service is missing that would have to make it, and the API server refuses a Service without a port. Then `destroy`
stops, and the name in the error says why.

What this deliberately does not do: it does not stop `refresh`, to which a missing object is no error, and a stack whose
first `up` has not ended has no guard yet.
"""

from collections.abc import Sequence

import pulumi
import pulumi_kubernetes as k8s

from .. import names

_LABELS = names.labels("guard")
_NOT_AWAITED = {"pulumi.com/skipAwait": "true"}


def guard_name(cluster_id: str) -> str:
    """Name of the Service, which says what an error that names it means."""
    return f"only-on-cluster-{cluster_id[:8]}"


def make_guard(
    cluster_id: str, namespace: pulumi.Input[str], others: Sequence[pulumi.Resource], opts: pulumi.ResourceOptions
) -> None:
    """Make the guard.

    Args:
        cluster_id: UID of the cluster's namespace kube-system.
        namespace: The stack's namespace.
        others: Every other resource of the stack.
        opts: Options of the guard's resources.
    """
    name = guard_name(cluster_id)
    service = k8s.core.v1.Service(
        "guard",
        metadata=k8s.meta.v1.ObjectMetaArgs(name=name, namespace=namespace, labels=_LABELS, annotations=_NOT_AWAITED),
        # A Service without a port has to be headless.
        spec=k8s.core.v1.ServiceSpecArgs(type="ClusterIP", cluster_ip="None"),
        opts=opts,
    )
    k8s.core.v1.ServicePatch(
        name,
        metadata=k8s.meta.v1.ObjectMetaPatchArgs(
            name=service.metadata.name,
            namespace=namespace,
            annotations={**_NOT_AWAITED, "private-registry/cluster": cluster_id},
        ),
        opts=pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(depends_on=[*others, service])),
    )
