"""Reads the ends of the agents' logs, of as many nodes as there are, whether their kubelets can be reached or not.

The API server reads a log from the pod's kubelet. It cannot where a firewall is between the two, and then it takes as
long to say so as the request may take. A wait that asks such kubelets again and again would do nothing else.
"""

import threading
import time
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from registry.pod.pods import Reader, log_of

_AT_ONCE = 16
"""How many logs are read at the same time."""
_LISTEN = 10.0
"""Seconds after which no further log is begun with at one time."""


@dataclass
class Listener:
    """Reads logs again and again; after time that was lost with kubelets, only of pods that have answered before."""

    reader: Reader
    """The cluster."""
    namespace: str
    """The namespace of the pods."""
    forbidden: bool = False
    """Whether the user may not read logs, as it turned out at the last time."""
    ease: float = 4.0
    """How many times as long as the time that was lost all pods are left alone that have not answered."""
    asked: dict[str, float] = field(default_factory=dict[str, float])
    """The pods whose logs were asked for, whatever came of it, and when each was at last."""
    _failed: set[str] = field(default_factory=set[str])
    _alone_until: float = 0.0

    def read(self, pods: Sequence[str], first: Collection[str] = ()) -> dict[str, str]:
        """The end of each log that can be had, by the pod's name. It takes ten seconds and one request at most.

        Args:
            pods: The names of pods that run an agent.
            first: Those of them that count most. Then come the ones whose log has not failed to come before, and of
                these the ones that were asked longest ago, or never.
        """
        began, forbidden, lost = time.monotonic(), threading.Event(), list[float]()
        answering = self.asked.keys() - self._failed
        due = [pod for pod in pods if pod in answering or self._alone_until <= began]
        due.sort(key=lambda pod: (pod not in first, pod in self._failed, self.asked.get(pod, float("-inf"))))

        def end_of(pod: str) -> str | None:
            if forbidden.is_set() or time.monotonic() > began + _LISTEN:
                return None
            self.asked[pod] = time.monotonic()
            try:
                text = log_of(self.reader, self.namespace, pod, "agent")
            except PermissionError:
                forbidden.set()
            except (LookupError, ConnectionError):
                self._failed.add(pod)  # the pod has just gone, or its kubelet does not answer
                lost.append(time.monotonic() - self.asked[pod])
            else:
                self._failed.discard(pod)
                return text
            return None

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            found = dict(zip(due, pool.map(end_of, due), strict=True))
        self.forbidden = forbidden.is_set()
        now = time.monotonic()
        self._alone_until = max(self._alone_until, now + self.ease * min(now - began, sum(lost)))
        return {pod: text for pod, text in found.items() if text is not None}
