"""Every client pushes to the registry and pulls from it with nothing but its own snippet, and is refused without."""

import base64
import json
import random
import re
import shutil
import subprocess
import tarfile
import tomllib
from pathlib import Path

import pytest
import yaml

from local_cluster.paths import BIN
from registry.clients.nodes import NODES, key_of
from registry.clients.snippets import CLIENTS as SNIPPETS
from registry.clients.snippets import client_setup

from .support.builders import BUILD_WITH_CRANE, PUSH_FROM_A_POD, build_in_a_pod
from .support.client_table import CLIENTS, DOCKER, QUICK, TRIED, Client
from .support.clients import SHARED, ClientMachine, registry_for_clients
from .support.cluster import Cluster
from .support.stacks import Deployed

pytestmark = pytest.mark.cluster

UNAUTHORIZED = re.compile(
    r"(?i)unauthorized|401|authentication required|no basic auth credentials|basic credential not found|denied"
)
LOG_OUT = "rm -rf .docker/config.json .config/containers/auth.json /run/containers/0 .config/helm .curlrc login"
UNKNOWN_CA = re.compile(r"x509: certificate signed by unknown authority|SSL certificate problem")


@pytest.fixture(scope="module")
def source(client_registry: Deployed, app_image: Path) -> str:
    """An image in the registry, by its digest."""
    reference = f"{client_registry.host}/clients/source:1"
    client_registry.crane("push", app_image, reference)
    return f"{client_registry.host}/clients/source@{client_registry.crane('digest', reference).strip()}"


def snippet_login(snippet: str, deployed: Deployed) -> str:
    """The command in a snippet's second line, with the password from a file in the place of the stack."""
    line = snippet.splitlines()[1]
    from_the_stack = f"# Log in: pulumi stack output --stack {deployed.stack.name} --show-secrets password | "
    assert line.startswith(from_the_stack), line
    assert line.endswith(f" --username {deployed.outputs['username']} --password-stdin {deployed.host}")
    return line.removeprefix(from_the_stack) + ' <"$PASSWORD_FILE"'


def snippets_of_another_ca(deployed: Deployed, folder: Path) -> dict[str, str]:
    """The snippets with a CA of the same name as the registry's, and another key."""
    subject = ["-subj", f"/OU={deployed.namespace}/CN=Private registry CA"]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(folder / "key")]
    made = subprocess.run(
        ["openssl", "req", "-x509", *key, *subject, "-days", "2"], check=True, capture_output=True, text=True
    )
    return client_setup(deployed.host, made.stdout)


@pytest.mark.parametrize(
    "client", [pytest.param(c, id=c.name, marks=[] if c.name in QUICK else pytest.mark.slow) for c in CLIENTS]
)
def test_a_client_pushes_and_pulls_with_nothing_but_its_snippet(
    client: Client, client_registry: Deployed, source: str, app_image: Path, tmp_path: Path
) -> None:
    shutil.copy(app_image, tmp_path)
    setup = client_registry.snippets
    (tmp_path / "right.json").write_text(json.dumps(setup))
    (tmp_path / "wrong.json").write_text(json.dumps(snippets_of_another_ca(client_registry, tmp_path)))
    target = (
        client.target.replace("$REGISTRY", client_registry.host)
        .replace("$NAME", client.name)
        .replace("$SOURCE", source)
    )
    (tmp_path / "password").write_text(client_registry.outputs["password"])
    variables = {
        "USERNAME": client_registry.outputs["username"],
        "PASSWORD_FILE": str(SHARED / "password"),
        "REGISTRY": client_registry.host,
        "SOURCE": source,
        "ARCHIVE": str(SHARED / app_image.name),
        "NAME": client.name,
        "TARGET": target,
    }
    key = client.snippet or client.name
    with ClientMachine(tmp_path, *(["clients"] if client.ours else [])) as machine:

        def do(script: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
            return machine.sh(script, variables, check=check)

        def trust(file: str) -> str:
            """Run the snippet, or give the words to run it with before each command."""
            snippet = f"jq -r .{key} {SHARED}/{file}.json | sh"
            if client.evaluated:
                return f'eval "$({snippet})"\n'
            said = rf"[^\n]+ trusts {re.escape(client_registry.host)}[^\n]*\nUndo: [^\n]+\n"
            assert re.fullmatch(said, do(snippet).stdout)
            if client.restart:
                do('kill "$(cat pid)"; timeout 20 sh -c "while kill -0 $(cat pid); do sleep 0.1; done" 2>/dev/null')
                do(client.daemon)
            return ""

        def refused(script: str) -> bool:
            done = do(script, check=False)
            return done.returncode != 0 and UNKNOWN_CA.search(done.stdout + done.stderr) is not None

        version = re.search(r"\d+\.\d+", do(client.version).stdout)
        assert version
        do(client.daemon)
        do(client.prepare)
        assert refused(client.push)
        assert refused(client.pull)
        before = trust("wrong")
        assert refused(before + client.push)
        assert refused(before + client.pull)

        before = trust("right")
        done = do(before + client.push, check=False)
        assert done.returncode != 0
        assert UNAUTHORIZED.search(done.stdout + done.stderr), done.stdout + done.stderr
        log_in = client.login or snippet_login(setup[key], client_registry)
        do(before + log_in)
        do(before + client.push)
        manifest = json.loads(client_registry.crane("manifest", target))
        got = client.got or manifest["config"]["digest"].removeprefix("sha256:")
        do(LOG_OUT)
        do(client.forget)
        done = do(before + client.pull, check=False)
        if client.asks_to_pull:
            assert done.returncode != 0
            assert UNAUTHORIZED.search(done.stdout + done.stderr), done.stdout + done.stderr
            do(before + log_in)
            done = do(before + client.pull)
        assert done.returncode == 0, done.stdout + done.stderr
        assert got in done.stdout

        undo = re.search(r"Undo: (.*)", setup[key])
        assert undo
        if not client.restart:
            do(client.forget, check=False)
            undone = before + undo[1].replace("sudo ", "") + "\n"
            assert refused(undone + client.pull)
    pull = "with a login" if client.asks_to_pull else "yes"
    row = f"| {client.name} | {version[0]} | `{key}` | with a login | {pull} |"
    assert row in TRIED.read_text().splitlines(), f"{TRIED.name} has to say what was tried"


def test_the_table_of_clients_has_no_row_of_its_own() -> None:
    rows = [line.split("|")[1].strip() for line in TRIED.read_text().splitlines() if line.startswith("| ")]
    assert rows == ["client", *(client.name for client in CLIENTS)]


def test_the_snippets_work_as_the_readme_prints_them(
    cluster: Cluster, client_registry: Deployed, app_image: Path, tmp_path: Path
) -> None:
    by_kubectl = (
        f"kubectl get configmap -n {client_registry.namespace} client-setup -o go-template='{{{{.data.crane}}}}'"
    )
    target = f"{client_registry.host}/test/printed"
    script = f"""
        python3 -m registry.clients skopeo --stack {client_registry.stack.name} | sh
        skopeo --insecure-policy copy --dest-authfile {client_registry.login}/config.json \
            docker-archive:{app_image} docker://{target}:skopeo
        eval "$({by_kubectl} | sh)"
        crane ls {target}
    """
    done = cluster.run("env", f"HOME={tmp_path}", "sh", "-euc", script)
    assert done.stdout.splitlines()[0] == f"skopeo trusts {client_registry.host}"
    assert done.stdout.splitlines()[-1] == "skopeo"


def test_the_outputs_fit_on_one_screen(client_registry: Deployed) -> None:
    assert len(client_registry.stack.pulumi("stack", "output").stdout.splitlines()) < 25


def test_kubectl_alone_gets_every_snippet(cluster: Cluster, client_registry: Deployed) -> None:
    snippets = client_registry.snippets
    keys = {*SNIPPETS, *map(key_of, NODES)}
    assert set(snippets) == keys
    for client in keys:
        template = f"go-template={{{{.data.{client}}}}}"
        printed = cluster.kubectl("get", "configmap", "-n", client_registry.namespace, "client-setup", "-o", template)
        assert printed == snippets[client], client


@pytest.mark.parametrize(
    ("key", "command"),
    [
        ("crane", "crane manifest $PUBLIC/team/app:1"),
        ("crane", "curl -sS https://$PUBLIC/"),
        ("curl", "curl -sS https://$PUBLIC/"),
    ],
)
def test_what_the_system_trusts_is_trusted_as_before(
    key: str, command: str, client_registry: Deployed, tmp_path: Path
) -> None:
    (tmp_path / "setup.json").write_text(json.dumps(client_registry.snippets))
    public = f"public.example.com:{random.randrange(20000, 30000)}"
    with ClientMachine(tmp_path) as machine:
        machine.sh(
            """
            openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key -out cert \
                -subj /CN=public -addext subjectAltName=DNS:${PUBLIC%:*}
            echo "127.0.0.1 ${PUBLIC%:*}" >>/etc/hosts
            openssl s_server -accept "127.0.0.1:${PUBLIC#*:}" -key key -cert cert -www >/dev/null 2>&1 &
            timeout 20 sh -c 'until curl -sk "https://$PUBLIC" >/dev/null; do sleep 0.1; done'
            """,
            {"PUBLIC": public},
        )
        ask = f'eval "$(jq -r .{key} {SHARED}/setup.json | sh)"\n{command}'
        unknown = machine.sh(ask, {"PUBLIC": public}, check=False)
        assert UNKNOWN_CA.search(unknown.stderr)
        of_a_company = machine.sh(f"export SSL_CERT_FILE=$HOME/cert\n{ask}", {"PUBLIC": public}, check=False)
        machine.sh("cp cert /usr/local/share/ca-certificates/public.crt; update-ca-certificates")
        of_the_system = machine.sh(ask, {"PUBLIC": public}, check=False)
        for known in of_a_company, of_the_system:
            assert not UNKNOWN_CA.search(known.stderr)
            assert "certificate" not in known.stderr


@pytest.mark.slow
def test_the_ca_of_one_stack_is_none_of_another(
    cluster: Cluster, client_registry: Deployed, app_image: Path, tmp_path: Path
) -> None:
    shutil.copy(app_image, tmp_path)
    with registry_for_clients(cluster, tmp_path, "ingress") as other, ClientMachine(tmp_path) as machine:
        for name, stack in ("one", client_registry), ("other", other):
            stack.crane("push", app_image, f"{stack.host}/test/app:1")
            (tmp_path / f"{name}.json").write_text(json.dumps(stack.snippets))
        asks = {
            "crane": "crane digest $REGISTRY/test/app:1",
            "skopeo": "skopeo inspect docker://$REGISTRY/test/app:1",
            "curl": "curl -fsS https://$REGISTRY/v2/test/app/tags/list",
        }
        for key, ask in asks.items():
            evaluated = key != "skopeo"
            one, both = (
                "".join(
                    f'eval "$({snippet})"\n' if evaluated else f"{snippet}\n"
                    for snippet in (f"jq -r .{key} {SHARED}/{name}.json | sh" for name in names)
                )
                for names in (("one",), ("one", "other"))
            )
            machine.sh(one + ask, {"REGISTRY": client_registry.host})
            refused = machine.sh(one + ask, {"REGISTRY": other.host}, check=False)
            assert refused.returncode != 0, key
            assert UNKNOWN_CA.search(refused.stderr), key
            for stack in client_registry, other:
                machine.sh(both + ask, {"REGISTRY": stack.host})


@pytest.mark.parametrize(
    "user", ["root", pytest.param("me", marks=pytest.mark.slow), pytest.param("no setpriv", marks=pytest.mark.slow)]
)
def test_what_does_not_reach_the_cluster_pushes_through_kubectl(
    user: str, cluster: Cluster, client_registry: Deployed, app_image: Path, tmp_path: Path
) -> None:
    for file in app_image, Path(cluster.environment["KUBECONFIG"]), client_registry.ca_file:
        shutil.copy(file, tmp_path)
    snippet = client_registry.snippets["portForward"]
    (tmp_path / "forward.sh").write_text(snippet)
    (tmp_path / "login").write_text(client_registry.outputs["password"])
    name, _, port = client_registry.host.partition(":")
    variables = {
        "KUBECONFIG": str(SHARED / "kubeconfig"),
        "SSL_CERT_FILE": str(SHARED / client_registry.ca_file.name),
        "URL": f"https://{name}:{port or 443}/",
        "TARGET": f"{client_registry.host}/clients/forwarded:1",
    }
    with ClientMachine(tmp_path) as machine:
        start = f"sh {SHARED}/forward.sh"
        if user != "root":
            # sudo drops KUBECONFIG, without which kubectl finds no cluster.
            machine.sh(
                f"""
                useradd --create-home --uid 1000 me
                echo 'me ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/me
                cp {SHARED}/forward.sh {SHARED}/kubeconfig /home/me/; chown me: /home/me/*
                """
            )
            start = "runuser -u me -- env HOME=/home/me KUBECONFIG=/home/me/kubeconfig sh /home/me/forward.sh"
        if user == "no setpriv":
            machine.sh("rm /usr/bin/setpriv")
        machine.sh(f"{start} >forward.log 2>&1 &", variables)
        machine.sh("timeout 30 sh -c 'until grep -q Forwarding forward.log; do sleep 0.1; done' || cat forward.log >&2")
        running = machine.sh("cat $(grep -lx kubectl /proc/[0-9]*/comm | sed 's/comm$/status/')").stdout
        # A node port is one that everybody may take.
        becomes_root = user == "no setpriv" and not port
        uid = re.search(r"^Uid:\s+(\d+)", running, re.MULTILINE)
        assert uid
        assert uid[1] == ("0" if user == "root" or becomes_root else "1000")
        assert ("kubectl runs as root" in machine.sh("cat forward.log").stdout) == becomes_root
        done = machine.sh(
            f"""
            curl -sS --cacert "$SSL_CERT_FILE" -o answer -w '%{{remote_ip}} %{{ssl_verify_result}}\n' $URL
            crane auth login {client_registry.host} --username {client_registry.outputs["username"]} \
                --password-stdin <{SHARED}/login
            crane push {SHARED}/{app_image.name} "$TARGET"
            """,
            variables,
        )
        assert done.stdout.splitlines()[0] == "127.0.0.1 0"
        undo = re.search(r"Undo: sudo (.*)", snippet)
        assert undo
        # What ends it ends kubectl; then its line in /etc/hosts goes by itself, as it does by the command.
        machine.sh("kill -INT $(grep -lx kubectl /proc/[0-9]*/comm | cut -d / -f 3)")
        machine.sh(f"timeout 30 sh -c 'while grep -q {name} /etc/hosts; do sleep 0.1; done'")
        machine.sh(f"echo '127.0.0.1 {name}' >>/etc/hosts; {undo[1]}")
        assert name not in machine.sh("cat /etc/hosts").stdout
    assert client_registry.crane("digest", variables["TARGET"])


@pytest.mark.slow
def test_buildx_gets_a_builder_that_holds_the_ca(client_registry: Deployed, tmp_path: Path) -> None:
    setup = client_registry.snippets
    (tmp_path / "setup.json").write_text(json.dumps(setup))
    docker = next(client for client in CLIENTS if client.name == "docker")
    with ClientMachine(tmp_path) as machine:
        machine.sh(docker.daemon)
        for _ in range(2):
            said = machine.sh(f"{DOCKER}; jq -r .buildx {SHARED}/setup.json | sh")
            assert said.stdout.startswith(f"docker buildx trusts {client_registry.host}")
        name = client_registry.host.replace(":", "-")
        builder = machine.sh(f"{DOCKER}; docker buildx inspect {name}").stdout
        assert re.search(r"^Driver:\s+docker-container$", builder, re.MULTILINE)
        assert re.search(r'^Driver Options:.*network="host"', builder, re.MULTILINE)
        # What buildx copies into the builder's container when it boots it.
        (node,) = json.loads(machine.sh(f"cat .docker/buildx/instances/{name}").stdout)["Nodes"]
        files = {name: base64.b64decode(content).decode() for name, content in node["Files"].items()}
        (ca_file,) = tomllib.loads(files["buildkitd.toml"])["registry"][client_registry.host]["ca"]
        assert files[ca_file.removeprefix("/etc/buildkit/")] == client_registry.ca
        undo = re.search(r"Undo: (.*)", setup["buildx"])
        assert undo
        machine.sh(f"{DOCKER}; {undo[1]}")
        assert machine.sh(f"{DOCKER}; docker buildx inspect {name}", check=False).returncode != 0


@pytest.mark.slow
def test_where_the_hosts_docker_is_behind_the_socket_of_a_container_the_snippet_changes_nothing(
    client_registry: Deployed, tmp_path: Path
) -> None:
    (tmp_path / "docker.sh").write_text(client_registry.snippets["docker"])
    daemon = next(client for client in CLIENTS if client.name == "docker").daemon
    here = "export DOCKER_HOST=unix:///run/docker.sock"
    with ClientMachine(tmp_path) as machine:
        machine.sh(daemon.replace(DOCKER, here))
        # What tells a container from its host is a host name of its own.
        inside = f"echo a-container >/proc/sys/kernel/hostname; sh {SHARED}/docker.sh"
        done = machine.sh(f"{here}; unshare --uts sh -c '{inside}'", check=False)
        name = machine.sh("uname -n").stdout.strip()
        assert (done.returncode, done.stdout) == (1, "")
        assert f"the daemon at the machine {name} reads its own files" in done.stderr
        machine.sh("test ! -e /etc/docker/certs.d")
        assert "Docker on Linux trusts" in machine.sh(f"{here}; sh {SHARED}/docker.sh").stdout


@pytest.mark.slow
def test_the_github_step_sets_up_docker_and_the_system(client_registry: Deployed, tmp_path: Path) -> None:
    (step,) = yaml.safe_load(client_registry.snippets["githubActions"])
    (tmp_path / "step.sh").write_text(step["run"])
    with ClientMachine(tmp_path) as machine:
        machine.sh(f"sh -e {SHARED}/step.sh")
        machine.sh(f"curl -fsS https://{client_registry.host}/v2/_catalog")
        assert machine.sh(f"cat /etc/docker/certs.d/{client_registry.host}/ca.crt").stdout == client_registry.ca


def test_kanikos_config_map_is_one_that_the_cluster_takes(
    cluster: Cluster, client_registry: Deployed, namespace: str
) -> None:
    cluster.kubectl("apply", "-n", namespace, "-f", "-", text=client_registry.snippets["kaniko"])
    assert cluster.get("configmap", "-n", namespace, client_registry.host.replace(":", "-"))["data"] == {
        "ca.crt": client_registry.ca
    }


def test_a_builder_in_the_cluster_pushes_with_the_mounted_config_map(
    cluster: Cluster, client_registry: Deployed, namespace: str
) -> None:
    name = client_registry.outputs["configMap"]
    data = cluster.get("configmap", "-n", client_registry.namespace, name)["data"]
    metadata = {"name": name, "namespace": namespace}
    cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
    image = "docker.io/library/python:3.13-alpine"
    build_in_a_pod(client_registry, namespace, name, image, "python3", "-c", PUSH_FROM_A_POD)
    assert client_registry.crane("ls", f"{client_registry.host}/test/from-a-pod").split() == ["1"]


@pytest.mark.slow
def test_crane_in_a_pod_pushes_with_the_copied_config_map_and_every_node_runs_what_it_built(
    cluster: Cluster, app_image: Path, namespace: str, tmp_path: Path
) -> None:
    with registry_for_clients(cluster, tmp_path, "ingress", {"caNamespaces[0]": namespace}) as deployed:
        # The builder's image, on which it builds too, is the registry's: the app's with crane in it.
        with tarfile.open(tmp_path / "crane.tar", "w") as layer:
            layer.add((BIN / "crane").resolve(), "bin/crane")
        base, builder = f"{deployed.host}/test/app:1", f"{deployed.host}/test/builder:1"
        deployed.crane("push", app_image, base)
        deployed.crane("append", "--base", base, "--new_layer", tmp_path / "crane.tar", "--new_tag", builder)
        config_map = deployed.outputs["sharedName"]
        said = build_in_a_pod(deployed, namespace, config_map, builder, "sh", "-euc", BUILD_WITH_CRANE)
        repository = f"{deployed.host}/test/built"
        [built] = (line for line in said.splitlines() if line.startswith(f"{repository}@"))
        assert built == f"{repository}@{deployed.crane('digest', f'{repository}:1').strip()}"
        deployed.start_pods(namespace, built, cluster.nodes)
        deployed.assert_running(namespace, cluster.nodes)
        for node in cluster.nodes:
            read = ("exec", "-n", namespace, f"app-{node}", "--", "busybox", "cat", "/built")
            assert cluster.kubectl(*read) == "built in the cluster\n"
