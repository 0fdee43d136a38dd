"""The real nginx in front of the real registry: whom it asks, and that a renewed certificate refuses nobody."""

import contextlib
import hashlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import pytest

from registry.pod import nginx

from .support.commands import wait_until
from .support.front import ALLOWED, LOGINS, WHO, Front, free_ports, front, make_certificate, prepare, put_certificate

pytestmark = pytest.mark.cluster  # not the cluster itself, but what it is built from

MODES: tuple[nginx.AuthMode, ...] = get_args(nginx.AuthMode)
MANIFEST = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "text/plain",
            "size": 0,
            "digest": "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        },
        "layers": [],
    }
).encode()
EMPTY = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
UPLOADS = "/v2/test/app/blobs/uploads/"

LAYER = f"sha256:{hashlib.sha256(b'some layer').hexdigest()}"


def master(made: Front) -> int:
    """The process id of nginx."""
    return int((made.folder / "run" / "nginx.pid").read_text())


def workers(made: Front) -> set[int]:
    """The process ids of nginx's workers, also of those that only complete what they have begun."""
    pid = master(made)
    return {int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def begin_upload(made: Front, login: str = "") -> str:
    """Begin an upload; its location."""
    status, headers, _ = made.ask("POST", UPLOADS, login=login)
    assert status == 202
    return headers["Location"]


@pytest.mark.parametrize("mode", MODES)
def test_nginx_takes_the_configuration(mode: nginx.AuthMode, tmp_path: Path) -> None:
    environment, _ = prepare(tmp_path, mode, free_ports(4), 20)
    command = ["nginx", "-e", "stderr", "-t", "-c", str(tmp_path / "nginx.conf")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr


@pytest.mark.parametrize("mode", MODES)
def test_who_may_do_what(mode: nginx.AuthMode, tmp_path: Path) -> None:
    with front(tmp_path, mode) as made:
        push = LOGINS["push"]
        location = begin_upload(made, push)
        assert made.ask("PUT", f"{location}&digest={EMPTY}", login=push)[0] == 201
        kind = {"Content-Type": "application/vnd.oci.image.manifest.v1+json"}
        assert made.ask("PUT", "/v2/test/app/manifests/1", body=MANIFEST, headers=kind, login=push)[0] == 201
        upload = begin_upload(made, push)
        requests = {
            "ping": [("GET", "/v2/", 200)],
            "pull": [
                ("GET", "/v2/test/app/manifests/1", 200),
                ("HEAD", "/v2/test/app/manifests/1", 200),
                ("GET", f"/v2/test/app/blobs/{EMPTY}", 200),
                ("HEAD", f"/v2/test/app/blobs/{EMPTY}", 200),
                ("GET", "/v2/test/app/tags/list", 200),
                ("GET", "/v2/_catalog", 200),
                ("GET", "/v2/test/other/manifests/1", 404),
            ],
            "push": [
                ("POST", UPLOADS, 202),
                ("PATCH", upload, 202),
                ("PUT", "/v2/test/app/manifests/2", 400),
                ("DELETE", "/v2/test/app/manifests/none", 404),
                ("DELETE", f"/v2/test/app/blobs/sha256:{'0' * 64}", 404),
            ],
        }
        for plain in (False, True):
            for what, asked in requests.items():
                for who, login in WHO.items():
                    allowed = who in ALLOWED[mode][what]
                    for method, path, status in asked:
                        accept = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
                        got, headers, body = made.ask(method, path, login=login, plain=plain, headers=accept)
                        assert got == (status if allowed else 401), (mode, method, path, login, body)
                        assert headers.get_all("Docker-Distribution-Api-Version") == ["registry/2.0"]
                        if not allowed:
                            assert headers["WWW-Authenticate"] == 'Basic realm="private-registry"'
                            if method != "HEAD":
                                assert json.loads(body)["errors"][0]["code"] == "UNAUTHORIZED"
            assert made.ask("GET", "/", plain=plain)[0] == 200, "the readiness probe asks without a password"
            assert made.ask("GET", "/metrics", plain=plain)[0] == 404


def test_no_spelling_of_a_path_lets_somebody_push_who_may_only_pull(tmp_path: Path) -> None:
    with front(tmp_path, "basic") as made:
        upload = begin_upload(made, LOGINS["push"])
        stored = sorted((tmp_path / "data").rglob("*"))
        for prefix in ("", "/", "/v2/..", "/%76%32/.."):
            for path in (UPLOADS, upload.partition("?")[0], "/v2/test/app/manifests/1"):
                for suffix in ("", "/../../../../..", "/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/v2/", "%00"):
                    for method in ("POST", "PUT", "DELETE"):
                        target = prefix + path + suffix
                        status, headers, body = made.ask(method, target, login=LOGINS["pull"], body=b"x")
                        # A redirect to the clean path, an error, or what the path comes to: the ping.
                        answered = status >= 400 or status == 301 or (status, body) == (200, b"{}")
                        assert answered, (method, target, status, headers, body)
        assert made.ask("GET", "/v2/test/app/tags/list", login=LOGINS["pull"])[0] == 404
        assert sorted((tmp_path / "data").rglob("*")) == stored, "nothing was made or removed"


@pytest.mark.parametrize("mode", ["push", "basic"])
@pytest.mark.parametrize(
    ("content", "status"),
    [(None, 403), ("", 401), ("no line of such a file", 401), ("registry:plain text", 401), ("# registry", 401)],
)
def test_a_missing_or_wrong_password_file_lets_nobody_push(
    mode: nginx.AuthMode, content: str | None, status: int, tmp_path: Path
) -> None:
    with front(tmp_path, mode) as made:
        for path in (tmp_path / "users").iterdir():
            path.unlink() if content is None else path.write_text(content)
        for login in (*LOGINS.values(), "registry:plain", "registry:"):
            assert made.ask("POST", UPLOADS, login=login)[0] == status, login
            assert made.ask("GET", "/v2/", login=login)[0] == status, login


def test_a_new_password_counts_at_once_without_a_reload(tmp_path: Path) -> None:
    with front(tmp_path, "push") as made:
        before = workers(made)
        users = tmp_path / "users" / nginx.PUSHERS
        users.write_text(users.read_text().replace("registry:", "somebody:"))
        assert made.ask("POST", UPLOADS, login=LOGINS["push"])[0] == 401
        assert made.ask("POST", UPLOADS, login=LOGINS["push"].replace("registry:", "somebody:"))[0] == 202
        assert workers(made) == before


def test_locations_are_relative_and_nothing_is_kept_on_disk(tmp_path: Path) -> None:
    with front(tmp_path) as made:
        for headers in ({}, {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "other.example.com"}):
            for plain in (False, True):
                _, answer, _ = made.ask("POST", UPLOADS, headers=headers, plain=plain)
                assert answer["Location"].startswith(UPLOADS)
                status, answer, _ = made.ask("GET", "/v2", headers=headers, plain=plain)
                assert (status, answer["Location"]) == (301, "/v2/")
        location = begin_upload(made)
        connection = made.connect()
        connection.putrequest("PATCH", location)
        connection.putheader("Content-Length", str(2**24))
        connection.endheaders(os.urandom(2**23))

        def arrived() -> int:
            return sum(path.stat().st_size for path in (tmp_path / "data").rglob("data"))

        wait_until(lambda: arrived() >= 2**22, "the registry has what was sent while the rest is not", timeout=20)
        assert {path.name for path in (tmp_path / "run").rglob("*") if path.is_file()} == {"nginx.conf", "nginx.pid"}
        connection.send(os.urandom(2**23))
        assert connection.getresponse().status == 202
        connection.close()


def registry_itself(
    made: Front, path: str, headers: Mapping[str, str], body: bytes = b""
) -> tuple[int, dict[str, str | None], bytes]:
    """What the registry says without nginx in front of it: status, the headers that clients look at, and body."""
    connection = http.client.HTTPConnection("127.0.0.1", made.registry_port, timeout=20)
    connection.request("GET", path, body or None, dict(headers))
    answer = connection.getresponse()
    return answer.status, looked_at(answer.headers), answer.read()


def blob_requests(made: Front) -> set[str]:
    """The methods of the requests for blobs that the registry has answered."""
    return set(
        re.findall(r'^registry_http_requests_total\{.*handler="blob",method="(\w+)"', made.metrics(), re.MULTILINE)
    )


def looked_at(headers: http.client.HTTPMessage) -> dict[str, str | None]:
    names = ("Content-Type", "Content-Length", "Content-Range", "Docker-Content-Digest", "ETag", "Cache-Control")
    return {name: headers[name] for name in names}


@pytest.mark.parametrize("asked", [{}, {"Range": "bytes=1000-1999"}, {"Range": "bytes=2999000-"}])
def test_nginx_sends_a_blob_as_the_registry_does_and_the_registry_need_not(
    asked: Mapping[str, str], tmp_path: Path
) -> None:
    content = os.urandom(3_000_000)
    with front(tmp_path) as made:
        path = "/v2/test/app/blobs/" + made.push_blob("test/app", content)
        status, headers, body = made.ask("GET", path, headers=asked)
        assert blob_requests(made) == {"head"}, "it was asked only whether it has the blob"
        assert (status, looked_at(headers), body) == registry_itself(made, path, asked)
        assert blob_requests(made) == {"head", "get"}


@pytest.mark.parametrize(
    ("asked", "body"),
    [({"Content-Length": "5"}, b"hello"), ({"If-Match": f'"{LAYER}"'}, b""), ({"If-None-Match": f'"{LAYER}"'}, b"")],
)
def test_a_request_for_a_blob_with_a_body_or_conditions_is_answered_by_the_registry(
    asked: Mapping[str, str], body: bytes, tmp_path: Path
) -> None:
    with front(tmp_path) as made:
        path = "/v2/test/app/blobs/" + made.push_blob("test/app", b"some layer")
        assert path.endswith(LAYER)
        status, headers, answered = made.ask("GET", path, headers=asked, body=body)
        assert (status, looked_at(headers), answered) == registry_itself(made, path, asked, body)


def test_pulls_that_nobody_reads_take_less_memory_than_nginx_may_have_at_its_most_connections(tmp_path: Path) -> None:
    count, may_have = 200, 512 * 2**20

    def anonymous(made: Front) -> int:
        statuses = [Path(f"/proc/{worker}/status").read_text() for worker in workers(made)]
        return sum(int(re.findall(r"RssAnon:\s+(\d+)", status)[0]) for status in statuses) * 1024

    with front(tmp_path, "push") as made, contextlib.ExitStack() as opened:
        path = "/v2/test/app/blobs/" + made.push_blob("test/app", os.urandom(8_000_000), LOGINS["push"])
        before = anonymous(made)
        for _ in range(count):
            connection = opened.enter_context(contextlib.closing(made.connect()))
            connection.request("GET", path)
            assert connection.getresponse().status == 200
        assert (anonymous(made) - before) / count < may_have / (nginx.CONNECTIONS / 2)


def test_a_blob_that_only_another_repository_has_or_whose_file_is_gone_is_what_the_registry_says(
    tmp_path: Path,
) -> None:
    with front(tmp_path) as made:
        digest = made.push_blob("test/app", b"some layer")
        for path in (f"/v2/test/other/blobs/{digest}", f"/v2/test/app/blobs/sha256:{'0' * 64}"):
            status, headers, body = made.ask("GET", path)
            assert (status, json.loads(body)["errors"][0]["code"]) == (404, "BLOB_UNKNOWN")
            assert headers.get_all("Docker-Distribution-Api-Version") == ["registry/2.0"]
        (tmp_path / "data/docker/registry/v2/blobs/sha256" / digest[7:9] / digest[7:] / "data").unlink()
        assert made.ask("GET", f"/v2/test/app/blobs/{digest}")[0] == 404
        made.behind.kill()
        assert made.ask("GET", f"/v2/test/app/blobs/{digest}")[0] == 502


def test_no_spelling_of_a_path_shows_a_blob_to_somebody_without_a_password(tmp_path: Path) -> None:
    with front(tmp_path, "basic") as made:
        digest = made.push_blob("test/app", b"a secret layer", LOGINS["push"])
        paths = [f"/v2/test/app/blobs/{digest}", f"/blob/v2/test/app/blobs/{digest}", "/has-blob"]
        for path in [*paths, *(f"{prefix}{paths[0]}" for prefix in ("/", "/v2/..", "/%76%32/..", "/blob"))]:
            for suffix in ("", "?a=b", "/", "/../" + digest, "%00", "/%2e%2e/" + digest):
                status, _, body = made.ask("GET", path + suffix, headers={"Range": "bytes=0-3"})
                assert status in (301, 400, 401, 404), (path, suffix, status)
                assert b"a se" not in body
        assert made.ask("GET", paths[0], login=LOGINS["pull"])[2] == b"a secret layer"


def test_the_access_log_names_user_and_request_and_no_password(tmp_path: Path) -> None:
    with front(tmp_path, "basic") as made:
        made.ask("GET", "/v2/_catalog", login=LOGINS["pull"], headers={"X-Forwarded-For": "192.0.2.7"})
        made.ask("GET", "/")
        assert re.search(r'"192\.0\.2\.7" registry-pull \[\S+\] "GET /v2/_catalog HTTP/1\.1" 200', made.log())
        assert '"GET / ' not in made.log()
        assert not [login for login in LOGINS.values() if login.partition(":")[2] in made.log()]


@pytest.mark.slow
def test_no_client_is_refused_while_certificates_change(tmp_path: Path) -> None:
    with front(tmp_path) as made:
        stop, failed, done = threading.Event(), list[str](), list[int]()

        def ask() -> None:
            while not stop.is_set():
                try:
                    done.append(made.ask("GET", "/v2/")[0])
                except OSError as error:
                    failed.append(str(error))

        threads = [threading.Thread(target=ask, daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(3):
            before = workers(made)
            certificate = make_certificate(tmp_path)
            wait_until(lambda certificate=certificate: made.shown() == certificate, "it is served", timeout=15)
            wait_until(lambda before=before: not before & workers(made), "the workers before have ended", timeout=30)
        stop.set()
        for thread in threads:
            thread.join()
        assert failed == []
        assert set(done) == {200}
        assert len(done) > 100


def test_a_push_that_began_before_the_change_is_completed(tmp_path: Path) -> None:
    with front(tmp_path) as made:
        location = begin_upload(made)
        body = os.urandom(2**20)
        connection = made.connect()
        connection.putrequest("PATCH", location)
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body[: 2**19])
        before = workers(made)
        certificate = make_certificate(tmp_path)
        wait_until(lambda: made.shown() == certificate, "the new one is served", timeout=15)
        wait_until(lambda: len(before & workers(made)) == 1, "only who serves the push is left", timeout=30)
        connection.send(body[2**19 :])
        assert connection.getresponse().status == 202
        connection.close()
        wait_until(lambda: not before & workers(made), "it has ended", timeout=30)


def test_a_certificate_that_does_not_fit_its_key_changes_nothing_and_is_said(tmp_path: Path) -> None:
    with front(tmp_path) as made:
        before, running = made.shown(), workers(made)
        key = (tmp_path / "tls" / "tls.key").read_text()
        good = make_certificate(tmp_path)
        certificate, own_key = ((tmp_path / "tls" / name).read_text() for name in ("tls.crt", "tls.key"))
        put_certificate(tmp_path, certificate, key)
        wait_until(lambda: made.log().count("nginx refuses it") >= 2, "it was tried twice", timeout=30)
        assert "key values mismatch" in made.log()
        assert workers(made) == running or made.shown() == good  # the good one was there for a moment
        assert made.shown() in (before, good)
        put_certificate(tmp_path, certificate, own_key)
        wait_until(lambda: made.shown() == good, "the good one is taken without another change", timeout=30)
        for path in (tmp_path / "tls").iterdir():
            path.unlink()
        wait_until(lambda: "cannot load certificate" in made.log(), "the lost files are noticed", timeout=30)
        assert made.shown() == good


def test_it_ends_when_it_is_told_and_completes_what_is_open(tmp_path: Path) -> None:
    with front(tmp_path) as made:
        location = begin_upload(made)
        connection = made.connect()
        connection.putrequest("PATCH", location)
        connection.putheader("Content-Length", "2000")
        connection.endheaders(b"x" * 1000)
        time.sleep(0.5)
        made.process.terminate()
        wait_until(lambda: refuses(made.tls_port), "it takes no more connections", timeout=10)
        assert made.process.poll() is None
        connection.send(b"x" * 1000)
        assert connection.getresponse().status == 202
        assert made.process.wait(10) == 0
        connection.close()


def refuses(port: int) -> bool:
    try:
        socket.create_connection(("localhost", port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


def test_what_is_still_open_after_the_drain_is_cut_off(tmp_path: Path) -> None:
    with front(tmp_path, drain=2) as made:
        connection = made.connect()
        connection.putrequest("PATCH", begin_upload(made))
        connection.putheader("Content-Length", "2000")
        connection.endheaders(b"x" * 1000)
        time.sleep(0.5)
        made.process.terminate()
        assert made.process.wait(15) == 0
        assert "cutting off" in made.log()
        connection.close()


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_with_an_error_when_nginx_ends_by_itself(by: signal.Signals, tmp_path: Path) -> None:
    with front(tmp_path) as made:
        others = workers(made)
        os.kill(master(made), by)
        assert made.process.wait(10) == 1
        assert "ended by itself" in made.log()
        for pid in others:
            if Path(f"/proc/{pid}").exists():
                os.kill(pid, signal.SIGKILL)
