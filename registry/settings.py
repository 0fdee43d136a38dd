"""The program's settings: read once from the stack's configuration, checked, and handed on as one frozen value.

The defaults and their descriptions are in Pulumi.yaml, where `pulumi config` shows them; this module holds the rules.
"""

import difflib
import ipaddress
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Literal, cast, get_args

import pulumi
from pulumi.runtime.config import CONFIG, get_config_env

from .hostname import is_dns_name, is_host_name, is_ip_address

_QUANTITY = re.compile(r"[1-9][0-9]*(\.[0-9]+)?(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)?")
_DURATION = re.compile(r"([1-9][0-9]*)(s|m|h)")
# The grammar of image references (github.com/distribution/reference, reference.go).
_PATH = r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*"
_IMAGE = re.compile(
    rf"(?:[A-Za-z0-9.-]+(?::[0-9]+)?/)?{_PATH}(?:/{_PATH})*(?::\w[\w.-]{{0,127}})?(?:@sha256:[0-9a-f]{{64}})?"
)
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
# A qualified name of Kubernetes, such as the key of an annotation (apimachinery, pkg/util/validation).
_NAME = re.compile(
    r"(?=.{1,317}$)([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
)


class SettingError(pulumi.RunError):
    """The error of a setting that breaks its rule. The message names the key, the value, the rule and the fix."""

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
        super().__init__(
            f"The setting {project}:{key} is {value!r}, but {rule}. Set it with, for example: "
            f"pulumi config set {path or key} {example}{more and '; ' + more}"
        )


Auth = Literal["auto", "none", "push", "basic"]
Exposure = Literal["ingress", "loadBalancer", "nodePort", "gateway"]
Issuer = Literal["tls", "cert-manager"]
NodeTrust = Literal["agent", "external"]
Storage = Literal["volume", "memory"]

SIZES: Mapping[Storage, str] = {"volume": "10Gi", "memory": "2Gi"}
"""The size of the storage where the settings name none. A node has to have the memory to spare."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a user can set. Each field is the key of the same name in camelCase; see Pulumi.yaml for the defaults."""

    namespace: str
    """Name of the namespace that the stack makes; empty for the one that it has, or a name made from the stack's."""
    registry_image: str
    """Image of the registry (distribution v3)."""
    nginx_image: str
    """Image of nginx with a POSIX shell, for the container in front of the registry."""
    python_image: str
    """Image with Python 3.12 or newer for the node agent and for the container that pushes the proof image."""
    storage: Storage
    """Where images are kept: on a volume, or in the memory of the pod's node."""
    storage_size: str
    """Size of the volume, or the most that is kept in memory, as a Kubernetes quantity."""
    storage_class: str
    """StorageClass of the volume; empty for the cluster's default one."""
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


def _image(example: str) -> Rule:
    return Rule(holds=_matches(_IMAGE), text="it has to be an image reference", example=example)


_TIMEOUT = Rule(holds=_matches(_DURATION), text="a time-out is a whole number and s, m or h", example="2m")

RULES: Mapping[str, Rule] = {
    "namespace": Rule(
        holds=_empty_or(_matches(_LABEL)),
        text="a namespace's name is at most 63 lower-case letters, digits and inner dashes",
        example="registry-pr-42",
    ),
    "registryImage": _image("docker.io/library/registry:3"),
    "nginxImage": _image("docker.io/library/nginx:stable-alpine-slim"),
    "pythonImage": _image("docker.io/library/python:3.13-alpine"),
    "storage": _one_of(get_args(Storage)),
    "storageSize": Rule(
        holds=_empty_or(_matches(_QUANTITY)),
        text="a volume's size is a Kubernetes quantity",
        example="10Gi",
    ),
    "storageClass": _class("a StorageClass", "storageclass", "standard"),
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
        holds=_empty_or(lambda value: is_ip_address(value) or is_host_name(value)),
        text="it has to be an IPv4 or IPv6 address, or a DNS name, in lower case",
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
    "auth": _one_of(get_args(Auth)),
    "passwordVersion": Rule(
        holds=_matches("[1-9][0-9]{0,8}"),
        text=(
            "it counts the passwords, so it has to be a whole number from 1 (and one more than before for the next one)"
        ),
        example="2",
    ),
    "addressTimeout": replace(_TIMEOUT, holds=_empty_or(_TIMEOUT.holds)),
    "readyTimeout": _TIMEOUT,
    "nodeTrust": _one_of(get_args(NodeTrust)),
}
"""The rules of the settings that are texts or numbers, by the setting's key."""


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


KEYS = tuple(_camel(field.name) for field in fields(Settings))
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


def namespaces(key: str, value: str) -> tuple[str, ...]:
    """The namespaces in a setting whose value is a list; the configuration holds it as JSON.

    Raises:
        SettingError: the value is no list, or something in it cannot be a namespace's name.
    """
    try:
        found: object = json.loads(value)
    except ValueError:
        found = None
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
    try:
        found: object = json.loads(value)
    except ValueError:
        found = None
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
    try:
        found: object = json.loads(value)
    except ValueError:
        found = None
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


def unknown_error(project: str, given: Iterable[str]) -> pulumi.RunError | None:
    """The error of a configuration with a key that is no setting: a misspelled one would not have any effect.

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
    return None


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

    return Settings(
        namespace=text("namespace"),
        registry_image=text("registryImage"),
        nginx_image=text("nginxImage"),
        python_image=text("pythonImage"),
        storage=cast(Storage, text("storage")),
        storage_size=text("storageSize") or SIZES[cast(Storage, text("storage"))],
        storage_class=text("storageClass"),
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
