"""A bucket for the registry's images: what the registry is told of it, the Secret with its keys, and how it is emptied.

Images lie below the name of the stack's namespace, so several stacks can share a bucket. `destroy` keeps them there:
the program has no access to the bucket, only the registry has.
"""

import hashlib
import hmac
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s

from .. import names
from ..settings import Bucket
from ..waiting import after

CA_FILE = "s3-ca.crt"
"""Key of the pod's ConfigMap that holds the CA of the bucket's server."""
_ACCESS, _SECRET = "accessKey", "secretKey"
"""Keys of the Secret."""
_CHUNK = 5 * 2**20
"""Bytes that the registry gathers in memory for each upload, and sends as one part. S3 takes no smaller ones."""


def configuration(bucket: Bucket) -> dict[str, object]:
    """The bucket's part of the registry's configuration (distribution 3, docs/content/storage-drivers/s3.md)."""
    known = {"bucket": bucket.name, "region": bucket.region, "chunksize": _CHUNK}
    # Servers other than Amazon's have no DNS name for each bucket.
    elsewhere = {"regionendpoint": bucket.endpoint, "forcepathstyle": True} if bucket.endpoint else {}
    # By default the registry would send whoever pulls to the bucket, which neither kubelets nor laptops need to reach,
    # and whose certificate they need not trust.
    return {"s3": {**known, **elsewhere}, "redirect": {"disable": True}}


def environment(bucket: Bucket, secret: pulumi.Input[str], folder: str) -> list[pulumi.Input[k8s.core.v1.EnvVarArgs]]:
    """The environment of the registry's container.

    The keys go to Amazon's library and not into the registry's configuration, which would take one that looks like a
    number for a number.

    Args:
        bucket: The bucket.
        secret: Name of the Secret that `make_secret` makes.
        folder: Folder in the pod with the file `CA_FILE`.
    """
    core = k8s.core.v1
    own_namespace = core.EnvVarSourceArgs(field_ref=core.ObjectFieldSelectorArgs(field_path="metadata.namespace"))
    found: list[pulumi.Input[k8s.core.v1.EnvVarArgs]] = [
        core.EnvVarArgs(name="NAMESPACE", value_from=own_namespace),
        core.EnvVarArgs(name="REGISTRY_STORAGE_S3_ROOTDIRECTORY", value="/$(NAMESPACE)"),
    ]
    if bucket.keys:
        for variable, key in (("AWS_ACCESS_KEY_ID", _ACCESS), ("AWS_SECRET_ACCESS_KEY", _SECRET)):
            selector = core.SecretKeySelectorArgs(name=secret, key=key)
            found.append(core.EnvVarArgs(name=variable, value_from=core.EnvVarSourceArgs(secret_key_ref=selector)))
    if bucket.ca:
        found.append(core.EnvVarArgs(name="AWS_CA_BUNDLE", value=f"{folder}/{CA_FILE}"))
    return found


def make_secret(
    name: str, namespace: pulumi.Input[str], keys: Sequence[pulumi.Output[str]], opts: pulumi.ResourceOptions
) -> pulumi.Resource:
    """Make the Secret with the bucket's keys.

    Args:
        name: Name of the Secret in the namespace.
        namespace: Its namespace.
        keys: Access key and secret key.
        opts: Its options.
    """
    access, secret = keys
    return k8s.core.v1.Secret(
        name,
        metadata=k8s.meta.v1.ObjectMetaArgs(name=name, namespace=namespace, labels=names.labels(names.REGISTRY)),
        string_data={_ACCESS: access, _SECRET: secret},
        opts=opts,
    )


def fingerprint(seed: pulumi.Input[str], keys: Sequence[pulumi.Output[str]]) -> pulumi.Output[str]:
    """A text that changes with the keys, and from which nobody can guess them without the stack's seed."""

    def derive(known: Sequence[str]) -> str:
        first, *rest = known
        return hmac.digest(first.encode(), "\0".join(rest).encode(), hashlib.sha256).hex()[:16]

    return pulumi.Output.unsecret(pulumi.Output.all(seed, *keys).apply(derive))


KEPT = "private-registry:registry:KeptImages"
"""Type of the component whose outputs say where the images are."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A bucket that may have images of the stack, as the stack's state says."""

    bucket: str
    """Its name."""
    endpoint: str
    """The server of buckets that has it; empty for Amazon's."""


@dataclass(frozen=True, kw_only=True)
class KeptImagesArgs:
    """What a `KeptImages` needs."""

    bucket: Bucket
    """The bucket."""
    namespace: pulumi.Input[str]
    """The stack's namespace, below which its images lie."""
    ready: pulumi.Input[object]
    """Known once the registry has written there, so that images may be there."""


class KeptImages(pulumi.ComponentResource):
    """Nothing but a name that `destroy` prints: it says that the images stay in the bucket.

    `destroy` runs no program that could say it, and prints no outputs.
    Its outputs say in the stack's state where the images are; see `Kept`.
    Ready when: 1. it is registered. Delete removes nothing.
    Does not: look at the bucket.
    """

    removal: pulumi.Output[str]
    """The command that removes the images."""

    def __init__(self, name: str, args: KeptImagesArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Say it; `name` is what is said."""
        super().__init__(KEPT, name, None, opts)
        self.removal = removal(args.bucket, args.namespace)
        used = {"bucket": args.bucket.name, "endpoint": args.bucket.endpoint}
        self.register_outputs({"removal": self.removal, **{key: after(text, args.ready) for key, text in used.items()}})


def removal(bucket: Bucket, namespace: pulumi.Input[str]) -> pulumi.Output[str]:
    """The command of a shell that removes the stack's images from the bucket."""
    options = ["--region", bucket.region, *(["--endpoint-url", bucket.endpoint] if bucket.endpoint else [])]
    return pulumi.Output.from_input(namespace).apply(
        lambda known: (
            f"aws s3 rm --recursive s3://{bucket.name}/{known}/ {shlex.join(options)}  # destroy keeps these images"
        )
    )
