"""Nodes whose container runtime has a proxy in its environment, and Go's own word on when that is used."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from local_cluster import programs
from trust.agent.proxies import proxy_for

from .support import http_proxy
from .support.cluster import Cluster
from .support.commands import run, wait_until
from .support.diagnosis import wait_diagnosis
from .support.faults import joined, on, path_on
from .support.stacks import Stack, namespace_of

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]

GO = """\
package main

import (
	"fmt"
	"net/http"
	"os"
)

func main() {
	for _, host := range os.Args[1:] {
		request, err := http.NewRequest("GET", "https://"+host+"/v2/", nil)
		if err != nil {
			panic(err)
		}
		proxy, err := http.ProxyFromEnvironment(request)
		if err != nil || proxy == nil || proxy.Hostname() == "" {
			fmt.Println("none")
			continue
		}
		fmt.Printf("%s %s %s\\n", proxy.Scheme, proxy.Hostname(), proxy.Port())
	}
}
"""

HOSTS = (
    "registry-pr-42.10-99-0-200.nip.io",
    "registry.example.com:30500",
    "example.com",
    "10.1.2.3",
    "10.1.2.3:5000",
    "localhost",
    "127.0.0.1:5000",
    "x.localhost",
)
ENTRIES = st.sampled_from(
    [
        *("*", "nip.io", ".nip.io", "*.nip.io", "NIP.IO", " nip.io\t", "io", "p.io", "..nip.io", ".", "*.", "*nip.io"),
        *("10.0.0.0/8", "10.1.2.3/32", "10.1.2.3/33", "10.1.2.3/255.0.0.0", "::/0", "10.1.2.3", "10.1.2.3:443"),
        *("example.com", "example.com:30500", "example.com:443", "example.com:", ":443", "[nip.io]", "[nip.io]:443"),
        *("[::1]:443", "::1", "registry.example.com.", "", "localhost"),
    ]
) | st.text("*.:/[]013nipoexample", max_size=8)
NO_PROXY = st.lists(ENTRIES, max_size=4).map(",".join)
PROXIES = st.sampled_from(
    [
        *("", "p", "p:1", "http://p", "http://p:1", "https://p", "socks5://p", "http://u:s@p:1", "u:s@p:1"),
        *("http://u:s%40t@p:1", "u:s@t@p:1", "10.0.0.1:3128", "http://[::1]:1", "http://p:1/x", "HTTP://P:1"),
    ]
)


@pytest.fixture(scope="module")
def go(tmp_path_factory: pytest.TempPathFactory) -> Callable[[dict[str, str]], list[str]]:
    """Asks Go which proxy it takes for each of the hosts, in an environment."""
    folder = tmp_path_factory.mktemp("go")
    (folder / "main.go").write_text(GO)
    root = programs.go_root()
    variables = {name: os.environ[name] for name in ("PATH", "HOME", "GOCACHE") if name in os.environ}
    build = [root / "bin" / "go", "build", *programs.FLAGS, "-o", "asks", "main.go"]
    run(build, {**variables, "CGO_ENABLED": "0", "GO111MODULE": "off", "GOTOOLCHAIN": "local"}, cwd=folder, timeout=300)

    def ask(environment: dict[str, str]) -> list[str]:
        done = subprocess.run([folder / "asks", *HOSTS], env=environment, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    return ask


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(upper=PROXIES, lower=PROXIES, no_upper=NO_PROXY, no_lower=NO_PROXY)
@example("http://p:1", "", "10.0.0.0/8", "")
def test_the_rule_is_that_of_go(
    go: Callable[[dict[str, str]], list[str]], upper: str, lower: str, no_upper: str, no_lower: str
) -> None:
    environment = {"HTTPS_PROXY": upper, "https_proxy": lower, "NO_PROXY": no_upper, "no_proxy": no_lower}
    for host, told in zip(HOSTS, go(environment), strict=True):
        ours = proxy_for(host, environment)
        if ours is None:
            assert told == "none", host
            continue
        scheme, name, port = told.split(" ")
        assert (ours.scheme, ours.host) == (scheme, name.lower()), host
        assert str(ours.port) == port or not port


# A node


def set_proxy(node: str, proxy: str, no_proxy: str) -> None:
    """Give the node's containerd a proxy, as the documents of many clusters say, and restart it."""
    drop_in = path_on(node, "/etc/systemd/system/containerd.service.d/proxy.conf")
    drop_in.parent.mkdir(parents=True, exist_ok=True)
    drop_in.write_text(f'[Service]\nEnvironment="HTTPS_PROXY={proxy}" "NO_PROXY={no_proxy}"\n')
    on(node, "systemctl", "daemon-reload")
    on(node, "systemctl", "restart", "containerd")


@contextmanager
def proxy_on(cluster: Cluster, node: str, port: int) -> Iterator[Callable[[], str]]:
    """A proxy that leads everywhere, on the loopback address of a node; gives what tells what it was asked for."""
    namespace = f"test-{token_hex(4)}"
    cluster.kubectl("create", "namespace", namespace)
    cluster.kubectl("wait", "--for=create", "serviceaccount/default", "-n", namespace, "--timeout=30s")
    container = {
        "name": "proxy",
        "image": "docker.io/library/python:3.13-alpine",
        "command": ["python3", "-c", Path(http_proxy.__file__).read_text(), str(port)],
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "proxy", "namespace": namespace},
        "spec": {
            "nodeName": node,
            "hostNetwork": True,
            "dnsPolicy": "Default",
            "terminationGracePeriodSeconds": 0,
            "tolerations": [{"operator": "Exists"}],
            "containers": [container],
        },
    }
    try:
        cluster.apply(pod)
        cluster.kubectl("wait", "--for=condition=Ready", "pod/proxy", "-n", namespace, "--timeout=60s", timeout=90)
        yield lambda: cluster.kubectl("logs", "-n", namespace, "proxy")
    finally:
        cluster.kubectl("delete", "namespace", namespace, timeout=120)


@pytest.mark.alone
def test_a_node_with_a_proxy_in_the_way_is_named_and_is_proved_by_itself_once_no_proxy_has_the_entry(
    cluster: Cluster,
) -> None:
    with joined(cluster) as node:
        closed, secret = "127.0.0.1:9", "s3cr3t"
        set_proxy(node, f"http://user:{secret}@{closed}", "10.0.0.0/8")
        with Stack(environment=cluster.environment, settings={"readyTimeout": "40s"}) as stack:
            failed = stack.up(check=False)
            text = failed.stdout + failed.stderr
            end = text[text.index("3 of 4 nodes have pulled from the registry within 40s") :]
            assert f"{node}: PROXY_IN_THE_WAY" in end
            assert f"The proxy http://{closed}, which HTTPS_PROXY on node {node} names" in end
            assert "add .nip.io to NO_PROXY in the environment of containerd there, and restart containerd" in end
            diagnosis = wait_diagnosis(cluster, stack, ("PROXY_IN_THE_WAY", "network"))
            logs = ("logs", "-n", namespace_of(cluster, stack), "-l", "app.kubernetes.io/name=trust")
            shown = text + diagnosis.text + cluster.kubectl(*logs, "-c", "agent", "--tail=-1")
            assert f"http://{closed}" in shown
            assert secret not in shown
            set_proxy(node, f"http://{closed}", "10.0.0.0/8,.nip.io")
            wait_diagnosis(cluster, stack, timeout=120)
            assert "4 of 4" in stack.up().stdout


@pytest.mark.alone
def test_a_node_whose_proxy_leads_to_the_registry_is_proved_through_it(cluster: Cluster) -> None:
    with joined(cluster) as node, proxy_on(cluster, node, 28128) as asked:
        set_proxy(node, "http://127.0.0.1:28128", "10.0.0.0/8")
        with Stack(environment=cluster.environment) as stack:
            stack.up()
            host = stack.outputs()["registryUrl"]
            wait_until(lambda: asked().count(f"CONNECT {host}:443") >= 2, "agent and containerd asked", timeout=10)
            wait_diagnosis(cluster, stack)
