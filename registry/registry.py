"""The registry: its volume, its configuration, and the pod that serves it."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pulumi
import pulumi_kubernetes as k8s

from . import names, volume
from .cluster import Cluster
from .credentials import DOCKER_CONFIG, HTPASSWD, HTTP_SECRET
from .exposure import network_policy
from .names import PORT
from .pod import proof_image
from .settings import Settings
from .waiting import after, rolled_out, timeouts

T = TypeVar("T")

_LABELS = names.labels(names.REGISTRY)
_USER = 1000
# Paths in the pod.
_DATA = "/var/lib/registry"
_CONFIG = "/etc/private-registry"
_TLS = "/etc/private-registry-tls"
_USERS = "/etc/private-registry-users"
_LOGIN = "/etc/private-registry-login"
_PROGRAM = "/run/program/registry"
_READY = "/run/proof/ready"

_MEMORY = 512 * 2**20
"""Bytes of memory that the registry may use, not counting the images that it keeps there."""


def configuration(*, tls: bool, asks_password: bool = False) -> dict[str, object]:
    """The registry's configuration file (distribution 3, docs/content/about/configuration.md).

    Args:
        tls: Whether the registry terminates TLS itself.
        asks_password: Whether it asks for a password. A password file that is missing or broken then lets nobody in.
            At its start the registry would make a missing one, with a random password; but the folder is read-only, so
            it does not start. Later every request fails (registry/auth/htpasswd/access.go in the same source).
    """
    http: dict[str, object] = {
        "addr": f":{PORT}",
        # The locations in answers have no scheme and host, because the registry does not know which ones clients use.
        "relativeurls": True,
        # When the registry is told to end, it completes the requests that it is serving; without a value it would drop
        # them. An hour is longer than any push takes.
        "draintimeout": "1h",
    }
    if tls:
        http["tls"] = {"certificate": f"{_TLS}/tls.crt", "key": f"{_TLS}/tls.key", "minimumtls": "tls1.2"}
    htpasswd = {"htpasswd": {"realm": "private-registry", "path": f"{_USERS}/{HTPASSWD}"}}
    return {
        "version": 0.1,
        "log": {"level": "info", "accesslog": {"disabled": False}},
        "storage": {
            "filesystem": {"rootdirectory": _DATA},
            "delete": {"enabled": True},
            # An upload that its client has given up is removed after a day.
            "maintenance": {"uploadpurging": {"enabled": True, "age": "24h", "interval": "1h", "dryrun": False}},
        },
        "http": http,
        **({"auth": htpasswd} if asks_password else {}),
        # Some images, such as Windows base images, have layers that are kept elsewhere. Without this the registry would
        # refuse their manifests.
        "validation": {"manifests": {"urls": {"allow": ["^https?://"]}}},
        "health": {"storagedriver": {"enabled": True, "interval": "10s", "threshold": 3}},
    }


def _checksum(texts: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class RegistryArgs:
    """What a `Registry` needs."""

    namespace: pulumi.Input[str]
    """Namespace of all its objects."""
    cluster: Cluster
    """The cluster, which is asked whether the pod is ready."""
    image: str
    """Image of the registry."""
    python_image: str
    """Image with Python, for the programs in `registry/pod`."""
    host: pulumi.Input[str]
    """Host under which clients reach it."""
    tls_secret: pulumi.Input[str] | None
    """Secret with the certificate and the key with which the registry terminates TLS; None if it serves plain HTTP."""
    secret: pulumi.Input[str]
    """Secret with the keys that the module `credentials` describes."""
    asks_password: pulumi.Input[bool]
    """Whether the registry asks for a password."""
    in_memory: bool
    """Whether images are kept in memory, and are gone when the pod is."""
    storage_size: str
    """Size of the volume, or the most that is kept in memory, as a Kubernetes quantity."""
    storage_class: str
    """StorageClass of the volume; empty for the cluster's default one."""
    timeout: str
    """How long to wait for each object, such as `2m`."""


class Registry(pulumi.ComponentResource):
    """A registry on one port of its pod: plain HTTP, or TLS with a certificate that may change at any time.

    Ready when: 1. its volume is bound; 2. the registry answers and its storage works; 3. the proof image is in it.
    Delete removes the pod, the volume and every image in it.
    Does not: make itself reachable. The way in does that.
    """

    proof: pulumi.Output[str]
    """The proof image as `repository@digest`, known once the registry holds it."""

    def __init__(self, name: str, args: RegistryArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make the registry. `name` is the name of its objects in the namespace."""
        super().__init__("private-registry:registry:Registry", name, None, opts)
        child = pulumi.ResourceOptions(parent=self, custom_timeouts=timeouts(args.timeout))

        if args.in_memory:
            data = volume.memory(args.storage_size)
        else:
            data = volume.claimed(name, args.namespace, args.storage_size, args.storage_class, child)
        files = _files(args)
        config = k8s.core.v1.ConfigMap(
            f"{name}-config",
            metadata=k8s.meta.v1.ObjectMetaArgs(name=f"{name}-config", namespace=args.namespace, labels=_LABELS),
            data=files,
            opts=child,
        )
        deployment = k8s.apps.v1.Deployment(
            f"{name}-deployment",
            metadata=k8s.meta.v1.ObjectMetaArgs(name=name, namespace=args.namespace, labels=_LABELS),
            spec=k8s.apps.v1.DeploymentSpecArgs(
                replicas=1,
                # Only one node can use the volume, and two registries on one volume would disagree about uploads.
                strategy=k8s.apps.v1.DeploymentStrategyArgs(type="Recreate"),
                selector=k8s.meta.v1.LabelSelectorArgs(match_labels=_LABELS),
                template=_template(args, files, data, config.metadata.name),
            ),
            opts=child,
        )
        network_policy.reachable(name, args.namespace, _LABELS, [PORT], child)
        reference = f"{proof_image.REPOSITORY}@{proof_image.build().index.digest}"

        async def ready(namespace: str) -> str:
            if not pulumi.runtime.is_dry_run():
                await rolled_out(args.cluster, namespace, name, args.timeout)
            return reference

        self.proof = after(args.namespace, deployment.id).apply(ready)
        self.register_outputs({"proof": self.proof})


def _files(args: RegistryArgs) -> dict[str, pulumi.Input[str]]:
    """The content of the pod's ConfigMap: the configuration, and the programs that the pod runs."""
    tls = args.tls_secret is not None

    def config(asks_password: bool) -> str:
        return json.dumps(configuration(tls=tls, asks_password=asks_password), indent=2)  # JSON is YAML

    files: dict[str, pulumi.Input[str]] = {
        "config.yml": pulumi.Output.from_input(args.asks_password).apply(config),
        "proof_image.py": Path(proof_image.__file__).read_text(),
    }
    if tls:
        files["serve.py"] = Path(proof_image.__file__).with_name("serve.py").read_text()
    return files


def _annotations(args: RegistryArgs, files: dict[str, pulumi.Input[str]]) -> dict[str, pulumi.Input[str]]:
    """Annotations of the pod: when one of them changes, the pod is made anew."""
    annotations: dict[str, pulumi.Input[str]] = {
        # A ConfigMap changes in place, and the pod's programs read it only when they start.
        "private-registry/config": pulumi.Output.all(*files.values()).apply(_checksum)
    }
    if args.tls_secret is not None:
        # New host, new pod. A running pod would serve the old certificate for up to a minute, while nodes already ask
        # for the new name.
        annotations["private-registry/host"] = args.host
    return annotations


def registry_pod(settings: Settings, cluster: Cluster) -> tuple[str, k8s.core.v1.PodTemplateSpecArgs]:
    """Whose pod it is, and the pod's template, as it will be made but for values that are not known yet."""
    claim = k8s.core.v1.PersistentVolumeClaimVolumeSourceArgs(claim_name="sample")
    in_memory = settings.storage == "memory"
    args = RegistryArgs(
        namespace="sample",
        cluster=cluster,
        image=settings.registry_image,
        python_image=settings.python_image,
        host="sample",
        tls_secret=None if settings.exposure == "ingress" else "sample",
        secret="sample",  # noqa: S106 - a name
        asks_password=True,
        in_memory=in_memory,
        storage_size=settings.storage_size,
        storage_class=settings.storage_class,
        timeout="0s",
    )
    data = (
        volume.memory(settings.storage_size)
        if in_memory
        else k8s.core.v1.VolumeArgs(name="data", persistent_volume_claim=claim)
    )
    return "the registry's", _template(args, {"config.yml": ""}, data, "sample")


def _template(
    args: RegistryArgs,
    files: dict[str, pulumi.Input[str]],
    data: k8s.core.v1.VolumeArgs,
    config_map: pulumi.Input[str],
) -> k8s.core.v1.PodTemplateSpecArgs:
    return k8s.core.v1.PodTemplateSpecArgs(
        metadata=k8s.meta.v1.ObjectMetaArgs(
            labels={**_LABELS, **names.POD_OUT_OF_MESH}, annotations={**names.OUT_OF_MESH, **_annotations(args, files)}
        ),
        spec=_pod(args, data, config_map),
    )


def _pod(args: RegistryArgs, data: k8s.core.v1.VolumeArgs, config_map: pulumi.Input[str]) -> k8s.core.v1.PodSpecArgs:
    """The registry's pod: the registry, and beside it the program that keeps the proof image in it.

    Only what depends on the password is an output, so that the first preview shows all the rest: whether there is a
    password may depend on an address that is not known yet.
    """
    core = k8s.core.v1
    return core.PodSpecArgs(
        automount_service_account_token=False,
        enable_service_links=False,
        node_selector={"kubernetes.io/os": "linux"},
        security_context=core.PodSecurityContextArgs(
            run_as_non_root=True,
            run_as_user=_USER,
            run_as_group=_USER,
            fs_group=_USER,
            # Otherwise the kubelet would walk through the whole volume at every start.
            fs_group_change_policy="OnRootMismatch",
            seccomp_profile=core.SeccompProfileArgs(type="RuntimeDefault"),
        ),
        init_containers=[_program_container(args)] if args.tls_secret is not None else None,
        containers=[_registry_container(args), _proof_container(args)],
        volumes=_volumes(args, data, config_map),
    )


def _registry_container(args: RegistryArgs) -> k8s.core.v1.ContainerArgs:
    """The container that serves the registry; with TLS it runs `serve.py`, which runs the registry."""
    core = k8s.core.v1
    tls = args.tls_secret is not None
    image, command = args.image, ["registry", "serve", f"{_CONFIG}/config.yml"]
    if tls:
        # `serve.py` needs Python, so the registry's program is copied into that image; see `_program_container`.
        image = args.python_image
        command = _python(
            "serve.py", _PROGRAM, f"{_CONFIG}/config.yml", f"{_TLS}/tls.crt", f"{_TLS}/tls.key", str(PORT)
        )

    def probe(period: int) -> k8s.core.v1.ProbeArgs:
        get = core.HTTPGetActionArgs(path="/", port="registry", scheme=_scheme(args).upper())
        return core.ProbeArgs(http_get=get, period_seconds=period, timeout_seconds=5)

    http_secret = core.SecretKeySelectorArgs(name=args.secret, key=HTTP_SECRET)
    memory = _MEMORY + (volume.quantity_bytes(args.storage_size) if args.in_memory else 0)
    mounts = [_mount("config", _CONFIG), _mount("data", _DATA, read_only=None)]
    if tls:
        mounts += [_mount("tls", _TLS), _mount("program", str(Path(_PROGRAM).parent), read_only=None)]
    return core.ContainerArgs(
        name="registry",
        image=image,
        # The command is given in full, since builds of the image differ in what their entry point does with arguments.
        command=command,
        env=[
            core.EnvVarArgs(name="PYTHONDONTWRITEBYTECODE", value="1"),
            core.EnvVarArgs(name="OTEL_TRACES_EXPORTER", value="none"),  # by default v3 sends traces to localhost
            core.EnvVarArgs(name="REGISTRY_HTTP_SECRET", value_from=core.EnvVarSourceArgs(secret_key_ref=http_secret)),
        ],
        ports=[core.ContainerPortArgs(name="registry", container_port=PORT)],
        readiness_probe=probe(2),
        liveness_probe=probe(10),
        security_context=_restricted(),
        resources=_resources(requests=("50m", "64Mi"), limits=("2", str(memory))),
        volume_mounts=_if_password(args, mounts, [_mount("users", _USERS)]),
    )


def _program_container(args: RegistryArgs) -> k8s.core.v1.ContainerArgs:
    """The init container that copies the registry's program out of its image, for `serve.py` to run it."""
    return k8s.core.v1.ContainerArgs(
        name="program",
        image=args.image,
        command=["sh", "-c", f'cp "$(command -v registry)" {_PROGRAM}'],
        security_context=_restricted(),
        resources=_resources(requests=("10m", "16Mi"), limits=("1", "128Mi")),
        volume_mounts=[_mount("program", str(Path(_PROGRAM).parent), read_only=None)],
    )


def _proof_container(args: RegistryArgs) -> k8s.core.v1.ContainerArgs:
    """The container that keeps the proof image in the registry; it is ready while the image is there."""
    core = k8s.core.v1
    command = _python("proof_image.py", f"{_scheme(args)}://127.0.0.1:{PORT}", _READY)
    mounts = [_mount("config", _CONFIG), _mount("run", str(Path(_READY).parent), read_only=None)]
    return core.ContainerArgs(
        name="proof-image",
        image=args.python_image,
        command=_if_password(args, command, [f"{_LOGIN}/{DOCKER_CONFIG}"]),
        env=[core.EnvVarArgs(name="PYTHONDONTWRITEBYTECODE", value="1")],
        readiness_probe=core.ProbeArgs(exec_=core.ExecActionArgs(command=["test", "-f", _READY]), period_seconds=2),
        security_context=_restricted(),
        resources=_resources(requests=("10m", "24Mi"), limits=("500m", "96Mi")),
        volume_mounts=_if_password(args, mounts, [_mount("login", _LOGIN)]),
    )


def _volumes(
    args: RegistryArgs, data: k8s.core.v1.VolumeArgs, config_map: pulumi.Input[str]
) -> pulumi.Output[list[k8s.core.v1.VolumeArgs]]:
    """The pod's volumes. Of the credentials each container gets the one file that it needs, and not the other one."""
    core = k8s.core.v1
    volumes = [
        data,
        core.VolumeArgs(name="config", config_map=core.ConfigMapVolumeSourceArgs(name=config_map)),
        core.VolumeArgs(name="run", empty_dir=core.EmptyDirVolumeSourceArgs()),
    ]
    if args.tls_secret is not None:
        volumes += [
            core.VolumeArgs(name="program", empty_dir=core.EmptyDirVolumeSourceArgs()),
            _secret_volume("tls", args.tls_secret),
        ]
    with_password = [
        _secret_volume("users", args.secret, HTPASSWD),
        _secret_volume("login", args.secret, DOCKER_CONFIG),
    ]
    return _if_password(args, volumes, with_password)


def _secret_volume(name: str, secret: pulumi.Input[str], *keys: str) -> k8s.core.v1.VolumeArgs:
    """A volume with these keys of a Secret, or with all; the pod's group may read it, and the pod needs it to start."""
    core = k8s.core.v1
    items = [core.KeyToPathArgs(key=key, path=key) for key in keys] or None
    source = core.SecretVolumeSourceArgs(secret_name=secret, items=items, default_mode=0o440)
    return core.VolumeArgs(name=name, secret=source)


def _if_password(args: RegistryArgs, always: Sequence[T], with_password: Sequence[T]) -> pulumi.Output[list[T]]:
    """A list with some more elements if the registry asks for a password."""

    def chosen(asks_password: bool) -> list[T]:
        return [*always, *with_password] if asks_password else [*always]

    return pulumi.Output.from_input(args.asks_password).apply(chosen)


def _mount(name: str, path: str, *, read_only: bool | None = True) -> k8s.core.v1.VolumeMountArgs:
    return k8s.core.v1.VolumeMountArgs(name=name, mount_path=path, read_only=read_only)


def _python(script: str, *arguments: str) -> list[str]:
    """The command that runs one of the programs in `registry/pod`."""
    return ["python3", f"{_CONFIG}/{script}", *arguments]


def _scheme(args: RegistryArgs) -> str:
    return "http" if args.tls_secret is None else "https"


def _restricted() -> k8s.core.v1.SecurityContextArgs:
    """What Kubernetes' pod security standard `restricted` wants of a container, and a read-only file system."""
    return k8s.core.v1.SecurityContextArgs(
        allow_privilege_escalation=False,
        read_only_root_filesystem=True,
        capabilities=k8s.core.v1.CapabilitiesArgs(drop=["ALL"]),
    )


def _resources(*, requests: tuple[str, str], limits: tuple[str, str]) -> k8s.core.v1.ResourceRequirementsArgs:
    """Requests and limits, each of CPU and memory."""
    return k8s.core.v1.ResourceRequirementsArgs(
        requests=dict(zip(("cpu", "memory"), requests, strict=True)),
        limits=dict(zip(("cpu", "memory"), limits, strict=True)),
    )
