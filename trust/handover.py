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
from trust.listening import Listener
from trust.proving import named

PROPAGATION = 150.0
"""Seconds after which a kubelet has brought a changed ConfigMap into a running pod: its sync period and its cache's
age."""
_TIMEOUT = 300.0
_INTERVAL = 2.0
"""Seconds between two looks; for large clusters they are as many as it takes for so many nodes a second."""
_PER_SECOND = 500
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
        pulumi.RunError: the cluster refuses them, does not answer in time, or a node does not get them in time.
    """
    try:
        path = f"/api/v1/namespaces/{namespace}/configmaps/{LOOKUP}"
        present: str = json.loads(await asyncio.to_thread(cluster.ask, path)).get("data", {}).get("ca.crt", "")
        if both(wanted, present) != both(present, ""):
            await asyncio.to_thread(cluster.put_data, namespace, LOOKUP, {"ca.crt": both(wanted, present)})
        prints = fingerprints(wanted)
    except LookupError:
        return
    except (ConnectionError, PermissionError, Fault) as error:
        raise _not_given(error) from None
    await _on_every_node(cluster, namespace, prints)


def _not_given(why: object) -> pulumi.RunError:
    return pulumi.RunError(f"The new CA cannot be given to the nodes, so its certificate is not served yet: {why}")


async def _on_every_node(cluster: Handing, namespace: str, wanted: tuple[str, ...]) -> None:
    start, said, watch = time.monotonic(), float("-inf"), _Watch(cluster, namespace, wanted)
    missing, trouble = list[str](), ""
    while True:
        try:
            missing, trouble = await asyncio.to_thread(watch.look), ""
        except (ConnectionError, PermissionError, LookupError) as error:
            if not trouble:
                pulumi.log.info(f"The cluster does not say which nodes have the new CA: {error}")
            trouble = str(error)
        waited = time.monotonic() - start
        # What nobody can read is over when the kubelets have had the time that they take.
        enough = not watch.lacking and waited > (_TIMEOUT if watch.unasked else PROPAGATION)
        if not trouble and (not missing or enough):
            return
        if trouble and waited > _TIMEOUT:
            raise _not_given(trouble)
        # What an agent said before the time was over is no fault of its node.
        if watch.lacking and watch.asked_since(start + _TIMEOUT):
            msg = (
                f"{named(sorted(watch.lacking.values()))}: the agent has not got the new CA within {_TIMEOUT:g} s, so "
                f"its certificate is not served yet. An agent that starts has it at once: kubectl delete pods -n "
                f"{namespace} -l app.kubernetes.io/name={TRUST}, then pulumi up"
            )
            raise pulumi.RunError(msg)
        if not trouble and waited - said >= _REMIND:
            said = waited
            how = f"the kubelets bring it within two minutes{watch.silence}"
            pulumi.log.info(f"Waiting for the new CA beside the old one on {named(missing)}: {how}")
        await asyncio.sleep(max(_INTERVAL, len(missing) / _PER_SECOND))


class _Watch:
    """Looks again and again which nodes have the certificates."""

    lacking: dict[str, str]
    """The nodes whose agent is ready and last said that it has others, by the pod's name."""
    unasked: bool
    """Whether the agent of a node was not asked yet, although others have answered."""

    def __init__(self, cluster: Handing, namespace: str, wanted: tuple[str, ...]) -> None:
        self.lacking, self.unasked = {}, False
        self._cluster, self._namespace, self._wanted = cluster, namespace, wanted
        self._listener = Listener(cluster, namespace, ease=0.0)  # there is nothing else to do meanwhile
        self._done: set[str] = set()

    @property
    def silence(self) -> str:
        """What is added to the line on the wait where no agent says what it has."""
        if self.lacking:
            return ""
        why = "the user may not read the agents' logs" if self._listener.forbidden else "no kubelet gives a log"
        return f"; {why}, so that is how long it is waited for"

    def asked_since(self, moment: float) -> bool:
        """Whether all nodes that lack the certificates were asked after a moment."""
        return all(self._listener.asked[pod] > moment for pod in self.lacking)

    def look(self) -> list[str]:
        """The nodes whose agent is ready and has not said that it has the certificates."""
        nodes = {
            name_of(pod): node_of(pod)
            for pod in pods_of(self._cluster, self._namespace, TRUST, resourceVersion="0")
            if has_agent(pod) and condition_of(pod, "Ready").get("status") == "True"
        }
        logs = self._listener.read([pod for pod in nodes if pod not in self._done])
        self._done |= {pod for pod, log in logs.items() if has(log, self._wanted)}
        said = set[str]() if self._listener.forbidden else self.lacking.keys() | logs.keys()
        self.lacking = {pod: nodes[pod] for pod in said if pod in nodes and pod not in self._done}
        self.unasked = bool(self._done) and not nodes.keys() <= self._listener.asked.keys()
        return sorted(node for pod, node in nodes.items() if pod not in self._done)
