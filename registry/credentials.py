"""Who may push and pull: everyone, if the registry's address is private, or else whoever has the password."""

import base64
import hashlib
import hmac
import ipaddress
import json
from collections.abc import Sequence
from dataclasses import dataclass

import bcrypt
import pulumi
import pulumi_kubernetes as k8s

from . import names
from .settings import Auth

HTTP_SECRET, HTPASSWD, DOCKER_CONFIG = "secret", "htpasswd", ".dockerconfigjson"
"""Keys of the Secret: what the registry signs uploads with, the registry's password file, and the login in the format
that clients read. The last one is the key that a kubelet expects in a Secret of type kubernetes.io/dockerconfigjson."""

_PRIVATE = tuple(
    ipaddress.ip_network(network)
    for network in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",  # RFC 1918
        "100.64.0.0/10",  # carrier-grade NAT, RFC 6598
        "127.0.0.0/8",
        "169.254.0.0/16",
        "::1/128",
        "fe80::/10",  # loopback and link-local
        "fc00::/7",  # unique local addresses, RFC 4193
    )
)
_COST = 5
_BCRYPT_ALPHABET = bytes.maketrans(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
    b"./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
)


def is_private(address: str) -> bool:
    """Whether an address is one that the internet does not route to. A DNS name is not, since it can resolve to any.

    Python's own `is_private` is not used, because it also counts addresses for documentation and for benchmarks.
    """
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return any((mapped or ip) in network for network in _PRIVATE)


def needs_password(auth: Auth, addresses: Sequence[str]) -> bool:
    """Whether the registry asks for a password.

    Args:
        auth: The setting.
        addresses: Every address at which it is reached, as far as they are known. If none is known, it may be public.
    """
    if auth == "auto":
        return not addresses or not all(is_private(address) for address in addresses)
    return auth == "basic"


def user_name(version: int) -> str:
    """The user who has a version of the password: `registry`, then `registry-2` and so on.

    Each version has a user of its own, because the registry knows one password for each user, and several versions are
    valid at the same time.
    """
    return "registry" if version == 1 else f"registry-{version}"


def _derive(seed: str, purpose: str) -> bytes:
    return hmac.digest(seed.encode(), purpose.encode(), hashlib.sha256)


def password(seed: str, version: int) -> str:
    """A password of 64 hexadecimal digits, which is as hard to guess as `seed`.

    From a password nobody can compute another one, or the seed (HMAC, RFC 2104).
    """
    return _derive(seed, f"password {version}").hex()


def htpasswd_line(seed: str, version: int) -> str:
    """A user's line in the registry's password file. It is the same at each call, unlike that of a program `htpasswd`.

    The cost is the lowest that `htpasswd` takes. A higher one slows down whoever guesses passwords, but nobody can
    guess 256 random bits; and the registry pays the cost at every single request: at bcrypt's usual cost 15 requests a
    second take a whole core. An unknown user costs the same (distribution v3, registry/auth/htpasswd/htpasswd.go:
    dummyBcryptHash).
    """
    salt = base64.b64encode(_derive(seed, f"salt {version}")[:16]).rstrip(b"=").translate(_BCRYPT_ALPHABET)
    digest = bcrypt.hashpw(password(seed, version).encode(), b"$2b$%02d$" % _COST + salt)
    return f"{user_name(version)}:{digest.decode()}\n"


def htpasswd(seed: str, version: int) -> str:
    """The registry's password file.

    It holds the previous version too, so that whoever has that password can go on until the next rotation. And it holds
    the next version already, because the kubelet takes up to a minute to bring a changed Secret into a running pod, and
    so a rotation need not wait for that.
    """
    return "".join(htpasswd_line(seed, each) for each in (version - 1, version, version + 1) if each > 0)


def docker_config(host: str, username: str, secret: str) -> str:
    """One login in the format of Docker's config.json, which every client and the kubelet read."""
    login = base64.b64encode(f"{username}:{secret}".encode()).decode()
    return json.dumps({"auths": {host: {"auth": login}}})


def _nothing() -> pulumi.Output[str | None]:
    return pulumi.Output.from_input(None)


@dataclass(frozen=True, kw_only=True)
class CredentialsArgs:
    """What `Credentials` need."""

    namespace: pulumi.Input[str]
    """Namespace of the Secret."""
    seed: pulumi.Input[str]
    """A random text from which every secret is derived; itself a secret."""
    auth: Auth
    """The setting `auth`."""
    host: pulumi.Input[str]
    """The registry's host as image references spell it."""
    addresses: pulumi.Input[Sequence[str]]
    """Every address at which the registry is reached; it counts only if `auth` is `auto`."""
    password_version: int
    """Number of the password; a rotation adds 1, see `htpasswd`."""


class Credentials(pulumi.ComponentResource):
    """The secrets of the registry, and whether it asks for a password.

    Ready when: 1. the Secret exists; if `auth` is `auto`, the address has to be known first.
    Delete removes the Secret.
    Does not: configure the registry, or put the password on nodes. Kubelets and container runtimes would read it only
    when they start, and pods of every namespace could then pull with it.
    """

    secret: pulumi.Output[str]
    """Name of the Secret; it has the keys `HTTP_SECRET`, `DOCKER_CONFIG` and, with a password, `HTPASSWD`."""
    pull_secret: pulumi.Output[str | None]
    """Name of the Secret with which pods of the namespace pull; None if the registry asks for no password."""
    required: pulumi.Output[bool]
    """Whether the registry asks for a password."""
    username: pulumi.Output[str | None]
    """The user's name; None if the registry asks for no password."""
    password: pulumi.Output[str | None]
    """The user's password, a secret; None if the registry asks for none."""
    docker_config: pulumi.Output[str]
    """The login in the format of Docker's config.json, a secret; it has no entry if there is no password."""

    def __init__(self, name: str, args: CredentialsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make the Secret. `name` is the prefix of the resources' names."""
        super().__init__("private-registry:registry:Credentials", name, None, opts)
        seed = pulumi.Output.from_input(args.seed)
        version = args.password_version
        self.required = pulumi.Output.from_input(args.auth == "basic")
        if args.auth == "auto":
            addresses = pulumi.Output.from_input(args.addresses)
            self.required = addresses.apply(lambda found: needs_password(args.auth, found))
        own = seed.apply(lambda pem: password(pem, version))
        login = pulumi.Output.all(args.host, own).apply(
            lambda made: docker_config(made[0], user_name(version), made[1])
        )
        self.username = self.required.apply(lambda required: user_name(version) if required else None)
        self.password = self.required.apply(lambda required: own if required else _nothing())
        nothing = pulumi.Output.from_input(json.dumps({"auths": {}}))
        self.docker_config = self.required.apply(lambda required: login if required else nothing)

        def content(required: bool) -> dict[str, pulumi.Input[str]]:
            users = {HTPASSWD: seed.apply(lambda pem: htpasswd(pem, version))} if required else {}
            signing = seed.apply(lambda pem: _derive(pem, "uploads").hex())
            return {HTTP_SECRET: signing, DOCKER_CONFIG: self.docker_config, **users}

        secret = k8s.core.v1.Secret(
            f"{name}-secret",
            metadata=k8s.meta.v1.ObjectMetaArgs(
                name=names.CREDENTIALS, namespace=args.namespace, labels=names.labels(names.REGISTRY)
            ),
            type="kubernetes.io/dockerconfigjson",
            string_data=self.required.apply(content).apply(lambda made: pulumi.Output.all(**made)),
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.secret = secret.metadata.name
        self.pull_secret = self.required.apply(lambda required: self.secret if required else _nothing())
        self.register_outputs(
            {
                "secret": self.secret,
                "pullSecret": self.pull_secret,
                "required": self.required,
                "username": self.username,
                "password": self.password,
                "dockerConfig": self.docker_config,
            }
        )
