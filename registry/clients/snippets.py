r"""One ready snippet per client that makes it trust the registry, as `python3 -m registry.clients NAME` prints it.

Each snippet is whole: the host and the CA are in it. It is POSIX shell for Linux and macOS, PowerShell for Windows, and
YAML for GitHub Actions and kaniko. Its first line says how to undo it, but for GitHub Actions, whose runner is gone
after the job. A shell snippet is used in one of two ways:

    python3 -m registry.clients docker | sh
    eval "$(python3 -m registry.clients crane | sh)"

and a PowerShell snippet in one, since Invoke-Expression takes one string:

    (py -m registry.clients windowsCertutil) | Out-String | Invoke-Expression

The first kind sets up all that the client needs, and prints that and how to undo it. The second kind is for clients
that read the environment (crane, ko, oras, helm, cosign, curl): it writes a file and prints an `export` for `eval`.

What this deliberately does not do: it does not log in (if there is a password, the second line says how), it does not
turn off a client's checks, and it does not replace the public roots. If a client adds a CA to the public ones by
itself, the snippet leaves that to the client. If the environment names the CAs:

- Go (crypto/x509/root_unix.go): SSL_CERT_FILE replaces the list of the system's bundle files, SSL_CERT_DIR only the
  list of folders; bundle and folders are both read. So SSL_CERT_DIR is set, and the system's folders stay in the list
  for OpenSSL, which reads the same variable (openssl-env(7)). On macOS and Windows Go asks the system's store.
- Where SSL_CERT_FILE names a bundle already, it names a copy of that with the CA added at its end, and SSL_CERT_DIR
  stays: curl reads both only since version 8 (tool_operate.c), and before that SSL_CERT_DIR alone.
- curl(1): CURL_CA_BUNDLE replaces the bundle, that of SSL_CERT_FILE as well. So it names a copy of what is in effect.

Where the engine behind a client runs on another machine (a virtual machine of podman or Docker, DOCKER_HOST), a file on
this machine has no effect there. Then the snippet writes nothing, and says where the file belongs.

This module runs with Python 3.9 and the standard library.
"""

import hashlib
import re
import ssl
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, Optional

from ..hostname import is_dns_name
from .nodes import key_of, node_setup

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----\n[A-Za-z0-9+/=\n]+\n-----END CERTIFICATE-----\n")
_FOLDER = "${XDG_CONFIG_HOME:-$HOME/.config}/private-registry"
_KEYCHAIN = '"$HOME/Library/Keychains/login.keychain-db"'

_TLS_PORT = 5443
"""Port of the registry's pod at which it serves TLS with the host's certificate, whatever the way in is."""
_FREE_PORTS = 1024
"""From this port on, a program needs no right of root's to listen (ip(7))."""
PORT_FORWARD = "portForward"
"""The snippet that sets up no client, but the way to the registry."""

_LOGINS = {
    **dict.fromkeys(
        ("docker", "dockerDesktopMac", "dockerDesktopWindows", "buildx", "buildkit", "githubActions"), "docker login"
    ),
    **{name: f"{name} login" for name in ("podman", "buildah", "skopeo", "ko", "oras", "cosign", "nerdctl")},
    "crane": "crane auth login",
    "helm": "helm registry login",
}


class _Registry(NamedTuple):
    """What a snippet is made from."""

    host: str
    """The host, as image references spell it."""
    plain: str
    """The host in a form that may be the name of a file, a builder or a ConfigMap, and an entry of SSL_CERT_DIR: a
    colon would end that entry."""
    ca: str
    """The CA's certificates, PEM."""
    namespace: str
    """The stack's namespace; empty if it is not known."""


def client_setup(
    host: str, ca_certificate: str, username: Optional[str] = None, namespace: str = "", stack: Optional[str] = None
) -> dict[str, str]:
    """One snippet per client, by the client's name as `CLIENTS` has it, and the settings of nodes by `nodes.key_of`.

    Args:
        host: The registry's host as it is written in image references: a DNS name, with `:port` if it has one.
        ca_certificate: The CA's certificate, PEM; several of them, one after the other, while one replaces another.
            Empty if the registry's certificate is publicly trusted: then a snippet sets nothing up.
        username: The user who has the password; None if the registry asks for none. The second line of a client's
            snippet then says how to log in. It reads the password from the stack; no snippet and no argument holds it.
        namespace: The stack's namespace. Without it there is no snippet `portForward`, which goes to its pod.
        stack: The stack that has the password, as Pulumi's `--stack` takes it; None stands for the selected one.

    Raises:
        ValueError: `host` is no such host, `ca_certificate` holds something else than PEM certificates, or `username`,
            `namespace` or `stack` holds more than letters, digits, dots and dashes (and `stack` underscores and
            slashes). All of them go into scripts, so nothing that a shell could read as more than text may be in them.
    """
    name, _, port = host.partition(":")
    is_port = re.fullmatch("[1-9][0-9]{0,4}", port) is not None and int(port) < 65536
    if not is_dns_name(name) or (":" in host and not is_port):
        raise ValueError(
            f"The registry's host is {host!r}; it has to be a DNS name in lower case, with :port if it has one."
        )
    if username and not re.fullmatch("[A-Za-z0-9][A-Za-z0-9._-]*", username):
        raise ValueError(f"The user is {username!r}; a name has letters, digits, dots and dashes only.")
    if namespace and (not is_dns_name(namespace) or "." in namespace):
        raise ValueError(
            f"The namespace is {namespace!r}; a name has lower-case letters, digits and inner dashes only."
        )
    if stack and not re.fullmatch("[A-Za-z0-9_./-]+", stack):
        raise ValueError(
            f"The stack is {stack!r}; a name has letters, digits, dots, dashes and underscores only, with slashes "
            "behind organization and project."
        )
    password = f"pulumi stack output{f' --stack {stack}' if stack else ''} --show-secrets password"
    ca = ca_certificate.replace("\r\n", "\n").strip() + "\n"
    public = not ca_certificate
    if not public and not re.fullmatch(f"(?:{_PEM.pattern})+", ca):
        raise ValueError("The CA's certificate has to be PEM: BEGIN CERTIFICATE to END CERTIFICATE, and nothing else.")
    registry = _Registry(host=host, plain=host.replace(":", "-"), ca=ca, namespace=namespace)
    snippets = {
        client: _nothing_to_trust(host) if public and client != PORT_FORWARD else make(registry)
        for client, make in _SNIPPETS.items()
        if namespace or client != PORT_FORWARD
    }
    return {
        **{
            client: _with_login(client, snippet, host, username, password) if username else snippet
            for client, snippet in snippets.items()
        },
        **{
            key_of(node): _nothing_to_trust(host) if public else setting
            for node, setting in node_setup(host, ca).items()
        },
    }


def _nothing_to_trust(host: str) -> str:
    """A comment in every language of the snippets."""
    return f"# Nothing to set up: the certificate of {host} is publicly trusted, so nobody has to trust a CA.\n"


def _with_login(name: str, snippet: str, host: str, username: str, password: str) -> str:
    """The snippet with a second line that says how its client logs in; `password` is the command that prints it."""
    if name in _LOGINS:
        how = f"{password} | {_LOGINS[name]} --username {username} --password-stdin {host}"
    elif name == "curl":
        how = f"""printf 'user = "{username}:%s"' "$({password})" | curl --config - https://{host}/v2/"""
    elif name == "containerd":
        how = f"ctr asks for the password with --user {username}"
    elif name == "kaniko":
        how = "crane auth login as in the snippet crane, and mount its config.json from a Secret at /kaniko/.docker"
    else:
        return snippet
    first, rest = snippet.split("\n", 1)
    return f"{first}\n# Log in: {how}\n{rest}"


def _script(
    client: str,
    registry: _Registry,
    folder: str,
    undo: str,
    *body: str,
    file: str = "ca.crt",
    before: Sequence[str] = (),
    sudo: bool = False,
    done: str = "",
) -> str:
    """A shell script that runs `before`, writes the CA to `folder`/`file`, runs `body`, and prints `done` and `undo`.

    They are printed since the script is gone once a shell has read it, and so may be the stack. It is one subshell. So
    the shell reads the whole of it before it runs anything, and its options and variables do not reach the user's
    shell.
    """
    as_root = "$sudo " if sudo else ""
    return "\n".join(
        [
            f"# {client} trusts {registry.host}. Undo: {undo}",
            "(",
            "set -eu; umask 022",
            *(['sudo=; [ "$(id -u)" -eq 0 ] || sudo=sudo'] if sudo else []),
            *before,
            f'folder="{folder}"',
            f'{as_root}mkdir -p "$folder"',
            f"{as_root}tee \"$folder/{file}\" >/dev/null <<'END-OF-FILE'\n{registry.ca}END-OF-FILE",
            *body,
            *([f"printf '%s\\n' '{done}' 'Undo: {undo}'"] if done else []),
            ")",
            "",
        ]
    )


def _done(client: str, registry: _Registry, more: str = "") -> str:
    return f"{client} trusts {registry.host}{more}"


def _system_folder(client: str, root: str, registry: _Registry, *, before: Sequence[str] = ()) -> str:
    folder = f"{root}/{registry.host}"
    undo = f"sudo rm -r {folder}"
    return _script(client, registry, folder, undo, done=_done(client, registry), sudo=True, before=before)


def _docker(registry: _Registry) -> str:
    root = "/etc/docker/certs.d"
    before = [
        _only_on_linux("use dockerDesktopMac, or dockerDesktopWindows"),
        "# The daemon of a remote host or of a virtual machine reads the folders that it has there.",
        "elsewhere=${DOCKER_HOST:-$(docker context inspect --format '{{.Endpoints.docker.Host}}' 2>/dev/null || :)}",
        'case "$elsewhere" in "" | unix:///var/run/docker.sock | unix:///run/docker.sock)',
        "  # So does one behind this socket: Docker Desktop's in WSL, and the host's in a container.",
        "  name=$(docker info --format '{{.Name}}' 2>/dev/null) ||",
        "    name=$($sudo docker info --format '{{.Name}}' 2>/dev/null) || name=",
        '  elsewhere=; [ "${name:-$(uname -n)}" = "$(uname -n)" ] || elsewhere="the machine $name" ;; esac',
        'case "$elsewhere $(uname -r)" in "the machine docker-desktop "*[Mm]icrosoft*)',
        '  echo "Docker runs outside of WSL: use dockerDesktopWindows" >&2; exit 1 ;; esac',
        '[ -z "$elsewhere" ] || {',
        '  echo "the daemon at $elsewhere reads its own files:" \\',
        f'    "put the CA into {root}/{registry.host}/ca.crt there" \\',
        '    "(rootless: ~/.config/docker/certs.d instead of /etc/docker/certs.d)" >&2; exit 1; }',
    ]
    return _system_folder("Docker on Linux", root, registry, before=before)


def _home_folder(client: str, registry: _Registry, *, before: Sequence[str] = ()) -> str:
    # The first of the folders that a client reads, also if root runs it: github.com/containers/image of 2025 and older
    # (docker/docker_client.go) knows the first, its successor the other one instead (containers-certs.d(5)).
    folder = f"$HOME/.config/containers/certs.d/{registry.host}"
    newer = f"${{XDG_CONFIG_HOME:-$HOME/.config}}/containers/certs.d/{registry.host}"
    return _script(
        client,
        registry,
        folder,
        f'rm -rf "{folder}" "{newer}"',
        f'newer="{newer}"; mkdir -p "$newer"',
        '[ "$newer" -ef "$folder" ] || cp "$folder/ca.crt" "$newer"',
        done=_done(client, registry),
        before=before,
    )


def _podman(registry: _Registry) -> str:
    there = f"/etc/containers/certs.d/{registry.host}/ca.crt"
    before = [
        '[ "$(uname)" = Linux ] && [ -z "${CONTAINER_HOST:-}" ] || {',
        f'  echo "podman\'s engine runs on another machine, which reads its own files: put the CA into {there}" \\',
        '    "there (podman machine ssh)" >&2; exit 1; }',
    ]
    return _home_folder("podman", registry, before=before)


def _only_on_linux(instead: str) -> str:
    return f'[ "$(uname)" = Linux ] || {{ echo "not on Linux: {instead}" >&2; exit 1; }}'


def _own_folder(root: str, user: str) -> str:
    """The configuration folder of a program that reads /etc if root runs it, and otherwise the user's own folder."""
    return f'$([ "$(id -u)" -eq 0 ] && echo {root} || echo "${{XDG_CONFIG_HOME:-$HOME/.config}}/{user}")'


def _nerdctl(registry: _Registry) -> str:
    folder = f"{_own_folder('/etc/containerd', 'containerd')}/certs.d/{registry.host}"
    return _script("nerdctl of this user", registry, folder, f'rm -r "{folder}"', done=_done("nerdctl", registry))


def _behind(given: str) -> list[str]:
    """Lines that make `$bundle` of the roots in the file `given` and the CA, also where `given` is that bundle."""
    return [
        'bundle="$folder/bundle.crt"',
        f'[ "{given}" = "$bundle" ] && [ -e "$folder/roots.crt" ] || cat "{given}" >"$folder/roots.crt"',
        'cat "$folder/roots.crt" "$folder/ca.crt" >"$bundle"',
    ]


def _without(folder: str) -> str:
    """The command after which the bundle of `_behind` holds the roots alone, for shells whose environment names it."""
    return f'[ ! -e "{folder}/roots.crt" ] || mv "{folder}/roots.crt" "{folder}/bundle.crt"; rm "{folder}/ca.crt"'


def _go(client: str, registry: _Registry) -> str:
    folder = f"{_FOLDER}/{registry.plain}"
    return _script(
        client,
        registry,
        folder,
        _without(folder),
        "# Beside SSL_CERT_DIR, curl 7 ignores SSL_CERT_FILE: where that is set, the CA goes behind the roots in it.",
        'if [ -r "${SSL_CERT_FILE:-}" ]; then',
        *_behind("$SSL_CERT_FILE"),
        f"echo 'export SSL_CERT_FILE=\"{folder}/bundle.crt\"'",
        f"else echo 'export SSL_CERT_DIR=\"{folder}:${{SSL_CERT_DIR:-/etc/ssl/certs:/etc/pki/tls/certs}}\"'; fi",
        before=[_only_on_linux("use macosKeychain or windowsCertutil")],
    )


def _curl(registry: _Registry) -> str:
    folder = f"{_FOLDER}/{registry.plain}/curl"
    return _script(
        "curl",
        registry,
        folder,
        _without(folder),
        "# The CA goes behind the roots set before, or the public ones of Debian, Fedora, SUSE, or macOS and Alpine.",
        'for roots in "${CURL_CA_BUNDLE:-${SSL_CERT_FILE:-}}" /etc/ssl/certs/ca-certificates.crt \\',
        "  /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/ca-bundle.pem /etc/ssl/cert.pem /dev/null; do",
        '  [ ! -r "$roots" ] || break; done',
        *_behind("$roots"),
        f"echo 'export CURL_CA_BUNDLE=\"{folder}/bundle.crt\"'",
    )


def _buildkit(registry: _Registry) -> str:
    host, plain = registry.host, registry.plain
    root = _own_folder("/etc/buildkit", "buildkit")
    return _script(
        "buildkitd of this user",
        registry,
        f"{root}/{plain}",
        f'rm -r "{root}/{plain}", and remove [registry."{host}"] from buildkitd.toml beside it',
        f"""grep -qsF '[registry."{host}"]' "$folder/../buildkitd.toml" \\""",
        '  || cat >>"$folder/../buildkitd.toml" <<END-OF-FILE',
        f'\n[registry."{host}"]\n  ca = ["$folder/ca.crt"]\nEND-OF-FILE',
        done=_done("buildkitd", registry, ", once it is restarted"),
    )


def _buildx(registry: _Registry) -> str:
    host, plain = registry.host, registry.plain
    folder = f"{_FOLDER}/{plain}/buildx"
    return _script(
        "docker buildx",
        registry,
        folder,
        f'docker buildx rm {plain}; rm -r "{folder}"',
        'cat >"$folder/buildkitd.toml" <<END-OF-FILE',
        f'[registry."{host}"]\n  ca = ["$folder/ca.crt"]\nEND-OF-FILE',
        "# buildx copies the CA into a builder when the builder is made. So this makes one anew and keeps its cache.",
        f"! docker buildx inspect {plain} >/dev/null 2>&1 || docker buildx rm --keep-state {plain} >/dev/null",
        "# In the network of Docker's host, the builder reaches what Docker does, such as a cluster on this laptop.",
        f"docker buildx create --name {plain} --driver docker-container --driver-opt network=host \\",
        '  --buildkitd-config "$folder/buildkitd.toml" >/dev/null',
        done=_done("docker buildx", registry, f": docker buildx build --builder {plain}"),
    )


def _more_files(registry: _Registry, stem: str, as_root: str = "") -> list[str]:
    """Lines that write each certificate but the first into a file of its own, since some stores read one of a file.

    `stem` is the path without its number and ending.
    """
    more = enumerate(_PEM.findall(registry.ca)[1:], 2)
    return [f"{as_root}tee \"{stem}-{n}.crt\" >/dev/null <<'END-OF-FILE'\n{pem}END-OF-FILE" for n, pem in more]


def _first(registry: _Registry) -> _Registry:
    return registry._replace(ca=_PEM.findall(registry.ca)[0])


def _linux_trust_store(registry: _Registry) -> str:
    stem = f"private-registry-{registry.plain}"
    name, every = f"{stem}.crt", f"{stem}*.crt"
    fedora, debian = "/etc/pki/ca-trust/source/anchors", "/usr/local/share/ca-certificates"
    suse = "/etc/pki/trust/anchors"
    undo = f"sudo rm -f {fedora}/{every} {debian}/{every} {suse}/{every}"
    return _script(
        "Linux",
        _first(registry),
        "$store",
        f"{undo}; sudo update-ca-certificates || sudo update-ca-trust",
        *_more_files(registry, f"$folder/{stem}", "$sudo "),
        "$sudo $update >/dev/null",
        done=_done("Linux", registry),
        file=name,
        before=[
            "PATH=$PATH:/usr/sbin",
            "# Fedora and its family; Debian, Ubuntu and Alpine; SUSE.",
            f"if [ -d {fedora} ]; then store={fedora} update=update-ca-trust",
            f"elif [ -d {debian} ]; then store={debian} update=update-ca-certificates",
            f"elif [ -d {suse} ]; then store={suse} update=update-ca-certificates",
            'else echo "no trust store is known here: install the package ca-certificates" >&2; exit 1; fi',
        ],
        sudo=True,
    )


def _mac(client: str, registry: _Registry, *, restart: bool) -> str:
    folder = f"{_FOLDER}/{registry.plain}"
    name = registry.host.partition(":")[0]
    fingerprints = _fingerprints(registry.ca)
    files = ["ca.crt", *(f"ca-{number}.crt" for number in range(2, len(fingerprints) + 1))]
    undo = "; ".join(f'security remove-trusted-cert "{folder}/{file}"' for file in files)
    for fingerprint in fingerprints:
        undo += f"; security delete-certificate -Z {fingerprint} {_KEYCHAIN}"
    lines = _more_files(registry, "$folder/ca")
    # The CA counts for TLS connections to this host, and for nothing else (security(1)). Docker Desktop copies CAs out
    # of the keychain, and its documents do not say whether it copies one with such a limit.
    limit = "" if restart else f"-p ssl -s {name} "
    lines += [f'security add-trusted-cert -r trustRoot {limit}-k {_KEYCHAIN} "$folder/{file}"' for file in files]
    if restart:
        lines.append("docker desktop restart >/dev/null  # it reads the keychain when it starts")
    return _script(client, _first(registry), folder, undo, *lines, done=_done(client, registry))


def _windows(client: str, registry: _Registry, *, restart: bool) -> str:
    undo = "; ".join(f"certutil -user -delstore Root {fingerprint}" for fingerprint in _fingerprints(registry.ca))
    # Invoke-Expression takes one string. Given line by line, it would run each line for itself.
    use = "In PowerShell: (...) | Out-String | Invoke-Expression; Windows asks before it trusts"
    lines = [
        f"# {client} trusts {registry.host}. {use}. Undo: {undo}",
        "$file = New-TemporaryFile",
    ]
    for pem in _PEM.findall(registry.ca):
        lines += [
            f"Set-Content -Encoding ascii -Path $file -Value @'\n{pem}'@",
            "certutil -user -addstore -f Root $file | Out-Null",
            'if ($LASTEXITCODE -ne 0) { throw "certutil ended with $LASTEXITCODE" }',
        ]
    lines.append("Remove-Item $file")
    if restart:
        lines.append("docker desktop restart | Out-Null  # it reads the certificate store when it starts")
    return "\n".join([*lines, f"Write-Output '{_done(client, registry)}' 'Undo: {undo}'", ""])


def _fingerprints(ca: str) -> list[str]:
    """The SHA-1 of each certificate, by which macOS and Windows name certificates."""
    return [
        hashlib.sha1(ssl.PEM_cert_to_DER_cert(pem), usedforsecurity=False).hexdigest().upper()
        for pem in _PEM.findall(ca)
    ]


def _port_forward(registry: _Registry) -> str:
    name, _, port = registry.host.partition(":")
    line = f"127.0.0.1 {name}"
    target = f"-n {registry.namespace} deployment/registry {port or 443}:{_TLS_PORT}"
    command = f"kubectl port-forward --address 127.0.0.1 {target}"
    return "\n".join(
        [
            f"# {registry.host} is reached through kubectl, from a machine that does not reach the cluster. It goes on "
            "until Control-C, and then takes its line out of /etc/hosts. "
            f"Undo: sudo sed -i.bak '/^{line}$/d' /etc/hosts",
            "(",
            "set -eu",
            'sudo=; [ "$(id -u)" -eq 0 ] || sudo=sudo',
            f"grep -qsxF '{line}' /etc/hosts || echo '{line}' | $sudo tee -a /etc/hosts >/dev/null",
            "# Begun now, as sudo may ask for a password again at the end. What runs behind & does not hear Control-C.",
            "me=$(exec sh -c 'echo $PPID')",
            """$sudo sh -c 'trap "" HUP; while kill -0 "$1" 2>/dev/null; do sleep 1; done""",
            f"""  sed -i.bak "/^{line}$/d" /etc/hosts' sh "$me" &""",
            *(_as_who_may_take_the_port(command) if int(port or 443) < _FREE_PORTS else [f"exec {command}"]),
            ")",
            "",
        ]
    )


def _as_who_may_take_the_port(command: str) -> list[str]:
    """Lines that run `command`, which takes a port of root's, with this user's environment."""
    right = "+net_bind_service"
    return [
        f'[ -n "$sudo" ] || exec {command}',
        "# Root alone may take this port. setpriv (util-linux) gives kubectl that one right, and it stays this user's.",
        f'as="setpriv --reuid $(id -u) --regid $(id -g) --init-groups --inh-caps {right} --ambient-caps {right}"',
        "$sudo $as true 2>/dev/null || {",
        "  as=",
        "  echo 'kubectl runs as root with the environment of this user: what it and its login program write below' \\",
        '    "$HOME, such as .kube/cache, belongs to root then" >&2; }',
        "# sudo drops variables that a login program may need, and arguments can be read by others: hence the pipe.",
        f"""export -p | $sudo $as "${{BASH:-sh}}" -c 'eval "$(cat)"; exec {command}'""",
    ]


def _kaniko(registry: _Registry) -> str:
    host, plain = registry.host, registry.plain
    return f"""\
# kaniko trusts {host}, when its Pod has what is commented out below. Undo: kubectl delete configmap {plain}
# python3 -m registry.clients kaniko | kubectl apply -f -
apiVersion: v1
kind: ConfigMap
metadata:
  name: {plain}
data:
  ca.crt: |
{_indent(registry.ca, 4)}
# spec:
#   containers:
#     - args: ["--registry-certificate={host}=/private-registry/ca.crt"]
#       volumeMounts: [{{name: private-registry, mountPath: /private-registry}}]
#   volumes: [{{name: private-registry, configMap: {{name: {plain}}}}}]
"""


def _github_actions(registry: _Registry) -> str:
    scripts = _SNIPPETS["docker"](registry) + _SNIPPETS["linuxTrustStore"](registry)
    return f"""\
# A step for a Linux runner. docker/setup-buildx-action needs the snippet buildx instead.
- name: Trust {registry.host}
  shell: sh
  run: |
{_indent(scripts, 4)}
"""


def _indent(text: str, spaces: int) -> str:
    return "\n".join(" " * spaces + line for line in text.splitlines())


_SNIPPETS: Mapping[str, Callable[[_Registry], str]] = {
    "docker": _docker,
    "dockerDesktopMac": partial(_mac, "Docker Desktop on macOS", restart=True),
    "dockerDesktopWindows": partial(_windows, "Docker Desktop on Windows", restart=True),
    "podman": _podman,
    "buildah": partial(_home_folder, "buildah"),
    "skopeo": partial(_home_folder, "skopeo"),
    "crane": partial(_go, "crane"),
    "ko": partial(_go, "ko"),
    "oras": partial(_go, "oras"),
    "helm": partial(_go, "helm"),
    "cosign": partial(_go, "cosign"),
    "buildkit": _buildkit,
    "buildx": _buildx,
    "kaniko": _kaniko,
    "nerdctl": _nerdctl,
    "containerd": partial(_system_folder, "containerd (ctr: with --hosts-dir)", "/etc/containerd/certs.d"),
    "curl": _curl,
    "macosKeychain": partial(_mac, "macOS (Go programs, Safari, curl)", restart=False),
    "linuxTrustStore": _linux_trust_store,
    "windowsCertutil": partial(_windows, "Windows", restart=False),
    "githubActions": _github_actions,
    PORT_FORWARD: _port_forward,
}

CLIENTS = tuple(_SNIPPETS)
"""The names of the clients. They are letters only, so that a go-template can name them: `{{.data.docker}}`."""
