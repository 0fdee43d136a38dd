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

exposure = registry.EXPOSURES[settings.exposure]("exposure", registry.ExposureArgs(
    namespace=namespace, cluster=cluster, address=settings.address, host_is_set=bool(settings.host),
    ingress_class=settings.ingress_class, timeout=settings.address_timeout,
))
host = pulumi.Output.all(exposure.address, exposure.port).apply(lambda at: registry.host_of(settings, stack, *at))
certificate = registry.ISSUERS[settings.certificate_issuer]("certificate", registry.CertificateArgs(
    namespace=namespace, host=host, timeout=timeout,
))
address, reached_at = exposure.address, exposure.addresses
if isinstance(exposure, registry.IngressAddress):
    ingress = registry.Ingress("ingress", registry.IngressArgs(
        namespace=namespace, host=host, address=address, address_is_set=bool(settings.address),
        certificate=certificate.secret, service=exposure.service, ingress_class=settings.ingress_class, timeout=timeout,
    ))
    host, address = ingress.host, ingress.address
    reached_at = ingress.addresses if settings.address or settings.host else reached_at
credentials = registry.Credentials("registry", registry.CredentialsArgs(
    namespace=namespace, auth=settings.auth, host=host, addresses=reached_at,
    password_version=settings.password_version,
))
in_front = isinstance(exposure, registry.IngressAddress)
store = registry.Registry("registry", registry.RegistryArgs(
    namespace=namespace, image=settings.registry_image, python_image=settings.python_image,
    host=None if in_front else host, certificate=None if in_front else certificate.secret,
    secret=credentials.secret, password=credentials.required,
    in_memory=settings.storage == "memory", storage_size=settings.storage_size, storage_class=settings.storage_class,
    timeout=timeout,
))
lookup = k8s.core.v1.ConfigMap(
    "lookup",
    metadata=k8s.meta.v1.ObjectMetaArgs(name="private-registry", namespace=namespace),
    data={"host": host, "address": address, "ca.crt": certificate.ca_certificate},
)
if settings.pull_namespaces or settings.ca_namespaces or settings.advertise:
    sharing = registry.Sharing("sharing", registry.SharingArgs(
        object_name=registry.registry_label(stack), host=host, lookup=lookup.data, attach=settings.attach_pull_secret,
        docker_config=credentials.docker_config, pull_namespaces=settings.pull_namespaces,
        ca_namespaces=settings.ca_namespaces, advertise=settings.advertise,
    ))
    pulumi.export("pullSecret", sharing.pull_secret)
nodes = trust.Trust("trust", trust.TrustArgs(
    namespace=namespace, host=host, ca_config_map=lookup.metadata.name, proof=store.proof,
    pull_secret=credentials.pull_secret,
    python_image=settings.python_image, runtime_restart=settings.runtime_restart, timeout=timeout,
))
registry.check_here(host, address, settings.dns_suffix)

# The URL waits for the nodes: who has it can use it.
pulumi.export("registryUrl", pulumi.Output.all(host, nodes.daemon_set).apply(lambda values: values[0]))
pulumi.export("caCertificate", certificate.ca_certificate)
pulumi.export("address", address)
pulumi.export("namespace", namespace)
pulumi.export("configMap", lookup.metadata.name)
setup = pulumi.Output.all(host, certificate.ca_certificate, credentials.username).apply(
    lambda made: registry.client_setup(*made)
)
pulumi.export("clientSetup", setup)
pulumi.export("username", credentials.username)  # with `password` only where one is asked for
pulumi.export("password", credentials.password)
