"""The pod that names the registry's Secret in the default ServiceAccounts of other namespaces."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pulumi
import pulumi_kubernetes as k8s

from .. import names
from ..exposure import network_policy
from ..pod import attach
from ..pod.images import Images
from ..waiting import awaited

_NAME = attach.DEPLOYMENT
_LABELS = names.labels(_NAME)
_USER = 1000
_PROGRAM = "/etc/attach"


@dataclass(frozen=True, kw_only=True)
class AttachmentArgs:
    """What an `Attachment` needs."""

    namespace: pulumi.Input[str]
    """The stack's namespace, in which the pod runs."""
    namespaces: Sequence[str]
    """The namespaces whose default ServiceAccounts are changed."""
    secret: pulumi.Input[str]
    """Name of the Secret in each of them, once it is there."""
    labels: Mapping[str, pulumi.Input[str]]
    """Labels of what is in these namespaces."""
    manager: Mapping[str, pulumi.Input[str]]
    """Annotations of what is in these namespaces."""
    images: Images
    """The images of the program's pods."""
    timeout: str
    """How long to wait until all have been changed, such as `2m`."""


class Attachment(pulumi.ComponentResource):
    """A pod that may change the default ServiceAccounts of some namespaces, and nothing else there.

    Ready when: 1. each of them names the Secret. Delete ends the pod, which takes the Secret's name out again; a
    namespace that has gone before needs nothing.
    Does not: make the Secret.
    """

    def __init__(self, name: str, args: AttachmentArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make the pod, and what allows it to do its work. `name` is the prefix of the resources' names."""
        super().__init__("private-registry:registry:Attachment", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        own = k8s.meta.v1.ObjectMetaArgs(name=_NAME, namespace=args.namespace, labels=_LABELS)
        account = k8s.core.v1.ServiceAccount(f"{name}-account", metadata=own, opts=child)
        subject = k8s.rbac.v1.SubjectArgs(kind="ServiceAccount", name=account.metadata.name, namespace=args.namespace)
        # It asks whether it ends for good, or only to be replaced.
        allowed: list[pulumi.Resource] = [_allow(name, own, "apps", "deployments", _NAME, ["get"], subject, child)]
        for place in args.namespaces:
            theirs = k8s.meta.v1.ObjectMetaArgs(
                name=args.secret, namespace=place, labels=dict(args.labels), annotations=dict(args.manager)
            )
            verbs = ["get", "patch"]
            allowed.append(_allow(f"{name}-{place}", theirs, "", "serviceaccounts", "default", verbs, subject, child))
        # Also at `destroy` the pod goes first, and takes its entries out.
        allowed.append(network_policy.reachable(_NAME, args.namespace, _LABELS, [], child))
        program = Path(attach.__file__).read_text()
        config = k8s.core.v1.ConfigMap(f"{name}-program", metadata=own, data={"attach.py": program}, opts=child)
        waits = awaited(
            name,
            self,
            args.timeout,
            lambda made: (
                f"The default ServiceAccounts of {', '.join(args.namespaces)} do not all name the registry's Secret "
                f"within {args.timeout} (the setting readyTimeout). The log says which not, and why: kubectl logs -n "
                f"{_namespace_in(made)} deployment/{_NAME}; if there is none, kubectl describe pods -n "
                f"{_namespace_in(made)}. Or do without: pulumi config set attachPullSecret false"
            ),
        )
        k8s.apps.v1.Deployment(
            f"{name}-deployment",
            metadata=own,
            spec=k8s.apps.v1.DeploymentSpecArgs(
                replicas=1,
                # The old pod takes out what is wanted no longer before its role for that goes.
                strategy=k8s.apps.v1.DeploymentStrategyArgs(type="Recreate"),
                selector=k8s.meta.v1.LabelSelectorArgs(match_labels=_LABELS),
                template=_template(args, program, config.metadata.name, account.metadata.name),
            ),
            opts=pulumi.ResourceOptions.merge(waits, pulumi.ResourceOptions(depends_on=allowed)),
        )
        self.register_outputs({})


def _allow(
    name: str,
    metadata: k8s.meta.v1.ObjectMetaArgs,
    group: str,
    resource: str,
    what: str,
    verbs: Sequence[str],
    subject: k8s.rbac.v1.SubjectArgs,
    opts: pulumi.ResourceOptions,
) -> pulumi.Resource:
    """Allow the pod something with one object of one namespace."""
    rbac = k8s.rbac.v1
    rule = rbac.PolicyRuleArgs(api_groups=[group], resources=[resource], resource_names=[what], verbs=[*verbs])
    role = rbac.Role(f"{name}-role", metadata=metadata, rules=[rule], opts=opts)
    return rbac.RoleBinding(
        f"{name}-binding",
        metadata=metadata,
        role_ref=rbac.RoleRefArgs(api_group="rbac.authorization.k8s.io", kind="Role", name=role.metadata.name),
        subjects=[subject],
        opts=opts,
    )


def _namespace_in(made: Mapping[str, Any]) -> str:
    return str(made.get("metadata", {}).get("namespace", "NS"))


def _template(
    args: AttachmentArgs, program: str, config: pulumi.Input[str], account: pulumi.Input[str]
) -> k8s.core.v1.PodTemplateSpecArgs:
    core = k8s.core.v1
    container = core.ContainerArgs(
        name=_NAME,
        image=args.images.python,
        command=["python3"],
        args=[f"{_PROGRAM}/attach.py", args.secret, *args.namespaces],
        readiness_probe=core.ProbeArgs(
            exec_=core.ExecActionArgs(command=["test", "-e", str(attach.READY)]), period_seconds=1
        ),
        security_context=core.SecurityContextArgs(
            allow_privilege_escalation=False,
            read_only_root_filesystem=True,
            capabilities=core.CapabilitiesArgs(drop=["ALL"]),
        ),
        resources=core.ResourceRequirementsArgs(
            requests={"cpu": "10m", "memory": "32Mi"}, limits={"cpu": "1", "memory": "128Mi"}
        ),
        volume_mounts=[
            core.VolumeMountArgs(name="program", mount_path=_PROGRAM, read_only=True),
            core.VolumeMountArgs(name="run", mount_path=str(attach.READY.parent)),
        ],
    )
    digest = hashlib.sha256(program.encode()).hexdigest()
    return core.PodTemplateSpecArgs(
        metadata=k8s.meta.v1.ObjectMetaArgs(
            labels={**_LABELS, **names.POD_OUT_OF_MESH},
            annotations={**names.OUT_OF_MESH, "private-registry/program": digest},
        ),
        spec=core.PodSpecArgs(
            service_account_name=account,
            image_pull_secrets=[core.LocalObjectReferenceArgs(name=own) for own in [args.images.pull_secret] if own],
            enable_service_links=False,
            node_selector={"kubernetes.io/os": "linux"},
            security_context=core.PodSecurityContextArgs(
                run_as_non_root=True,
                run_as_user=_USER,
                run_as_group=_USER,
                seccomp_profile=core.SeccompProfileArgs(type="RuntimeDefault"),
            ),
            containers=[container],
            volumes=[
                core.VolumeArgs(name="program", config_map=core.ConfigMapVolumeSourceArgs(name=config)),
                core.VolumeArgs(name="run", empty_dir=core.EmptyDirVolumeSourceArgs()),
            ],
        ),
    )
