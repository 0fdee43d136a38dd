"""The registry: its volume, its configuration, and the pod that serves it inside the cluster."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import pulumi
import pulumi_kubernetes as k8s
import pulumi_tls as tls

from . import proof_image

PORT = 5000
"""TCP port of the registry's pod, plain HTTP: only the Ingress controller and the pod itself speak to it."""
_USER = 1000
_LABELS = {"app.kubernetes.io/name": "registry", "app.kubernetes.io/part-of": "private-registry"}
_DATA = "/var/lib/registry"
_CONFIG = "/etc/private-registry"
_READY = "/run/proof/ready"

# Kubernetes' restricted pod security standard.
_CONTAINER_SECURITY = k8s.core.v1.SecurityContextArgs(
    allow_privilege_escalation=False,
    read_only_root_filesystem=True,
    capabilities=k8s.core.v1.CapabilitiesArgs(drop=["ALL"]),
)


def configuration() -> dict[str, object]:
    """The registry's configuration file (distribution 3, docs/content/about/configuration.md)."""
    return {
        "version": 0.1,
        "log": {"level": "info", "accesslog": {"disabled": False}},
        "storage": {
            "filesystem": {"rootdirectory": _DATA},
            "delete": {"enabled": True},
            # Uploads that a client gave up are removed after a day.
            "maintenance": {"uploadpurging": {"enabled": True, "age": "24h", "interval": "1h", "dryrun": False}},
        },
        # Locations without scheme and host: the registry does not know the name and port that clients use.
        "http": {"addr": f":{PORT}", "relativeurls": True},
        "health": {"storagedriver": {"enabled": True, "interval": "10s", "threshold": 3}},
    }


def _checksum(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class RegistryArgs:
    """What a `Registry` needs."""

    namespace: pulumi.Input[str]
    """Namespace of all its objects."""
    image: str
    """Image of the registry."""
    python_image: str
    """Image with Python, for the container that pushes the proof image."""
    storage_size: str
    """Size of the volume, a Kubernetes quantity."""
    storage_class: str
    """StorageClass of the volume; empty: the default one."""
    timeout: str
    """How long to wait for each object, such as `2m`."""


class Registry(pulumi.ComponentResource):
    """A registry that serves plain HTTP inside the cluster.

    Ready when: 1. its volume is bound; 2. the registry answers and its storage works; 3. the proof image is in it.
    Delete removes the pod, the volume and every image in it.
    Does not: serve TLS, or anything outside the cluster.
    """

    service: pulumi.Output[str]
    """Name of the Service; its port is `PORT`."""
    proof: pulumi.Output[str]
    """The proof image as `repository@digest`, known once the registry holds it."""

    def __init__(self, name: str, args: RegistryArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make the registry. `name` is the name of its objects in the namespace."""
        super().__init__("private-registry:registry:Registry", name, None, opts)
        timeouts = pulumi.CustomTimeouts(create=args.timeout, update=args.timeout, delete=args.timeout)
        child = pulumi.ResourceOptions(parent=self, custom_timeouts=timeouts)

        volume = k8s.core.v1.PersistentVolumeClaim(
            f"{name}-volume",
            metadata=k8s.meta.v1.ObjectMetaArgs(
                name=name,
                namespace=args.namespace,
                labels=_LABELS,
                # The Deployment waits for it. Its own wait expects "Pending" of a class that binds at first use, so it
                # would never end once the volume is bound (provider source, await/awaiters.go).
                annotations={"pulumi.com/skipAwait": "true"},
            ),
            spec=k8s.core.v1.PersistentVolumeClaimSpecArgs(
                access_modes=["ReadWriteOnce"],
                storage_class_name=args.storage_class or None,
                resources=k8s.core.v1.VolumeResourceRequirementsArgs(requests={"storage": args.storage_size}),
            ),
            opts=child,
        )
        files = {
            "config.yml": json.dumps(configuration(), indent=2),  # JSON is YAML
            "proof_image.py": Path(proof_image.__file__).read_text(),
        }
        config = k8s.core.v1.ConfigMap(
            f"{name}-config",
            metadata=k8s.meta.v1.ObjectMetaArgs(name=f"{name}-config", namespace=args.namespace, labels=_LABELS),
            data=files,
            opts=child,
        )
        # The secret with which the registry signs the state of an upload. It has to be random and to stay the same, and
        # a generated key is the one random value that this program's packages keep in the state as a secret.
        seed = tls.PrivateKey(
            f"{name}-http-seed",
            algorithm="ED25519",
            opts=pulumi.ResourceOptions(
                parent=self,
                additional_secret_outputs=["private_key_pem", "private_key_pem_pkcs8", "private_key_openssh"],
            ),
        )
        http_secret = k8s.core.v1.Secret(
            f"{name}-http-secret",
            metadata=k8s.meta.v1.ObjectMetaArgs(name=f"{name}-http", namespace=args.namespace, labels=_LABELS),
            string_data={"secret": seed.private_key_pem.apply(_checksum)},
            opts=child,
        )
        deployment = k8s.apps.v1.Deployment(
            f"{name}-deployment",
            metadata=k8s.meta.v1.ObjectMetaArgs(name=name, namespace=args.namespace, labels=_LABELS),
            spec=k8s.apps.v1.DeploymentSpecArgs(
                replicas=1,
                # The volume can be used by one node only, and two registries on one volume would disagree on uploads.
                strategy=k8s.apps.v1.DeploymentStrategyArgs(type="Recreate"),
                selector=k8s.meta.v1.LabelSelectorArgs(match_labels=_LABELS),
                template=k8s.core.v1.PodTemplateSpecArgs(
                    metadata=k8s.meta.v1.ObjectMetaArgs(
                        labels=_LABELS,
                        # A ConfigMap changes in place; its readers here read it only at start.
                        annotations={"private-registry/config": _checksum(*files.values())},
                    ),
                    spec=_pod(args, volume.metadata.name, config.metadata.name, http_secret.metadata.name),
                ),
            ),
            opts=child,
        )
        service = k8s.core.v1.Service(
            f"{name}-service",
            metadata=k8s.meta.v1.ObjectMetaArgs(
                name=name,
                namespace=args.namespace,
                labels=_LABELS,
                annotations={"pulumi.com/skipAwait": "true"},  # nothing to wait for: the Deployment is ready
            ),
            spec=k8s.core.v1.ServiceSpecArgs(
                selector=_LABELS,
                ports=[k8s.core.v1.ServicePortArgs(name="http", port=PORT, target_port="http")],
            ),
            opts=child,
        )
        self.service = service.metadata.name
        reference = f"{proof_image.REPOSITORY}@{proof_image.build().index.digest}"
        self.proof = deployment.id.apply(lambda _: reference)
        self.register_outputs({"service": self.service, "proof": self.proof})


def _pod(
    args: RegistryArgs, volume: pulumi.Input[str], config: pulumi.Input[str], http_secret: pulumi.Input[str]
) -> k8s.core.v1.PodSpecArgs:
    core = k8s.core.v1
    run = str(Path(_READY).parent)
    mount_config = core.VolumeMountArgs(name="config", mount_path=_CONFIG, read_only=True)
    registry = core.ContainerArgs(
        name="registry",
        image=args.image,
        # The whole command: what an image's own entry point does with arguments differs between builds.
        command=["registry", "serve", f"{_CONFIG}/config.yml"],
        env=[
            core.EnvVarArgs(name="OTEL_TRACES_EXPORTER", value="none"),  # else v3 sends traces to localhost
            core.EnvVarArgs(
                name="REGISTRY_HTTP_SECRET",
                value_from=core.EnvVarSourceArgs(
                    secret_key_ref=core.SecretKeySelectorArgs(name=http_secret, key="secret")
                ),
            ),
        ],
        ports=[core.ContainerPortArgs(name="http", container_port=PORT)],
        readiness_probe=core.ProbeArgs(http_get=core.HTTPGetActionArgs(path="/", port="http"), period_seconds=2),
        liveness_probe=core.ProbeArgs(
            http_get=core.HTTPGetActionArgs(path="/", port="http"), period_seconds=10, timeout_seconds=5
        ),
        security_context=_CONTAINER_SECURITY,
        resources=core.ResourceRequirementsArgs(
            requests={"cpu": "50m", "memory": "64Mi"}, limits={"cpu": "2", "memory": "512Mi"}
        ),
        volume_mounts=[mount_config, core.VolumeMountArgs(name="data", mount_path=_DATA)],
    )
    proof = core.ContainerArgs(
        name="proof-image",
        image=args.python_image,
        command=["python3", f"{_CONFIG}/proof_image.py", f"127.0.0.1:{PORT}", _READY],
        env=[core.EnvVarArgs(name="PYTHONDONTWRITEBYTECODE", value="1")],
        readiness_probe=core.ProbeArgs(exec_=core.ExecActionArgs(command=["test", "-f", _READY]), period_seconds=2),
        security_context=_CONTAINER_SECURITY,
        resources=core.ResourceRequirementsArgs(
            requests={"cpu": "10m", "memory": "24Mi"}, limits={"cpu": "500m", "memory": "96Mi"}
        ),
        volume_mounts=[mount_config, core.VolumeMountArgs(name="run", mount_path=run)],
    )
    return core.PodSpecArgs(
        automount_service_account_token=False,
        enable_service_links=False,
        security_context=core.PodSecurityContextArgs(
            run_as_non_root=True,
            run_as_user=_USER,
            run_as_group=_USER,
            fs_group=_USER,
            # A large volume is not walked at every start.
            fs_group_change_policy="OnRootMismatch",
            seccomp_profile=core.SeccompProfileArgs(type="RuntimeDefault"),
        ),
        containers=[registry, proof],
        volumes=[
            core.VolumeArgs(
                name="data", persistent_volume_claim=core.PersistentVolumeClaimVolumeSourceArgs(claim_name=volume)
            ),
            core.VolumeArgs(name="config", config_map=core.ConfigMapVolumeSourceArgs(name=config)),
            core.VolumeArgs(name="run", empty_dir=core.EmptyDirVolumeSourceArgs()),
        ],
    )
