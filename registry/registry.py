"""The registry: its volume, its configuration, and the pod that serves it."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import pulumi
import pulumi_kubernetes as k8s

from . import proof_image, serve
from .cluster import Cluster
from .credentials import DOCKER_CONFIG, HTPASSWD, HTTP_SECRET
from .waiting import rolled_out, timeouts

PORT = 5000
"""TCP port of the registry's pod: plain HTTP for an Ingress controller, or TLS for everyone."""
LABELS = {"app.kubernetes.io/name": "registry", "app.kubernetes.io/part-of": "private-registry"}
"""Labels of the pod, by which a Service finds it."""
_USER = 1000
_DATA = "/var/lib/registry"
_CONFIG = "/etc/private-registry"
_READY = "/run/proof/ready"
_TLS = "/etc/private-registry-tls"
_USERS = "/etc/private-registry-users"
_LOGIN = "/etc/private-registry-login"
_PROGRAM = "/run/program/registry"
_MEMORY = 512 * 2**20
"""Bytes of memory that the registry may use, without the images that it keeps there."""
_UNITS = {
    "": 1,
    "k": 10**3,
    "Ki": 2**10,
    **{
        f"{letter}{i}": base**power
        for power, letter in enumerate("MGTP", start=2)
        for i, base in (("", 10**3), ("i", 2**10))
    },
}

# Kubernetes' restricted pod security standard.
_CONTAINER_SECURITY = k8s.core.v1.SecurityContextArgs(
    allow_privilege_escalation=False,
    read_only_root_filesystem=True,
    capabilities=k8s.core.v1.CapabilitiesArgs(drop=["ALL"]),
)


def configuration(*, tls: bool, password: bool = False) -> dict[str, object]:
    """The registry's configuration file (distribution 3, docs/content/about/configuration.md).

    Args:
        tls: Whether it terminates TLS itself.
        password: Whether it asks for one. A password file that is missing or wrong then lets nobody in: at its start
            the registry would make one with a random password, but the folder is read-only, so it does not start; and
            later every request fails (the same, registry/auth/htpasswd/access.go).
    """
    http: dict[str, object] = {
        "addr": f":{PORT}",
        # Locations without scheme and host: the registry does not know the name and port that clients use.
        "relativeurls": True,
        # Told to end, it completes what it is serving; without a value it drops it. The longest push ends within.
        "draintimeout": "1h",
    }
    if tls:
        http["tls"] = {"certificate": f"{_TLS}/tls.crt", "key": f"{_TLS}/tls.key", "minimumtls": "tls1.2"}
    auth = {"auth": {"htpasswd": {"realm": "private-registry", "path": f"{_USERS}/{HTPASSWD}"}}} if password else {}
    return {
        "version": 0.1,
        "log": {"level": "info", "accesslog": {"disabled": False}},
        "storage": {
            "filesystem": {"rootdirectory": _DATA},
            "delete": {"enabled": True},
            # Uploads that a client gave up are removed after a day.
            "maintenance": {"uploadpurging": {"enabled": True, "age": "24h", "interval": "1h", "dryrun": False}},
        },
        "http": http,
        **auth,
        # Images whose layers are kept elsewhere, such as Windows base images; without it their manifests are refused.
        "validation": {"manifests": {"urls": {"allow": ["^https?://"]}}},
        "health": {"storagedriver": {"enabled": True, "interval": "10s", "threshold": 3}},
    }


def quantity_bytes(quantity: str) -> int:
    """Bytes of a Kubernetes quantity such as `10Gi` or `1.5G`."""
    number = quantity.rstrip("kKMGTPi")
    return int(float(number) * _UNITS[quantity[len(number) :]])


def _checksum(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class RegistryArgs:
    """What a `Registry` needs."""

    namespace: pulumi.Input[str]
    """Namespace of all its objects."""
    cluster: Cluster
    """The cluster, to ask it whether the pod is ready."""
    image: str
    """Image of the registry."""
    python_image: str
    """Image with Python, for the container that pushes the proof image."""
    host: pulumi.Input[str]
    """Host that it is reached by."""
    certificate: pulumi.Input[str] | None
    """Secret with certificate and key, with which the registry terminates TLS; None: it serves plain HTTP."""
    secret: pulumi.Input[str]
    """Secret with the keys that `credentials` tells of."""
    password: pulumi.Input[bool]
    """Whether to ask for a password."""
    in_memory: bool
    """Whether images are kept in memory, and gone when the pod is."""
    storage_size: str
    """Size of the volume, or the most that is kept in memory, a Kubernetes quantity."""
    storage_class: str
    """StorageClass of the volume; empty: the default one."""
    timeout: str
    """How long to wait for each object, such as `2m`."""


class Registry(pulumi.ComponentResource):
    """A registry that serves one port of its pod: plain HTTP, or TLS with a certificate that may change at any time.

    Ready when: 1. its volume is bound; 2. the registry answers and its storage works; 3. the proof image is in it.
    Delete removes the pod, the volume and every image in it.
    Does not: make itself reachable: a Service in front of it does.
    """

    proof: pulumi.Output[str]
    """The proof image as `repository@digest`, known once the registry holds it."""

    def __init__(self, name: str, args: RegistryArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make the registry. `name` is the name of its objects in the namespace."""
        super().__init__("private-registry:registry:Registry", name, None, opts)
        core = k8s.core.v1
        child = pulumi.ResourceOptions(parent=self, custom_timeouts=timeouts(args.timeout))

        data = core.VolumeArgs(
            name="data", empty_dir=core.EmptyDirVolumeSourceArgs(medium="Memory", size_limit=args.storage_size)
        )
        if not args.in_memory:
            volume = core.PersistentVolumeClaim(
                f"{name}-volume",
                metadata=k8s.meta.v1.ObjectMetaArgs(
                    name=name,
                    namespace=args.namespace,
                    labels=LABELS,
                    # The Deployment waits for it. Its own wait expects "Pending" of a class that binds at first use, so
                    # it would never end once the volume is bound (provider source, await/awaiters.go).
                    annotations={"pulumi.com/skipAwait": "true"},
                ),
                spec=core.PersistentVolumeClaimSpecArgs(
                    access_modes=["ReadWriteOnce"],
                    storage_class_name=args.storage_class or None,
                    resources=core.VolumeResourceRequirementsArgs(requests={"storage": args.storage_size}),
                ),
                opts=child,
            )
            claim = core.PersistentVolumeClaimVolumeSourceArgs(claim_name=volume.metadata.name)
            data = core.VolumeArgs(name="data", persistent_volume_claim=claim)
        tls = args.certificate is not None
        password = pulumi.Output.from_input(args.password)
        files: dict[str, pulumi.Input[str]] = {
            "config.yml": password.apply(  # JSON is YAML
                lambda wanted: json.dumps(configuration(tls=tls, password=wanted), indent=2)
            ),
            "proof_image.py": Path(proof_image.__file__).read_text(),
        }
        if tls:
            files["serve.py"] = Path(serve.__file__).read_text()
        config = k8s.core.v1.ConfigMap(
            f"{name}-config",
            metadata=k8s.meta.v1.ObjectMetaArgs(name=f"{name}-config", namespace=args.namespace, labels=LABELS),
            data=files,
            opts=child,
        )
        deployment = k8s.apps.v1.Deployment(
            f"{name}-deployment",
            metadata=k8s.meta.v1.ObjectMetaArgs(name=name, namespace=args.namespace, labels=LABELS),
            spec=k8s.apps.v1.DeploymentSpecArgs(
                replicas=1,
                # The volume can be used by one node only, and two registries on one volume would disagree on uploads.
                strategy=k8s.apps.v1.DeploymentStrategyArgs(type="Recreate"),
                selector=k8s.meta.v1.LabelSelectorArgs(match_labels=LABELS),
                template=k8s.core.v1.PodTemplateSpecArgs(
                    metadata=k8s.meta.v1.ObjectMetaArgs(
                        labels=LABELS,
                        annotations={
                            # A ConfigMap changes in place; its readers here read it only at start.
                            "private-registry/config": pulumi.Output.all(*files.values()).apply(
                                lambda texts: _checksum(*texts)
                            ),
                            # A certificate for another host should not wait for the minute that a Secret takes to get
                            # into a running pod: the nodes ask for it now.
                            **({"private-registry/host": args.host} if args.certificate is not None else {}),
                        },
                    ),
                    spec=password.apply(lambda wanted: _pod(args, data, config.metadata.name, password=wanted)),
                ),
            ),
            opts=child,
        )
        reference = f"{proof_image.REPOSITORY}@{proof_image.build().index.digest}"

        async def ready(namespace: str) -> str:
            if not pulumi.runtime.is_dry_run():
                await rolled_out(args.cluster, namespace, name, args.timeout)
            return reference

        self.proof = pulumi.Output.all(args.namespace, deployment.id).apply(lambda made: ready(made[0]))
        self.register_outputs({"proof": self.proof})


def _secret_file(volume: str, secret: pulumi.Input[str], key: str) -> k8s.core.v1.VolumeArgs:
    """A volume with one file of a Secret, readable by the pod's group; without it the pod does not start."""
    core = k8s.core.v1
    items = [core.KeyToPathArgs(key=key, path=key)]
    return core.VolumeArgs(
        name=volume, secret=core.SecretVolumeSourceArgs(secret_name=secret, items=items, default_mode=0o440)
    )


def _pod(
    args: RegistryArgs,
    data: k8s.core.v1.VolumeArgs,
    config: pulumi.Input[str],
    *,
    password: bool,
) -> k8s.core.v1.PodSpecArgs:
    core = k8s.core.v1
    tls = args.certificate is not None
    scheme = "https" if tls else "http"
    mount_config = core.VolumeMountArgs(name="config", mount_path=_CONFIG, read_only=True)
    mount_data = core.VolumeMountArgs(name="data", mount_path=_DATA)
    mount_tls = core.VolumeMountArgs(name="tls", mount_path=_TLS, read_only=True)
    mount_program = core.VolumeMountArgs(name="program", mount_path=str(Path(_PROGRAM).parent))
    mount_users = core.VolumeMountArgs(name="users", mount_path=_USERS, read_only=True)
    mount_login = core.VolumeMountArgs(name="login", mount_path=_LOGIN, read_only=True)
    login = [f"{_LOGIN}/{DOCKER_CONFIG}"] if password else []
    memory = str(_MEMORY + (quantity_bytes(args.storage_size) if args.in_memory else 0))

    def probe(period: int) -> k8s.core.v1.ProbeArgs:
        get = core.HTTPGetActionArgs(path="/", port="registry", scheme=scheme.upper())
        return core.ProbeArgs(http_get=get, period_seconds=period, timeout_seconds=5)

    def python(script: str, *arguments: str) -> list[str]:
        return ["python3", f"{_CONFIG}/{script}", *arguments]

    python_environment = core.EnvVarArgs(name="PYTHONDONTWRITEBYTECODE", value="1")
    registry = core.ContainerArgs(
        name="registry",
        # The program that hands the port over is Python, so with TLS the registry runs in that image.
        image=args.python_image if tls else args.image,
        # The whole command: what an image's own entry point does with arguments differs between builds.
        command=python("serve.py", _PROGRAM, f"{_CONFIG}/config.yml", f"{_TLS}/tls.crt", f"{_TLS}/tls.key", str(PORT))
        if tls
        else ["registry", "serve", f"{_CONFIG}/config.yml"],
        env=[
            python_environment,
            core.EnvVarArgs(name="OTEL_TRACES_EXPORTER", value="none"),  # else v3 sends traces to localhost
            core.EnvVarArgs(
                name="REGISTRY_HTTP_SECRET",
                value_from=core.EnvVarSourceArgs(
                    secret_key_ref=core.SecretKeySelectorArgs(name=args.secret, key=HTTP_SECRET)
                ),
            ),
        ],
        ports=[core.ContainerPortArgs(name="registry", container_port=PORT)],
        readiness_probe=probe(2),
        liveness_probe=probe(10),
        security_context=_CONTAINER_SECURITY,
        resources=core.ResourceRequirementsArgs(
            requests={"cpu": "50m", "memory": "64Mi"}, limits={"cpu": "2", "memory": memory}
        ),
        volume_mounts=[
            mount_config,
            mount_data,
            *([mount_tls, mount_program] if tls else []),
            *([mount_users] if password else []),
        ],
    )
    program = core.ContainerArgs(
        name="program",
        image=args.image,
        command=["sh", "-c", f'cp "$(command -v registry)" {_PROGRAM}'],
        security_context=_CONTAINER_SECURITY,
        resources=core.ResourceRequirementsArgs(
            requests={"cpu": "10m", "memory": "16Mi"}, limits={"cpu": "1", "memory": "128Mi"}
        ),
        volume_mounts=[mount_program],
    )
    proof = core.ContainerArgs(
        name="proof-image",
        image=args.python_image,
        command=python("proof_image.py", f"{scheme}://127.0.0.1:{PORT}", _READY, *login),
        env=[python_environment],
        readiness_probe=core.ProbeArgs(exec_=core.ExecActionArgs(command=["test", "-f", _READY]), period_seconds=2),
        security_context=_CONTAINER_SECURITY,
        resources=core.ResourceRequirementsArgs(
            requests={"cpu": "10m", "memory": "24Mi"}, limits={"cpu": "500m", "memory": "96Mi"}
        ),
        volume_mounts=[
            mount_config,
            core.VolumeMountArgs(name="run", mount_path=str(Path(_READY).parent)),
            *([mount_login] if password else []),
        ],
    )
    volumes = [
        data,
        core.VolumeArgs(name="config", config_map=core.ConfigMapVolumeSourceArgs(name=config)),
        core.VolumeArgs(name="run", empty_dir=core.EmptyDirVolumeSourceArgs()),
    ]
    if password:
        # The one file for each: the registry's container need not know a password, nor the other one the hashes.
        volumes += [_secret_file("users", args.secret, HTPASSWD), _secret_file("login", args.secret, DOCKER_CONFIG)]
    if tls:
        volumes += [
            core.VolumeArgs(name="program", empty_dir=core.EmptyDirVolumeSourceArgs()),
            # Readable by the group, which is the registry's.
            core.VolumeArgs(
                name="tls", secret=core.SecretVolumeSourceArgs(secret_name=args.certificate, default_mode=0o440)
            ),
        ]
    return core.PodSpecArgs(
        automount_service_account_token=False,
        enable_service_links=False,
        node_selector={"kubernetes.io/os": "linux"},
        security_context=core.PodSecurityContextArgs(
            run_as_non_root=True,
            run_as_user=_USER,
            run_as_group=_USER,
            fs_group=_USER,
            # A large volume is not walked at every start.
            fs_group_change_policy="OnRootMismatch",
            seccomp_profile=core.SeccompProfileArgs(type="RuntimeDefault"),
        ),
        init_containers=[program] if tls else None,
        containers=[registry, proof],
        volumes=volumes,
    )
