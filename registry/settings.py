"""The program's settings: read once from the stack's configuration, checked, and handed on as one frozen value.

The defaults and their descriptions are in Pulumi.yaml, where `pulumi config` shows them; this module holds the rules.
"""

import difflib
import ipaddress
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Literal, cast, get_args

import pulumi
from pulumi.runtime.config import CONFIG, get_config_env, is_config_secret

from . import names
from .hostname import is_dns_name, is_host_name, is_ip_address, is_loopback
from .pod import images
from .pod.images import Images

_QUANTITY = re.compile(r"[1-9][0-9]*(\.[0-9]+)?(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)?")
_DURATION = re.compile(r"([1-9][0-9]*)(s|m|h)")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
# A qualified name of Kubernetes, such as the key of an annotation (apimachinery, pkg/util/validation).
_NAME = re.compile(
    r"(?=.{1,317}$)([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
)
# docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_CERTIFICATES = re.compile(r"(-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----\s*)+")
_SHOWN = 80
"""The most characters of a wrong value that an error shows."""


class SettingError(pulumi.RunError):
    """The error of a setting that breaks its rule. The message names the key, the value, the rule and the fix."""

    reason: str
    """The message without the fix."""

    def __init__(self, key: str, value: str, rule: str, example: str, *, more: str = "", path: str = "") -> None:
        """Build the message.

        Args:
            key: The setting's key.
            value: Its value.
            rule: Why the value is wrong, as the end of a sentence that begins with key and value.
            example: A value that is right.
            more: What else would help, and how to do that.
            path: What `pulumi config set` has to be given instead of the key.
        """
        project = pulumi.get_project()
        shown = value if len(value) <= _SHOWN else f"{value[:_SHOWN]}..."
        self.reason = f"The setting {project}:{key} is {shown!r}, but {rule}."
        super().__init__(
            f"{self.reason} Set it with, for example: pulumi config set {path or key} {example}{more and '; ' + more}"
        )


LOGIN = "imagePullSecret"
"""The one setting that is a secret."""

Auth = Literal["auto", "none", "push", "basic"]
Exposure = Literal["ingress", "loadBalancer", "nodePort", "gateway"]
Issuer = Literal["tls", "cert-manager"]
NodeTrust = Literal["agent", "external"]
StorageKind = Literal["volume", "memory", "s3"]

SIZES: Mapping[StorageKind, str] = {"volume": "10Gi", "memory": "2Gi", "s3": ""}
"""The size of the storage where the settings name none; a bucket has none. A node has to have the memory to spare."""


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """A bucket of a server that speaks S3. Each field is the setting of the same name after `s3`."""

    name: str
    """Its name: the setting `s3Bucket`."""
    region: str
    """Its region, which is part of each request's signature."""
    endpoint: str
    """Where the server is reached, such as `https://s3.example.com:9000`; empty for Amazon's own."""
    ca: str
    """CA certificates, PEM, of which one has signed the server's; empty for those that the registry's image knows."""
    keys: tuple[pulumi.Output[str], pulumi.Output[str]] | None
    """Access key and secret key, both secret; None where the pod gets an identity from its node or its cloud."""


@dataclass(frozen=True, kw_only=True)
class Storage:
    """Where images are kept, and how many pods serve them."""

    kind: StorageKind
    """On a volume, in the memory of the pod's node, or in a bucket."""
    size: str
    """Size of the volume, or the most that is kept in memory, as a Kubernetes quantity; empty for a bucket."""
    storage_class: str
    """StorageClass of the volume; empty for the one that it has, and at first for the cluster's default one."""
    bucket: Bucket | None
    """The bucket, if it is one."""
    replicas: int
    """Number of the registry's pods; more than one only with a bucket."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a user can set. Each field is the key of the same name in camelCase; see Pulumi.yaml for the defaults."""

    namespace: str
    """Name of the namespace that the stack makes; empty for the one that it has, or a name made from the stack's."""
    images: Images
    """The images of the program's pods: the settings `images.KEYS`, and whether there is a login for them."""
    image_pull_secret: str = field(repr=False)
    """The login with which nodes pull these images, in the format of Docker's config.json, a secret; empty for none."""
    storage: Storage
    """Where images are kept: the settings `STORAGE_KEYS` together."""
    allow_data_loss: bool
    """Whether a change of the settings may lose the images."""
    exposure: Exposure
    """The way in: an Ingress, a Service of type LoadBalancer, a port of the nodes, or a Gateway."""
    ingress_class: str
    """IngressClass of the Ingress; empty for the cluster's default one."""
    gateway_class: str
    """GatewayClass of the Gateway; empty for the cluster's only one."""
    gateway_port: int
    """TCP port of the Gateway's listener, as its controller knows it; clients always use 443."""
    ingress_annotations: Mapping[str, str]
    """Further annotations of the Ingress, for its controller."""
    service_annotations: Mapping[str, str]
    """Annotations of the Service of type LoadBalancer or NodePort, for whoever makes its load balancer."""
    load_balancer_class: str
    """Class of the Service of type LoadBalancer; empty for the cluster's default one."""
    allowed_sources: tuple[str, ...]
    """The only networks from which the load balancer takes connections, as CIDRs; empty for all."""
    node_port: int
    """Port of the nodes; 0 for one that Kubernetes chooses."""
    address: str
    """IP address or DNS name at which the cluster is reached; empty for the one that the cluster publishes."""
    host: str
    """The registry's host, with `:port` if it is not 443; empty for a name made from namespace and address."""
    dns_suffix: str
    """Wildcard-DNS domain whose names resolve to the address that they hold."""
    certificate_issuer: Issuer
    """Who makes CA and certificate: this program, or the cluster's cert-manager."""
    issuer: str
    """ClusterIssuer of cert-manager that signs the certificate; empty for a CA of the stack's own."""
    ca_version: int
    """Number of the stack's own CA. Another number makes another CA, with another key."""
    auth: Auth
    """Whom the registry asks for a password: nobody, whoever pushes, everyone (basic), or it depends on the address."""
    password_version: int
    """Number of the password. One more makes another password; the previous one stays valid until the next change."""
    pull_namespaces: tuple[str, ...]
    """Namespaces that get a Secret with which their pods can pull."""
    attach_pull_secret: bool
    """Whether the default ServiceAccounts of those namespaces name the Secret, so that pods need not."""
    ca_namespaces: tuple[str, ...]
    """Namespaces that get a copy of the ConfigMap with host, address and CA, for builders in the cluster."""
    advertise: bool
    """Whether a ConfigMap in kube-public tells development tools of the registry (KEP-1755)."""
    address_timeout: str
    """How long to wait for the address of the way in, and for DNS to know it if it is a name; empty for the defaults
    of these two waits, which are the next two properties."""
    ready_timeout: str
    """How long to wait for each other object to become ready or to be gone, such as `2m`."""
    node_trust: NodeTrust
    """Who makes the nodes trust the CA: the node agent, or somebody else."""
    runtime_restart: bool
    """Whether the node agent may restart a container runtime that reads its configuration only at start."""

    @property
    def published_within(self) -> str:
        """How long to wait for the address of the way in, such as `120s` or `2m`."""
        return self.address_timeout or "2m"

    @property
    def known_within(self) -> str:
        """How long to wait for DNS to know the name of a new load balancer, which takes minutes on AWS."""
        return self.address_timeout or "10m"


def _is_port(value: str) -> bool:
    return re.fullmatch("[1-9][0-9]{0,4}", value) is not None and int(value) < 65536


def _is_host(value: str) -> bool:
    name, colon, port = value.partition(":")
    return is_host_name(name) and (not colon or _is_port(port))


def _is_origin(value: str) -> bool:
    match = re.fullmatch(r"https?://(\[[0-9a-f:]+\]|[^:/\[\]]+)(?::([0-9]+))?", value)
    if not match:
        return False
    name, port = match.groups()
    return (is_ip_address(name.strip("[]")) or is_dns_name(name)) and (port is None or _is_port(port))


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What a setting's value has to be."""

    holds: Callable[[str], bool]
    """Whether a value keeps the rule."""
    text: str
    """The rule, as the end of the sentence "The setting is ..., but"."""
    example: str
    """A value that keeps it."""


def _empty_or(holds: Callable[[str], bool]) -> Callable[[str], bool]:
    return lambda value: not value or holds(value)


def _matches(pattern: str | re.Pattern[str]) -> Callable[[str], bool]:
    return lambda value: re.fullmatch(pattern, value) is not None


def _one_of(choices: tuple[str, ...]) -> Rule:
    return Rule(
        holds=lambda value: value in choices,
        text=f"it has to be one of {', '.join(choices)}",
        example=choices[0],
    )


def _class(kind: str, plural: str, example: str) -> Rule:
    return Rule(
        holds=_empty_or(is_dns_name),
        text=f"{kind}'s name is a DNS name (kubectl get {plural} lists them)",
        example=example,
    )


def _counts(what: str) -> Rule:
    return Rule(
        holds=_matches("[1-9][0-9]{0,8}"),
        text=f"it counts the {what}, so it has to be a whole number from 1 (and one more than before for the next one)",
        example="2",
    )


def _image(example: str) -> Rule:
    return Rule(
        holds=_matches(images.IMAGE),
        text="it has to be the name of an image at imageRegistry, such as python:3.13-alpine, or a whole reference "
        "that begins with a registry's host, such as docker.io/library/python:3.13-alpine",
        example=example,
    )


_TIMEOUT = Rule(holds=_matches(_DURATION), text="a time-out is a whole number and s, m or h", example="2m")

RULES: Mapping[str, Rule] = {
    "namespace": Rule(
        holds=_empty_or(_matches(_LABEL)),
        text="a namespace's name is at most 63 lower-case letters, digits and inner dashes",
        example="registry-pr-42",
    ),
    "imageRegistry": Rule(
        holds=_matches(images.REGISTRY),
        text="it has to be a registry's host, with a path if there is one, and without https:// or a slash at its end",
        example="mirror.example.com/library",
    ),
    "registryImage": _image("registry:3"),
    "nginxImage": _image("nginx:stable-alpine-slim"),
    "pythonImage": _image("python:3.13-alpine"),
    "storage": _one_of(get_args(StorageKind)),
    "storageSize": Rule(
        holds=_empty_or(_matches(_QUANTITY)),
        text="a volume's size is a Kubernetes quantity",
        example="10Gi",
    ),
    "storageClass": _class("a StorageClass", "storageclass", "standard"),
    "s3Bucket": Rule(
        holds=_empty_or(_matches(_BUCKET)),
        text="a bucket's name is 3 to 63 lower-case letters, digits, dots and dashes",
        example="team-images",
    ),
    "s3Region": Rule(
        holds=_empty_or(_matches("[a-z0-9][a-z0-9-]{0,62}")),
        text="a region's name is lower-case letters, digits and dashes",
        example="eu-central-1",
    ),
    "s3Endpoint": Rule(
        holds=_empty_or(_is_origin),
        text="it has to be http:// or https://, a host in lower case, and :PORT if need be, without a path",
        example="https://s3.example.com:9000",
    ),
    "s3Ca": Rule(
        holds=_empty_or(_matches(_CERTIFICATES)),
        text="it has to be one CA certificate or more in the format PEM",
        example="< ca.crt",
    ),
    "replicas": Rule(
        holds=_matches("[1-9][0-9]?"),
        text="it has to be a whole number from 1 to 99",
        example="2",
    ),
    "exposure": _one_of(get_args(Exposure)),
    "ingressClass": _class("an IngressClass", "ingressclass", "nginx"),
    "gatewayClass": _class("a GatewayClass", "gatewayclass", "traefik"),
    "gatewayPort": Rule(
        holds=_is_port,
        text="a TCP port is a whole number from 1 to 65535",
        example="8443",
    ),
    "loadBalancerClass": Rule(
        holds=_empty_or(lambda value: _NAME.fullmatch(value) is not None),
        text="the class of a load balancer is a name such as service.k8s.aws/nlb",
        example="service.k8s.aws/nlb",
    ),
    "nodePort": Rule(
        holds=lambda value: value == "0" or _is_port(value),
        text="a TCP port is a whole number from 1 to 65535, and 0 leaves the choice to Kubernetes",
        example="30443",
    ),
    "address": Rule(
        holds=_empty_or(lambda value: (is_ip_address(value) or is_host_name(value)) and not is_loopback(value)),
        text="it has to be an IPv4 or IPv6 address, or a DNS name, in lower case, and none under which every machine "
        "reaches itself",
        example="192.0.2.10",
    ),
    "host": Rule(
        holds=_empty_or(_is_host),
        text="it has to be a DNS name of two parts or more in lower case, with :PORT if that is not 443",
        example="registry.example.com",
    ),
    "dnsSuffix": Rule(
        holds=lambda value: "." in value and is_dns_name(value),
        text="it has to be a DNS domain in lower case, without a dot at its ends",
        example="nip.io",
    ),
    "certificateIssuer": _one_of(get_args(Issuer)),
    "issuer": Rule(
        holds=_empty_or(is_dns_name),
        text="a ClusterIssuer's name is a DNS name (kubectl get clusterissuers lists them)",
        example="letsencrypt",
    ),
    "caVersion": _counts("CAs"),
    "auth": _one_of(get_args(Auth)),
    "passwordVersion": _counts("passwords"),
    "addressTimeout": replace(_TIMEOUT, holds=_empty_or(_TIMEOUT.holds)),
    "readyTimeout": _TIMEOUT,
    "nodeTrust": _one_of(get_args(NodeTrust)),
}
"""The rules of the settings that are texts or numbers, by the setting's key."""


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


SECRET_KEYS = ("s3AccessKey", "s3SecretKey")
"""The settings of the storage that have to be set as secrets."""
_BUCKET_KEYS = ("s3Bucket", "s3Region", "s3Endpoint", "s3Ca", *SECRET_KEYS)
STORAGE_KEYS = ("storage", "storageSize", "storageClass", "replicas", *_BUCKET_KEYS)
"""The settings of the storage."""
_SIMPLE = (_camel(each.name) for each in fields(Settings) if not is_dataclass(each.type))
KEYS = (*_SIMPLE, *images.KEYS, *STORAGE_KEYS)
"""Every key under the project's own name, as Pulumi.yaml spells it."""


def checked(key: str, value: str) -> str:
    """`value`, if it keeps the rule of `key`.

    Raises:
        SettingError: it does not.
    """
    rule = RULES.get(key)
    if rule and not rule.holds(value):
        raise SettingError(key, value, rule.text, rule.example)
    return value


def _parsed(value: str) -> object:
    """What is in a setting that the configuration holds as JSON; None if it is none."""
    try:
        return json.loads(value)
    except ValueError:
        return None


def namespaces(key: str, value: str) -> tuple[str, ...]:
    """The namespaces in a setting whose value is a list; the configuration holds it as JSON.

    Raises:
        SettingError: the value is no list, or something in it cannot be a namespace's name.
    """
    found = _parsed(value)
    rule = ""
    if not isinstance(found, list):
        rule = "it has to be a list of namespaces"
    elif "*" in found:
        rule = (
            "each namespace has to be named: what is for all of them would reach whoever can read Secrets in any, and "
            "namespaces that are made later would still go without"
        )
    elif not all(isinstance(name, str) and _LABEL.fullmatch(name) for name in cast(list[object], found)):
        rule = "a namespace's name is at most 63 lower-case letters, digits and inner dashes"
    if rule:
        raise SettingError(key, value, rule, "team-a", path=f"--path '{key}[0]'")
    return tuple(dict.fromkeys(cast(list[str], found)))


def annotations(key: str, value: str) -> dict[str, str]:
    """The annotations in a setting whose value is an object; the configuration holds it as JSON.

    `pulumi config set --path` stores `true` and `1` as what they are in JSON, and an annotation is always a text.

    Raises:
        SettingError: the value is no object, or something in it cannot be an annotation.
    """
    found = _parsed(value)
    rule = ""
    made: dict[str, str] = {}
    if not isinstance(found, dict):
        rule = "it has to be annotations, each a name and a text"
    else:
        for name, text in cast(dict[str, object], found).items():
            if not _NAME.fullmatch(name):
                rule = f"{name!r} cannot be the name of an annotation"
            elif name.partition("/")[0].endswith("pulumi.com"):
                rule = f"{name} is an order to Pulumi's own provider, which the program gives itself"
            elif isinstance(text, str):
                made[name] = text
            elif isinstance(text, bool | int):
                made[name] = json.dumps(text)
            else:
                rule = f"the value of {name} has to be a text"
    if rule:
        example = "service.beta.kubernetes.io/aws-load-balancer-scheme"
        raise SettingError(key, value, rule, "internal", path=f"--path '{key}[\"{example}\"]'")
    return made


def networks(key: str, value: str) -> tuple[str, ...]:
    """The networks in a setting whose value is a list of CIDRs; the configuration holds it as JSON.

    Raises:
        SettingError: the value is no list, or something in it is no network.
    """
    found = _parsed(value)
    rule = ""
    if not isinstance(found, list):
        rule = "it has to be a list of networks"
    else:
        for text in cast(list[object], found):
            try:
                network = ipaddress.ip_network(text, strict=False) if isinstance(text, str) and "/" in text else None
            except ValueError:
                network = None
            if network is None:
                rule = f"{text!r} is no network with the length of its prefix"
            elif str(network) != text:
                rule = f"{text} is an address in the network {network}"
    if rule:
        raise SettingError(key, value, rule, "10.0.0.0/8", path=f"--path '{key}[0]'")
    return tuple(dict.fromkeys(cast(list[str], found)))


def secret(config: pulumi.Config, key: str) -> pulumi.Output[str] | None:
    """The value of a setting that has to be a secret; None if it is not set.

    Raises:
        pulumi.RunError: the value is in plain text. The message does not hold it.
    """
    value = (config.get(key) or "").strip()
    if not value:
        return None
    if not is_config_secret(config.full_key(key)):
        raise pulumi.RunError(
            f"The setting {config.full_key(key)} is in plain text in the stack's configuration, but it has to be a "
            f"secret, so that no file and no state shows it. Set it with: pulumi config set --secret {key} (without a "
            "value, so that it is asked for, or read from a pipe). If others could read the file, make a new key first."
        )
    return pulumi.Output.secret(value)


def _storage(config: pulumi.Config, text: Callable[[str], str]) -> Storage:
    """The settings of the storage, which have to fit each other.

    Raises:
        pulumi.RunError: one breaks its rule, or they do not fit.
    """
    kind = cast(StorageKind, text("storage"))
    values = {key: text(key) for key in STORAGE_KEYS if key not in SECRET_KEYS}
    keys = {key: secret(config, key) for key in SECRET_KEYS}
    given = [key for key in _BUCKET_KEYS if values.get(key) or keys.get(key)]
    replicas = int(values["replicas"])
    if kind != "s3":
        if given:
            rule = f"{given[0]} is set, which is for images in a bucket only"
            raise SettingError("storage", kind, rule, "s3", more=f"or remove it: pulumi config rm {given[0]}")
        if replicas > 1:
            rule = "several pods can serve the same images only from a bucket"
            raise SettingError("replicas", str(replicas), rule, "1", more="or keep images in one: see s3Bucket")
        bucket = None
    else:
        bucket = _bucket(values, keys)
    return Storage(
        kind=kind,
        size=values["storageSize"] or SIZES[kind],
        storage_class=values["storageClass"],
        bucket=bucket,
        replicas=replicas,
    )


def _bucket(values: Mapping[str, str], keys: Mapping[str, pulumi.Output[str] | None]) -> Bucket:
    """The settings of the bucket, which have to fit each other.

    Raises:
        SettingError: they do not.
    """
    endpoint, region = values["s3Endpoint"], values["s3Region"]
    for key in ("storageSize", "storageClass"):
        if values[key]:
            more = f"or remove it: pulumi config rm {key}"
            raise SettingError("storage", "s3", f"{key} is set, and a bucket has none", "volume", more=more)
    if not values["s3Bucket"]:
        raise SettingError("s3Bucket", "", "storage is s3, so a bucket has to be named", "team-images")
    if not region and not endpoint:
        raise SettingError("s3Region", "", "Amazon's S3 has to be told the region of the bucket", "eu-central-1")
    if values["s3Ca"] and not endpoint.startswith("https://"):
        rule = "s3Ca is set, which is for an endpoint with TLS only"
        more = "or remove it: pulumi config rm s3Ca"
        raise SettingError("s3Endpoint", endpoint, rule, "https://s3.example.com:9000", more=more)
    access, hidden = (keys[key] for key in SECRET_KEYS)
    if (access is None) != (hidden is None):
        missing, there = SECRET_KEYS if access is None else reversed(SECRET_KEYS)
        rule = f"{there} is set, and one is of no use without the other"
        raise SettingError(missing, "", rule, missing, path="--secret", more=f"or remove it: pulumi config rm {there}")
    return Bucket(
        name=values["s3Bucket"],
        # Servers other than Amazon's mostly have one region, and call it by this name.
        region=region or "us-east-1",
        endpoint=endpoint,
        ca=values["s3Ca"],
        keys=(access, hidden) if access is not None and hidden is not None else None,
    )


PROVIDERS = (
    "pulumi", "kubernetes", "tls", "consul", "databricks", "docker", "grafana", "nomad", "postgresql", "vault"
)  # fmt: skip
"""Pulumi itself and its providers, as far as a setting of theirs has the name of one of ours, such as vault:address."""


def unknown_error(project: str, given: Iterable[str]) -> pulumi.RunError | None:
    """The error of a configuration with a key that would not have any effect.

    Either it is no setting, as a misspelled one; or it is one, but of another project, as after the project's name in
    Pulumi.yaml has changed.

    Args:
        project: The project's name, which is the first part of its keys.
        given: Every key of the configuration, such as `private-registry:host`; those of providers do not count.
    """
    for name in sorted(given):
        owner, _, key = name.partition(":")
        if owner == project and key not in KEYS:
            similar = difflib.get_close_matches(key, KEYS, n=1)
            meant = f" (perhaps {similar[0]} was meant)" if similar else ""
            return pulumi.RunError(
                f"The configuration has {name}, and there is no setting of that name{meant}; docs/settings.md lists "
                f"them all. Remove it: pulumi config rm {key}"
            )
        if owner != project and owner not in PROVIDERS and key in KEYS:
            return pulumi.RunError(
                f"The configuration has {name}, a setting of the project {owner}. This project is {project} (the name "
                f"in Pulumi.yaml), so it has no effect. Set {project}:{key} instead, and remove the other one: pulumi "
                f"config rm {name}"
            )
    return None


def _login(config: pulumi.Config, found: Mapping[str, str]) -> str:
    """The login with which nodes pull the images, which are given by setting; empty if there is none.

    Raises:
        pulumi.RunError: it is not kept as a secret, or is none for these images. No part of it is in the message.
    """
    key = config.full_key(LOGIN)
    login = (config.get(LOGIN) or "").strip()
    fault = "its value is not encrypted" if not is_config_secret(key) else images.login_fault(login, found)
    if login and fault:
        raise pulumi.RunError(
            f"The setting {key} has to be the content of Docker's config.json with a login for the registry that the "
            f"program's images come from, kept as a secret, but {fault}. Its value is not shown here. Set it with: "
            f"pulumi config set --secret {LOGIN} < config.json (docs/settings.md says how to get that file)"
        )
    return login


def load(config: pulumi.Config) -> Settings:
    """Read and check every setting of the stack.

    Raises:
        pulumi.RunError: a key is no setting, or a value breaks its rule (SettingError).
    """
    # pulumi.Config cannot list its keys. They are in one of these two places, which it reads itself.
    error = unknown_error(config.name, {*get_config_env(), *CONFIG.get()})
    if error:
        raise error

    def text(key: str) -> str:
        return checked(key, (config.get(key) or "").strip())

    def flag(key: str) -> bool:
        value = text(key)
        if value not in ("true", "false"):
            raise SettingError(key, value, "it has to be true or false", "true")
        return value == "true"

    found = {key: images.whole(text(key), text(images.KEYS[0])) for key in images.KEYS[1:]}
    login = _login(config, found)
    return Settings(
        namespace=text("namespace"),
        images=Images(*found.values(), pull_secret=names.IMAGE_LOGIN if login else None),
        image_pull_secret=login,
        storage=_storage(config, text),
        allow_data_loss=flag("allowDataLoss"),
        exposure=cast(Exposure, text("exposure")),
        ingress_class=text("ingressClass"),
        gateway_class=text("gatewayClass"),
        gateway_port=int(text("gatewayPort")),
        ingress_annotations=annotations("ingressAnnotations", text("ingressAnnotations")),
        service_annotations=annotations("serviceAnnotations", text("serviceAnnotations")),
        load_balancer_class=text("loadBalancerClass"),
        allowed_sources=networks("allowedSources", text("allowedSources")),
        node_port=int(text("nodePort")),
        address=text("address"),
        host=text("host"),
        dns_suffix=text("dnsSuffix"),
        certificate_issuer=cast(Issuer, text("certificateIssuer")),
        issuer=text("issuer"),
        ca_version=int(text("caVersion")),
        auth=cast(Auth, text("auth")),
        password_version=int(text("passwordVersion")),
        pull_namespaces=namespaces("pullNamespaces", text("pullNamespaces")),
        attach_pull_secret=flag("attachPullSecret"),
        ca_namespaces=namespaces("caNamespaces", text("caNamespaces")),
        advertise=flag("advertise"),
        address_timeout=text("addressTimeout"),
        ready_timeout=text("readyTimeout"),
        node_trust=cast(NodeTrust, text("nodeTrust")),
        runtime_restart=flag("runtimeRestart"),
    )
