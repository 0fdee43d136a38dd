"""The registry: its storage, its configuration, and the pods that serve it."""

import asyncio
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pulumi
import pulumi_kubernetes as k8s

from . import names
from .cluster import Cluster
from .credentials import HTTP_SECRET
from .exposure import network_policy
from .pod import nginx, proof_image
from .pod.images import Images
from .settings import Bucket, Settings, Storage
from .storage import bucket, volume
from .waiting import after, rolled_out, timeouts, unordered, why_not_ready

_LABELS = names.labels(names.REGISTRY)
_SPREAD = ("kubernetes.io/hostname", "topology.kubernetes.io/zone")
_USER = 1000
# Paths in the pod.
DATA = "/var/lib/registry"
CONFIG = "/etc/private-registry"
_READY = "/run/proof/ready"

_MEMORY = 512 * 2**20
"""Bytes of memory that the registry may use, not counting the images that it keeps there."""
_REQUESTED = 64 * 2**20
"""Bytes of memory that it is promised, not counting these images."""
_UPLOADS = 512 * 2**20
"""Bytes of memory that it may use besides, for the uploads that are on their way into a bucket."""
_LEAVE = 5
"""Seconds for which a pod that was told to end goes on as before. Meanwhile others take over from it, or another one.

The cluster sends connections to a pod that is about to end where there is no other one. If that were gone already,
whoever connects would get no answer at all, and would wait for it for half a minute.
"""
_NOT_AWAITED = {"pulumi.com/skipAwait": "true", "pulumi.com/deletionPropagationPolicy": "background"}
"""Annotations of the Deployment. The program waits for its pods itself, and `destroy` need not wait for them by
themselves, since the end of the namespace waits for all pods in it."""
_WAIT = f"for _ in $(seq 90); do test -f {_READY} && exit; sleep 0.1; done; echo proof image not there yet; exit 1"
"""A probe that waits by itself sees at once that the proof image is there, and with it the whole pod is ready."""
_NEVER = 2**31 - 1
"""More tries than a probe ever makes: a container that waits for its storage has nothing to be started afresh for."""


def configuration(used: Bucket | None = None) -> dict[str, object]:
    """The registry's configuration file (distribution 3, docs/content/about/configuration.md).

    Args:
        used: The bucket with the images; None if they are in files.
    """
    return {
        "version": 0.1,
        # nginx writes the access log.
        "log": {"level": "info", "accesslog": {"disabled": True}},
        "storage": {
            **(bucket.configuration(used) if used else {"filesystem": {"rootdirectory": DATA}}),
            "delete": {"enabled": True},
            # An upload that its client has given up is removed after a day.
            "maintenance": {"uploadpurging": {"enabled": True, "age": "24h", "interval": "1h", "dryrun": False}},
        },
        "http": {
            # Only the pod's own containers reach it. nginx asks for passwords, so nobody may get past it.
            "addr": f"127.0.0.1:{nginx.REGISTRY_PORT}",
            # The locations in answers have no scheme and host, because the registry does not know which ones clients
            # use.
            "relativeurls": True,
            # When the registry is told to end, it completes the requests that it is serving; without a value it would
            # drop them. It is told after nginx has ended, so by then only the proof's requests are left.
            "draintimeout": "5s",
            # `gc.sh` asks here whether a manifest is on its way.
            "debug": {"addr": f"127.0.0.1:{nginx.METRICS_PORT}", "prometheus": {"enabled": True}},
        },
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
    images: Images
    """The images of its containers, and how nodes get them."""
    host: pulumi.Input[str]
    """Host under which clients reach it."""
    tls_secret: pulumi.Input[str]
    """Secret with the certificate and the key with which nginx terminates TLS."""
    secret: pulumi.Input[str]
    """Secret with the keys that the module `credentials` describes."""
    auth: pulumi.Output[nginx.AuthMode]
    """Who is asked for a password."""
    storage: Storage
    """Where images are kept."""
    seed: pulumi.Input[str]
    """The stack's seed, by which nobody can guess the bucket's keys from what the pods carry."""
    volume_anew: bool
    """Whether a volume that is there is replaced by an empty one."""
    timeout: str
    """How long to wait for each object, such as `2m`."""


class Registry(pulumi.ComponentResource):
    """A registry behind nginx, in one pod: plain HTTP on one port, and TLS on another.

    The pod has the same shape for every way in. Certificate and passwords may change at any time. With a bucket there
    may be several pods, of which each can go on with an upload that another one has begun; a change replaces them one
    after the other.
    Ready when: 1. its volume is bound; 2. the registry answers through nginx and its storage works; 3. the proof image
    is in it; all that in every pod; 4. its storage takes what is pushed, but for a storage that is full, which is only
    warned of.
    Delete removes the pods, the volume and every image in it; images in a bucket stay.
    Does not: make itself reachable. The way in does that.
    """

    proof: pulumi.Output[str]
    """The proof image as `repository@digest`, known as soon as the namespace is."""
    ready: pulumi.Output[bool]
    """Known once the registry holds the proof image. What waits for it need not be deleted before the registry."""
    removal: pulumi.Output[str] | None
    """The command that removes the images from the bucket; None if they are in none."""

    def __init__(self, name: str, args: RegistryArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make the registry. `name` is the name of its objects in the namespace."""
        super().__init__("private-registry:registry:Registry", name, None, opts)
        child = pulumi.ResourceOptions(parent=self, custom_timeouts=timeouts(args.timeout))

        used = args.storage.bucket
        keys = [bucket.make_secret(names.BUCKET, args.namespace, used.keys, child)] if used and used.keys else []
        data = _data(name, args, child)
        files = _files(args)
        config = k8s.core.v1.ConfigMap(
            f"{name}-config",
            metadata=k8s.meta.v1.ObjectMetaArgs(name=f"{name}-config", namespace=args.namespace, labels=_LABELS),
            data=files,
            opts=child,
        )

        deployment = k8s.apps.v1.Deployment(
            f"{name}-deployment",
            metadata=k8s.meta.v1.ObjectMetaArgs(
                name=name, namespace=args.namespace, labels=_LABELS, annotations=_NOT_AWAITED
            ),
            spec=k8s.apps.v1.DeploymentSpecArgs(
                replicas=args.storage.replicas,
                strategy=_strategy(args.storage),
                selector=k8s.meta.v1.LabelSelectorArgs(match_labels=_LABELS),
                template=_template(args, files, data, config.metadata.name),
            ),
            # New pods read the new keys.
            opts=pulumi.ResourceOptions.merge(child, pulumi.ResourceOptions(depends_on=keys)),
        )
        if args.storage.replicas > 1:
            _keep_one(name, args.namespace, child)
        network_policy.reachable(name, args.namespace, _LABELS, [nginx.PLAIN_PORT, nginx.TLS_PORT], child)

        async def ready(namespace: str) -> bool:
            if not pulumi.runtime.is_dry_run():
                say, why = partial(pulumi.log.info, resource=self), partial(_why, args, namespace, name)
                await rolled_out(args.cluster, namespace, name, args.timeout, say, why)
                await asyncio.to_thread(volume.check, args.cluster, namespace)
            return True

        self.proof = pulumi.Output.from_input(args.namespace).apply(
            lambda namespace: f"{proof_image.REPOSITORY}@{proof_image.build(namespace).index.digest}"
        )
        self.ready = unordered(after(args.namespace, deployment.id).apply(ready))
        self.removal = _keep_images(used, args.namespace, self.ready, child) if used else None
        self.register_outputs({"proof": self.proof, "removal": self.removal})


def _why(args: RegistryArgs, namespace: str, name: str) -> str:
    """Why the pod is not ready: its storage if it is that, and else what the cluster says; empty if nothing does."""
    _, sentence = volume.fault(args.cluster, namespace)
    return sentence or why_not_ready(args.cluster, namespace, name)


def _data(name: str, args: RegistryArgs, opts: pulumi.ResourceOptions) -> k8s.core.v1.VolumeArgs | None:
    """Claim a volume if the storage is one; the pod's volume `data`, if it has any."""
    storage = args.storage
    match storage.kind:
        case "volume":
            return volume.claimed(
                name, args.namespace, storage.size, storage.storage_class, anew=args.volume_anew, opts=opts
            )
        case "memory":
            return volume.memory(storage.size)
        case "s3":
            return None


def _strategy(storage: Storage) -> k8s.apps.v1.DeploymentStrategyArgs:
    """How pods are replaced: with a bucket by new ones that are ready first.

    Otherwise the old pod is told to end, and the new one starts at once, while the old one completes its transfers. The
    strategy Recreate would wait for the last transfer, and nobody could begin one meanwhile. A new pod that is made
    first might never start, as long as the old one has the volume on another node, or the memory of this one.
    """
    unavailable, surge = (0, 1) if storage.bucket else (1, 0)
    rolling = k8s.apps.v1.RollingUpdateDeploymentArgs(max_unavailable=unavailable, max_surge=surge)
    return k8s.apps.v1.DeploymentStrategyArgs(type="RollingUpdate", rolling_update=rolling)


def _keep_images(
    used: Bucket, namespace: pulumi.Input[str], ready: pulumi.Input[object], opts: pulumi.ResourceOptions
) -> pulumi.Output[str]:
    """Have `destroy` say that it keeps the images in the bucket; the command that removes them."""
    args = bucket.KeptImagesArgs(bucket=used, namespace=namespace, ready=ready)
    return bucket.KeptImages(f"destroy-keeps-images-in-{used.name}", args, opts).removal


def _keep_one(name: str, namespace: pulumi.Input[str], opts: pulumi.ResourceOptions) -> None:
    """Have whoever drains nodes take one pod at a time."""
    k8s.policy.v1.PodDisruptionBudget(
        f"{name}-budget",
        metadata=k8s.meta.v1.ObjectMetaArgs(name=name, namespace=namespace, labels=_LABELS),
        spec=k8s.policy.v1.PodDisruptionBudgetSpecArgs(
            max_unavailable=1, selector=k8s.meta.v1.LabelSelectorArgs(match_labels=_LABELS)
        ),
        opts=opts,
    )


def _beside_the_old_pod() -> k8s.core.v1.AffinityArgs:
    """Prefer the node of the pod that is about to end: both can have the volume there, and nowhere else."""
    core = k8s.core.v1
    term = core.PodAffinityTermArgs(
        topology_key="kubernetes.io/hostname", label_selector=k8s.meta.v1.LabelSelectorArgs(match_labels=_LABELS)
    )
    preferred = core.WeightedPodAffinityTermArgs(weight=100, pod_affinity_term=term)
    return core.AffinityArgs(
        pod_affinity=core.PodAffinityArgs(preferred_during_scheduling_ignored_during_execution=[preferred])
    )


def _files(args: RegistryArgs) -> dict[str, pulumi.Input[str]]:
    """The content of the pod's ConfigMap: the configurations, and the programs that the pod runs."""
    used = args.storage.bucket
    return {
        "config.yml": json.dumps(configuration(used), indent=2),  # JSON is YAML
        **({bucket.CA_FILE: used.ca} if used and used.ca else {}),
        "nginx.conf": args.auth.apply(partial(nginx.configuration, data="" if used else DATA)),
        "nginx.sh": Path(nginx.__file__).with_suffix(".sh").read_text(),
        "gc.sh": Path(nginx.__file__).with_name("gc.sh").read_text(),
        "proof_image.py": Path(proof_image.__file__).read_text(),
    }


def _annotations(args: RegistryArgs, files: dict[str, pulumi.Input[str]]) -> dict[str, pulumi.Input[str]]:
    """Annotations of the pod: when one of them changes, the pod is made anew."""
    used = args.storage.bucket
    # The registry reads the bucket's keys when it starts.
    keys = {"private-registry/bucket": bucket.fingerprint(args.seed, used.keys)} if used and used.keys else {}
    return {
        **keys,
        # A ConfigMap changes in place, and the pod's programs read it only when they start.
        "private-registry/config": pulumi.Output.all(*files.values()).apply(_checksum),
        # New host, new pod. A running pod would serve the old certificate for up to a minute, while nodes already ask
        # for the new name.
        "private-registry/host": args.host,
    }


def registry_pod(settings: Settings, cluster: Cluster) -> tuple[str, k8s.core.v1.PodTemplateSpecArgs]:
    """Whose pod it is, and the pod's template, as it will be made but for values that are not known yet."""
    claim = k8s.core.v1.PersistentVolumeClaimVolumeSourceArgs(claim_name="sample")
    args = RegistryArgs(
        namespace="sample",
        cluster=cluster,
        images=settings.images,
        host="sample",
        tls_secret="sample",  # noqa: S106 - a name
        secret="sample",  # noqa: S106 - a name
        auth=pulumi.Output.from_input("basic"),
        storage=settings.storage,
        seed="sample",
        volume_anew=False,
        timeout="0s",
    )
    data = {
        "memory": volume.memory(settings.storage.size),
        "volume": k8s.core.v1.VolumeArgs(name="data", persistent_volume_claim=claim),
    }.get(settings.storage.kind)
    return "the registry's", _template(args, {"config.yml": ""}, data, "sample")


def _template(
    args: RegistryArgs,
    files: dict[str, pulumi.Input[str]],
    data: k8s.core.v1.VolumeArgs | None,
    config_map: pulumi.Input[str],
) -> k8s.core.v1.PodTemplateSpecArgs:
    return k8s.core.v1.PodTemplateSpecArgs(
        metadata=k8s.meta.v1.ObjectMetaArgs(
            labels={**_LABELS, **names.POD_OUT_OF_MESH}, annotations={**names.OUT_OF_MESH, **_annotations(args, files)}
        ),
        spec=_pod(args, data, config_map),
    )


def _pod(
    args: RegistryArgs, data: k8s.core.v1.VolumeArgs | None, config_map: pulumi.Input[str]
) -> k8s.core.v1.PodSpecArgs:
    """The pod: nginx and the program that keeps the proof image in the registry, and the registry as their sidecar."""
    core = k8s.core.v1
    return core.PodSpecArgs(
        automount_service_account_token=False,
        enable_service_links=False,
        node_selector={"kubernetes.io/os": "linux"},
        affinity=None if args.storage.bucket else _beside_the_old_pod(),
        # Open transfers have `DRAIN` seconds to complete. The rest is for the registry, which ends after nginx.
        termination_grace_period_seconds=_LEAVE + nginx.DRAIN + 10,
        topology_spread_constraints=[_spread(key) for key in _SPREAD] if args.storage.replicas > 1 else None,
        security_context=core.PodSecurityContextArgs(
            run_as_non_root=True,
            run_as_user=_USER,
            run_as_group=_USER,
            fs_group=_USER,
            # Otherwise the kubelet would walk through the whole volume at every start.
            fs_group_change_policy="OnRootMismatch",
            seccomp_profile=core.SeccompProfileArgs(type="RuntimeDefault"),
        ),
        image_pull_secrets=[core.LocalObjectReferenceArgs(name=name) for name in [args.images.pull_secret] if name],
        init_containers=[_registry_container(args)],
        containers=[_nginx_container(args), _proof_container(args)],
        volumes=[
            *([data] if data else []),
            core.VolumeArgs(name="config", config_map=core.ConfigMapVolumeSourceArgs(name=config_map)),
            core.VolumeArgs(name="nginx", empty_dir=core.EmptyDirVolumeSourceArgs()),
            core.VolumeArgs(name="proof", empty_dir=core.EmptyDirVolumeSourceArgs()),
            _secret_volume("tls", args.tls_secret),
            _secret_volume("users", args.secret, nginx.READERS, nginx.PUSHERS),
        ],
    )


def _spread(topology: str) -> k8s.core.v1.TopologySpreadConstraintArgs:
    """Have the pods of one version of the Deployment on several nodes or zones, as far as there are any."""
    return k8s.core.v1.TopologySpreadConstraintArgs(
        max_skew=1,
        topology_key=topology,
        when_unsatisfiable="ScheduleAnyway",
        label_selector=k8s.meta.v1.LabelSelectorArgs(match_labels=_LABELS),
        match_label_keys=["pod-template-hash"],
    )


def _registry_container(args: RegistryArgs) -> k8s.core.v1.ContainerArgs:
    """The registry, on the pod's loopback address.

    It has no probe of its own: if its program ends, the kubelet starts it again, and whether its storage works is asked
    through nginx. Killing a registry whose volume is slow would only lose its uploads.
    """
    core = k8s.core.v1
    http_secret = core.SecretKeySelectorArgs(name=args.secret, key=HTTP_SECRET)
    storage = args.storage
    kept = volume.quantity_bytes(storage.size) if storage.kind == "memory" else 0
    uploads = _UPLOADS if storage.bucket else 0
    data = [] if storage.bucket else [_mount("data", DATA, read_only=None)]
    return core.ContainerArgs(
        name="registry",
        image=args.images.registry,
        # This makes an init container a native sidecar (Kubernetes 1.29). A sidecar is told to end after the pod's
        # other containers have ended, and so the registry serves what nginx still completes.
        restart_policy="Always",
        # The command is given in full, since builds of the image differ in what their entry point does with arguments.
        command=["registry", "serve", f"{CONFIG}/config.yml"],
        env=[
            core.EnvVarArgs(name="OTEL_TRACES_EXPORTER", value="none"),  # by default v3 sends traces to localhost
            core.EnvVarArgs(name="REGISTRY_HTTP_SECRET", value_from=core.EnvVarSourceArgs(secret_key_ref=http_secret)),
            *(bucket.environment(storage.bucket, names.BUCKET, CONFIG) if storage.bucket else []),
        ],
        security_context=_restricted(),
        # What is in memory can't be taken back, so the node has to have as much to spare as the registry may use.
        resources=_resources(requests=("50m", str(_REQUESTED + kept)), limits=("2", str(_MEMORY + kept + uploads))),
        # It looks into nginx's folder only while space is freed: whether pushes are stopped is there.
        volume_mounts=[_mount("config", CONFIG), *data, _mount("nginx", nginx.RUN)],
    )


def _nginx_container(args: RegistryArgs) -> k8s.core.v1.ContainerArgs:
    """nginx, which serves the pod's ports."""
    core = k8s.core.v1
    tls = [f"{nginx.TLS}/{name}" for name in ("tls.crt", "tls.key")]
    return core.ContainerArgs(
        name="nginx",
        image=args.images.nginx,
        command=["sh", f"{CONFIG}/nginx.sh", f"{CONFIG}/nginx.conf", *tls, str(nginx.DRAIN)],
        ports=[
            core.ContainerPortArgs(name="plain", container_port=nginx.PLAIN_PORT),
            core.ContainerPortArgs(name="tls", container_port=nginx.TLS_PORT),
        ],
        readiness_probe=core.ProbeArgs(
            http_get=core.HTTPGetActionArgs(path="/", port="plain"), period_seconds=2, timeout_seconds=5
        ),
        liveness_probe=core.ProbeArgs(
            tcp_socket=core.TCPSocketActionArgs(port="plain"), period_seconds=10, timeout_seconds=5
        ),
        lifecycle=_lingering("sleep", str(_LEAVE)),
        security_context=_restricted(),
        resources=_resources(requests=("20m", "32Mi"), limits=("2", "512Mi")),
        volume_mounts=[
            _mount("config", CONFIG),
            *([] if args.storage.bucket else [_mount("data", DATA)]),
            _mount("nginx", nginx.RUN, read_only=None),
            _mount("tls", nginx.TLS),
            _mount("users", nginx.USERS),
        ],
    )


def _proof_container(args: RegistryArgs) -> k8s.core.v1.ContainerArgs:
    """The container that keeps the proof image in the registry; it is ready while the image is there.

    It also says in its log, and to nginx, whether the registry's storage takes what is pushed.
    """
    core = k8s.core.v1
    own_namespace = core.ObjectFieldSelectorArgs(field_path="metadata.namespace")
    return core.ContainerArgs(
        name=names.PROOF_CONTAINER,
        image=args.images.python,
        command=["python3", f"{CONFIG}/proof_image.py", f"127.0.0.1:{nginx.REGISTRY_PORT}", _READY, DATA, nginx.RUN],
        env=[
            core.EnvVarArgs(name="PYTHONDONTWRITEBYTECODE", value="1"),
            core.EnvVarArgs(name="NAMESPACE", value_from=core.EnvVarSourceArgs(field_ref=own_namespace)),
        ],
        startup_probe=core.ProbeArgs(
            exec_=core.ExecActionArgs(command=["sh", "-c", _WAIT]),
            period_seconds=1,
            timeout_seconds=15,
            failure_threshold=_NEVER,
        ),
        readiness_probe=core.ProbeArgs(exec_=core.ExecActionArgs(command=["test", "-f", _READY]), period_seconds=2),
        # A pod is ready as long as all of its containers are.
        lifecycle=_lingering("sleep", str(_LEAVE)),
        security_context=_restricted(),
        resources=_resources(requests=("10m", "24Mi"), limits=("1", "96Mi")),
        volume_mounts=[
            _mount("config", CONFIG),
            *([] if args.storage.bucket else [_mount("data", DATA)]),
            _mount("nginx", nginx.RUN, read_only=None),
            _mount("proof", str(Path(_READY).parent), read_only=None),
        ],
    )


def _lingering(*command: str) -> k8s.core.v1.LifecycleArgs:
    """Have a container go on for as long as a command takes, when it was told to end."""
    core = k8s.core.v1
    return core.LifecycleArgs(pre_stop=core.LifecycleHandlerArgs(exec_=core.ExecActionArgs(command=command)))


def _secret_volume(name: str, secret: pulumi.Input[str], *keys: str) -> k8s.core.v1.VolumeArgs:
    """A volume with these keys of a Secret, or with all; the pod's group may read it, and the pod needs it to start."""
    core = k8s.core.v1
    items = [core.KeyToPathArgs(key=key, path=key) for key in keys] or None
    source = core.SecretVolumeSourceArgs(secret_name=secret, items=items, default_mode=0o440)
    return core.VolumeArgs(name=name, secret=source)


def _mount(name: str, path: str, *, read_only: bool | None = True) -> k8s.core.v1.VolumeMountArgs:
    return k8s.core.v1.VolumeMountArgs(name=name, mount_path=path, read_only=read_only)


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
