"""A private image registry that every kubelet of the cluster trusts. Read top to bottom: each part feeds the next."""

import pulumi
import pulumi_kubernetes as k8s

import registry
import trust

settings = registry.load(pulumi.Config())
stack = pulumi.get_stack()
timeout = settings.ready_timeout

namespace = k8s.core.v1.Namespace(
    registry.registry_label(stack),
    metadata=k8s.meta.v1.ObjectMetaArgs(
        name=settings.namespace or None,
        labels={"pod-security.kubernetes.io/enforce": "privileged"},  # the node agent is; the rest keeps "restricted"
    ),
    opts=pulumi.ResourceOptions(custom_timeouts=pulumi.CustomTimeouts(create=timeout, delete=timeout)),
).metadata.name

store = registry.Registry("registry", registry.RegistryArgs(
    namespace=namespace, image=settings.registry_image, python_image=settings.python_image,
    storage_size=settings.storage_size, storage_class=settings.storage_class, timeout=timeout,
))
address = registry.Address("address", registry.AddressArgs(
    namespace=namespace, service=store.service, port=registry.PORT, ingress_class=settings.ingress_class,
    timeout=settings.address_timeout,
)).address
host = address.apply(lambda ip: registry.registry_host(stack, ip, settings.dns_suffix))
certificate = registry.Certificate("certificate", registry.CertificateArgs(host=host))
ingress = registry.Ingress("ingress", registry.IngressArgs(
    namespace=namespace, host=host, address=address, chain=certificate.chain, private_key=certificate.private_key,
    service=store.service, port=registry.PORT, ingress_class=settings.ingress_class, timeout=timeout,
))
lookup = k8s.core.v1.ConfigMap(
    "lookup",
    metadata=k8s.meta.v1.ObjectMetaArgs(name="private-registry", namespace=namespace),
    data={"host": ingress.host, "address": address, "ca.crt": certificate.ca_certificate},
)
nodes = trust.Trust("trust", trust.TrustArgs(
    namespace=namespace, host=ingress.host, ca_config_map=lookup.metadata.name, proof=store.proof,
    python_image=settings.python_image, runtime_restart=settings.runtime_restart, timeout=timeout,
))

# The URL waits for the nodes: who has it can use it.
pulumi.export("registryUrl", pulumi.Output.all(ingress.host, nodes.daemon_set).apply(lambda values: values[0]))
pulumi.export("caCertificate", certificate.ca_certificate)
pulumi.export("address", address)
pulumi.export("namespace", namespace)
pulumi.export("configMap", lookup.metadata.name)
pulumi.export("clientSetup", pulumi.Output.all(ingress.host, certificate.ca_certificate).apply(
    lambda values: registry.client_setup(values[0], values[1])
))
