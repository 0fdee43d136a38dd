"""Gathers the facts from the stack's state, from the Kubernetes API, and from the agents on the nodes."""

import contextlib
import hashlib
import json
import os
import ssl
import subprocess
import time
from base64 import b64decode
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import TOO_MANY_REQUESTS
from pathlib import Path
from typing import Any, cast

import kubernetes
import kubernetes.stream
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError
from urllib3.util import Retry

from registry import kubeconfig, names
from registry.pod.pods import LAST_LINES
from registry.pod.trouble import condition_of, crashes, is_over
from trust.agent import connect
from trust.agent.faults import Fault
from trust.agent.proxies import proxy_for

from .facts import LOOKUP, REGISTRY, TRUST, Declared, Facts, Json, Probe
from .objects import name_of, node_of, nodes_of

Client = Any
"""An API of the Kubernetes client, which has no types. `_json` asks it for plain JSON, not for its own classes."""
client: Any = kubernetes.client
streams: Any = kubernetes.stream

_PROGRAM = Path(__file__).parents[2]
_SECONDS = 20
"""How long one request may take. An agent checks its connection to the registry within 10 s, or twice that if a proxy
is in the way."""
_AT_ONCE = 16
"""How many agents are asked at the same time."""
_LISTEN = 60.0
"""Seconds after which no further agent is asked. Those whose kubelets the API server does not reach take their time."""
_ONCE_MORE = Retry(1, connect=False, read=False, redirect=False, other=0, raise_on_status=False, retry_after_max=20)
"""A request that a busy API server refuses is made once more, at the time that the answer says (Retry-After)."""


class DoctorError(Exception):
    """The doctor cannot gather its facts; the message is one sentence that names the part and the fix."""


def facts(stack: str) -> Facts:
    """Look at the stack named `stack`, empty for the selected one, and at its cluster.

    Raises:
        DoctorError: There is no such stack, or its cluster does not answer.
    """
    state: Json = json.loads(_pulumi("stack", "export", *_option(stack)))
    declared = declaration(stack, state)
    with _one_sentence(f"The cluster of stack {declared.stack}"):
        return _look(_api(stack, state), declared)


def facts_of_namespace(namespace: str, context: str) -> Facts:
    """Look at the stack that made a namespace. It takes the rights to read it, and nothing of Pulumi.

    Args:
        namespace: Its name.
        context: A context of the kubeconfig; empty for the current one.

    Raises:
        DoctorError: The cluster does not answer, or no stack of ours has made such a namespace.
    """
    with _one_sentence("The cluster"):
        api = _connect("", context)
        core = client.CoreV1Api(api)
        found = _one(core.read_namespace, namespace)
        annotations: Json = (found or Json()).get("metadata", Json()).get("annotations") or Json()
        stack = annotations.get(names.STACK, "")
        if not stack:
            what = f"has no annotation {names.STACK}" if found else "does not exist"
            msg = f"The namespace {namespace} {what}, so no stack has made it; `make leftovers` lists those of stacks."
            raise DoctorError(msg)
        lookup: Json = (_one(core.read_namespaced_config_map, LOOKUP, namespace) or Json()).get("data") or Json()
        declared = Declared(stack=stack, namespace=namespace, host=lookup.get("host", ""), ca=lookup.get("ca.crt", ""))
        return _look(api, declared)


@contextlib.contextmanager
def _one_sentence(cluster: str) -> Generator[None, None, None]:
    """Turn the errors of a cluster that does not answer into one sentence."""
    try:
        yield
    except (ApiException, HTTPError) as error:
        reason, status = getattr(error, "reason", None) or error, getattr(error, "status", None) or 0
        fix = "check KUBECONFIG and the setting kubernetes:context"
        if status == TOO_MANY_REQUESTS or status >= 500:
            fix = "it is busy or about to start: run the command again; if it goes on, look at `server:` in KUBECONFIG"
        msg = f"{cluster} cannot be asked ({reason}); {fix}."
        raise DoctorError(msg) from error


def declaration(stack: str, state: Json) -> Declared:
    """What a stack's exported state says, also when `pulumi up` stopped half-way."""
    deployment: Json = state.get("deployment") or {}
    resources: list[Json] = deployment.get("resources") or []

    def first(kind: str, name: str = "") -> Json:
        found = (r for r in resources if r["type"] == kind and not r.get("delete"))
        outputs: Iterable[Json] = (r.get("outputs") or {} for r in found)
        return next((o for o in outputs if name in ("", o.get("metadata", {}).get("name"))), Json())

    outputs, lookup = first("pulumi:pulumi:Stack"), first("kubernetes:core/v1:ConfigMap", LOOKUP).get("data", {})
    urn: str = next((r["urn"] for r in resources), f"urn:pulumi:{stack}::")
    return Declared(
        stack=stack or urn.split("::")[0].rpartition(":")[2],
        namespace=first("kubernetes:core/v1:Namespace").get("metadata", {}).get("name", ""),
        host=outputs.get("registryUrl") or lookup.get("host", ""),
        ca=outputs.get("caCertificate") or lookup.get("ca.crt", ""),
    )


def _option(stack: str) -> list[str]:
    return ["--stack", stack] if stack else []


def _pulumi(*arguments: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603
            ["pulumi", "--non-interactive", *arguments],  # noqa: S607
            cwd=_PROGRAM,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    except FileNotFoundError as error:
        msg = "There is no program pulumi on PATH, which has the stack's state; install it."
        raise DoctorError(msg) from error
    if done.returncode:
        msg = f"pulumi {' '.join(arguments)} failed: {done.stderr.strip()}"
        raise DoctorError(msg)
    return done.stdout


def _api(stack: str, state: Json) -> Client:
    """A client of the cluster that the stack's Kubernetes provider uses: the state keeps the context of `up`."""
    settings: Json = json.loads(_pulumi("config", "--json", "--show-secrets", *_option(stack)))
    given = {key: settings.get(f"kubernetes:{key}", {}).get("value") or "" for key in ("kubeconfig", "context")}
    deployment: Json = state.get("deployment") or Json()
    resources: list[Json] = deployment.get("resources") or []
    providers: list[Json] = [r.get("inputs") or Json() for r in resources if r["type"] == "pulumi:providers:kubernetes"]
    recorded: list[str] = [inputs["context"] for inputs in providers if inputs.get("context")]
    return _connect(given["kubeconfig"], recorded[0] if recorded else given["context"])


def _connect(given: str, context: str) -> Client:
    try:
        api = kubeconfig.connect(given, context).client
    except kubeconfig.KubeconfigError as error:
        raise DoctorError(str(error)) from None
    api.rest_client.pool_manager.connection_pool_kw["retries"] = _ONCE_MORE
    return api


def _look(api: Client, declared: Declared) -> Facts:
    core, apps, networking = client.CoreV1Api(api), client.AppsV1Api(api), client.NetworkingV1Api(api)
    namespace = declared.namespace
    nodes = _permitted(core.list_node)
    if not namespace or _one(core.read_namespace, namespace) is None:
        return Facts(declared=declared, nodes=nodes or [])
    pods = _items(core.list_namespaced_pod, namespace)
    daemon_set = _first(_items(apps.list_namespaced_daemon_set, namespace), TRUST)
    services = [s for s in _items(core.list_namespaced_service, namespace) if s["spec"].get("type") == "LoadBalancer"]
    ingresses = _items(networking.list_namespaced_ingress, namespace)
    nodes = nodes_of(pods, daemon_set) if nodes is None else nodes
    up = {name_of(node) for node in nodes if _is_ready(node)}
    agents = [pod for pod in pods if _labels(pod).get("app.kubernetes.io/name") == TRUST]
    # Those first that may have a fault to tell.
    running = sorted((pod for pod in agents if _agent_runs(pod) and node_of(pod) in up), key=_is_ready)
    asked = _asked(api, namespace, [name_of(pod) for pod in running])
    return Facts(
        declared=declared,
        nodes=nodes,
        namespace={},
        deployment=_first(_items(apps.list_namespaced_deployment, namespace), REGISTRY),
        daemon_set=daemon_set,
        config_map=_one(core.read_namespaced_config_map, LOOKUP, namespace),
        entrances=[*ingresses, *services, *_gateways(api, namespace)],
        pods=pods,
        events=_items(core.list_namespaced_event, namespace, field_selector="type=Warning"),
        probes={pod: found for pod, found in asked.items() if isinstance(found, Probe)},
        logs={pod: found for pod, found in asked.items() if isinstance(found, str)},
        unasked=len(running) - len(asked),
        crashed={
            crash: _log(core, namespace, crash.pod, crash.container, previous=crash.previous)
            for pod in pods
            if _labels(pod).get("app.kubernetes.io/name") == REGISTRY
            for crash in crashes(pod)
        },
        served=_served(declared.host),
        storage="\n".join(
            _log(core, namespace, pod["metadata"]["name"], names.PROOF_CONTAINER)
            for pod in pods
            if _labels(pod).get("app.kubernetes.io/name") == REGISTRY and not is_over(pod)
        ),
        stored=_stored(core, namespace),
        here=_here(declared),
    )


def _json(call: Callable[..., Any], *arguments: str, **options: str) -> Json:
    """One object or list as the API sends it, not as the client's classes."""
    answer = call(*arguments, _preload_content=False, _request_timeout=_SECONDS, **options)
    try:
        found = json.loads(answer.data)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ApiException(status=answer.status, reason="it answers with no JSON object")
    return cast(Json, found)


def _items(call: Callable[..., Any], *arguments: str, **options: str) -> list[Json]:
    return _json(call, *arguments, **options)["items"]


def _permitted(call: Callable[..., Any]) -> list[Json] | None:
    """A list; None if the user may not have it."""
    try:
        return _items(call)
    except ApiException as error:
        if _status(error) == 403:
            return None
        raise


def _one(call: Callable[..., Any], *arguments: str) -> Json | None:
    try:
        return _json(call, *arguments)
    except ApiException as error:
        if _status(error) == 404:
            return None
        raise


def _gateways(api: Client, namespace: str) -> list[Json]:
    """The Gateways of the namespace. There are none if the cluster has no Gateway API or the user may not list them."""
    listing = client.CustomObjectsApi(api).list_namespaced_custom_object
    try:
        return _items(listing, "gateway.networking.k8s.io", "v1", namespace, "gateways")
    except ApiException as error:
        if _status(error) in (403, 404):
            return []
        raise


def _status(error: ApiException) -> int | None:
    """The HTTP status of the API server's answer."""
    found: Any = error
    return found.status


def _labels(thing: Json) -> dict[str, str]:
    return thing["metadata"].get("labels", {})


def _first(things: Iterable[Json], name: str) -> Json | None:
    return next((thing for thing in things if _labels(thing).get("app.kubernetes.io/name") == name), None)


def _agent_runs(pod: Json) -> bool:
    statuses: list[Json] = pod.get("status", {}).get("initContainerStatuses", [])
    return any(s["name"] == "agent" and "running" in s.get("state", {}) for s in statuses)


def _is_ready(thing: Json) -> bool:
    return condition_of(thing, "Ready").get("status") == "True"


def _asked(api: Client, namespace: str, pods: Sequence[str]) -> dict[str, Probe | str]:
    """What the agents' pods find on their nodes, or else the ends of their logs; as many as there is time for."""
    core, end = client.CoreV1Api(api), time.monotonic() + _LISTEN

    def ask(pod: str) -> Probe | str | None:
        return None if time.monotonic() > end else _probe(api, namespace, pod) or _log(core, namespace, pod)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return {pod: found for pod, found in zip(pods, pool.map(ask, pods), strict=True) if found is not None}


def _probe(api: Client, namespace: str, pod: str) -> Probe | None:
    """What the agent's pod finds on its node; None if it cannot be asked, for example if exec is not permitted."""
    # `stream` changes the client that it is called with, so each thread needs a client of its own.
    core = client.CoreV1Api(client.ApiClient(api.configuration))
    lost: Any = streams.ws_client.WebSocketConnectionClosedException
    with contextlib.suppress(ApiException, HTTPError, ValueError, TypeError, OSError, lost):
        answer = streams.stream(
            core.connect_get_namespaced_pod_exec,
            pod,
            namespace,
            container="agent",
            command=["python3", "-m", "agent.probe"],
            stdin=False,
            stdout=True,
            stderr=False,
            tty=False,
            _request_timeout=_SECONDS,
            _preload_content=False,
        )
        answer.run_forever(timeout=_SECONDS)
        return Probe(**json.loads(answer.read_stdout(timeout=0) or ""))
    return None


def _log(core: Client, namespace: str, pod: str, container: str = "agent", *, previous: bool = False) -> str:
    with contextlib.suppress(ApiException, HTTPError):
        return core.read_namespaced_pod_log(
            pod, namespace, container=container, previous=previous, tail_lines=LAST_LINES, _request_timeout=_SECONDS
        )
    return ""


# What this machine sees


def _here(declared: Declared) -> str:
    if not declared.host or not declared.ca:
        return ""
    try:
        asks = connect.Client("this machine", proxy=proxy_for(declared.host, os.environ))
        connect.check(declared.host, declared.ca, asks)
    except Fault as fault:
        return fault.sentence
    return ""


def _served(host: str) -> str:
    name, _, port = host.partition(":")
    with contextlib.suppress(OSError, ValueError):
        return _sha256(ssl.get_server_certificate((name, int(port or 443)), timeout=5)) if name else ""
    return ""


def _stored(core: Client, namespace: str) -> str:
    with contextlib.suppress(ApiException, ValueError, IndexError, KeyError):
        ours = {"field_selector": "type=kubernetes.io/tls", "label_selector": "app.kubernetes.io/part-of"}
        return _sha256(b64decode(_items(core.list_namespaced_secret, namespace, **ours)[0]["data"]["tls.crt"]).decode())
    return ""


def _sha256(pem: str) -> str:
    """SHA-256 of the first certificate of a PEM text, in hexadecimal digits."""
    end = "-----END CERTIFICATE-----"
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(f"{pem.partition(end)[0].strip()}\n{end}")).hexdigest()
