"""The names and the labels that more than one part of the program uses, and the program's version.

Each is said here once. This module imports nothing, so that every part may import it, also with the system's Python.
"""

VERSION = "0.1.1"
"""The program's version (semver.org). It is also the output `version`."""

REGISTRY = "registry"
"""Name of the registry's Deployment and of the Service with its plain port, and value of the label
`app.kubernetes.io/name` on what belongs to it."""
PROOF_CONTAINER = "proof-image"
"""The container of the registry's pod in whose log the pod says whether its storage takes what is pushed."""
CREDENTIALS = "registry-http"
"""Name of the Secret that holds the registry's credentials."""
IMAGE_LOGIN = "image-login"
"""Name of the Secret with which nodes pull the images of the program's own pods."""
BUCKET = "registry-s3"
"""Name of the Secret that holds the keys of the bucket with the registry's images."""
INGRESS = "ingress"
"""Name of the Ingress that serves the registry's host, and value of the name label on every Ingress of the program."""
CERTIFICATE = "certificate"
"""Value of the name label on everything that certificates are made of."""
LOOKUP = "private-registry"
"""Name of the ConfigMap that holds the registry's host, its address and its CA."""
CLIENT_SETUP = "client-setup"
"""Name of the ConfigMap that holds a snippet for each client."""

CONSTRAINT = "system:openshift:scc:"
"""What the names of the ClusterRoles begin with that let use a security context constraint of OpenShift."""

ARCHITECTURES = ("amd64", "arm64")
"""The architectures of nodes that the proof image is for."""

INSTANCE = "private-registry/instance"
"""Label with the id of the instance of a stack, on its namespace and on what it has in other namespaces."""
PROJECT = "private-registry/project"
"""Label and annotation with the name of the stack's project; a label cannot hold every name, an annotation can."""
STACK = "private-registry/stack"
"""Label and annotation with the stack's name."""
WOKEN = "private-registry/woken"
"""Annotation of a workload with the time at which a wait had its controller try again."""
DOCS = "private-registry/docs"
"""Annotation that says where to read on."""


def labels(name: str) -> dict[str, str]:
    """The labels of an object of this program; `name` is the value of `app.kubernetes.io/name`."""
    return {"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": "private-registry"}


NAMESPACE_OUT_OF_MESH = {"istio-injection": "disabled", "istio.io/dataplane-mode": "none"}
"""Labels with which Istio leaves a namespace alone."""
POD_OUT_OF_MESH = {"sidecar.istio.io/inject": "false", "istio.io/dataplane-mode": "none"}
"""Labels with which Istio leaves a pod alone. A mesh that wants its own TLS everywhere would cut off the nodes and the
way in, since these are not in it."""
OUT_OF_MESH = {"linkerd.io/inject": "disabled"}
"""Annotation with which Linkerd leaves a namespace or a pod alone (linkerd.io/2/features/proxy-injection)."""
ON_EVERY_NODE = {"openshift.io/node-selector": "", "scheduler.alpha.kubernetes.io/node-selector": ""}
"""Annotations of a namespace whose pods run on nodes outside of the cluster's default node selector, too: OpenShift's,
and that of the admission plug-in PodNodeSelector."""
