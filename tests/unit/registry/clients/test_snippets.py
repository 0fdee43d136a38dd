"""Each client's snippet parses, does what it says where that needs no root, and can be undone."""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from registry.clients.nodes import NODES, key_of
from registry.clients.snippets import CLIENTS, PORT_FORWARD, client_setup
from registry.pod.nginx import TLS_PORT

HOST = "registry-pr-42-r.203-0-113-7.nip.io"
NOBODY = 65534
OTHER_CA = Path(__file__).parents[2] / "trust" / "agent" / "fixtures" / "other-ca.crt"
SHELLS = [shell for shell in ("sh", "dash", "bash") if shutil.which(shell)]
OTHER_LANGUAGES = {"dockerDesktopWindows", "windowsCertutil", "kaniko", "githubActions"}
HOME_FOLDER = ("podman", "buildah", "skopeo")
GO = ("crane", "ko", "oras", "helm", "cosign")
POSIX = [
    "docker", "dockerDesktopMac", *HOME_FOLDER, *GO, "buildkit", "buildx", "nerdctl", "containerd", "curl",
    "macosKeychain", "linuxTrustStore",
]  # fmt: skip


def openssl(*arguments: str, text: str = "") -> str:
    return subprocess.run(["openssl", *arguments], input=text, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> str:
    key = tmp_path_factory.mktemp("ca") / "key"
    return openssl(
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(key),
        "-subj", "/CN=Private registry CA", "-days", "2",
    )  # fmt: skip


@pytest.fixture(params=["plain", "it's a home $(false)"])
def home(request: pytest.FixtureRequest) -> Iterator[Path]:
    """The home folder of a user who is not root."""
    base = Path(tempfile.mkdtemp())
    base.chmod(0o755)
    path = base / request.param
    path.mkdir()
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)
    yield path
    shutil.rmtree(base)


def run(script: str, home: Path, **variables: str) -> str:
    """What a script prints, which the user's shell reads from its standard input, as after a pipe."""
    done = subprocess.run(
        ["sh"], input=script, cwd="/", capture_output=True, text=True, check=False,
        env={"HOME": str(home), "PATH": os.environ["PATH"], **variables},
        user=NOBODY if os.geteuid() == 0 else None,
        extra_groups=[] if os.geteuid() == 0 else None,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def files(home: Path) -> list[str]:
    return sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file())


def undo(snippet: str) -> str:
    return re.search(r"Undo: (.*)", snippet)[1]  # type: ignore[index]


def test_there_is_a_snippet_for_every_client(ca: str) -> None:
    setup = client_setup(HOST, ca, namespace="ns")
    assert {*POSIX, *OTHER_LANGUAGES, PORT_FORWARD} == set(CLIENTS)
    assert set(setup) == {*CLIENTS, *map(key_of, NODES)}
    for client in CLIENTS:
        snippet = setup[client]
        assert HOST in snippet, client
        assert client == PORT_FORWARD or "".join(ca.split()) in "".join(snippet.split()), client
        assert "Undo: " in snippet, client
        assert "jq" not in snippet.split(), client
    assert json.loads(json.dumps(setup)) == setup


@pytest.mark.parametrize("client", [*POSIX, PORT_FORWARD])
@pytest.mark.parametrize("host", [HOST, f"{HOST}:8443"])
def test_every_shell_can_parse_it_and_finds_a_cut_one_broken(client: str, host: str, ca: str) -> None:
    snippet = client_setup(host, ca, namespace="ns")[client]
    assert SHELLS
    for shell in SHELLS:
        subprocess.run([shell, "-n"], input=snippet, text=True, check=True)
        cut = snippet[: snippet.rindex(")")]
        assert subprocess.run([shell, "-n"], input=cut, text=True, capture_output=True, check=False).returncode


@pytest.mark.parametrize("client", HOME_FOLDER)
def test_the_containers_tools_get_the_ca_for_this_host_alone(client: str, home: Path, ca: str) -> None:
    host = f"{HOST}:8443"
    snippet = client_setup(host, ca)[client]
    for _ in range(2):
        assert run(snippet, home) == f"{client} trusts {host}\nUndo: {undo(snippet)}\n"
        assert files(home) == [f".config/containers/certs.d/{host}/ca.crt"]
        assert (home / files(home)[0]).read_text() == ca
    run(undo(snippet), home)
    assert files(home) == []


@pytest.mark.parametrize("client", HOME_FOLDER)
def test_the_containers_tools_get_it_where_xdg_config_home_says_as_well(client: str, home: Path, ca: str) -> None:
    snippet = client_setup(HOST, ca)[client]
    variables = {"XDG_CONFIG_HOME": f"{home}/else where"}
    for _ in range(2):
        assert run(snippet, home, **variables).startswith(f"{client} trusts {HOST}\n")
        assert files(home) == [f"{root}/containers/certs.d/{HOST}/ca.crt" for root in (".config", "else where")]
        assert {(home / file).read_text() for file in files(home)} == {ca}
    run(undo(snippet), home, **variables)
    assert files(home) == []
    same = {"XDG_CONFIG_HOME": f"{home}/.config/"}
    for _ in range(2):
        assert run(snippet, home, **same).startswith(f"{client} trusts {HOST}\n")
    assert files(home) == [f".config/containers/certs.d/{HOST}/ca.crt"]
    run(undo(snippet), home, **same)
    assert files(home) == []


@pytest.mark.parametrize("client", GO)
def test_go_programs_read_the_cas_folder_beside_the_systems(client: str, home: Path, ca: str) -> None:
    snippet = client_setup(f"{HOST}:8443", ca)[client]
    printed = run(snippet, home)
    assert re.fullmatch(r"export SSL_CERT_DIR=.*\n", printed)
    value = run(f'{printed}printf %s "$SSL_CERT_DIR"', home)
    ours, *systems = value.rsplit(":", 2)
    assert (Path(ours) / "ca.crt").read_text() == ca
    assert [path.name for path in Path(ours).iterdir()] == ["ca.crt"]
    assert systems == ["/etc/ssl/certs", "/etc/pki/tls/certs"]
    assert run(f'{printed}printf %s "$SSL_CERT_DIR"', home, SSL_CERT_DIR="/another") == f"{ours}:/another"
    run(undo(snippet), home)
    assert files(home) == []


def test_files_go_where_xdg_config_home_says(home: Path, ca: str) -> None:
    variables = {"XDG_CONFIG_HOME": f"{home}/else where"}
    setup = client_setup(HOST, ca)
    value = run(run(setup["crane"], home, **variables) + 'printf %s "$SSL_CERT_DIR"', home, **variables)
    assert value.split(":")[0] == f"{home}/else where/private-registry/{HOST}"
    assert files(home) == [f"else where/private-registry/{HOST}/ca.crt"]


def program(folder: Path, name: str, prints: str) -> None:
    """Put a program into a folder that prints a line, whatever it is asked."""
    (folder / name).write_text(f"#!/bin/sh\necho '{prints}'\n")
    (folder / name).chmod(0o755)


def refused(snippet: str, folder: Path, **variables: str) -> str:
    """What a snippet says that writes nothing; programs in the folder come before the system's."""
    before = files(folder)
    done = subprocess.run(
        ["sh"], input=snippet, capture_output=True, text=True, check=False,
        env={"HOME": str(folder), "PATH": f"{folder}:{os.environ['PATH']}", **variables},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert files(folder) == before
    return done.stderr


@pytest.mark.parametrize("client", GO)
def test_outside_of_linux_a_go_program_is_sent_to_the_systems_store(client: str, tmp_path: Path, ca: str) -> None:
    program(tmp_path, "uname", "Darwin")
    assert "macosKeychain" in refused(client_setup(HOST, ca)[client], tmp_path)


def test_on_a_mac_docker_is_sent_to_docker_desktops_snippet(tmp_path: Path, ca: str) -> None:
    program(tmp_path, "uname", "Darwin")
    assert "use dockerDesktopMac" in refused(client_setup(HOST, ca)["docker"], tmp_path)


@pytest.mark.parametrize("by", ["DOCKER_HOST", "context"])
@pytest.mark.parametrize("daemon", ["tcp://dind:2376", "ssh://me@build", "unix:///home/me/.docker/desktop/docker.sock"])
def test_where_dockers_daemon_reads_other_files_the_snippet_says_where_the_ca_belongs(
    by: str, daemon: str, tmp_path: Path, ca: str
) -> None:
    program(tmp_path, "docker", daemon if by == "context" else "unix:///var/run/docker.sock")
    said = refused(client_setup(HOST, ca)["docker"], tmp_path, **({by: daemon} if by == "DOCKER_HOST" else {}))
    assert said.startswith(f"the daemon at {daemon} reads its own files: ")
    assert f"/etc/docker/certs.d/{HOST}/ca.crt there" in said


@pytest.mark.parametrize(
    ("kernel", "name", "says"),
    [
        ("6.1.0-13-amd64", "the-host", "the daemon at the machine the-host reads its own files: "),
        ("6.6.87-microsoft-standard-WSL2", "docker-desktop", "Docker runs outside of WSL: use dockerDesktopWindows"),
        ("6.6.87-microsoft-standard-WSL2", "other-distribution", "the daemon at the machine other-distribution reads "),
        ("6.10.14-linuxkit", "docker-desktop", "the daemon at the machine docker-desktop reads its own files: "),
    ],
)
def test_a_socket_that_leads_to_another_machine_is_found_by_the_name_of_that(
    kernel: str, name: str, says: str, tmp_path: Path, ca: str
) -> None:
    program(tmp_path, "docker", name)
    (tmp_path / "uname").write_text(
        f"#!/bin/sh\ncase $1 in -n) echo this-one;; -r) echo {kernel};; *) echo Linux;; esac\n"
    )
    (tmp_path / "uname").chmod(0o755)
    said = refused(client_setup(HOST, ca)["docker"], tmp_path, DOCKER_HOST="unix:///var/run/docker.sock")
    assert said.startswith(says)


@pytest.mark.parametrize("why", ["machine", "remote"])
def test_where_podmans_engine_runs_elsewhere_the_snippet_says_where_the_ca_belongs(
    why: str, tmp_path: Path, ca: str
) -> None:
    if why == "machine":
        program(tmp_path, "uname", "Darwin")
    variables = {"CONTAINER_HOST": "ssh://core@localhost:2222/run/podman/podman.sock"} if why == "remote" else {}
    said = refused(client_setup(HOST, ca)["podman"], tmp_path, **variables)
    assert f"put the CA into /etc/containers/certs.d/{HOST}/ca.crt there (podman machine ssh)" in said


def test_port_forward_goes_to_the_port_at_which_the_pod_serves_tls(ca: str) -> None:
    for host, port in ((HOST, 443), (f"{HOST}:30443", 30443)):
        snippet = client_setup(host, ca, namespace="ns")[PORT_FORWARD]
        assert f"-n ns deployment/registry {port}:{TLS_PORT}\n" in snippet
        assert f"echo '127.0.0.1 {HOST}'" in snippet
        assert ("setpriv" in snippet) == (port < 1024), "from 1024 on nobody needs a right for it"
    assert PORT_FORWARD not in client_setup(HOST, ca), "nobody knows the namespace"


@pytest.mark.parametrize(("shell", "user", "port"), [("sh", 0, 443), ("sh", 1000, 443), ("bash", 1000, 8443)])
def test_port_forward_takes_its_line_out_of_the_hosts_when_it_ends(
    shell: str, user: int, port: int, tmp_path: Path, ca: str
) -> None:
    hosts, running = tmp_path / "hosts", tmp_path / "running"
    hosts.write_text("127.0.0.1 localhost\n")
    programs = tmp_path / "programs"
    programs.mkdir()
    program(programs, "id", str(user))
    for name, does in (
        ("sudo", 'exec "$@"'),
        ("setpriv", "exit 1"),
        ("kubectl", f"grep -c {HOST} {hosts} >{running}.new; mv {running}.new {running}; exec sleep 60"),
    ):
        program(programs, name, "")
        (programs / name).write_text(f"#!/bin/sh\n{does}\n")
    host = HOST if port == 443 else f"{HOST}:{port}"
    snippet = client_setup(host, ca, namespace="ns")[PORT_FORWARD].replace("/etc/hosts", str(hosts))
    started = subprocess.Popen(
        [shell], stdin=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL, start_new_session=True,
        env={"HOME": str(tmp_path), "PATH": f"{programs}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert started.stdin
    with started.stdin:
        started.stdin.write(snippet)
    try:
        wait_until(running.exists)
        assert running.read_text() == "1\n"
    finally:
        os.killpg(started.pid, signal.SIGINT)  # as a terminal does at Control-C
    started.wait(timeout=30)
    wait_until(lambda: HOST not in hosts.read_text())
    assert hosts.read_text() == "127.0.0.1 localhost\n"


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize("client", sorted({*CLIENTS} - {*GO, "curl", "kaniko", "githubActions", PORT_FORWARD}))
def test_what_is_set_up_for_good_ends_with_how_to_undo_it(client: str, ca: str) -> None:
    snippet = client_setup(HOST, ca + OTHER_CA.read_text())[client]
    *_, last = [line for line in snippet.splitlines() if line != ")"]
    assert re.fullmatch(r"(printf '%s\\n'|Write-Output) '[^']+ trusts [^']+' 'Undo: [^']+'", last)
    assert last.endswith(f"'Undo: {undo(snippet)}'")


@pytest.mark.parametrize("namespace", ["a;reboot", "$(reboot)", "A", "a.b", "-a"])
def test_a_namespace_that_could_be_more_than_text_is_refused(namespace: str, ca: str) -> None:
    with pytest.raises(ValueError, match="namespace is"):
        client_setup(HOST, ca, namespace=namespace)


def test_curls_bundle_holds_the_public_roots_and_the_ca(home: Path, ca: str) -> None:
    snippet = client_setup(HOST, ca)["curl"]
    printed = run(snippet, home)
    assert re.fullmatch(r"export CURL_CA_BUNDLE=.*\n", printed)
    bundle = Path(run(f'{printed}printf %s "$CURL_CA_BUNDLE"', home))
    text = bundle.read_text()
    assert text.endswith(ca)
    assert text.count("BEGIN CERTIFICATE") > 50
    assert run(snippet, home, CURL_CA_BUNDLE=str(bundle)) == printed
    assert bundle.read_text() == text, "a second time it does not grow"
    run(undo(snippet), home)
    assert not bundle.with_name("ca.crt").exists()
    assert bundle.read_text() == text.removesuffix(ca), "a shell that names the bundle goes on with the roots"


def company_roots(home: Path) -> str:
    """The path of a company's roots, in a file that the user may read."""
    path = home / "company.crt"
    path.write_text("the company's\n")
    path.chmod(0o644)
    return str(path)


@pytest.mark.parametrize(
    ("client", "given", "variable"),
    [
        *[(client, "SSL_CERT_FILE", "SSL_CERT_FILE") for client in GO],
        ("curl", "SSL_CERT_FILE", "CURL_CA_BUNDLE"),
        ("curl", "CURL_CA_BUNDLE", "CURL_CA_BUNDLE"),
    ],
)
def test_the_roots_that_the_environment_names_are_trusted_as_before(
    client: str, given: str, variable: str, home: Path, ca: str
) -> None:
    company = company_roots(home)
    snippet = client_setup(HOST, ca)[client]
    printed = run(snippet, home, **{given: company})
    assert re.fullmatch(rf"export {variable}=.*\n", printed)
    bundle = Path(run(f'{printed}printf %s "${variable}"', home))
    assert bundle.read_text() == f"the company's\n{ca}"
    other = OTHER_CA.read_text()
    # A second time in the same shell, when the CA has changed.
    assert run(client_setup(HOST, other)[client], home, **{given: company, variable: str(bundle)}) == printed
    assert bundle.read_text() == f"the company's\n{other}"
    run(undo(snippet), home)
    assert bundle.read_text() == "the company's\n", "a shell that names the bundle goes on with the roots"
    run(snippet, home, **{given: company, variable: str(bundle)})
    assert bundle.read_text() == f"the company's\n{ca}"


def test_of_two_variables_with_roots_the_one_that_curl_reads_counts(home: Path, ca: str) -> None:
    company = company_roots(home)
    run(client_setup(HOST, ca)["curl"], home, CURL_CA_BUNDLE=company, SSL_CERT_FILE="/dev/null")
    [bundle] = [home / file for file in files(home) if file.endswith("bundle.crt")]
    assert bundle.read_text() == f"the company's\n{ca}"


def test_the_bundle_of_another_stack_is_taken_over(home: Path, ca: str) -> None:
    variables = {"SSL_CERT_FILE": company_roots(home)}
    for host, pem in (("one.example.com", ca), ("two.example.com", OTHER_CA.read_text())):
        printed = run(client_setup(host, pem)["crane"], home, **variables)
        variables["SSL_CERT_FILE"] = run(f'{printed}printf %s "$SSL_CERT_FILE"', home)
    assert Path(variables["SSL_CERT_FILE"]).read_text() == f"the company's\n{ca}{OTHER_CA.read_text()}"


def test_buildkitd_gets_one_more_registry_in_its_configuration(home: Path, ca: str) -> None:
    host = f"{HOST}:8443"
    config = home / ".config" / "buildkit" / "buildkitd.toml"
    setup = client_setup(host, ca)
    run("mkdir -p ~/.config/buildkit && echo 'debug = true' >~/.config/buildkit/buildkitd.toml", home)
    for _ in range(2):
        assert run(setup["buildkit"], home).startswith(f"buildkitd trusts {host}, once it is restarted\nUndo: rm -r ")
        read = tomllib.loads(config.read_text())
        assert read["debug"] is True
        assert list(read["registry"]) == [host]
        assert [Path(path).read_text() for path in read["registry"][host]["ca"]] == [ca]
    run(client_setup("other.example.com", ca)["buildkit"], home)
    assert list(tomllib.loads(config.read_text())["registry"]) == [host, "other.example.com"]


def test_nerdctl_without_root_reads_the_users_folder(home: Path, ca: str) -> None:
    snippet = client_setup(HOST, ca)["nerdctl"]
    assert run(snippet, home) == f"nerdctl trusts {HOST}\nUndo: {undo(snippet)}\n"
    assert files(home) == [f".config/containerd/certs.d/{HOST}/ca.crt"]
    run(undo(snippet), home)
    assert files(home) == []


@pytest.mark.parametrize("client", ["docker", "containerd"])
def test_root_puts_the_ca_into_the_folder_of_the_host_with_its_port(client: str, ca: str) -> None:
    snippet = client_setup(f"{HOST}:8443", ca)[client]
    assert f'folder="/etc/{client}/certs.d/{HOST}:8443"\n$sudo mkdir' in snippet
    assert undo(snippet) == f"sudo rm -r /etc/{client}/certs.d/{HOST}:8443"


@pytest.mark.parametrize("client", ["macosKeychain", "dockerDesktopMac", "windowsCertutil", "dockerDesktopWindows"])
def test_what_undoes_it_names_the_certificate_by_its_fingerprint(client: str, ca: str) -> None:
    fingerprint = openssl("x509", "-noout", "-fingerprint", "-sha1", text=ca).strip().rpartition("=")[2]
    assert f" {fingerprint.replace(':', '')}" in undo(client_setup(HOST, ca)[client])


@pytest.mark.parametrize("client", ["windowsCertutil", "dockerDesktopWindows"])
def test_powershell_gets_the_ca_as_a_here_string(client: str, ca: str) -> None:
    # Its first line break is after @' and its last one before '@, which has to start a line (about_Quoting_Rules).
    found = re.findall(r"@'\n(.*?)'@$", client_setup(HOST, ca)[client], re.DOTALL | re.MULTILINE)
    assert found == [ca]


def test_the_github_step_is_a_step_with_the_two_scripts_of_a_linux_runner(ca: str) -> None:
    setup = client_setup(HOST, ca)
    (step,) = yaml.safe_load(setup["githubActions"])
    assert set(step) == {"name", "shell", "run"}
    assert step["run"] == setup["docker"] + setup["linuxTrustStore"]


def test_kaniko_gets_a_config_map_and_its_pod_the_rest(ca: str) -> None:
    text = client_setup(f"{HOST}:8443", ca)["kaniko"]
    config_map = yaml.safe_load(text)
    assert config_map["kind"] == "ConfigMap"
    assert config_map["data"] == {"ca.crt": ca}
    pod = yaml.safe_load("\n".join(line[2:] for line in text[text.index("# spec:") :].splitlines()))["spec"]
    (container,) = pod["containers"]
    (mount,) = container["volumeMounts"]
    assert container["args"] == [f"--registry-certificate={HOST}:8443={mount['mountPath']}/ca.crt"]
    assert pod["volumes"] == [{"name": mount["name"], "configMap": {"name": config_map["metadata"]["name"]}}]


def test_both_cas_are_trusted_while_one_replaces_another(home: Path, ca: str) -> None:
    run(client_setup(HOST, ca + ca)["skopeo"], home)
    assert (home / files(home)[0]).read_text() == ca + ca


@given(st.text(max_size=30))
@example(f"{HOST}\n")
@example(f"{HOST}:0")
@example(f"{HOST}:65536")
@example(f"{HOST}:")
@example(f"{HOST}:8443:1")
@example(f"{HOST}/team")
@example(f"https://{HOST}")
@example("$(reboot)")
@example("'")
@example("")
def test_a_host_that_could_be_more_than_text_is_refused(host: str) -> None:
    pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    text = re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:([1-9][0-9]{0,4}))?", host)
    if text and int(text[3] or 443) < 65536:
        return
    with pytest.raises(ValueError, match="host is"):
        client_setup(host, pem)


@pytest.mark.parametrize("line", ["END-OF-FILE", "'@", "$(reboot)", "-----BEGIN PRIVATE KEY-----", "subject=CN = x"])
@pytest.mark.parametrize("place", ["before", "inside", "behind"])
def test_a_ca_that_could_be_more_than_text_is_refused(line: str, place: str, ca: str) -> None:
    lines = ca.splitlines()
    lines.insert({"before": 0, "inside": 2, "behind": len(lines)}[place], line)
    with pytest.raises(ValueError, match="PEM"):
        client_setup(HOST, "\n".join(lines))


@pytest.mark.parametrize("username", ["x\nreboot", "x; reboot", 'x"', "$(reboot)", "-x", "x y"])
def test_a_user_who_could_be_more_than_text_is_refused(username: str, ca: str) -> None:
    with pytest.raises(ValueError, match="user is"):
        client_setup(HOST, ca, username)


@pytest.mark.parametrize("stack", ["pr-42", "my-org/private-registry/app_pr.42", None])
def test_the_password_is_that_of_the_stack_and_not_of_the_selected_one(stack: str | None, ca: str) -> None:
    setup = client_setup(HOST, ca, "registry", stack=stack)
    command = f"pulumi stack output --stack {stack} --show-" if stack else "pulumi stack output --show-"
    assert setup["docker"].split("\n")[1].startswith(f"# Log in: {command}secrets password | docker login ")
    assert f'"$({command}secrets password)"' in setup["curl"].split("\n")[1]


@pytest.mark.parametrize("stack", ["x\nreboot", "x; reboot", "$(reboot)", "x y"])
def test_a_stack_that_could_be_more_than_text_is_refused(stack: str, ca: str) -> None:
    with pytest.raises(ValueError, match="stack is"):
        client_setup(HOST, ca, "registry", stack=stack)


def test_where_the_certificate_is_publicly_trusted_nobody_has_to_trust_anything(home: Path) -> None:
    snippets = client_setup(HOST, "", namespace="registry")
    sentence = f"# Nothing to set up: the certificate of {HOST} is publicly trusted, so nobody has to trust a CA.\n"
    assert {text for name, text in snippets.items() if name != PORT_FORWARD} == {sentence}
    assert "port-forward" in snippets[PORT_FORWARD]
    run(snippets["docker"], home)
    assert files(home) == []
    assert client_setup(HOST, "", "registry")["crane"].startswith(f"{sentence}# Log in: ")


@pytest.mark.parametrize("text", ["\n", "# empty"])
def test_no_ca_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="PEM"):
        client_setup(HOST, text)


def test_a_mac_trusts_the_ca_for_this_host_and_for_tls_alone(ca: str) -> None:
    snippet = client_setup(f"{HOST}:8443", ca)["macosKeychain"]
    [line] = [line for line in snippet.splitlines() if line.startswith("security add-trusted-cert")]
    assert f" -p ssl -s {HOST} -k " in line


@pytest.mark.parametrize("client", ["macosKeychain", "windowsCertutil", "linuxTrustStore"])
def test_a_store_that_reads_one_certificate_of_a_file_gets_a_file_for_each(client: str, ca: str) -> None:
    other = OTHER_CA.read_text()
    snippet = client_setup(HOST, ca + other)[client]
    written = re.findall(r"(?:'END-OF-FILE'|@')\n(.*?)(?:END-OF-FILE|'@)$", snippet, re.DOTALL | re.MULTILINE)
    assert written == [ca, other]
    if client != "linuxTrustStore":
        adds = [line for line in snippet.splitlines() if line.startswith(("security add", "certutil -user -addstore"))]
        assert len(adds) == 2


def test_with_a_password_the_second_line_says_how_to_log_in_and_nothing_else_changes(ca: str) -> None:
    without, snippets = client_setup(HOST, ca), client_setup(HOST, ca, "registry-2")
    system_wide = {"macosKeychain", "linuxTrustStore", "windowsCertutil", *map(key_of, NODES)}
    for name, snippet in snippets.items():
        if name in system_wide:
            assert snippet == without[name]
            continue
        first, second, *rest = snippet.split("\n")
        assert second.startswith("# Log in: "), name
        assert "\n".join([first, *rest]) == without[name]
        assert "registry-2" in second or name == "kaniko"
        assert not re.search(r"--password |-p ", second)
