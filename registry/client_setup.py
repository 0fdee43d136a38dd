r"""One ready snippet per client that makes it trust the registry: the value of the output `clientSetup`.

Each snippet is whole: the host and the CA are in it. POSIX shell for Linux and macOS, PowerShell for Windows, YAML for
GitHub Actions and kaniko; the first line says how to undo it. A shell snippet is used in one of two ways:

    pulumi stack output --json clientSetup | jq -r .docker | sh
    eval "$(pulumi stack output --json clientSetup | jq -r .crane | sh)"

The first kind sets up all that the client needs and prints one line that says so. The second kind is for clients that
read the environment (crane, ko, oras, helm, cosign, curl): it writes a file and prints an `export` for `eval`.

What this deliberately does not do: log in, turn off a client's checks, or take the public roots' place. Where a client
adds a CA to the public ones by itself, the snippet leaves it to the client. Where the environment names the CAs:

- Go (crypto/x509/root_unix.go): SSL_CERT_FILE replaces the list of the system's bundle files, SSL_CERT_DIR only the
  list of folders; bundle and folders are both read. So SSL_CERT_DIR is set, and the system's folders stay in the list
  for OpenSSL, which reads the same variable (openssl-env(7)). On macOS and Windows Go asks the system's store.
- curl(1): CURL_CA_BUNDLE replaces the bundle. So it names a copy of the bundle with the CA behind it.
"""

import hashlib
import re
import ssl

from .hostname import is_dns_name

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----\n[A-Za-z0-9+/=\n]+\n-----END CERTIFICATE-----\n")
_FOLDER = "${XDG_CONFIG_HOME:-$HOME/.config}/private-registry"
_SUDO = 'sudo=; [ "$(id -u)" -eq 0 ] || sudo=sudo'
_KEYCHAIN = '"$HOME/Library/Keychains/login.keychain-db"'


def client_setup(host: str, ca_certificate: str) -> dict[str, str]:
    """One snippet per client, by the client's name in camelCase.

    Args:
        host: The registry's host as it is written in image references: a DNS name, with `:port` if it has one.
        ca_certificate: The CA's certificate, PEM; several one behind the other while one replaces another.

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
    return {
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


def _script(client: str, host: str, undo: str, *body: str) -> str:
    """A shell script. As one subshell: it is read whole before it runs, and its options stay its own."""
    return "\n".join([f"# {client} trusts {host}. Undo: {undo}", "(", "set -eu", *body, ")", ""])


def _done(client: str, host: str, more: str = "") -> str:
    return f"echo '{client} trusts {host}{more}'"


def _write(path: str, text: str, *, sudo: str = "") -> str:
    """Lines that write `text` to a file. `path` goes between double quotes, so it may hold variables."""
    tee = f"{sudo} tee".strip()
    return f"{tee} \"{path}\" >/dev/null <<'END-OF-FILE'\n{text}END-OF-FILE"


def _write_ca(folder: str, ca: str, *, sudo: str = "") -> str:
    mkdir = f"{sudo} mkdir".strip()
    return f'{mkdir} -p "{folder}"\n{_write(f"{folder}/ca.crt", ca, sudo=sudo)}'


def _system_folder(client: str, root: str, host: str, ca: str) -> str:
    folder = f"{root}/{host}"
    return _script(
        client, host, f"sudo rm -r {folder}", _SUDO, _write_ca(folder, ca, sudo="$sudo"), _done(client, host)
    )


def _home_folder(client: str, host: str, ca: str) -> str:
    # The first of the folders that github.com/containers/image reads (docker/docker_client.go), for root too.
    folder = f"$HOME/.config/containers/certs.d/{host}"
    return _script(client, host, f'rm -r "{folder}"', _write_ca(folder, ca), _done(client, host))


def _nerdctl(host: str, ca: str) -> str:
    return _script(
        "nerdctl",
        host,
        f"rm -rf ~/.config/containerd/certs.d/{host} /etc/containerd/certs.d/{host}",
        "# As nerdctl does: the user's folder unless run by root (`sudo sh` for `sudo nerdctl`).",
        'root="${XDG_CONFIG_HOME:-$HOME/.config}"; [ "$(id -u)" -ne 0 ] || root=/etc',
        _write_ca(f"$root/containerd/certs.d/{host}", ca),
        _done("nerdctl", host),
    )


def _go(client: str, host: str, plain: str, ca: str) -> str:
    folder = f"{_FOLDER}/{plain}"
    variable = f'SSL_CERT_DIR="{folder}:${{SSL_CERT_DIR:-/etc/ssl/certs:/etc/pki/tls/certs}}"'
    return _script(
        f"{client} on Linux", host, f'unset SSL_CERT_DIR; rm "{folder}/ca.crt"',
        '[ "$(uname)" = Linux ] || { echo "outside of Linux use macosKeychain or windowsCertutil" >&2; exit 1; }',
        _write_ca(folder, ca),
        f"echo 'export {variable}'",
    )


def _curl(host: str, plain: str, ca: str) -> str:
    folder = f"{_FOLDER}/{plain}"
    bundle = f"{folder}/curl/bundle.crt"
    return _script(
        "curl", host, f'unset CURL_CA_BUNDLE; rm -r "{folder}/curl"',
        _write_ca(f"{folder}/curl", ca),
        "# The public roots of Debian, Fedora, SUSE, and macOS and Alpine, or those that are set already.",
        f'[ "${{CURL_CA_BUNDLE:-}}" != "{bundle}" ] || CURL_CA_BUNDLE=',
        'for roots in "${CURL_CA_BUNDLE:-}" /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt \\',
        '  /etc/ssl/ca-bundle.pem /etc/ssl/cert.pem /dev/null; do [ ! -r "$roots" ] || break; done',
        f'cat "$roots" "{folder}/curl/ca.crt" >"{bundle}"',
        f"echo 'export CURL_CA_BUNDLE=\"{bundle}\"'",
    )


def _buildkit_toml(host: str, ca_file: str) -> str:
    return f'[registry."{host}"]\n  ca = ["{ca_file}"]\n'


def _buildkit(host: str, plain: str, ca: str) -> str:
    return _script(
        "buildkitd", host, f'remove [registry."{host}"] from buildkitd.toml, and the folder {plain} beside it',
        "# As buildkitd does: the user's folder unless run by root.",
        'root="${XDG_CONFIG_HOME:-$HOME/.config}/buildkit"; [ "$(id -u)" -ne 0 ] || root=/etc/buildkit',
        _write_ca(f"$root/{plain}", ca),
        f"""grep -qsF '[registry."{host}"]' "$root/buildkitd.toml" || cat >>"$root/buildkitd.toml" <<END-OF-FILE""",
        f"\n{_buildkit_toml(host, f'$root/{plain}/ca.crt')}END-OF-FILE",
        _done("buildkitd", host, ", once it is restarted"),
    )


def _buildx(host: str, plain: str, ca: str) -> str:
    folder = f"{_FOLDER}/{plain}/buildx"
    toml = _buildkit_toml(host, f"{folder}/ca.crt")
    return _script(
        "docker buildx", host, f'docker buildx rm {plain}; rm -r "{folder}"',
        _write_ca(folder, ca),
        f'cat >"{folder}/buildkitd.toml" <<END-OF-FILE\n{toml}END-OF-FILE',
        "# A builder of its own: buildx copies the CA into it when it is made, so it is made anew, cache kept.",
        f"! docker buildx inspect {plain} >/dev/null 2>&1 || docker buildx rm --keep-state {plain} >/dev/null",
        f"docker buildx create --name {plain} --driver docker-container \\",
        f'  --buildkitd-config "{folder}/buildkitd.toml" >/dev/null',
        _done("docker buildx", host, f": docker buildx build --builder {plain}"),
    )


def _linux_trust_store(host: str, plain: str, ca: str) -> str:
    name = f"private-registry-{plain}.crt"
    fedora, debian = "/etc/pki/ca-trust/source/anchors", "/usr/local/share/ca-certificates"
    suse = "/etc/pki/trust/anchors"
    files = " ".join(f"{folder}/{name}" for folder in (fedora, debian, suse))
    return _script(
        "Linux",
        host,
        f"sudo rm -f {files}; sudo update-ca-certificates || sudo update-ca-trust",
        _SUDO,
        "PATH=$PATH:/usr/sbin",
        "# Fedora and its family; Debian, Ubuntu and Alpine; SUSE.",
        f"if [ -d {fedora} ]; then folder={fedora} update=update-ca-trust",
        f"elif [ -d {debian} ]; then folder={debian} update=update-ca-certificates",
        f"elif [ -d {suse} ]; then folder={suse} update=update-ca-certificates",
        'else echo "no trust store is known here: install the package ca-certificates" >&2; exit 1; fi',
        _write(f"$folder/{name}", ca, sudo="$sudo"),
        "$sudo $update >/dev/null",
        f"echo \"Linux trusts {host}: $folder/{name}\"",
    )


def _mac(client: str, host: str, plain: str, ca: str, *, restart: bool) -> str:
    folder = f"{_FOLDER}/{plain}"
    undo = f'security remove-trusted-cert "{folder}/ca.crt"'
    for fingerprint in _fingerprints(ca):
        undo += f"; security delete-certificate -Z {fingerprint} {_KEYCHAIN}"
    lines = [
        _write_ca(folder, ca),
        f'security add-trusted-cert -r trustRoot -k {_KEYCHAIN} "{folder}/ca.crt"',
    ]
    if restart:
        lines.append("docker desktop restart >/dev/null  # it reads the keychain when it starts")
    return _script(client, host, undo, *lines, _done(client, host))


def _windows(client: str, host: str, ca: str, *, restart: bool) -> str:
    undo = "; ".join(f"certutil -user -delstore Root {fingerprint}" for fingerprint in _fingerprints(ca))
    lines = [
        f"# {client} trusts {host}. Run by PowerShell's Invoke-Expression. Undo: {undo}",
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
