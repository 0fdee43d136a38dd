r"""One ready snippet per client that makes it trust the registry: the value of the output `clientSetup`.

Each snippet is whole: the host and the CA are in it. POSIX shell for Linux and macOS, PowerShell for Windows, YAML for
GitHub Actions and kaniko; the first line says how to undo it. A shell snippet is used in one of two ways:

    pulumi stack output --json clientSetup | jq -r .docker | sh
    eval "$(pulumi stack output --json clientSetup | jq -r .crane | sh)"

The first kind sets up all that the client needs and prints one line that says so. The second kind is for clients that
read the environment (crane, ko, oras, helm, cosign, curl): it writes a file and prints an `export` for `eval`.

What this deliberately does not do: log in (where there is a password, the second line says how), turn off a client's
checks, or take the public roots' place. Where a client adds a CA to the public ones by itself, the snippet leaves it to
the client. Where the environment names the CAs:

- Go (crypto/x509/root_unix.go): SSL_CERT_FILE replaces the list of the system's bundle files, SSL_CERT_DIR only the
  list of folders; bundle and folders are both read. So SSL_CERT_DIR is set, and the system's folders stay in the list
  for OpenSSL, which reads the same variable (openssl-env(7)). On macOS and Windows Go asks the system's store.
- curl(1): CURL_CA_BUNDLE replaces the bundle. So it names a copy of the bundle with the CA behind it.
"""

import hashlib
import re
import ssl
from collections.abc import Sequence

from .hostname import is_dns_name

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----\n[A-Za-z0-9+/=\n]+\n-----END CERTIFICATE-----\n")
_FOLDER = "${XDG_CONFIG_HOME:-$HOME/.config}/private-registry"
_KEYCHAIN = '"$HOME/Library/Keychains/login.keychain-db"'


_TELL = "pulumi stack output --show-secrets password"
_LOGINS = {
    **dict.fromkeys(
        ("docker", "dockerDesktopMac", "dockerDesktopWindows", "buildx", "buildkit", "githubActions"), "docker login"
    ),
    **{name: f"{name} login" for name in ("podman", "buildah", "skopeo", "ko", "oras", "cosign", "nerdctl")},
    "crane": "crane auth login",
    "helm": "helm registry login",
}


def client_setup(host: str, ca_certificate: str, username: str | None = None) -> dict[str, str]:
    """One snippet per client, by the client's name in camelCase.

    Args:
        host: The registry's host as it is written in image references: a DNS name, with `:port` if it has one.
        ca_certificate: The CA's certificate, PEM; several one behind the other while one replaces another.
        username: The user that has a password; None: the registry asks for none. The second line of a client's snippet
            then says how to log in. It reads the password from the stack; neither a snippet nor an argument holds it.

    Raises:
        ValueError: `host` is no such host, or `ca_certificate` holds something else than PEM certificates. Both go into
            scripts, so nothing that a shell could read as more than text may be in them.
    """
    name, _, port = host.partition(":")
    if not is_dns_name(name) or (":" in host and not re.fullmatch(r"[1-9][0-9]{0,4}", port)):
        raise ValueError(f"The registry's host is {host!r}; it has to be a DNS name, with :port if it has one.")
    ca = ca_certificate.replace("\r\n", "\n").strip() + "\n"
    if not re.fullmatch(f"(?:{_PEM.pattern})+", ca):
        raise ValueError("The CA's certificate has to be PEM: BEGIN CERTIFICATE to END CERTIFICATE, and nothing else.")
    # A colon would end an entry of SSL_CERT_DIR, and is not allowed in a builder's or a ConfigMap's name.
    plain = host.replace(":", "-")

    docker = _system_folder("Docker on Linux", "/etc/docker/certs.d", host, ca)
    store = _linux_trust_store(host, plain, ca)
    snippets = {
        "docker": docker,
        "dockerDesktopMac": _mac("Docker Desktop on macOS", host, plain, ca, restart=True),
        "dockerDesktopWindows": _windows("Docker Desktop on Windows", host, ca, restart=True),
        "podman": _home_folder("podman", host, ca),
        "buildah": _home_folder("buildah", host, ca),
        "skopeo": _home_folder("skopeo", host, ca),
        "crane": _go("crane", host, plain, ca),
        "ko": _go("ko", host, plain, ca),
        "oras": _go("oras", host, plain, ca),
        "helm": _go("helm", host, plain, ca),
        "cosign": _go("cosign", host, plain, ca),
        "buildkit": _buildkit(host, plain, ca),
        "buildx": _buildx(host, plain, ca),
        "kaniko": _kaniko(host, plain, ca),
        "nerdctl": _nerdctl(host, ca),
        "containerd": _system_folder("containerd (ctr: with --hosts-dir)", "/etc/containerd/certs.d", host, ca),
        "curl": _curl(host, plain, ca),
        "macosKeychain": _mac("macOS (Go programs, Safari, curl)", host, plain, ca, restart=False),
        "linuxTrustStore": store,
        "windowsCertutil": _windows("Windows", host, ca, restart=False),
        "githubActions": _github_actions(host, docker, store),
    }
    return {
        name: _with_login(name, snippet, host, username) if username else snippet for name, snippet in snippets.items()
    }


def _with_login(name: str, snippet: str, host: str, username: str) -> str:
    """The snippet with a second line that says how its client logs in."""
    if name in _LOGINS:
        how = f"{_TELL} | {_LOGINS[name]} --username {username} --password-stdin {host}"
    elif name == "curl":
        how = f"""printf 'user = "{username}:%s"' "$({_TELL})" | curl --config - https://{host}/v2/"""
    elif name == "containerd":
        how = f"ctr asks for the password with --user {username}"
    elif name == "kaniko":
        how = "mount the key .dockerconfigjson of the Secret pullSecret (an output) as /kaniko/.docker/config.json"
    else:
        return snippet
    first, rest = snippet.split("\n", 1)
    return f"{first}\n# Log in: {how}\n{rest}"


def _script(
    client: str,
    host: str,
    folder: str,
    ca: str,
    undo: str,
    *body: str,
    file: str = "ca.crt",
    before: Sequence[str] = (),
    sudo: bool = False,
) -> str:
    """A shell script that does what `before` says, writes the CA to `folder`/`file` and does what `body` says.

    As one subshell: it is read whole before it runs, and its options and variables stay its own.
    """
    as_root = "$sudo " if sudo else ""
    return "\n".join(
        [
            f"# {client} trusts {host}. Undo: {undo}",
            "(",
            "set -eu; umask 022",
            *(['sudo=; [ "$(id -u)" -eq 0 ] || sudo=sudo'] if sudo else []),
            *before,
            f'folder="{folder}"',
            f'{as_root}mkdir -p "$folder"',
            f"{as_root}tee \"$folder/{file}\" >/dev/null <<'END-OF-FILE'\n{ca}END-OF-FILE",
            *body,
            ")",
            "",
        ]
    )


def _done(client: str, host: str, more: str = "") -> str:
    return f"echo '{client} trusts {host}{more}'"


def _system_folder(client: str, root: str, host: str, ca: str) -> str:
    folder = f"{root}/{host}"
    return _script(client, host, folder, ca, f"sudo rm -r {folder}", _done(client, host), sudo=True)


def _home_folder(client: str, host: str, ca: str) -> str:
    # The first of the folders that github.com/containers/image reads (docker/docker_client.go), for root too.
    folder = f"$HOME/.config/containers/certs.d/{host}"
    return _script(client, host, folder, ca, f'rm -r "{folder}"', _done(client, host))


def _own_folder(root: str, user: str) -> str:
    """The folder of a program that reads root's where root runs it, and the user's else."""
    return f'$([ "$(id -u)" -eq 0 ] && echo {root} || echo "${{XDG_CONFIG_HOME:-$HOME/.config}}/{user}")'


def _nerdctl(host: str, ca: str) -> str:
    folder = f"{_own_folder('/etc/containerd', 'containerd')}/certs.d/{host}"
    return _script("nerdctl of this user", host, folder, ca, f'rm -r "{folder}"', _done("nerdctl", host))


def _go(client: str, host: str, plain: str, ca: str) -> str:
    folder = f"{_FOLDER}/{plain}"
    return _script(
        client,
        host,
        folder,
        ca,
        f'rm "{folder}/ca.crt"',
        f"echo 'export SSL_CERT_DIR=\"{folder}:${{SSL_CERT_DIR:-/etc/ssl/certs:/etc/pki/tls/certs}}\"'",
        before=['[ "$(uname)" = Linux ] || { echo "not on Linux: use macosKeychain or windowsCertutil" >&2; exit 1; }'],
    )


def _curl(host: str, plain: str, ca: str) -> str:
    folder = f"{_FOLDER}/{plain}/curl"
    return _script(
        "curl",
        host,
        folder,
        ca,
        f'unset CURL_CA_BUNDLE; rm -r "{folder}"',
        'bundle="$folder/bundle.crt"',
        "# Behind the public roots of Debian, Fedora, SUSE, or macOS and Alpine; or behind those that are set already.",
        'roots="${CURL_CA_BUNDLE:-}"; [ "$roots" != "$bundle" ] || roots=',
        'for roots in "$roots" /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt \\',
        '  /etc/ssl/ca-bundle.pem /etc/ssl/cert.pem /dev/null; do [ ! -r "$roots" ] || break; done',
        'cat "$roots" "$folder/ca.crt" >"$bundle"',
        f"echo 'export CURL_CA_BUNDLE=\"{folder}/bundle.crt\"'",
    )


def _buildkit(host: str, plain: str, ca: str) -> str:
    root = _own_folder("/etc/buildkit", "buildkit")
    return _script(
        "buildkitd of this user",
        host,
        f"{root}/{plain}",
        ca,
        f'rm -r "{root}/{plain}", and remove [registry."{host}"] from buildkitd.toml beside it',
        f"""grep -qsF '[registry."{host}"]' "$folder/../buildkitd.toml" \\""",
        '  || cat >>"$folder/../buildkitd.toml" <<END-OF-FILE',
        f'\n[registry."{host}"]\n  ca = ["$folder/ca.crt"]\nEND-OF-FILE',
        _done("buildkitd", host, ", once it is restarted"),
    )


def _buildx(host: str, plain: str, ca: str) -> str:
    folder = f"{_FOLDER}/{plain}/buildx"
    return _script(
        "docker buildx",
        host,
        folder,
        ca,
        f'docker buildx rm {plain}; rm -r "{folder}"',
        'cat >"$folder/buildkitd.toml" <<END-OF-FILE',
        f'[registry."{host}"]\n  ca = ["$folder/ca.crt"]\nEND-OF-FILE',
        "# A builder of its own: buildx copies the CA into it when it is made, so it is made anew, cache kept.",
        f"! docker buildx inspect {plain} >/dev/null 2>&1 || docker buildx rm --keep-state {plain} >/dev/null",
        f"docker buildx create --name {plain} --driver docker-container \\",
        '  --buildkitd-config "$folder/buildkitd.toml" >/dev/null',
        _done("docker buildx", host, f": docker buildx build --builder {plain}"),
    )


def _linux_trust_store(host: str, plain: str, ca: str) -> str:
    name = f"private-registry-{plain}.crt"
    fedora, debian = "/etc/pki/ca-trust/source/anchors", "/usr/local/share/ca-certificates"
    suse = "/etc/pki/trust/anchors"
    undo = f"sudo rm -f {fedora}/{name} {debian}/{name} {suse}/{name}"
    return _script(
        "Linux",
        host,
        "$store",
        ca,
        f"{undo}; sudo update-ca-certificates || sudo update-ca-trust",
        "$sudo $update >/dev/null",
        _done("Linux", host),
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


def _mac(client: str, host: str, plain: str, ca: str, *, restart: bool) -> str:
    folder = f"{_FOLDER}/{plain}"
    undo = f'security remove-trusted-cert "{folder}/ca.crt"'
    for fingerprint in _fingerprints(ca):
        undo += f"; security delete-certificate -Z {fingerprint} {_KEYCHAIN}"
    lines = [f'security add-trusted-cert -r trustRoot -k {_KEYCHAIN} "$folder/ca.crt"']
    if restart:
        lines.append("docker desktop restart >/dev/null  # it reads the keychain when it starts")
    return _script(client, host, folder, ca, undo, *lines, _done(client, host))


def _windows(client: str, host: str, ca: str, *, restart: bool) -> str:
    undo = "; ".join(f"certutil -user -delstore Root {fingerprint}" for fingerprint in _fingerprints(ca))
    lines = [
        f"# {client} trusts {host}. For PowerShell's Invoke-Expression; Windows asks before it trusts. Undo: {undo}",
        "$file = New-TemporaryFile",
        f"Set-Content -Encoding ascii -Path $file -Value @'\n{ca}'@",
        "certutil -user -addstore -f Root $file | Out-Null",
        'if ($LASTEXITCODE -ne 0) { throw "certutil ended with $LASTEXITCODE" }',
        "Remove-Item $file",
    ]
    if restart:
        lines.append("docker desktop restart | Out-Null  # it reads the certificate store when it starts")
    return "\n".join([*lines, f"Write-Output '{client} trusts {host}'", ""])


def _fingerprints(ca: str) -> list[str]:
    """SHA-1 of each certificate, by which macOS and Windows name it."""
    return [
        hashlib.sha1(ssl.PEM_cert_to_DER_cert(pem), usedforsecurity=False).hexdigest().upper()
        for pem in _PEM.findall(ca)
    ]


def _kaniko(host: str, plain: str, ca: str) -> str:
    return f"""\
# kaniko trusts {host}, when its Pod has what is commented out below. Undo: kubectl delete configmap {plain}
# pulumi stack output --json clientSetup | jq -r .kaniko | kubectl apply -f -
apiVersion: v1
kind: ConfigMap
metadata:
  name: {plain}
data:
  ca.crt: |
{_indent(ca, 4)}
# spec:
#   containers:
#     - args: ["--registry-certificate={host}=/private-registry/ca.crt"]
#       volumeMounts: [{{name: private-registry, mountPath: /private-registry}}]
#   volumes: [{{name: private-registry, configMap: {{name: {plain}}}}}]
"""


def _github_actions(host: str, docker: str, store: str) -> str:
    return f"""\
# A step for a Linux runner. docker/setup-buildx-action needs the snippet buildx instead.
- name: Trust {host}
  shell: sh
  run: |
{_indent(docker + store, 4)}
"""


def _indent(text: str, spaces: int) -> str:
    return "\n".join(" " * spaces + line for line in text.splitlines())
