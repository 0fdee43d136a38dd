"""The clients that are tried: how each of them pushes, pulls, and shows its version."""

from dataclasses import dataclass, replace

from .places import DATA

TEXT = "pushed by this client"


@dataclass(frozen=True, kw_only=True)
class Client:
    """A client and what it is asked to do.

    The scripts know REGISTRY (the host), SOURCE (an image in the registry, by digest), ARCHIVE (one that is not) and
    TARGET (the reference that the client pushes).
    """

    name: str
    """The client's name, which is also that of the repository that it pushes to."""
    version: str
    """A command that prints its version before any other number with a dot."""
    push: str
    """A script that pushes TARGET."""
    pull: str
    """A script that pulls TARGET and prints what it got."""
    forget: str = ""
    """A script that deletes what the client still has of TARGET, before the pull."""
    got: str = ""
    """What `pull` has to print; empty: the digest of the configuration of the image TARGET."""
    snippet: str = ""
    """Name of its snippet; empty if that is its own name."""
    evaluated: bool = False
    """Whether the snippet prints commands for the shell to evaluate."""
    daemon: str = ""
    """A script that starts the daemon which the client needs, and waits for it."""
    restart: bool = False
    """Whether the daemon has to be restarted after the snippet."""
    prepare: str = ""
    """A script that prepares what is pushed. It needs no registry."""
    login: str = ""
    """A script that logs in with the password in $PASSWORD_FILE; empty: what the snippet's second line says."""
    asks_to_pull: bool = False
    """Whether it does not pull without a login where the registry asks only before pushes."""
    target: str = "$REGISTRY/clients/$NAME:1"
    ours: bool = False
    """Whether Debian does not have it, so that it has to be built."""


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
    login='printf \'user = "%s:%s"\' "$USERNAME" "$(cat "$PASSWORD_FILE")" >.curlrc',
)
DOCKER = "export DOCKER_HOST=unix:///run/test.sock"
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
            {DOCKER}
            dockerd --host "$DOCKER_HOST" --iptables=false --ip6tables=false --bridge none \\
                >dockerd.log 2>&1 &
            timeout 60 sh -c 'until docker info >/dev/null 2>&1; do sleep 0.2; done' || {{ cat dockerd.log; false; }}
        """,
        prepare=f'{DOCKER}; docker load -qi "$ARCHIVE"; docker tag example.com/app:1 "$TARGET"',
        push=f'{DOCKER}; docker push "$TARGET"',
        login=f'{DOCKER}; docker login --username "$USERNAME" --password-stdin "$REGISTRY" <"$PASSWORD_FILE"',
        asks_to_pull=True,
        forget=f"{DOCKER}; docker image prune --all --force",
        pull=f"""
            {DOCKER}
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
        push="""
            if [ -e login ]; then set -- --user "$(cat login)"; fi
            ctr images push --hosts-dir /etc/containerd/certs.d "$@" "$TARGET"
        """,
        login='echo "$USERNAME:$(cat "$PASSWORD_FILE")" >login',
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
        # `docker login` needs a Docker daemon; this writes the same file.
        login='crane auth login --username "$USERNAME" --password-stdin "$REGISTRY" <"$PASSWORD_FILE"',
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
TRIED = DATA / "clients_tried.md"
"""The table of what was tried, from which a page of the documentation is made."""
QUICK = ("crane", "skopeo", "curl")
"""The clients that `make test` tries; `make test-all` tries all."""
