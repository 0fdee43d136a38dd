"""The hand-over from one CA to another: the nodes get both before a certificate of the new one is served.

It is the one change of the cluster that is not a resource of Pulumi: the ConfigMap from which the agents take the CA is
made after the certificate is served, and here it is needed before.
"""

import asyncio
import json
import time
from collections.abc import Iterable, Mapping
from typing import Protocol

import pulumi

from registry.pod.pods import Reader, pods_of
from registry.pod.trouble import condition_of
from trust.agent.certificates import fingerprints
from trust.agent.faults import Fault
from trust.agent.outcome import READY, outcomes
from trust.doctor.facts import LOOKUP, TRUST
from trust.doctor.objects import has_agent, name_of, node_of

PROPAGATION = 150.0
"""Seconds after which a kubelet has brought a changed ConfigMap into a running pod: its sync period and its cache's
age."""
_TIMEOUT = 300.0
_INTERVAL = 2.0
_REMIND = 60.0


class Handing(Reader, Protocol):
    """What is asked of the cluster, and changed there."""

    def put_data(self, namespace: str, config_map: str, data: Mapping[str, str]) -> None:
        """Change values of a ConfigMap.

        Raises:
            ConnectionError: the API refuses it, or does not answer.
        """
        ...


def both(wanted: str, present: str) -> str:
    """The certificates of two PEM texts, each once: nothing that nodes trust is taken away before its time."""
    end = "-----END CERTIFICATE-----\n"
    known = [text + end for text in wanted.split(end)[:-1]]
    return wanted + "".join(text + end for text in present.split(end)[:-1] if text + end not in known)


def has(log: str, wanted: Iterable[str]) -> bool:
    """Whether an agent's log says that its node has certificates with these SHA-256."""
    # A node that has lost the registry and reaches it again says READY without its certificates.
    said = [found.details["trusted"] for found in outcomes(log) if found.reason == READY and "trusted" in found.details]
    return bool(said) and set(wanted) <= set(said[-1])


async def hand_over(cluster: Handing, namespace: str, wanted: str) -> None:
    """Give the nodes CA certificates beside those that they have, and wait until each one with a ready agent has them.

    A node whose agent is not ready gets them when its agent starts. One without an agent gets them from somebody else,
    who is not waited for. Before the first `up` has got as far as the ConfigMap, there is nothing to wait for.

    Raises:
        pulumi.RunError: the cluster does not answer, or a node does not get them in time.
    """
    try:
        path = f"/api/v1/namespaces/{namespace}/configmaps/{LOOKUP}"
        present: str = json.loads(await asyncio.to_thread(cluster.ask, path)).get("data", {}).get("ca.crt", "")
        if both(wanted, present) != both(present, ""):
            await asyncio.to_thread(cluster.put_data, namespace, LOOKUP, {"ca.crt": both(wanted, present)})
        await _on_every_node(cluster, namespace, fingerprints(wanted))
    except LookupError:
        return
    except (ConnectionError, PermissionError, Fault) as error:
        msg = f"The new CA cannot be given to the nodes, so its certificate is not served yet: {error}"
        raise pulumi.RunError(msg) from None


async def _on_every_node(cluster: Handing, namespace: str, wanted: tuple[str, ...]) -> None:
    start, said = time.monotonic(), float("-inf")
    done: set[str] = set()
    while True:
        missing, silent = await asyncio.to_thread(_without, cluster, namespace, wanted, done)
        waited = time.monotonic() - start
        if not missing or (silent and waited > PROPAGATION):
            return
        if waited > _TIMEOUT:
            msg = (
                f"{', '.join(missing)}: the agent has not got the new CA within {_TIMEOUT:g} s, so its certificate is "
                f"not served yet. An agent that starts has it at once: kubectl delete pods -n {namespace} -l "
                f"app.kubernetes.io/name={TRUST}, then pulumi up"
            )
            raise pulumi.RunError(msg)
        if waited - said >= _REMIND:
            said = waited
            how = "the kubelets bring it within two minutes" + (
                "; the user may not read the agents' logs, so that is how long it is waited for" if silent else ""
            )
            pulumi.log.info(f"Waiting for the new CA beside the old one on {', '.join(missing)}: {how}")
        await asyncio.sleep(_INTERVAL)


def _without(cluster: Handing, namespace: str, wanted: tuple[str, ...], done: set[str]) -> tuple[list[str], bool]:
    """The nodes whose agent is ready and does not say that it has the certificates; and whether logs cannot be read.

    `done` are the pods that have said so; this adds to it.
    """
    pods = pods_of(cluster, namespace, TRUST)
    missing: list[str] = []
    for pod in pods:
        if name_of(pod) in done or not has_agent(pod) or condition_of(pod, "Ready").get("status") != "True":
            continue
        try:
            path = f"/api/v1/namespaces/{namespace}/pods/{name_of(pod)}/log"
            log = cluster.ask(path, container="agent", tailLines="200")
        except PermissionError:
            return sorted(map(node_of, pods)), True
        except (LookupError, ConnectionError):
            log = ""
        if has(log, wanted):
            done.add(name_of(pod))
        else:
            missing.append(node_of(pod))
    return sorted(missing), False
