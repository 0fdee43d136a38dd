"""A private image registry that every kubelet of the cluster trusts. Read top to bottom: each part feeds the next."""

import pulumi
import pulumi_kubernetes as k8s

import registry
import trust

settings = registry.load(pulumi.Config())
cluster = registry.check(settings)
stack, timeout = pulumi.get_stack(), settings.ready_timeout
namespace = k8s.core.v1.Namespace(
    registry.registry_label(stack),
    metadata=k8s.meta.v1.ObjectMetaArgs(name=settings.namespace or None, labels=registry.NAMESPACE_LABELS),
    opts=pulumi.ResourceOptions(custom_timeouts=pulumi.CustomTimeouts(create=timeout, delete=timeout)),
).metadata.name.apply(lambda name: registry.allow_node_agent(cluster, name, settings.python_image))

exposure = registry.EXPOSURES[settings.exposure](
    "exposure",
    registry.ExposureArgs(
        namespace=namespace,
        cluster=cluster,
        address=settings.address,
        host_is_set=bool(settings.host),
        ingress_class=settings.ingress_class,
        gateway_class=settings.gateway_class,
        gateway_port=settings.gateway_port,
        timeout=settings.address_timeout,
    ),
)
host = pulumi.Output.all(exposure.address, exposure.port).apply(lambda at: registry.host_of(settings, stack, *at))
issuer = registry.ISSUERS[settings.certificate_issuer]
certificate = issuer("certificate", registry.CertificateArgs(namespace=namespace, host=host, timeout=timeout))
served = exposure.serve("ingress", host, certificate.secret)
credentials = registry.Credentials(
    "registry",
    registry.CredentialsArgs(
        namespace=namespace,
        auth=settings.auth,
        host=served.host,
        addresses=served.addresses,
        password_version=settings.password_version,
    ),
)
store = registry.Registry(
    "registry",
    registry.RegistryArgs(
        namespace=namespace,
        cluster=cluster,
        image=settings.registry_image,
        python_image=settings.python_image,
        host=host,
        certificate=served.certificate,
        secret=credentials.secret,
        password=credentials.required,
        timeout=timeout,
        in_memory=settings.storage == "memory",
        storage_size=settings.storage_size,
        storage_class=settings.storage_class,
    ),
)
lookup = k8s.core.v1.ConfigMap(
    "lookup",
    metadata=k8s.meta.v1.ObjectMetaArgs(name="private-registry", namespace=namespace),
    data={"host": served.host, "address": served.address, "ca.crt": certificate.ca_certificate},
)
if settings.pull_namespaces or settings.ca_namespaces or settings.advertise:
    sharing = registry.Sharing(
        "sharing",
        registry.SharingArgs(
            object_name=registry.registry_label(stack),
            host=served.host,
            lookup=lookup.data,
            docker_config=credentials.docker_config,
            attach=settings.attach_pull_secret,
            advertise=settings.advertise,
            pull_namespaces=settings.pull_namespaces,
            ca_namespaces=settings.ca_namespaces,
        ),
    )
    pulumi.export("pullSecret", sharing.pull_secret)
    pulumi.export("caConfigMap", sharing.ca_config_map)
nodes = trust.Trust(
    "trust",
    trust.TrustArgs(
        namespace=namespace,
        host=served.host,
        ca_config_map=lookup.metadata.name,
        proof=store.proof,
        timeout=timeout,
        pull_secret=credentials.pull_secret,
        python_image=settings.python_image,
        runtime_restart=settings.runtime_restart,
    ),
)
registry.check_here(served.host, served.address, settings.dns_suffix)

url = pulumi.Output.all(served.host, nodes.daemon_set).apply(lambda made: made[0])  # waits for the nodes
for_clients = pulumi.Output.all(served.host, certificate.ca_certificate, credentials.username)
for name, value in {
    "registryUrl": url,
    "caCertificate": certificate.ca_certificate,
    "address": served.address,
    "namespace": namespace,
    "configMap": lookup.metadata.name,
    "clientSetup": for_clients.apply(lambda made: registry.client_setup(*made)),
    "username": credentials.username,
    "password": credentials.password,  # only where one is asked for
}.items():
    pulumi.export(name, value)
