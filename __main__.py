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
behind_ingress = isinstance(exposure, registry.IngressAddress)
store = registry.Registry("registry", registry.RegistryArgs(
    namespace=namespace, image=settings.registry_image, python_image=settings.python_image,
    host=None if behind_ingress else host, certificate=None if behind_ingress else certificate.secret,
    in_memory=settings.storage == "memory", storage_size=settings.storage_size, storage_class=settings.storage_class,
    timeout=timeout,
))
address = exposure.address
if isinstance(exposure, registry.IngressAddress):
    ingress = registry.Ingress("ingress", registry.IngressArgs(
        namespace=namespace, host=host, address=address, address_is_set=bool(settings.address),
        certificate=certificate.secret, service=exposure.service, ingress_class=settings.ingress_class, timeout=timeout,
    ))
    host, address = ingress.host, ingress.address

lookup = k8s.core.v1.ConfigMap(
    "lookup",
    metadata=k8s.meta.v1.ObjectMetaArgs(name="private-registry", namespace=namespace),
    data={"host": host, "address": address, "ca.crt": certificate.ca_certificate},
)
nodes = trust.Trust("trust", trust.TrustArgs(
    namespace=namespace, host=host, ca_config_map=lookup.metadata.name, proof=store.proof,
    python_image=settings.python_image, runtime_restart=settings.runtime_restart, timeout=timeout,
))
registry.check_here(host, address, settings.dns_suffix)

# The URL waits for the nodes: who has it can use it.
pulumi.export("registryUrl", pulumi.Output.all(host, nodes.daemon_set).apply(lambda values: values[0]))
pulumi.export("caCertificate", certificate.ca_certificate)
pulumi.export("address", address)
pulumi.export("namespace", namespace)
pulumi.export("configMap", lookup.metadata.name)
setup = pulumi.Output.all(host, certificate.ca_certificate).apply(lambda made: registry.client_setup(*made))
pulumi.export("clientSetup", setup)
