"""The ConfigMaps that describe the registry: one for programs, and one with the snippets for people with kubectl."""

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as k8s

from .. import names
from ..exposure.contract import Served
from .snippets import client_setup


@dataclass(frozen=True, kw_only=True)
class LookupArgs:
    """What a `Lookup` needs."""

    namespace: pulumi.Input[str]
    """Namespace of the ConfigMaps."""
    served: Served
    """The registry's host, and the address at which it is reached."""
    ca_certificate: pulumi.Input[str]
    """The CA's certificates, PEM; empty if the registry's certificate is publicly trusted."""
    username: pulumi.Input[str | None]
    """The user who has the password; None if the registry asks for none."""


class Lookup(pulumi.ComponentResource):
    """Two ConfigMaps: one with host, address and CA, which nodes and builders mount, and one with the snippets.

    Ready when: 1. both exist. Delete removes them.
    Does not: hold a password.
    """

    config_map: pulumi.Output[str]
    """Name of the ConfigMap with host, address and CA; the CA's key is `ca.crt`."""
    data: pulumi.Output[Mapping[str, str]]
    """What is in that ConfigMap."""

    def __init__(self, name: str, args: LookupArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make the ConfigMaps. `name` is the prefix of the resources' names."""
        super().__init__("private-registry:registry:Lookup", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        facts = k8s.core.v1.ConfigMap(
            f"{name}-facts",
            metadata=k8s.meta.v1.ObjectMetaArgs(
                name=names.LOOKUP, namespace=args.namespace, labels=names.labels(names.REGISTRY)
            ),
            data={"host": args.served.host, "address": args.served.address, "ca.crt": args.ca_certificate},
            opts=child,
        )
        # Its keys are the names of the clients.
        k8s.core.v1.ConfigMap(
            f"{name}-client-setup",
            metadata=k8s.meta.v1.ObjectMetaArgs(
                name=names.CLIENT_SETUP, namespace=args.namespace, labels=names.labels(names.REGISTRY)
            ),
            data=pulumi.Output.all(args.served.host, args.ca_certificate, args.username, args.namespace).apply(
                lambda known: client_setup(*known, stack=pulumi.get_stack())
            ),
            opts=child,
        )
        self.config_map = facts.metadata.name
        self.data = facts.data
        self.register_outputs({"configMap": self.config_map, "data": self.data})
