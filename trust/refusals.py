"""What is said when the cluster refuses a pod: its own words, and the fix that fits them. Pure functions."""


def refused(what: str, words: str, namespace: str) -> str:
    """The sentences on a refused pod.

    Args:
        what: Whose pod it is, such as `the node agent's`.
        words: What the cluster says.
        namespace: Namespace of the pod.
    """
    return f"The cluster refuses {what} pod in the namespace {namespace}: {words.rstrip('.')}. {_fix(words, namespace)}"


def _fix(words: str, namespace: str) -> str:
    lower = words.lower()
    if "security context constraint" in lower or "securitycontextconstraint" in lower:
        return (
            f"This is OpenShift: oc adm policy add-scc-to-user privileged -z default -n {namespace}. Give the "
            "namespace a fixed name first (pulumi config set namespace registry), so that it holds for every pulumi up."
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
            " If it lists the registries from which images may come: it has to allow those of registryImage and "
            "pythonImage, and this registry's own host."
        )
    return fix
