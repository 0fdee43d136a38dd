"""Pulls and pushes that go on while a stack is changed: a kubelet's pull a second on each node, and a push a second.

Every pull is of an image that its node has never seen. A pod's image is changed in place, so that the kubelet pulls
and a pod can do for several pulls; its container would run as root, which the pod forbids, and so is never made. That
keeps the load small enough for small machines. What counts is the kubelet's own event of each image.
"""

import http.client
import json
import queue
import re
import secrets
import socket
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from local_cluster import image_archive, network

from .commands import wait_until
from .stacks import Deployed

REPOSITORY = "loop/app"
INTERVAL = 1.0
"""Seconds from the beginning of one pull or push to that of the next, unless it takes longer."""
STOCK = 30
"""Images that are there before anything is changed, to be pulled while nobody can push."""
EVENTS_OF_A_POD = 25
"""How many events of one pod the kubelet tells in a row."""
EVENTS_OF_A_PULL, EVENTS_OF_A_FAILURE = 3, 5
LONGEST = 60.0
"""Seconds within which the kubelet has to tell how a pull has ended."""
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One pull or push."""

    what: str
    """The image."""
    begin: float
    end: float
    """Seconds of a clock that never goes back."""
    error: str
    """Why it failed; empty if it did not."""


def longest_gap(attempts: Sequence[Attempt]) -> float:
    """The most seconds from the beginning of a failure to the end of the last one before something succeeds again."""
    longest, since = 0.0, None
    for attempt in attempts:
        since = (attempt.begin if since is None else since) if attempt.error else None
        longest = longest if since is None else max(longest, attempt.end - since)
    return longest


class Loop:
    """The kubelet of each node pulls, and a client outside the cluster pushes, until the end of the context."""

    def __init__(self, deployed: Deployed, namespace: str, folder: Path) -> None:
        """Entering the context starts it.

        Args:
            deployed: The stack as it is at first.
            namespace: The test's own namespace, for the pods that pull. If pulls need a password, it is given one.
            folder: For files of its own.
        """
        self.deployed = deployed
        """The stack as it was after the last `up` that has ended: a pull or push that begins goes there."""
        self.attempts: dict[str, list[Attempt]] = defaultdict(list)
        """What was tried, by the name of the node that pulled, or `push`."""
        self._namespace = namespace
        self._folder = folder
        self._socket = folder / "api"
        self._digests: list[str] = []
        self._events: dict[str, queue.SimpleQueue[str]] = defaultdict(queue.SimpleQueue)
        self._stop, self._done = threading.Event(), threading.Event()
        self._failed: list[BaseException] = []
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        """Push the stock, and start."""
        with ExitStack() as made:
            made.enter_context(_api(self._socket, self.deployed.cluster.environment))
            for number in range(STOCK):
                self._push(f"stock-{number}")
            assert not (failed := [each for each in self.attempts["push"] if each.error]), failed
            self.attempts.clear()
            made.callback(self._join, self._start(self._watch), self._loops())
            self._made = made.pop_all()
        self.settle()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, when what has begun has ended."""
        self._made.close()

    def use(self, outputs: dict[str, Any]) -> None:
        """Have what begins from now on use these outputs of the stack."""
        ca_file = self._folder / f"ca-{secrets.token_hex(4)}.crt"
        ca_file.write_text(outputs["caCertificate"])
        (ca_file.parent / "login").mkdir(exist_ok=True)
        self.deployed = replace(self.deployed, outputs=outputs, ca_file=ca_file)

    def change(self, **settings: str) -> None:
        """Change settings of the stack, bring it up, and go on with what `up` has made of them."""
        self.deployed.stack.set(**settings)
        self.deployed.stack.up()
        self.use(self.deployed.stack.outputs())
        self.settle()

    def settle(self, times: int = 4) -> None:
        """Wait until every node has pulled and the client has pushed some more, with the outputs of now."""
        since = time.monotonic()

        def went_on() -> bool:
            if self._failed:
                raise self._failed[0]
            done = [[each for each in self.attempts[who] if each.begin > since and not each.error] for who in self._who]
            return all(len(each) >= times for each in done)

        wait_until(went_on, "pulls and pushes went on", timeout=90)

    def gaps(self) -> dict[str, float]:
        """The longest gap of each node, and of `push`."""
        return {who: longest_gap(self.attempts[who]) for who in self._who}

    def check(self, allowed: float) -> None:
        """Check that nothing failed for longer than the seconds that are allowed; 0: nothing failed at all."""
        if self._failed:
            raise self._failed[0]
        failed = {who: [each for each in self.attempts[who] if each.error] for who in self._who}
        told = "\n".join(
            f"{who}: {each.begin - self._began:.1f} to {each.end - self._began:.1f} s: {each.what}: {each.error}"
            for who, attempts in failed.items()
            for each in attempts
        )
        gaps = self.gaps()
        print(f"\nallowed: {allowed:g} s; gaps: {', '.join(f'{who} {gap:.1f} s' for who, gap in gaps.items())}")
        assert all(gap <= allowed for gap in gaps.values()), f"{gaps}, and {allowed:g} s are allowed\n{told}"
        assert allowed or not told, told

    @property
    def _who(self) -> list[str]:
        return [*self.deployed.cluster.nodes, "push"]

    def _start(self, target: Callable[[], None]) -> threading.Thread:
        def run() -> None:
            try:
                target()
            except BaseException as error:
                self._failed.append(error)
                raise

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    def _loops(self) -> list[threading.Thread]:
        nodes = [self._start(lambda node=node: self._pull_on(node)) for node in self.deployed.cluster.nodes]
        return [*nodes, self._start(self._push_on)]

    def _join(self, watch: threading.Thread, loops: Sequence[threading.Thread]) -> None:
        """Let what has begun end, and only then stop to watch for its end."""
        for event, threads in ((self._stop, loops), (self._done, [watch])):
            event.set()
            for thread in threads:
                thread.join(LONGEST + 10)
                assert not thread.is_alive()

    def _push_on(self) -> None:
        number = 0
        while not self._stop.is_set():
            begin = time.monotonic()
            self._push(f"n-{number}")
            number += 1
            self._stop.wait(begin + INTERVAL - time.monotonic())

    def _push(self, tag: str) -> None:
        """Push an image that nobody has seen."""
        deployed, root, archive = self.deployed, self._folder / "root", self._folder / "image.tar"
        root.mkdir(exist_ok=True)
        (root / "unique").write_text(secrets.token_hex())
        image_archive.write(archive, root, names=["example.com/loop:1"], config=image_archive.Config())
        image, begin = f"{deployed.host}/{REPOSITORY}:{tag}", time.monotonic()
        done = deployed.run_crane(deployed.login, "push", archive, image, check=False, timeout=180)
        error = f"exit code {done.returncode}: {done.stderr}" if done.returncode else ""
        self.attempts["push"].append(Attempt(what=image, begin=begin, end=time.monotonic(), error=error))
        if not error:
            self._digests.append(_DIGEST.findall(done.stdout)[-1])

    def _pull_on(self, node: str) -> None:
        """Pull on a node again and again, each time what was pushed last of all that the node has not seen."""
        seen: set[str] = set()
        pod, left = "", 0
        number = 0
        while not self._stop.is_set():
            digest = next((each for each in reversed(self._digests) if each not in seen), "")
            if not digest:
                self._stop.wait(0.2)  # nobody could push for longer than the stock lasts, which is a gap of its own
                continue
            seen.add(digest)
            image, begin = f"{self.deployed.host}/{REPOSITORY}@{digest}", time.monotonic()
            if left >= EVENTS_OF_A_FAILURE:
                self._ask("PATCH", f"pods/{pod}", {"spec": {"containers": [{"name": "app", "image": image}]}})
            else:
                if pod:
                    self._ask("DELETE", f"pods/{pod}?gracePeriodSeconds=0")
                pod, left, number = f"loop-{node}-{number}", EVENTS_OF_A_POD, number + 1
                self._ask("POST", "pods", self._pod(pod, node, image))
            try:
                error = self._events[f"{node} {image}"].get(timeout=LONGEST)
            except queue.Empty:
                error = f"the kubelet has told nothing of it for {LONGEST:g} s"
            left -= EVENTS_OF_A_FAILURE if error else EVENTS_OF_A_PULL
            self.attempts[node].append(Attempt(what=image, begin=begin, end=time.monotonic(), error=error))
            self._stop.wait(begin + INTERVAL - time.monotonic())
        if pod:
            self._ask("DELETE", f"pods/{pod}?gracePeriodSeconds=0")

    def _pod(self, name: str, node: str, image: str) -> dict[str, Any]:
        """A pod whose image is pulled, and whose container is never made."""
        return {
            "metadata": {"name": name},
            "spec": {
                "nodeName": node,
                "restartPolicy": "Always",
                "securityContext": {"runAsNonRoot": True},
                "containers": [{"name": "app", "image": image, "imagePullPolicy": "Always"}],
                "tolerations": [{"operator": "Exists"}],
                "terminationGracePeriodSeconds": 0,
            },
        }

    def _watch(self) -> None:
        """Hand each event of a pull to who waits for it: an empty text for one that has ended well."""
        version = self._ask("GET", "events")["metadata"]["resourceVersion"]
        while not self._done.is_set():
            for entry in self._stream(f"events?watch=true&timeoutSeconds=5&resourceVersion={version}"):
                event = entry["object"]
                assert entry["type"] != "ERROR", event
                version = event["metadata"]["resourceVersion"]
                node, message = event.get("source", {}).get("host", ""), event.get("message", "")
                image = re.search(r'image "([^"]+)"', message)
                if image and message.startswith(("Successfully pulled", "Failed to pull")):
                    failed = event["reason"] == "Failed"
                    self._events[f"{node} {image[1]}"].put(message if failed else "")

    def _request(self, method: str, path: str, body: object = None) -> http.client.HTTPResponse:
        connection = _Connection(self._socket)
        kind = "application/strategic-merge-patch+json" if method == "PATCH" else "application/json"
        sent = json.dumps(body) if body else None
        connection.request(method, f"/api/v1/namespaces/{self._namespace}/{path}", sent, {"Content-Type": kind})
        answer = connection.getresponse()
        assert answer.status < 300, (method, path, answer.read())
        return answer

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        return json.loads(self._request(method, path, body).read())

    def _stream(self, path: str) -> Iterator[Any]:
        for line in self._request("GET", path):
            yield json.loads(line)


class _Connection(http.client.HTTPConnection):
    """A connection to a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


@contextmanager
def _api(path: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """The Kubernetes API at a Unix socket, which a process outside of the cluster's network reaches."""
    with subprocess.Popen(
        network.client("kubectl", "proxy", f"--unix-socket={path}"),
        env={**environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as proxy:
        try:
            wait_until(path.exists, "kubectl proxy listens", timeout=20)
            yield
        finally:
            proxy.terminate()
