"""Recording mocks in place of Pulumi's engine: they run the program, or one component of it alone."""

import asyncio
import collections
import concurrent.futures
import json
import multiprocessing
import re
import runpy
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pulumi
import pytest
from pulumi.runtime import mocks

from registry import cluster
from registry.clients import local_dns
from registry.settings import SECRET_KEYS

from .clusters import ADDRESS, NODE_ADDRESS, QuietCluster
from .clusters import INSTANCE as INSTANCE
from .clusters import NAMESPACE as NAMESPACE
from .settings import DEFAULTS, ROOT


def pem(name: str) -> str:
    """What the TLS provider makes, but for the certificate in it."""
    return ssl.DER_cert_to_PEM_cert(name.encode())


@dataclass
class Recorder(pulumi.runtime.Mocks):
    """Records every resource, and answers what a cluster and the TLS provider would."""

    placeholder: tuple[dict[str, str], ...] = ({"ip": ADDRESS},)
    """The addresses of an Ingress that is a placeholder."""
    published: tuple[dict[str, str], ...] = ({"ip": ADDRESS},)
    """The addresses of all else."""
    live: tuple[dict[str, str], ...] = ()
    """The addresses of all else when everything is done, if they are others by then."""
    resources: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    """The inputs of each resource, by its type and its name."""
    parents: dict[tuple[str, str], str] = field(default_factory=dict)
    """The type of the parent of each resource, by the resource's type and its name."""
    providers: dict[tuple[str, str], str] = field(default_factory=dict)
    """The name of the provider of each resource, by the resource's type and its name; empty for the default one."""
    dependencies: dict[tuple[str, str], set[tuple[str, str]]] = field(default_factory=dict)
    """Type and name of what each resource depends on, by the resource's type and its name."""
    ends_with: dict[tuple[str, str], str] = field(default_factory=dict)
    """The type of what each resource is deleted with, by the resource's type and its name; empty for nothing."""
    retained: set[tuple[str, str]] = field(default_factory=set)
    """Type and name of the resources whose objects Pulumi does not delete."""
    aliases: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    """The types under which the state may know each resource as well, by the resource's type and its name."""
    registered: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """Each registration of outputs, in order: the type of the component, and the outputs."""
    state: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Type and outputs of each resource in the state before the program runs, by its URN."""
    public_key: str = "public key"
    """What the public keys begin with that the TLS provider makes."""
    preview: bool = False
    """Whether this is the first preview, where nothing that the cluster decides is known."""

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        self.resources[args.typ, args.name] = args.inputs
        if self.preview:
            return "", args.inputs
        state = json.loads(json.dumps(args.inputs))
        if args.typ.endswith(":Ingress") and args.typ.startswith("kubernetes:"):
            points = self.placeholder if "placeholder" in args.name else self.published
            state["status"] = {"loadBalancer": {"ingress": list(points)}}
        if args.typ == "kubernetes:core/v1:Service":
            state["status"] = {"loadBalancer": {"ingress": list(self.published)}}
            if args.inputs["spec"]["type"] in ("NodePort", "LoadBalancer"):
                state["spec"]["ports"][0]["nodePort"] = 30123
        if args.typ == "tls:index/privateKey:PrivateKey":
            state["publicKeyPem"] = f"{self.public_key} of {args.name}"
            state["privateKeyPem"] = pulumi.runtime.rpc.wrap_rpc_secret(f"key of {args.name}")
        if "Cert" in args.typ and args.typ.startswith("tls:"):
            state["certPem"] = pem(args.name)
            state["validityEndTime"] = (datetime.now(UTC) + timedelta(hours=180 * 24)).isoformat()
            state["certRequestPem"] = args.name
        return args.name, state

    def call(self, args: pulumi.runtime.MockCallArgs) -> dict[str, Any]:
        return {"outputs": self.state}

    def of(self, suffix: str, name: str = "") -> dict[str, Any]:
        """The inputs of the one resource whose type ends in `suffix` and whose name has `name` in it."""
        found = [inputs for (typ, own), inputs in self.resources.items() if typ.endswith(suffix) and name in own]
        assert len(found) == 1, (suffix, name, sorted(self.resources))
        return found[0]

    def kinds(self) -> dict[str, int]:
        """How many objects of each kind are made in the cluster."""
        return dict(
            collections.Counter(re.sub(r"^.*:", "", typ) for typ, _ in self.resources if typ.startswith("kubernetes:"))
        )

    def components(self) -> list[str]:
        """The type tokens of the program's components."""
        return sorted({typ for typ, _ in self.resources if typ.startswith("private-registry:")})


async def _resolved(_name: str) -> tuple[set[str], str]:
    """An answer that has every address of the tests."""
    return {ADDRESS, NODE_ADDRESS, "192.0.2.10"}, ""


class _Monitor(mocks.MockMonitor):
    """The engine's side of the mocks, which also records what it does not tell them."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__(recorder)
        self._recorder = recorder

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802 - the engine's name for it
        key = request.type, request.name
        self._recorder.parents[key] = _type(request.parent)
        self._recorder.providers[key] = request.provider.split("::")[3] if request.provider else ""
        self._recorder.dependencies[key] = {(_type(urn), urn.rpartition("::")[2]) for urn in request.dependencies}
        self._recorder.ends_with[key] = _type(request.deletedWith)
        self._recorder.retained |= {key} if request.retainOnDelete else set()
        self._recorder.aliases[key] = {alias.spec.type for alias in request.aliases}
        return super().RegisterResource(request)

    def RegisterResourceOutputs(self, request: Any) -> Any:  # noqa: N802 - the engine's name for it
        outputs = pulumi.runtime.rpc.deserialize_properties(request.outputs, keep_unknowns=True)
        self._recorder.registered.append((_type(request.urn), outputs))
        return super().RegisterResourceOutputs(request)


def _type(urn: str) -> str:
    """The type of a resource, from its URN; empty if there is none."""
    return urn.split("::")[2].rpartition("$")[2] if urn else ""


def _run(recorder: Recorder, program: Callable[[], object], secrets: Sequence[str] = (), **config: str) -> None:
    """Run a program until nothing is pending. `secrets` are the keys whose values are kept as secrets."""
    asyncio.set_event_loop(asyncio.new_event_loop())
    pulumi.runtime.set_mocks(
        recorder,
        project="private-registry",
        stack="pr-42",
        preview=recorder.preview,
        monitor=_Monitor(recorder),
    )
    # What a test has made outside of a run belongs to an event loop that runs no more, and would be waited for.
    pending: Any = pulumi.runtime.settings.SETTINGS
    pending.outputs.clear()
    # The root resource outlives a run, and so would the transformations that the program before has registered on it.
    root = pulumi.runtime.get_root_resource()
    assert root is not None
    root._transformations = []
    given = {**DEFAULTS, **config}
    project = "private-registry"
    pulumi.runtime.set_all_config(
        {f"{project}:{key}": value for key, value in given.items()},
        [f"{project}:{key}" for key in (*SECRET_KEYS, *secrets)],
    )

    async def run() -> None:
        program()

    asyncio.get_event_loop().run_until_complete(pulumi.runtime.stack.run_pulumi_func(lambda: run()))


def _value(output: object) -> Any:
    """What an output holds; None if it is not known."""
    if not isinstance(output, pulumi.Output):
        return output
    return asyncio.get_event_loop().run_until_complete(output.future())


def run_program(recorder: Recorder, secrets: Sequence[str] = (), **config: str) -> dict[str, Any]:
    """Run `__main__.py` with these settings, of which some are kept as secrets; its outputs."""
    exports: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "Cluster", lambda: QuietCluster(published=recorder.live or recorder.published))
        patch.setattr(local_dns, "look_up", _resolved)
        patch.setattr(pulumi, "export", lambda name, value: exports.__setitem__(name, value))
        _run(recorder, lambda: runpy.run_path(str(ROOT / "__main__.py")), secrets, **config)
        values = {name: _value(value) for name, value in exports.items()}
    return {name: value for name, value in values.items() if value is not None}  # the engine drops them, too


def run_failing_program(recorder: Recorder, **config: str) -> None:
    """Run `__main__.py` in a process of its own: what a failed program leaves pending is waited for by the next one."""
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        pool.submit(run_program, recorder, **config).result()


def run_component(recorder: Recorder, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Make one component alone; `make` gives the outputs that the test wants to know, and this gives their values."""
    made: dict[str, Any] = {}
    _run(recorder, lambda: made.update(make()))
    return {name: _value(output) for name, output in made.items()}
