"""What is said when the cluster refuses a pod: its own words, and the fix that fits them. Pure functions."""

from typing import Any

from trust.constraints import AGENT, NONROOT, PRIVILEGED


def refused(what: str, words: str, namespace: str, pod: dict[str, Any]) -> str:
    """The sentences on a refused pod.

    Args:
        what: Whose pod it is, such as `the node agent's`.
        words: What the cluster says.
        namespace: Namespace of the pod.
        pod: The pod's spec.
    """
    fix = _fix(words, namespace, pod)
    return f"The cluster refuses {what} pod in the namespace {namespace}: {words.rstrip('.')}. {fix}"


def _images(pod: dict[str, Any]) -> list[str]:
    """The images of a pod, but for the proof's, which is in the registry itself."""
    containers = [*pod.get("initContainers", []), *pod.get("containers", [])]
    return sorted({str(each["image"]) for each in containers if each["name"] != "proof"})


def _fix(words: str, namespace: str, pod: dict[str, Any]) -> str:
    lower = words.lower()
    if "security context constraint" in lower or "securitycontextconstraint" in lower:
        account = str(pod.get("serviceAccountName") or "default")
        constraint = PRIVILEGED if account == AGENT else NONROOT
        return (
            f"This is OpenShift, where the pod's ServiceAccount needs the constraint {constraint}. pulumi up gives it "
            "that by itself if the user of the kubeconfig has the right to bind it, which is in rbac.yaml. Else have a "
            f"cluster administrator run oc adm policy add-scc-to-user {constraint} -z {account} -n {namespace}, and "
            "then pulumi up again."
        )
    if "quota" in lower:
        return f"Raise that quota in the namespace {namespace}, or have it made no longer."
    if " per container" in lower or " per pod" in lower or "request ratio" in lower:
        return f"Change that LimitRange of the namespace {namespace}, or have it made no longer."
    fix = (
        "Have a cluster administrator exempt the namespace from that policy; to make that easy give it a fixed name "
        "(pulumi config set namespace registry)."
    )
    if "image" in lower or "registry" in lower or "registries" in lower:
        fix += (
            f" If it lists the registries from which images may come: it has to allow {', '.join(_images(pod))} "
            "(imageRegistry sets where they come from), and this registry's own host."
        )
    return fix
