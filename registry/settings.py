"""The program's settings: read once from the stack's configuration, checked, and handed on as one frozen value.

The defaults and their descriptions are in Pulumi.yaml, where `pulumi config` shows them; this module holds the rules.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Literal, cast, get_args

import pulumi

from .hostname import is_dns_name, is_host_name, is_ip_address

_QUANTITY = re.compile(r"[1-9][0-9]*(\.[0-9]+)?(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)?")
_DURATION = re.compile(r"([1-9][0-9]*)(s|m|h)")
# The grammar of image references (github.com/distribution/reference, reference.go).
_PATH = r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*"
_IMAGE = re.compile(
    rf"(?:[A-Za-z0-9.-]+(?::[0-9]+)?/)?{_PATH}(?:/{_PATH})*(?::\w[\w.-]{{0,127}})?(?:@sha256:[0-9a-f]{{64}})?"
)
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


class SettingError(pulumi.RunError):
    """A setting that breaks its rule. The message names the key, the value, the rule and the fix."""

    def __init__(self, key: str, value: str, rule: str, example: str, *, more: str = "", path: str = "") -> None:
        """Build the message; `example` is a value that is right, `more` what else would help, `path` what to set."""
        project = pulumi.get_project()
        super().__init__(
            f"The setting {project}:{key} is {value!r}, but {rule}. Set it with, for example: "
            f"pulumi config set {path or key} {example}{more and '; ' + more}"
        )


Auth = Literal["auto", "none", "basic"]
Exposure = Literal["ingress", "loadBalancer", "nodePort", "gateway"]
Issuer = Literal["tls", "cert-manager"]
Storage = Literal["volume", "memory"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a user can set. Each field is the key of the same name in camelCase; see Pulumi.yaml for the defaults."""

    namespace: str
    """Name of the namespace that the stack makes; empty: a name made from the stack's."""
    registry_image: str
    """Image of the registry (distribution v3)."""
    python_image: str
    """Image with Python 3.12 or newer for the node agent and for the container that pushes the proof image."""
    storage: Storage
    """Where images are kept: on a volume, or in the memory of the pod's node."""
    storage_size: str
    """Most that is kept, a Kubernetes quantity."""
    storage_class: str
    """StorageClass of the volume; empty: the cluster's default one."""
    exposure: Exposure
    """The way in: an Ingress, a Service of type LoadBalancer, a port of the nodes, or a Gateway."""
    ingress_class: str
    """IngressClass of the Ingress; empty: the cluster's default one."""
    gateway_class: str
    """GatewayClass of the Gateway; empty: the cluster's only one."""
    gateway_port: int
    """TCP port of the Gateway's listener, as its controller knows it; clients always use 443."""
    address: str
    """IP address or host name at which the cluster is reached; empty: the one that the cluster tells."""
    host: str
    """The registry's host, with `:port` if it is not 443; empty: a name made from stack and address."""
    dns_suffix: str
    """Wildcard-DNS domain whose names resolve to the address that they hold."""
    certificate_issuer: Issuer
    """Who makes CA and certificate: this program, or the cluster's cert-manager."""
    auth: Auth
    """Who may push and pull: everyone, who has the password, or that only where the address is public."""
    password_version: int
    """Counting it up by one makes another password; the one before stays valid until the next time."""
    pull_namespaces: tuple[str, ...]
    """Namespaces that get a Secret with which their pods pull."""
    attach_pull_secret: bool
    """Whether pods of those namespaces that use the default ServiceAccount need not name the Secret."""
    ca_namespaces: tuple[str, ...]
    """Namespaces that get a copy of the ConfigMap with host, address and CA, for builders in the cluster."""
    advertise: bool
    """Whether development tools find the registry in kube-public (KEP-1755)."""
    address_timeout: str
    """How long to wait for the load balancer's address, such as `120s` or `2m`."""
    ready_timeout: str
    """How long to wait for each other thing to become ready or to be gone."""
    runtime_restart: bool
    """Whether the node agent may restart a container runtime that reads its configuration only at start."""


def _is_port(value: str) -> bool:
    return re.fullmatch("[1-9][0-9]{0,4}", value) is not None and int(value) < 65536


def _is_host(value: str) -> bool:
    name, colon, port = value.partition(":")
    return is_host_name(name) and (not colon or _is_port(port))


def _one_of(choices: tuple[str, ...]) -> tuple[Callable[[str], bool], str, str]:
    return choices.__contains__, f"it has to be one of {', '.join(choices)}", choices[0]


def _rule(pattern: re.Pattern[str], *, empty: bool = False) -> Callable[[str], bool]:
    return lambda value: (empty and not value) or pattern.fullmatch(value) is not None


_RULES: dict[str, tuple[Callable[[str], bool], str, str]] = {
    "namespace": (
        _rule(_LABEL, empty=True),
        "a namespace's name is at most 63 lower-case letters, digits and inner dashes",
        "registry-pr-42",
    ),
    "registryImage": (_rule(_IMAGE), "it has to be an image reference", "docker.io/library/registry:3"),
    "pythonImage": (_rule(_IMAGE), "it has to be an image reference", "docker.io/library/python:3.13-alpine"),
    "storageSize": (_rule(_QUANTITY), "a volume's size is a Kubernetes quantity", "10Gi"),
    "storageClass": (
        lambda value: not value or is_dns_name(value),
        "a StorageClass's name is a DNS name (kubectl get storageclass lists them)",
        "standard",
    ),
    "storage": _one_of(get_args(Storage)),
    "auth": _one_of(get_args(Auth)),
    "passwordVersion": (
        _rule(re.compile(r"[1-9][0-9]{0,8}")),
        "it counts the passwords, so it has to be a whole number from 1 (and one more than before for the next one)",
        "2",
    ),
    "exposure": _one_of(get_args(Exposure)),
    "certificateIssuer": _one_of(get_args(Issuer)),
    "address": (
        lambda value: not value or is_ip_address(value) or is_host_name(value),
        "it has to be an IPv4 or IPv6 address, or a DNS name, in lower case",
        "192.0.2.10",
    ),
    "host": (
        lambda value: not value or _is_host(value),
        "it has to be a DNS name of two parts or more in lower case, with :PORT if that is not 443",
        "registry.example.com",
    ),
    "ingressClass": (
        lambda value: not value or is_dns_name(value),
        "an IngressClass's name is a DNS name (kubectl get ingressclass lists them)",
        "nginx",
    ),
    "gatewayClass": (
        lambda value: not value or is_dns_name(value),
        "a GatewayClass's name is a DNS name (kubectl get gatewayclass lists them)",
        "traefik",
    ),
    "gatewayPort": (_is_port, "a TCP port is a whole number from 1 to 65535", "8443"),
    "dnsSuffix": (
        lambda value: "." in value and is_dns_name(value),
        "it has to be a DNS domain in lower case, without a dot at its ends",
        "nip.io",
    ),
    "addressTimeout": (_rule(_DURATION), "a time-out is a whole number and s, m or h", "2m"),
    "readyTimeout": (_rule(_DURATION), "a time-out is a whole number and s, m or h", "2m"),
}


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


KEYS = tuple(_camel(field.name) for field in fields(Settings))
"""Every key under the project's own name, as Pulumi.yaml spells it."""


def check(key: str, value: str) -> str:
    """`value`, if it keeps the rule of `key`.

    Raises:
        SettingError: it does not.
    """
    if key in _RULES:
        holds, rule, example = _RULES[key]
        if not holds(value):
            raise SettingError(key, value, rule, example)
    return value


def namespaces(key: str, value: str) -> tuple[str, ...]:
    """The names in a list of namespaces, as the configuration holds it: JSON.

    Raises:
        SettingError: it is no list, or holds what cannot be a namespace.
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


def load(config: pulumi.Config) -> Settings:
    """Read and check every setting of the stack.

    Raises:
        SettingError: a value breaks its rule.
    """

    def text(key: str) -> str:
        return check(key, (config.get(key) or "").strip())

    def flag(key: str) -> bool:
        value = text(key)
        if value not in ("true", "false"):
            raise SettingError(key, value, "it has to be true or false", "true")
        return value == "true"

    return Settings(
        namespace=text("namespace"),
        registry_image=text("registryImage"),
        python_image=text("pythonImage"),
        storage=cast(Storage, text("storage")),
        storage_size=text("storageSize"),
        storage_class=text("storageClass"),
        exposure=cast(Exposure, text("exposure")),
        ingress_class=text("ingressClass"),
        gateway_class=text("gatewayClass"),
        gateway_port=int(text("gatewayPort")),
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
        runtime_restart=flag("runtimeRestart"),
    )
