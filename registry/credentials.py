"""Who may push and pull: whoever has the password, or everyone where the address is private and for pulls alone.

And the login with which nodes pull the images of the program's own pods, which is one for another registry.
"""

import base64
import hashlib
import hmac
import ipaddress
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import pulumi
import pulumi_kubernetes as k8s

from . import names
from .pod.nginx import PUSHERS, READERS, AuthMode
from .settings import Auth
from .waiting import after

HTTP_SECRET, DOCKER_CONFIG = "secret", ".dockerconfigjson"
"""Keys of the Secret, beside the password files `READERS` and `PUSHERS`: what the registry signs uploads with, and the
login for pulls in the format that clients read. The last one is the key that a kubelet expects in a Secret of type
kubernetes.io/dockerconfigjson."""

AHEAD = 5
"""How many later versions the password files know already; see `password_files`."""

_PUSH, _PULL = "registry", "registry-pull"
_PRIVATE = tuple(
    ipaddress.ip_network(network)
    for network in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",  # RFC 1918
        "100.64.0.0/10",  # carrier-grade NAT, RFC 6598
        "169.254.0.0/16",
        "fe80::/10",  # link-local
        "fc00::/7",  # unique local addresses, RFC 4193
    )
)


def is_private(address: str) -> bool:
    """Whether an address is one that the internet does not route to. A DNS name is not, since it can resolve to any.

    A loopback address is not either: what publishes it is reached at some other address, which is not known.
    Python's own `is_private` is not used, because it also counts addresses for documentation and for benchmarks.
    """
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return any((mapped or ip) in network for network in _PRIVATE)


def auth_mode(auth: Auth, addresses: Sequence[str]) -> AuthMode:
    """Who is asked for a password.

    Args:
        auth: The setting.
        addresses: Every address at which the registry is reached, as far as they are known. If none is known, it may be
            public.
    """
    if auth != "auto":
        return auth
    return "push" if addresses and all(is_private(address) for address in addresses) else "basic"


def warn_if_open(mode: AuthMode) -> None:
    """Say what it means that nobody is asked for a password."""
    if mode == "none":
        pulumi.log.warn(
            "The setting auth is none: whoever reaches the registry, any pod of the cluster among them, can overwrite "
            "and delete the images that others run. To ask for a password before pushes and deletes, and for none "
            "before pulls: pulumi config set auth push"
        )


def user_name(version: int, *, push: bool) -> str:
    """The user who has a version of a password: `registry` pushes, `registry-pull` pulls, and a later one has a number.

    Each version has a user of its own, because nginx knows one password for each user, and several versions are valid
    at the same time.
    """
    user = _PUSH if push else _PULL
    return user if version == 1 else f"{user}-{version}"


def _derive(seed: str, purpose: str) -> bytes:
    return hmac.digest(seed.encode(), purpose.encode(), hashlib.sha256)


def password(seed: str, version: int, *, push: bool) -> str:
    """A password of 64 hexadecimal digits, which is as hard to guess as `seed`.

    From a password nobody can compute another one, or the seed (HMAC, RFC 2104).
    """
    return _derive(seed, f"{_PUSH if push else _PULL} {version}").hex()


def password_line(seed: str, version: int, *, push: bool) -> str:
    """A user's line in a password file of nginx. It is the same at each call, unlike that of a program `htpasswd`.

    It is a salted SHA-1 (RFC 2307), since nobody can guess 256 random bits, whatever one guess costs; and nginx pays
    for the comparison at each request, which bcrypt is made to slow down.
    """
    user = user_name(version, push=push)
    salt = _derive(seed, f"salt of {user}")[:16]
    made = hashlib.sha1(password(seed, version, push=push).encode() + salt, usedforsecurity=False).digest()
    return f"{user}:{{SSHA}}{base64.b64encode(made + salt).decode()}\n"


def password_files(seed: str, version: int) -> dict[str, str]:
    """The password files by name: `PUSHERS` for whoever may push, and `READERS` for them and for whoever may pull.

    Both hold the previous version too, so that whoever has that password can go on until the next rotation. And they
    hold the next versions already, because the kubelet takes up to a minute to bring a changed Secret into a running
    pod, and so a few rotations in a row need not wait for that.
    """
    versions = [each for each in range(version - 1, version + AHEAD + 1) if each > 0]
    pushers = "".join(password_line(seed, each, push=True) for each in versions)
    return {PUSHERS: pushers, READERS: pushers + "".join(password_line(seed, each, push=False) for each in versions)}


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
    """The secrets of the registry, and who is asked for a password.

    Ready when: 1. the Secret exists.
    Delete removes the Secret.
    Does not: put a password on nodes. Kubelets and container runtimes would read it only when they start, and pods of
    every namespace could then pull with it.
    """

    mode: pulumi.Output[AuthMode]
    """Who is asked for a password; if the setting is `auto`, it is known once the addresses are."""
    secret: pulumi.Output[str]
    """Name of the Secret; it has the keys `HTTP_SECRET`, `DOCKER_CONFIG`, `READERS` and `PUSHERS`."""
    pull_secret: pulumi.Output[str | None]
    """Name of the Secret with which pods of the namespace pull; None if nobody is asked for a password."""
    username: pulumi.Output[str | None]
    """Name of the user who pushes, and pulls; None if nobody is asked for a password."""
    password: pulumi.Output[str | None]
    """This user's password, a secret; None if nobody is asked for one."""
    docker_config: pulumi.Output[str]
    """The login for pulls alone, in the format of Docker's config.json, a secret; without an entry if nobody is asked
    for a password."""

    def __init__(self, name: str, args: CredentialsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make the Secret. `name` is the prefix of the resources' names."""
        super().__init__("private-registry:registry:Credentials", name, None, opts)
        seed = pulumi.Output.from_input(args.seed)
        version = args.password_version
        # Where the setting decides, the mode is known before any address is.
        addresses = pulumi.Output.from_input(args.addresses if args.auth == "auto" else [])
        self.mode = addresses.apply(lambda found: auth_mode(args.auth, found))
        self.mode.apply(warn_if_open)
        own = seed.apply(lambda pem: password(pem, version, push=True))
        pulls = pulumi.Output.all(args.host, seed).apply(
            lambda made: docker_config(made[0], user_name(version, push=False), password(made[1], version, push=False))
        )
        nothing = pulumi.Output.from_input(json.dumps({"auths": {}}))
        self.username = self.mode.apply(lambda mode: None if mode == "none" else user_name(version, push=True))
        self.password = self.mode.apply(lambda mode: _nothing() if mode == "none" else own)
        self.docker_config = self.mode.apply(lambda mode: nothing if mode == "none" else pulls)
        files = seed.apply(lambda pem: password_files(pem, version))
        secret = k8s.core.v1.Secret(
            f"{name}-secret",
            metadata=k8s.meta.v1.ObjectMetaArgs(
                name=names.CREDENTIALS, namespace=args.namespace, labels=names.labels(names.REGISTRY)
            ),
            type="kubernetes.io/dockerconfigjson",
            string_data={
                HTTP_SECRET: seed.apply(lambda pem: _derive(pem, "uploads").hex()),
                DOCKER_CONFIG: self.docker_config,
                PUSHERS: files[PUSHERS],
                READERS: files[READERS],
            },
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.secret = secret.metadata.name
        self.pull_secret = self.mode.apply(lambda mode: _nothing() if mode == "none" else self.secret)
        self.register_outputs(
            {
                "mode": self.mode,
                "secret": self.secret,
                "pullSecret": self.pull_secret,
                "username": self.username,
                "password": self.password,
                "dockerConfig": self.docker_config,
            }
        )


@dataclass(frozen=True, kw_only=True)
class ImageLoginArgs:
    """What an `ImageLogin` needs."""

    namespace: pulumi.Input[str]
    """Namespace of the Secret."""
    login: str = field(repr=False)
    """The login in the format of Docker's config.json, a secret."""


class ImageLogin(pulumi.ComponentResource):
    """The Secret with the login with which nodes pull the images of the program's pods.

    Ready when: 1. the Secret exists.
    Delete removes the Secret.
    Does not: start pods anew when the login changes. The kubelet reads it at each pull.
    """

    secret: pulumi.Output[str]
    """Name of the Secret."""

    def __init__(self, name: str, args: ImageLoginArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make the Secret. `name` is the prefix of the resource's name."""
        super().__init__("private-registry:registry:ImageLogin", name, None, opts)
        secret = k8s.core.v1.Secret(
            f"{name}-secret",
            metadata=k8s.meta.v1.ObjectMetaArgs(
                name=names.IMAGE_LOGIN, namespace=args.namespace, labels=names.labels(names.REGISTRY)
            ),
            type="kubernetes.io/dockerconfigjson",
            string_data={DOCKER_CONFIG: pulumi.Output.secret(args.login)},
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.secret = secret.metadata.name
        self.register_outputs({"secret": self.secret})


def with_image_login(name: str, login: str, namespace: pulumi.Output[str]) -> pulumi.Output[str]:
    """The namespace, once an `ImageLogin` is in it, if there is a login. `name` is that of the component."""
    if not login:
        return namespace
    return after(namespace, ImageLogin(name, ImageLoginArgs(namespace=namespace, login=login)).secret)
