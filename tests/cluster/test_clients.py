"""Every client pushes to the registry and pulls from it with nothing but its own snippet, and is refused without."""

import base64
import json
import random
import re
import shutil
import subprocess
import tarfile
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml

from registry.client_setup import client_setup

from .clients import SHARED, Machine, registry_for_clients
from .harness import Cluster, Deployed, wait_until
from .local import rootfs
from .local.paths import BIN

pytestmark = pytest.mark.cluster
UNKNOWN_CA = re.compile(r"x509: certificate signed by unknown authority|SSL certificate problem")
TEXT = "pushed by this client"


@dataclass(frozen=True, kw_only=True)
class Client:
    """A client and what it is asked to do.

    The scripts know REGISTRY (the host), SOURCE (an image in the registry, by digest), ARCHIVE (one that is not) and
    TARGET (the reference that the client pushes).
    """

    name: str
    """The client; also of the repository that it pushes to."""
    version: str
    """Prints its version, before any other number with dots."""
    push: str
    """Pushes TARGET."""
    pull: str
    """Pulls it, and prints what it got."""
    forget: str = ""
    """Deletes what the client still has of it before that."""
    got: str = ""
    """What `pull` has to print; empty: the digest of the configuration of the image TARGET."""
    snippet: str = ""
    """Its key in clientSetup; empty: its name."""
    evaluated: bool = False
    """Whether the snippet prints commands for the shell to evaluate."""
    daemon: str = ""
    """Starts what the client needs, and waits for it."""
    restart: bool = False
    """Whether the daemon has to be restarted after the snippet."""
    prepare: str = ""
    """What is done first, without the registry."""
    target: str = "$REGISTRY/clients/$NAME:1"
    ours: bool = False
    """Whether it is none of Debian's, so that it has to be built."""


_HELLO = f"echo '{TEXT}' >hello.txt"
_CURL = Client(
    name="curl",
    version="curl --version",
    prepare=f"{_HELLO}; sha256sum hello.txt | cut -c 1-64 >digest",
    push="""
        headers=$(curl -fsS -D - -X POST "https://$REGISTRY/v2/clients/$NAME/blobs/uploads/")
        location=$(echo "$headers" | tr -d '\\r' | sed -n 's/^[Ll]ocation: //p')
        curl -fsS -X PUT -H 'Content-Type: application/octet-stream' --data-binary @hello.txt \\
            "https://$REGISTRY$location&digest=sha256:$(cat digest)"
        size=$(wc -c <hello.txt)
        cat >manifest.json <<END
        {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
         "config": {"mediaType": "text/plain", "size": $size, "digest": "sha256:$(cat digest)"}, "layers": []}
END
        curl -fsS -X PUT -H 'Content-Type: application/vnd.oci.image.manifest.v1+json' --data-binary @manifest.json \\
            "https://$REGISTRY/v2/clients/$NAME/manifests/1"
    """,
    pull='curl -fsS "https://$REGISTRY/v2/clients/$NAME/blobs/sha256:$(cat digest)"',
    got=TEXT,
    evaluated=True,
)
_DOCKER = "export DOCKER_HOST=unix:///run/test.sock"

CLIENTS = (
    Client(
        name="crane",
        version="crane version",
        push='crane push "$ARCHIVE" "$TARGET"',
        pull='crane pull "$TARGET" pulled.tar; tar -xOf pulled.tar manifest.json',
        evaluated=True,
    ),
    Client(
        name="skopeo",
        version="skopeo --version",
        push='skopeo copy "docker-archive:$ARCHIVE" "docker://$TARGET"',
        forget="rm -f pulled.tar",
        pull='skopeo copy "docker://$TARGET" docker-archive:pulled.tar; tar -xOf pulled.tar manifest.json',
    ),
    _CURL,
    replace(_CURL, name="linux-trust-store", snippet="linuxTrustStore", evaluated=False),
    Client(
        name="podman",
        version="podman --version",
        prepare='podman load -i "$ARCHIVE"',
        push='podman push example.com/app:1 "$TARGET"',
        forget="podman rmi -af",
        pull='podman pull -q "$TARGET"',
    ),
    Client(
        name="buildah",
        version="buildah --version",
        prepare='buildah pull "docker-archive:$ARCHIVE"',
        push='buildah push example.com/app:1 "docker://$TARGET"',
        forget="buildah rmi -af",
        pull='buildah pull -q "$TARGET"',
    ),
    Client(
        name="docker",
        version="dockerd --version",
        daemon=f"""
            {_DOCKER}
            dockerd --host "$DOCKER_HOST" --iptables=false --ip6tables=false --bridge none \\
                >dockerd.log 2>&1 &
            timeout 60 sh -c 'until docker info >/dev/null 2>&1; do sleep 0.2; done' || {{ cat dockerd.log; false; }}
        """,
        prepare=f'{_DOCKER}; docker load -qi "$ARCHIVE"; docker tag example.com/app:1 "$TARGET"',
        push=f'{_DOCKER}; docker push "$TARGET"',
        forget=f"{_DOCKER}; docker image prune --all --force",
        pull=f"""
            {_DOCKER}
            docker pull "$TARGET"; docker image inspect --format '{{{{.Id}}}}' "$TARGET"
        """,
    ),
    Client(
        name="containerd",
        version="containerd --version",
        daemon="""
            containerd >containerd.log 2>&1 &
            timeout 60 sh -c 'until ctr version >/dev/null 2>&1; do sleep 0.2; done'
        """,
        prepare='ctr images import "$ARCHIVE"; ctr images tag example.com/app:1 "$TARGET"',
        push='ctr images push --hosts-dir /etc/containerd/certs.d "$TARGET"',
        forget="ctr images rm --sync $(ctr images ls -q)",
        pull='ctr images pull --hosts-dir /etc/containerd/certs.d "$TARGET"; ctr content ls',
    ),
    Client(
        name="oras",
        version="oras version",
        prepare=_HELLO,
        push="""
            oras push "$TARGET" hello.txt:text/plain
            oras attach --artifact-type application/vnd.example.sbom "$TARGET" hello.txt:text/plain
        """,
        forget="rm hello.txt",
        pull="""
            oras pull "$TARGET"
            oras discover --format json "$TARGET" | grep -F application/vnd.example.sbom
            cat hello.txt
        """,
        got=TEXT,
        evaluated=True,
        ours=True,
    ),
    Client(
        name="helm",
        version="helm version",
        prepare="helm create app; helm package app",
        target="$REGISTRY/clients/helm/app:0.1.0",
        push="helm push app-0.1.0.tgz oci://$REGISTRY/clients/helm",
        forget="rm -r app app-0.1.0.tgz",
        pull="helm pull oci://$REGISTRY/clients/helm/app --version 0.1.0; tar -xOf app-0.1.0.tgz app/Chart.yaml",
        got="name: app",
        evaluated=True,
        ours=True,
    ),
    Client(
        name="ko",
        version="ko version",
        prepare="""
            mkdir app; cd app
            printf 'package main\\nfunc main() { println("hello") }\\n' >main.go
            printf 'module example.com/app\\ngo 1.21\\n' >go.mod
        """,
        push='cd app; KO_DEFAULTBASEIMAGE=$SOURCE KO_DOCKER_REPO=${TARGET%:*} ko build --bare --tags 1 .',
        # It pulls its base image.
        pull="""
            cd app; KO_DEFAULTBASEIMAGE=$TARGET KO_DOCKER_REPO=example.com/app ko build --push=false --tarball app.tar .
            tar -xOf app.tar manifest.json
        """,
        got='"Config"',
        evaluated=True,
        ours=True,
    ),
    Client(
        name="buildkit",
        version="buildkitd --version",
        daemon="""
            buildkitd --containerd-worker=false >buildkitd.log 2>&1 & echo $! >pid
            timeout 60 sh -c 'until buildctl debug workers >/dev/null 2>&1; do sleep 0.2; done' \\
                || { cat buildkitd.log; false; }
        """,
        restart=True,
        prepare=f"""
            {_HELLO}; mkdir push pull; cp hello.txt push
            printf 'FROM scratch\\nCOPY hello.txt /\\n' >push/Dockerfile
            printf 'FROM %s\\n' "$TARGET" >pull/Dockerfile
        """,
        push="""
            buildctl build --frontend dockerfile.v0 --local context=push --local dockerfile=push \\
                --output "type=image,name=$TARGET,push=true"
        """,
        forget="buildctl prune --all",
        pull="""
            buildctl build --frontend dockerfile.v0 --local context=pull --local dockerfile=pull \\
                --output type=tar,dest=pulled.tar
            tar -xOf pulled.tar hello.txt
        """,
        got=TEXT,
        ours=True,
    ),
    Client(
        name="cosign",
        version="cosign version",
        prepare="export COSIGN_PASSWORD=; cosign generate-key-pair",
        target="$SOURCE",
        push="""
            export COSIGN_PASSWORD=
            cosign sign --yes --key cosign.key --tlog-upload=false --use-signing-config=false "$TARGET"
        """,
        pull='cosign verify --key cosign.pub --insecure-ignore-tlog=true --private-infrastructure "$TARGET"',
        got="docker-manifest-digest",
        evaluated=True,
        ours=True,
    ),
)  # fmt: skip
TRIED = Path(__file__).with_name("clients_tried.md")
"""What the README says was tried."""
QUICK = ("crane", "skopeo", "curl")
"""Those of `make test`."""


@pytest.fixture(scope="module")
def source(deployed: Deployed, app_image: Path) -> str:
    """An image in the registry, by its digest."""
    reference = f"{deployed.host}/clients/source:1"
    deployed.crane("push", app_image, reference)
    return f"{deployed.host}/clients/source@{deployed.crane('digest', reference).strip()}"


def snippets_of_another_ca(deployed: Deployed, folder: Path) -> dict[str, str]:
    """The snippets with a CA of the same name as the registry's, and another key."""
    subject = ["-subj", f"/OU={deployed.stack.name}/CN=Private registry CA"]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(folder / "key")]
    made = subprocess.run(
        ["openssl", "req", "-x509", *key, *subject, "-days", "2"], check=True, capture_output=True, text=True
    )
    return client_setup(deployed.host, made.stdout)


@pytest.mark.parametrize(
    "client", [pytest.param(c, id=c.name, marks=[] if c.name in QUICK else pytest.mark.slow) for c in CLIENTS]
)
def test_a_client_pushes_and_pulls_with_nothing_but_its_snippet(
    client: Client, deployed: Deployed, source: str, app_image: Path, tmp_path: Path
) -> None:
    shutil.copy(app_image, tmp_path)
    setup = deployed.outputs["clientSetup"]
    (tmp_path / "right.json").write_text(json.dumps(setup))
    (tmp_path / "wrong.json").write_text(json.dumps(snippets_of_another_ca(deployed, tmp_path)))
    target = client.target.replace("$REGISTRY", deployed.host).replace("$NAME", client.name).replace("$SOURCE", source)
    variables = {
        "REGISTRY": deployed.host,
        "SOURCE": source,
        "ARCHIVE": str(SHARED / app_image.name),
        "NAME": client.name,
        "TARGET": target,
    }
    key = client.snippet or client.name
    with Machine(tmp_path, *(["clients"] if client.ours else [])) as machine:

        def do(script: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
            return machine.sh(script, variables, check=check)

        def trust(file: str) -> str:
            """Run the snippet, or give the words to run it with before each command."""
            snippet = f"jq -r .{key} {SHARED}/{file}.json | sh"
            if client.evaluated:
                return f'eval "$({snippet})"\n'
            assert re.fullmatch(rf"[^\n]+ trusts {re.escape(deployed.host)}[^\n]*\n", do(snippet).stdout)
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
        do(before + client.push)
        manifest = json.loads(deployed.crane("manifest", target))
        do(client.forget)
        got = client.got or manifest["config"]["digest"].removeprefix("sha256:")
        assert got in do(before + client.pull).stdout

        undo = re.search(r"Undo: (.*)", setup[key])
        assert undo
        if not client.restart:
            do(client.forget, check=False)
            undone = before + undo[1].replace("sudo ", "") + "\n"
            assert refused(undone + client.pull)
    row = f"| {client.name} | {version[0]} | `{key}` | yes | yes |"
    assert row in TRIED.read_text().splitlines(), f"{TRIED.name} has to say what was tried"


def test_the_table_of_clients_has_no_row_of_its_own() -> None:
    rows = [line.split("|")[1].strip() for line in TRIED.read_text().splitlines() if line.startswith("| ")]
    assert rows == ["client", *(client.name for client in CLIENTS)]


def test_the_snippets_work_as_the_readme_prints_them(
    cluster: Cluster, deployed: Deployed, app_image: Path, tmp_path: Path
) -> None:
    rootfs.install("jq")
    setup = f"pulumi stack output --stack {deployed.stack.name} --json clientSetup"
    target = f"{deployed.host}/test/printed"
    script = f"""
        {setup} | jq -r .skopeo | sh
        skopeo --insecure-policy copy docker-archive:{app_image} docker://{target}:skopeo
        eval "$({setup} | jq -r .crane | sh)"
        crane ls {target}
    """
    done = cluster.run("env", f"HOME={tmp_path}", "sh", "-euc", script)
    assert done.stdout.splitlines()[0] == f"skopeo trusts {deployed.host}"
    assert done.stdout.splitlines()[-1] == "skopeo"


@pytest.mark.parametrize(
    ("key", "command"), [("crane", "crane manifest $PUBLIC/team/app:1"), ("curl", "curl -sS https://$PUBLIC/")]
)
def test_what_the_system_trusts_is_trusted_as_before(
    key: str, command: str, deployed: Deployed, tmp_path: Path
) -> None:
    (tmp_path / "setup.json").write_text(json.dumps(deployed.outputs["clientSetup"]))
    public = f"public.example.com:{random.randrange(20000, 30000)}"
    with Machine(tmp_path) as machine:
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
        machine.sh("cp cert /usr/local/share/ca-certificates/public.crt; update-ca-certificates")
        known = machine.sh(ask, {"PUBLIC": public}, check=False)
        assert not UNKNOWN_CA.search(known.stderr)
        assert "certificate" not in known.stderr


@pytest.mark.slow
def test_the_ca_of_one_stack_is_none_of_another(
    cluster: Cluster, deployed: Deployed, app_image: Path, tmp_path: Path
) -> None:
    shutil.copy(app_image, tmp_path)
    with registry_for_clients(cluster, tmp_path, "ingress") as other, Machine(tmp_path) as machine:
        for name, stack in ("one", deployed), ("other", other):
            stack.crane("push", app_image, f"{stack.host}/test/app:1")
            (tmp_path / f"{name}.json").write_text(json.dumps(stack.outputs["clientSetup"]))
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
            machine.sh(one + ask, {"REGISTRY": deployed.host})
            refused = machine.sh(one + ask, {"REGISTRY": other.host}, check=False)
            assert refused.returncode != 0, key
            assert UNKNOWN_CA.search(refused.stderr), key
            for stack in deployed, other:
                machine.sh(both + ask, {"REGISTRY": stack.host})


@pytest.mark.slow
def test_buildx_gets_a_builder_that_holds_the_ca(deployed: Deployed, tmp_path: Path) -> None:
    setup = deployed.outputs["clientSetup"]
    (tmp_path / "setup.json").write_text(json.dumps(setup))
    docker = next(client for client in CLIENTS if client.name == "docker")
    with Machine(tmp_path) as machine:
        machine.sh(docker.daemon)
        for _ in range(2):
            said = machine.sh(f"{_DOCKER}; jq -r .buildx {SHARED}/setup.json | sh")
            assert said.stdout.startswith(f"docker buildx trusts {deployed.host}")
        name = deployed.host.replace(":", "-")
        builder = machine.sh(f"{_DOCKER}; docker buildx inspect {name}").stdout
        assert re.search(r"^Driver:\s+docker-container$", builder, re.MULTILINE)
        # What buildx copies into the builder's container when it boots it.
        (node,) = json.loads(machine.sh(f"cat .docker/buildx/instances/{name}").stdout)["Nodes"]
        files = {name: base64.b64decode(content).decode() for name, content in node["Files"].items()}
        (ca_file,) = tomllib.loads(files["buildkitd.toml"])["registry"][deployed.host]["ca"]
        assert files[ca_file.removeprefix("/etc/buildkit/")] == deployed.ca
        undo = re.search(r"Undo: (.*)", setup["buildx"])
        assert undo
        machine.sh(f"{_DOCKER}; {undo[1]}")
        assert machine.sh(f"{_DOCKER}; docker buildx inspect {name}", check=False).returncode != 0


@pytest.mark.slow
def test_the_github_step_sets_up_docker_and_the_system(deployed: Deployed, tmp_path: Path) -> None:
    (step,) = yaml.safe_load(deployed.outputs["clientSetup"]["githubActions"])
    (tmp_path / "step.sh").write_text(step["run"])
    with Machine(tmp_path) as machine:
        machine.sh(f"sh -e {SHARED}/step.sh")
        machine.sh(f"curl -fsS https://{deployed.host}/v2/")
        assert machine.sh(f"cat /etc/docker/certs.d/{deployed.host}/ca.crt").stdout == deployed.ca


def test_kanikos_config_map_is_one_that_the_cluster_takes(cluster: Cluster, deployed: Deployed, namespace: str) -> None:
    cluster.kubectl("apply", "-n", namespace, "-f", "-", text=deployed.outputs["clientSetup"]["kaniko"])
    assert cluster.get("configmap", "-n", namespace, deployed.host.replace(":", "-"))["data"] == {"ca.crt": deployed.ca}


PUSH_FROM_A_POD = """
import hashlib, json, pathlib, ssl, urllib.request
ca = pathlib.Path("/private-registry")
registry = "https://" + (ca / "host").read_text() + "/v2/test/from-a-pod"
context = ssl.create_default_context(cafile=ca / "ca.crt")

def send(method, url, data=b"", kind="application/octet-stream"):
    request = urllib.request.Request(url, data, {"Content-Type": kind}, method=method)
    return urllib.request.urlopen(request, context=context, timeout=20).headers

blob = b"built in the cluster"
digest = "sha256:" + hashlib.sha256(blob).hexdigest()
upload = send("POST", registry + "/blobs/uploads/")["Location"]
send("PUT", urllib.parse.urljoin(registry, upload) + "&digest=" + digest, blob)
kind = "application/vnd.oci.image.manifest.v1+json"
config = {"mediaType": "text/plain", "size": len(blob), "digest": digest}
manifest = {"schemaVersion": 2, "mediaType": kind, "config": config, "layers": []}
send("PUT", registry + "/manifests/1", json.dumps(manifest).encode(), kind)
"""


def build_in_a_pod(cluster: Cluster, namespace: str, config_map: str, image: str, *command: str) -> str:
    """Run a program to its end in a pod with the ConfigMap mounted and no right that a plain pod lacks; its output."""
    container = {
        "name": "builder",
        "image": image,
        "command": command,
        "workingDir": "/work",
        "securityContext": {"runAsUser": 1000, "runAsNonRoot": True, "allowPrivilegeEscalation": False},
        "volumeMounts": [
            {"name": "registry", "mountPath": "/private-registry", "readOnly": True},
            {"name": "work", "mountPath": "/work"},
        ],
    }
    volumes = [{"name": "registry", "configMap": {"name": config_map}}, {"name": "work", "emptyDir": {}}]
    spec = {"restartPolicy": "Never", "containers": [container], "volumes": volumes}
    metadata = {"name": "builder", "namespace": namespace}
    cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})

    def phase() -> str:
        return cluster.get("pod", "-n", namespace, "builder")["status"].get("phase", "")

    wait_until(lambda: phase() in ("Succeeded", "Failed"), "the builder has ended", timeout=60)
    said = cluster.kubectl("logs", "-n", namespace, "builder")
    assert phase() == "Succeeded", said
    return said


def test_a_builder_in_the_cluster_pushes_with_the_mounted_config_map(
    cluster: Cluster, deployed: Deployed, namespace: str
) -> None:
    name = deployed.outputs["configMap"]
    data = cluster.get("configmap", "-n", deployed.namespace, name)["data"]
    metadata = {"name": name, "namespace": namespace}
    cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
    image = "docker.io/library/python:3.13-alpine"
    build_in_a_pod(cluster, namespace, name, image, "python3", "-c", PUSH_FROM_A_POD)
    assert deployed.crane("ls", f"{deployed.host}/test/from-a-pod").split() == ["1"]


BUILD_WITH_CRANE = """
host=$(cat /private-registry/host)
echo 'built in the cluster' >built
tar -cf layer.tar built
build="crane append --base $host/test/builder:1 --new_layer layer.tar --new_tag $host/test/built:1"
if $build 2>refused; then echo 'not refused without the CA'; exit 1; fi
grep 'x509: certificate signed by unknown authority' refused
SSL_CERT_FILE=/private-registry/ca.crt $build
"""


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
        config_map = deployed.outputs["caConfigMap"]
        said = build_in_a_pod(cluster, namespace, config_map, builder, "sh", "-euc", BUILD_WITH_CRANE)
        repository = f"{deployed.host}/test/built"
        [built] = (line for line in said.splitlines() if line.startswith(f"{repository}@"))
        assert built == f"{repository}@{deployed.crane('digest', f'{repository}:1').strip()}"
        deployed.start_pods(namespace, built, cluster.nodes)
        deployed.assert_running(namespace, cluster.nodes)
        for node in cluster.nodes:
            read = ("exec", "-n", namespace, f"app-{node}", "--", "busybox", "cat", "/built")
            assert cluster.kubectl(*read) == "built in the cluster\n"
