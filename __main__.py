"""A private image registry that every kubelet of the cluster trusts. Read top to bottom: each part feeds the next."""

import pulumi

import registry.stack.python_version  # noqa: F401  # pyright: ignore[reportUnusedImport] - it refuses an older Python
from registry import names
from registry.certificate.choice import make_certificate
from registry.clients.local_dns import resolved
from registry.clients.lookup import Lookup, LookupArgs
from registry.clients.namespace_shares import make_shares
from registry.cluster import Cluster
from registry.credentials import Credentials, CredentialsArgs, with_image_login
from registry.exposure.choice import make_exposure
from registry.exposure.moved import confirmed
from registry.exposure.taken import own_host
from registry.registry import Registry, RegistryArgs, registry_pod
from registry.settings import load
from registry.stack.identity import make_identity
from registry.stack.preflight import preflight
from registry.stack.recorded import read_state
from trust.admission import admitted
from trust.daemonset import NodeTrust, NodeTrustArgs, trust_pod
from trust.handover import hand_over
from trust.letting_go import let_go

settings, cluster, recorded = load(pulumi.Config()), Cluster(), read_state()
volume_anew = preflight(settings, cluster, recorded)
let_go(settings, cluster, recorded.namespace)

# 1. The stack is a namespace of one cluster, and the way in has an address.
identity = make_identity("identity", settings, cluster, recorded)
samples = [trust_pod(settings), registry_pod(settings, cluster)]
namespace = admitted(identity.namespace, cluster, samples, recorded.constraints, settings.ready_timeout)
namespace = with_image_login("image-login", settings.image_pull_secret, namespace)
exposure = make_exposure(settings, cluster, namespace, recorded.exposure)

# 2. The host is made from namespace and address, and is served with its certificate.
host = pulumi.Output.all(namespace, exposure.address, exposure.port).apply(lambda it: own_host(settings, cluster, *it))
certificate = make_certificate("certificate", settings, namespace, host, cluster, recorded.certificates, hand_over)
served = exposure.serve(host, certificate.secret).unordered()
early = served.host if recorded.registry else host  # nobody pulls from a new stack yet

# 3. The registry runs behind it, asks for a password before pushes, and holds the proof image.
credentials = Credentials(
    "credentials",
    CredentialsArgs(
        namespace=namespace,
        seed=identity.seed,
        auth=settings.auth,
        host=early,
        addresses=served.addresses,
        password_version=settings.password_version,
    ),
)
registry = Registry(
    names.REGISTRY,
    RegistryArgs(
        namespace=namespace,
        cluster=cluster,
        images=settings.images,
        host=early,
        tls_secret=certificate.secret,
        secret=credentials.secret,
        auth=credentials.mode,
        storage=settings.storage,
        seed=identity.seed,
        volume_anew=volume_anew,
        timeout=settings.ready_timeout,
    ),
)

# 4. Clients, builders and other namespaces can look it up.
lookup = Lookup(
    "lookup",
    LookupArgs(
        namespace=namespace,
        served=served,
        ca_certificate=certificate.ca_certificate,
        username=credentials.username,
    ),
)
shares = make_shares("shares", settings, identity, served.host, lookup.data, credentials.docker_config)

# 5. Every node trusts it, and has pulled the proof image. A new stack's nodes begin while the registry starts.
nodes = NodeTrust(
    "trust",
    NodeTrustArgs(
        settings=settings,
        namespace=namespace,
        cluster=cluster,
        host=resolved(served.host, served.address, settings, recorded.exposure.addresses),
        lookup=lookup,
        proof=registry.proof,
        ready=confirmed(served, cluster, registry.ready),
        first=not recorded.daemon_set,
        pull_secret=credentials.pull_secret,
    ),
)
identity.guard(namespace)
pulumi.export("registryUrl", identity.without_former(confirmed(served, cluster, nodes.daemon_set)))
pulumi.export("address", served.address)
pulumi.export("caCertificate", certificate.ca_certificate)
pulumi.export("namespace", namespace)
pulumi.export("configMap", lookup.config_map)
pulumi.export("username", credentials.username)
pulumi.export("password", credentials.password)
pulumi.export("sharedName", shares and shares.object_name)
pulumi.export("removeImages", registry.removal)
pulumi.export("clusterId", identity.cluster_id)
pulumi.export("version", names.VERSION)
