"""A private image registry that every kubelet of the cluster trusts. Read top to bottom: each part feeds the next."""

import pulumi
import pulumi_kubernetes as k8s

from registry import names
from registry.certificate.choice import make_certificate
from registry.clients.local_dns import warn_if_unresolved
from registry.clients.lookup import Lookup, LookupArgs
from registry.clients.namespace_shares import make_shares
from registry.cluster import Cluster
from registry.credentials import Credentials, CredentialsArgs
from registry.exposure.address import host_of
from registry.exposure.choice import make_exposure
from registry.hostname import registry_label
from registry.preflight import NAMESPACE_LABELS, preflight
from registry.registry import Registry, RegistryArgs, registry_pod
from registry.settings import load
from registry.waiting import after, timeouts
from trust.admission import admitted
from trust.daemonset import NodeTrust, NodeTrustArgs, agent_pod

settings = load(pulumi.Config())
stack = pulumi.get_stack()
cluster = Cluster()
preflight(settings, cluster)

# 1. The way in has an address.
namespace = k8s.core.v1.Namespace(
    registry_label(stack),
    metadata=k8s.meta.v1.ObjectMetaArgs(name=settings.namespace or None, labels=NAMESPACE_LABELS),
    opts=pulumi.ResourceOptions(custom_timeouts=timeouts(settings.ready_timeout)),
).metadata.name
samples = [agent_pod(settings.python_image, settings.host, settings.dns_suffix), registry_pod(settings, cluster)]
namespace = admitted("trust-admission", namespace, cluster, samples, settings.ready_timeout)
exposure = make_exposure("exposure", settings, cluster, namespace)

# 2. The host is made from the address, and is served with its certificate.
host = pulumi.Output.all(exposure.address, exposure.port).apply(lambda way_in: host_of(settings, stack, *way_in))
certificate = make_certificate("certificate", settings, namespace, host)
served = exposure.serve(host, certificate.secret)

# 3. The registry runs behind it, asks for a password if its address is public, and holds the proof image.
credentials = Credentials(
    "credentials",
    CredentialsArgs(
        namespace=namespace,
        auth=settings.auth,
        host=served.host,
        addresses=served.addresses,
        password_version=settings.password_version,
    ),
)
registry = Registry(
    names.REGISTRY,
    RegistryArgs(
        namespace=namespace,
        cluster=cluster,
        image=settings.registry_image,
        python_image=settings.python_image,
        host=served.host,
        tls_secret=served.tls_secret,
        secret=credentials.secret,
        asks_password=credentials.required,
        in_memory=settings.storage == "memory",
        storage_size=settings.storage_size,
        storage_class=settings.storage_class,
        timeout=settings.ready_timeout,
    ),
)

# 4. Clients, builders and other namespaces can look it up.
lookup = Lookup(
    "lookup",
    LookupArgs(
        namespace=namespace,
        host=served.host,
        address=served.address,
        ca_certificate=certificate.ca_certificate,
        username=credentials.username,
    ),
)
shares = make_shares("shares", settings, stack, served.host, lookup.data, credentials.docker_config)
warn_if_unresolved(served.host, served.address, settings.dns_suffix)

# 5. Every node trusts it, and has pulled the proof image.
nodes = NodeTrust(
    "trust",
    NodeTrustArgs(
        namespace=namespace,
        cluster=cluster,
        host=served.host,
        lookup_config_map=lookup.config_map,
        proof=registry.proof,
        pull_secret=credentials.pull_secret,
        python_image=settings.python_image,
        runtime_restart=settings.runtime_restart,
        timeout=settings.ready_timeout,
    ),
)
pulumi.export("registryUrl", after(served.host, nodes.daemon_set))
pulumi.export("address", served.address)
pulumi.export("caCertificate", certificate.ca_certificate)
pulumi.export("namespace", namespace)
pulumi.export("configMap", lookup.config_map)
pulumi.export("username", credentials.username)
pulumi.export("password", credentials.password)
pulumi.export("pullSecret", shares and shares.pull_secret)
pulumi.export("caConfigMap", shares and shares.ca_copies)
pulumi.export("version", names.VERSION)
