"""Connects to the cluster that kubectl means, for the program and for the doctor. It needs nothing of Pulumi.

The Kubernetes library reads kubeconfigs and logs in. This module mends where it differs from kubectl and the provider:

- The library does not ask for compressed answers. With them a list of nodes takes a quarter of the line at most.
- Of several files in KUBECONFIG, the first one that names a current context counts (client-go, clientcmd/loader.go).
  The library takes the last one's, and so another cluster.
- From Python 3.13 on, the default is stricter than Go: it refuses the certificates of API servers that have no key
  identifiers or no key usage, as on older clusters of EKS and MicroK8s
  (https://docs.python.org/3/library/ssl.html#ssl.create_default_context).
- The library waits for ever for an API server that accepts a connection and then does not answer the handshake of a
  websocket, over which programs are run in pods (`create_websocket` in kubernetes/stream/ws_client.py).
"""

import base64
import os
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import kubernetes
import kubernetes.stream
import yaml
from urllib3.util import create_urllib3_context

ApiClient = Any
"""The Kubernetes library's client, which has no types."""
streams: Any = kubernetes.stream
_HANDSHAKE = 20
"""Seconds that the API server has for each part of the handshake of a websocket. It asks the kubelet meanwhile."""


class KubeconfigError(Exception):
    """No kubeconfig leads to a cluster; the message is one sentence with the fix."""


class _Websocket(streams.ws_client.WebSocket):
    """A websocket that does not wait for ever until it is one."""

    def connect(self, url: str, **options: object) -> None:
        base: Any = super()
        base.connect(url, timeout=_HANDSHAKE, **options)
        base.settimeout(None)


streams.ws_client.WebSocket = _Websocket


class Connection(NamedTuple):
    """A client of a cluster, and how it was found."""

    client: ApiClient
    context: str
    """The context of the kubeconfig; empty in a pod that has none."""


def connect(kubeconfig: str = "", context: str = "") -> Connection:
    """Connect as the Kubernetes provider does.

    Args:
        kubeconfig: Path or content of a kubeconfig, as in the provider's setting. Empty for the files in KUBECONFIG,
            else ~/.kube/config, else the service account of the pod.
        context: A context of it; empty for the current one.

    Raises:
        KubeconfigError: the kubeconfig is missing or broken.
    """
    config: Any = kubernetes.config
    configuration: Any = cast(Any, kubernetes.client).Configuration()
    configuration.retries = False
    files = _files()
    try:
        content = yaml.safe_load(kubeconfig)
        if isinstance(content, dict):
            found = cast(dict[str, Any], content)
            config.load_kube_config_from_dict(found, context or None, configuration, persist_config=False)
            context = context or str(found.get("current-context", ""))
        elif not kubeconfig and "KUBERNETES_SERVICE_HOST" in os.environ and not any(file.exists() for file in files):
            config.load_incluster_config(configuration)
        else:
            files = [Path(kubeconfig).expanduser()] if kubeconfig else files
            context = context or _current_context(files)
            paths = os.pathsep.join(map(str, files))
            config.load_kube_config(paths, context or None, configuration, persist_config=False)
        client: ApiClient = cast(Any, kubernetes.client).ApiClient(configuration)
        client.set_default_header("Accept-Encoding", "gzip")
        _accept_what_kubectl_accepts(client)
    except (config.ConfigException, OSError, ValueError, yaml.YAMLError) as error:
        source = "the setting kubernetes:kubeconfig" if kubeconfig else os.pathsep.join(map(str, files))
        fix = "It is base64: decode it first" if _is_base64(kubeconfig) else "First make `kubectl get nodes` work"
        msg = f"There is no usable kubeconfig in {source} ({_why(error)}). {fix}."
        raise KubeconfigError(msg) from None
    return Connection(client, context)


def _why(error: Exception) -> str:
    """What is wrong with a kubeconfig, without a word of it: the setting holds a login, also where it is misread."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        return f"line {error.problem_mark.line + 1} is no YAML"
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    known = isinstance(error, cast(Any, kubernetes.config).ConfigException)
    return str(error) if known else f"it cannot be read: {type(error).__name__}"


def _is_base64(text: str) -> bool:
    try:
        return isinstance(yaml.safe_load(base64.b64decode("".join(text.split()), validate=True)), dict)
    except (ValueError, yaml.YAMLError):
        return False


def _files() -> list[Path]:
    """The files in KUBECONFIG, or the one in the home folder."""
    names = (os.environ.get("KUBECONFIG") or "~/.kube/config").split(os.pathsep)
    return [Path(name).expanduser() for name in names if name]


def _current_context(files: Sequence[Path]) -> str:
    """The current context of the first file that names one; empty if none does."""
    for file in files:
        content = yaml.safe_load(file.read_text()) if file.exists() else None
        named = cast(dict[str, Any], content).get("current-context") if isinstance(content, dict) else None
        if named:
            return str(named)
    return ""


def _accept_what_kubectl_accepts(client: ApiClient) -> None:
    """Verify the API server's certificate as Go does.

    All connections share one context, which gets the certificates here and only here. The library would load them again
    for each connection, and a connection of another thread that just starts would crash the process.
    """
    configuration = client.configuration
    context = create_urllib3_context(cert_reqs=ssl.CERT_REQUIRED if configuration.verify_ssl else ssl.CERT_NONE)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if configuration.ssl_ca_cert or configuration.ca_cert_data:
        context.load_verify_locations(cafile=configuration.ssl_ca_cert, cadata=configuration.ca_cert_data)
    else:
        context.load_default_certs()
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, configuration.key_file)
    keywords = client.rest_client.pool_manager.connection_pool_kw
    for loaded in ("ca_certs", "ca_cert_data", "cert_file", "key_file"):
        keywords.pop(loaded, None)
    keywords["ssl_context"] = context
