"""A thin client of the Kubernetes API, with which the program asks the cluster what the provider does not tell.

It connects as the Kubernetes provider does. What this deliberately does not do: it makes and deletes nothing, and it
does not judge what it reads; the parts do that, each for what it needs. Only `make gc` runs programs in pods.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache, cached_property
from http.client import CREATED, FORBIDDEN, NOT_FOUND, OK, TOO_MANY_REQUESTS, UNAUTHORIZED
from typing import Any, cast

import kubernetes
import kubernetes.stream
import pulumi
import urllib3
from kubernetes.client.exceptions import ApiException

from . import kubeconfig, names

_TIMEOUT = (5.0, 15.0)
"""Seconds to wait for the connection, and for each part of an answer."""

_NO_OBJECT = "but no JSON object"
"""What is said of an answer of success that is none of a Kubernetes API."""

Object = dict[str, Any]
"""An object of the Kubernetes API, as JSON."""


def object_names(objects: Sequence[Object]) -> list[str]:
    """The names of objects, sorted."""
    return sorted(str(entry["metadata"]["name"]) for entry in objects)


def has_annotation(entry: Object, annotation: str) -> bool:
    """Whether an object has an annotation with the value `true`."""
    return entry["metadata"].get("annotations", {}).get(annotation) == "true"


class Cluster:
    """A client of the few calls that the program needs."""

    server: str
    """URL of the API server."""
    context: str
    """The context of the kubeconfig; empty without a kubeconfig."""

    def __init__(self) -> None:
        """Connect with the same kubeconfig as the Kubernetes provider.

        Raises:
            pulumi.RunError: the kubeconfig is missing or broken.
        """
        provider = pulumi.Config("kubernetes")
        try:
            found = kubeconfig.connect(provider.get("kubeconfig") or "", provider.get("context") or "")
        except kubeconfig.KubeconfigError as error:
            raise pulumi.RunError(str(error)) from None
        self._client: Any = found.client
        self.context = found.context
        self.server = str(self._client.configuration.host)

    def version(self) -> tuple[int, int]:
        """Major and minor version of the API server.

        Raises:
            pulumi.RunError: the API server cannot be reached, does not accept the user, or is none.
        """
        try:
            found = self.find("/version") or {}
        except ApiException as error:
            raise self._refused(error) from None
        try:
            # Some vendors' minor version ends in a plus sign.
            return int(found["major"]), int(str(found["minor"]).rstrip("+"))
        except (KeyError, ValueError, TypeError):
            raise self._no_api("/version gives no version of Kubernetes") from None

    @cached_property
    def uid(self) -> str:
        """UID of the namespace kube-system: a cluster keeps it for life, and no other one has it.

        It is empty if the user may not read the namespace.

        Raises:
            pulumi.RunError: the API server cannot be reached, or does not accept the user.
        """
        try:
            found = self.find("/api/v1/namespaces/kube-system") or {}
        except ApiException as error:
            if cast(Any, error).status != FORBIDDEN:
                raise self._refused(error) from None
            return ""
        return str(found.get("metadata", {}).get("uid", ""))

    def find(self, path: str) -> Object | None:
        """What the API server answers to a GET; None if nothing is there.

        Args:
            path: Path of the API, such as `/api/v1/namespaces/default`, with its query.

        Raises:
            pulumi.RunError: the API server cannot be reached.
            ApiException: it gives no answer, because the user may not ask, for example.
        """
        return self._if_there("GET", path)

    def delete(self, path: str) -> None:
        """Have the API server delete an object, which may be gone already; its end is not waited for.

        Raises:
            pulumi.RunError: the API server cannot be reached.
            ApiException: it refuses.
        """
        self._if_there("DELETE", path)

    def _if_there(self, method: str, path: str) -> Object | None:
        try:
            return self._call(method, path)
        except ApiException as error:
            if _status(error) == NOT_FOUND:
                return None
            raise
        except urllib3.exceptions.HTTPError as error:
            msg = (
                f"The cluster at {self.server} cannot be reached ({_reason(error)}). First make `kubectl get nodes` "
                "work."
            )
            raise pulumi.RunError(msg) from None

    def _call(self, method: str, path: str, body: object = None, **query: str) -> Object:
        """The object that the API answers.

        The library's classes for each group of the API do the same. To load them takes a second at each `up`.

        Args:
            method: Such as `GET`.
            path: Path of the API.
            body: What is sent, if anything; a merge patch where the method is PATCH.
            query: The query, beside that in the path.

        Raises:
            ApiException: the API refuses, or, with a status of success, what it answers is no JSON object.
            HTTPError: of urllib3: it does not answer.
        """
        answer = self._send(method, path, body, **query)
        if answer.status not in (OK, CREATED):
            content = answer.read().decode(errors="replace")
            raise ApiException(status=answer.status, reason=answer.reason, body=content)
        found = _object(answer.read())
        if found is None:
            raise ApiException(status=answer.status, reason=f"{answer.reason}, {_NO_OBJECT}")
        return found

    def _send(self, method: str, path: str, body: object = None, **query: str) -> Any:  # noqa: ANN401 - it has no type
        headers = {"Accept": "application/json, */*"}  # logs are no JSON
        if body is not None:
            headers["Content-Type"] = f"application/{'merge-patch+' if method == 'PATCH' else ''}json"
        request = self._client.param_serialize(
            method,
            path,
            query_params=list(query.items()),
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
        )
        answer = self._client.call_api(*request, _request_timeout=_TIMEOUT)
        answer.read()
        return answer

    def _refused(self, error: ApiException) -> pulumi.RunError:
        """The error of a cluster that answers, but not as an API, or not to this user; or whose TLS is not accepted."""
        status = _status(error)
        if not status:  # the library's way to say that TLS failed
            return pulumi.RunError(
                f"The cluster at {self.server} cannot be reached over TLS ({_reason(error)}): its certificate does "
                "not fit the kubeconfig's certificate-authority, or something between here and there intercepts "
                "TLS. First make `kubectl get nodes` work."
            )
        if status in (UNAUTHORIZED, FORBIDDEN):
            return pulumi.RunError(
                f"The cluster at {self.server} refuses the user of the kubeconfig ({api_message(error)}). Log in again."
            )
        if status == TOO_MANY_REQUESTS or status >= 500:
            return pulumi.RunError(
                f"The cluster at {self.server} does not answer as a Kubernetes API ({api_message(error)}): it is busy "
                "or about to start. Run the command again; if it goes on, look at `server:` in the kubeconfig."
            )
        return self._no_api(api_message(error))

    def _no_api(self, why: str) -> pulumi.RunError:
        """The error of an address at which something else answers."""
        return pulumi.RunError(
            f"What answers at {self.server} is not a Kubernetes API ({why}). Look at `server:` in the kubeconfig, and "
            "at a proxy in between; first make `kubectl get nodes` work."
        )

    @cache  # noqa: B019 - one cluster for the whole program
    def ingress_classes(self) -> list[Object] | None:
        """Every IngressClass; None if the user may not list them."""
        return self._list("/apis/networking.k8s.io/v1/ingressclasses")

    def storage_classes(self) -> list[Object] | None:
        """Every StorageClass; None if the user may not list them."""
        return self._list("/apis/storage.k8s.io/v1/storageclasses")

    @cached_property
    def nodes(self) -> list[Object] | None:
        """Every node; None if the user may not list them."""
        return self._list("/api/v1/nodes")

    @cached_property
    def gateway_classes(self) -> list[Object] | None:
        """Every GatewayClass; None if the user may not list them."""
        return self._list("/apis/gateway.networking.k8s.io/v1/gatewayclasses")

    @cache  # noqa: B019 - one cluster for the whole program
    def serves(self, group_version: str, kind: str) -> bool:
        """Whether the cluster knows a kind in a version of its group, such as `cert-manager.io/v1`.

        Raises:
            pulumi.RunError: the cluster does not say. To guess would be wrong either way: what is made in another
                version, or not at all, because an API server was busy for a moment, is changed again by the next `up`.
        """
        try:
            found = self.find(f"/apis/{group_version}") or {}
        except ApiException as error:
            raise pulumi.RunError(
                f"The cluster at {self.server} does not say whether it has the kind {kind} of {group_version}: it "
                f"answers {api_message(error)}. Run the command again; if it goes on, `kubectl get apiservices` shows "
                "which API is down."
            ) from None
        resources: list[Object] = found.get("resources") or []
        return any(resource["kind"] == kind for resource in resources)

    def may(self, verb: str, group: str, resource: str, name: str) -> bool:
        """Whether the user may do something with an object that belongs to no namespace.

        Args:
            verb: What is to be done, such as `bind`.
            group: The group of the object's kind; empty for the core group.
            resource: The plural of its kind.
            name: The object's name. It need not exist.
        """
        asked = {"verb": verb, "group": group, "resource": resource, "name": name}
        try:
            review = {"spec": {"resourceAttributes": asked}}
            found = self._call("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
        except (ApiException, urllib3.exceptions.HTTPError):
            # The question got no answer, so assume yes: if it is no, the provider will say so.
            return True
        return bool(found.get("status", {}).get("allowed", True))

    def read(self, group_version: str, plural: str, namespace: str, name: str) -> Object:
        """An object of a group such as `apps/v1`; empty if it does not exist, or if it cannot be read."""
        try:
            return self._call("GET", f"/apis/{group_version}/namespaces/{namespace}/{plural}/{name}")
        except (ApiException, urllib3.exceptions.HTTPError):
            return {}

    def ask(self, path: str, **query: str) -> str:
        """The text that the API answers to a GET of a path, with a sentence in each error: an object but for logs.

        Raises:
            PermissionError: the user may not read it.
            LookupError: it does not exist.
            ConnectionError: the API does not answer, or not in time, or with an error of its own, or with no object.
        """
        try:
            answer = self._send("GET", path, **query)
            text = answer.read().decode(errors="replace")
        except (ApiException, urllib3.exceptions.HTTPError) as error:
            raise ConnectionError(_reason(error)) from None
        if answer.status < 300:
            # Each object and list of the API has a kind. Long lists are not parsed twice to see that.
            is_object = text.startswith("{") and '"kind"' in text
            if path.startswith("/api") and not path.endswith("/log") and not is_object:
                msg = f"{self.server} answers {answer.status} {answer.reason}, but no object of the Kubernetes API"
                raise ConnectionError(msg)
            return text
        kinds: dict[int, type[Exception]] = {401: PermissionError, 403: PermissionError, 404: LookupError}
        raise kinds.get(answer.status, ConnectionError)(_sentence(text) or f"{answer.status} {answer.reason}")

    def put_data(self, namespace: str, config_map: str, data: Mapping[str, str]) -> None:
        """Change values of a ConfigMap; the others stay.

        Raises:
            ConnectionError: the API refuses it, or does not answer.
        """
        try:
            self._call("PATCH", f"/api/v1/namespaces/{namespace}/configmaps/{config_map}", {"data": dict(data)})
        except ApiException as error:
            raise ConnectionError(api_message(error)) from None
        except urllib3.exceptions.HTTPError as error:
            raise ConnectionError(_reason(error)) from None

    def wake(self, workloads: str, namespace: str, name: str) -> None:
        """Have the controller of a workload, such as one of `daemonsets`, try at once to make the pods that it lacks.

        After refusals it waits twice as long each time, up to a quarter of an hour (client-go, default rate limiter),
        unless it sees the object change. Where the user may not change it, the wait is as long as it is.
        """
        woken = {"metadata": {"annotations": {names.WOKEN: datetime.now(UTC).isoformat()}}}
        with suppress(ApiException, urllib3.exceptions.HTTPError):
            self._call("PATCH", f"/apis/apps/v1/namespaces/{namespace}/{workloads}/{name}", woken)

    def execute(
        self,
        namespace: str,
        pod: str,
        container: str,
        command: Sequence[str],
        tick: Callable[[], None],
        text: str = "",
    ) -> tuple[int, str, str]:
        """Run a program in a container; its exit code, what it prints, and what it says on standard error.

        Args:
            namespace: Namespace of the pod.
            pod: Its name.
            container: The container.
            command: The program and its arguments.
            tick: Called about once a second while it runs. If it raises, nobody waits for the program any longer.
            text: A line that the program reads, which may hold a secret; empty for none.

        Raises:
            PermissionError: the user may not do that.
            ConnectionError: the API does not answer, or the connection was lost before the program ended.
        """
        # `stream` changes the client that it is called with.
        core: Any = kubernetes.client.CoreV1Api(kubernetes.client.ApiClient(self._client.configuration))
        streams: Any = kubernetes.stream
        lost: Any = streams.ws_client.WebSocketConnectionClosedException
        try:
            answer = streams.stream(
                core.connect_get_namespaced_pod_exec,
                pod,
                namespace,
                container=container,
                command=list(command),
                stdin=bool(text),
                stdout=True,
                stderr=True,
                tty=False,
                _preload_content=False,
                _request_timeout=_TIMEOUT[1],
            )
            if text:
                answer.write_stdin(f"{text}\n")
            while answer.is_open():
                answer.update(timeout=1)
                tick()
        except ApiException as error:
            message = f"programs cannot be run in the pod {pod} (the right pods/exec): {api_message(error)}"
            raise (PermissionError if "403" in message else ConnectionError)(message) from None
        except (OSError, lost) as error:
            raise ConnectionError(_reason(error)) from None
        printed, said = (str(getattr(answer, f"read_{channel}")(timeout=0)) for channel in ("stdout", "stderr"))
        try:
            return int(answer.returncode), printed, said
        except (ValueError, KeyError, TypeError, IndexError):
            msg = f"the connection to the pod {pod} was lost while a program ran there"
            raise ConnectionError(msg) from None

    def services(self) -> list[Object]:
        """Every Service; none if the user may not list them."""
        return self._list("/api/v1/services") or []

    def pending_load_balancers(self) -> list[str]:
        """`namespace/name` of the Services of type LoadBalancer without an address, as far as the user may see."""
        return [
            f"{service['metadata']['namespace']}/{service['metadata']['name']}"
            for service in self.services()
            if service["spec"].get("type") == "LoadBalancer"
            and not service.get("status", {}).get("loadBalancer", {}).get("ingress")
        ]

    def refusal(self, kind: str, body: Object, namespace: str = "") -> str:
        """Why the cluster would not take a new object; empty if it would, or if the user may not ask.

        This is a server-side dry run: the API server asks every admission plugin and webhook, and makes nothing.

        Args:
            kind: `namespace`, `pod`, or the plural of a kind that is an extension of the API, with the object's group.
            body: The object.
            namespace: Namespace of all but a namespace.
        """
        try:
            match kind:
                case "namespace":
                    self._call("POST", "/api/v1/namespaces", body, dryRun="All")
                case "pod":
                    self._call("POST", f"/api/v1/namespaces/{namespace}/pods", body, dryRun="All")
                case _:
                    place = f"/apis/{body['apiVersion']}/namespaces/{namespace}/{kind}"
                    self._call("POST", place, body, dryRun="All", fieldValidation="Strict")
        except ApiException as error:
            if _status(error) in (OK, CREATED):
                return ""  # what answers is no API
            # The object exists already, or the user may not make it. The provider runs into the same error later and
            # reports it.
            message = api_message(error)
            return "" if '" already exists' in message or "cannot create resource" in message else message
        except urllib3.exceptions.HTTPError:
            return ""
        return ""

    def _list(self, path: str) -> list[Object] | None:
        try:
            return self._call("GET", path).get("items") or []
        except ApiException as error:
            pulumi.log.warn(f"Not checked before the start: the cluster answers {api_message(error)}")
            return None
        except urllib3.exceptions.HTTPError:
            return None


def _status(error: ApiException) -> int | None:
    """The HTTP status of the API server's answer; 0 or None if there was none."""
    answer: Any = error
    return answer.status


def api_message(error: ApiException) -> str:
    """The sentence in the API server's answer."""
    answer: Any = error
    return _sentence(answer.body) or f"{answer.status} {answer.reason}"


def _object(body: str | bytes) -> Object | None:
    """The object in the body of an answer; None if it is no JSON, as that of a proxy, or no object."""
    try:
        found = json.loads(body)
    except ValueError:
        return None
    return cast(Object, found) if isinstance(found, dict) else None


def _sentence(body: str | bytes | None) -> str:
    """The sentence in the body of an answer; empty if there is none."""
    try:
        return str(json.loads(body or "")["message"])
    except (ValueError, KeyError, TypeError):
        return ""


def _reason(error: Exception) -> str:
    """What the library says of a request that got no answer."""
    return " ".join(str(getattr(error, "reason", None) or error).split())
