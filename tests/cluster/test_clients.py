"""Every client pushes to the registry and pulls from it with nothing but its own snippet, and is refused without."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from registry.client_setup import client_setup

from .clients import SHARED, Machine
from .harness import Cluster, Deployed, Stack

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
QUICK = ("crane", "skopeo", "curl")
"""Those of `make test`."""


@pytest.fixture(scope="module")
def deployed(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    with Stack(environment=cluster.environment) as stack:
        stack.up()
        outputs = stack.outputs()
        ca_file = tmp_path_factory.mktemp("deployed") / "ca.crt"
        ca_file.write_text(outputs["caCertificate"])
        yield Deployed(
            cluster=cluster, stack=stack, outputs=outputs, ca_file=ca_file, trees_before={}, restarts_before={}
        )


@pytest.fixture(scope="module")
def source(deployed: Deployed, app_image: Path) -> str:
    """An image in the registry, by its digest."""
    reference = f"{deployed.host}/clients/source:1"
    deployed.crane("push", app_image, reference)
    return f"{deployed.host}/clients/source@{deployed.crane('digest', reference).strip()}"


@pytest.fixture(scope="module")
def tried() -> Iterator[dict[str, str]]:
    """The version of each client that passed; printed as the rows of a table in the end."""
    versions: dict[str, str] = {}
    yield versions
    print("\n| client | version | push | pull |\n|---|---|---|---|")
    for name, version in versions.items():
        print(f"| {name} | {version} | yes | yes |")


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
    client: Client, deployed: Deployed, source: str, app_image: Path, tried: dict[str, str], tmp_path: Path
) -> None:
    shutil.copy(app_image, tmp_path)
    setup = client_setup(deployed.host, deployed.ca)
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

        version = re.search(r"\d+\.\d+[\w.+~-]*", do(client.version).stdout)
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
    tried[client.name] = version[0]
