"""Print the snippet that makes a client trust the registry.

    python3 -m registry.clients --list
    python3 -m registry.clients NAME [--stack STACK]
    python3 -m registry.clients NAME --host HOST --ca FILE [--username NAME] [--namespace NS]
    python3 -m registry.clients --node NAME, with the same options

Run it in the program's folder. Host, CA and user are outputs of the selected stack, or of STACK, which are read through
the Pulumi CLI; with `--host` and `--ca` no stack is needed. With `--node` it prints the setting by which nodes trust
the registry themselves, for the setting `nodeTrust: external`.

It runs with the system's Python, from 3.9 on, and the standard library.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

from ..names import LOOKUP
from .nodes import NODES, key_of
from .snippets import CLIENTS, PORT_FORWARD, client_setup


class ClientsError(Exception):
    """Something that the user can mend; the message says what and how."""


class _Outputs(NamedTuple):
    """What a snippet needs to know of the stack."""

    host: str
    ca: str
    username: Optional[str]
    namespace: str


def _from_stack(stack: Optional[str]) -> _Outputs:
    """The outputs of a stack; None stands for the selected one.

    Raises:
        ClientsError: Pulumi is missing or fails, or the stack has no outputs yet.
    """
    outputs = _pulumi("output", "--json", *(["--stack", stack] if stack else []))
    host, ca = outputs.get("registryUrl"), outputs.get("caCertificate")
    if host and ca is not None:
        return _Outputs(host, ca, outputs.get("username"), outputs.get("namespace") or "")
    # An `up` that waits in vain for nodes has no outputs, and what these need is what is asked for here.
    found = _looked_up(_pulumi("export", *(["--stack", stack] if stack else [])))
    if found is None:
        named = f"The stack {stack}" if stack else "The selected stack"
        raise ClientsError(f"{named} has no registry yet. Bring it up with `pulumi up`, or give --host and --ca.")
    return found


def _looked_up(state: dict[str, Any]) -> Optional[_Outputs]:
    """What the ConfigMap with host and CA in a stack's state says; None if that is not there yet."""
    deployment: dict[str, Any] = state.get("deployment") or {}
    resources: list[dict[str, Any]] = deployment.get("resources") or []
    for resource in resources:
        outputs: dict[str, Any] = resource.get("outputs") or {}
        metadata: dict[str, Any] = outputs.get("metadata") or {}
        if resource["type"] == "kubernetes:core/v1:ConfigMap" and metadata.get("name") == LOOKUP:
            data: dict[str, str] = outputs.get("data") or {}
            return _Outputs(data["host"], data["ca.crt"], None, metadata.get("namespace", ""))
    return None


def _pulumi(*arguments: str) -> dict[str, Any]:
    """What a `pulumi stack` command prints.

    Raises:
        ClientsError: Pulumi is missing or fails.
    """
    command = ["pulumi", "stack", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - no shell reads it
    except OSError as error:
        raise ClientsError(
            f"The Pulumi CLI cannot be run ({error.strerror}), and the registry's host and CA are outputs of the "
            "stack. Put pulumi on the PATH, or give both: --host HOST --ca FILE."
        ) from None
    if done.returncode != 0:
        raise ClientsError(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
    found: dict[str, Any] = json.loads(done.stdout or "{}") or {}
    return found


def _ca_in(file: Path) -> str:
    """The text of a file with the CA's certificate.

    Raises:
        ClientsError: it cannot be read, is no text, or is empty.
    """
    try:
        text = file.read_text()
        why = "" if text.strip() else "it is empty"
    except (OSError, ValueError) as error:
        text, why = "", str(error.strerror) if isinstance(error, OSError) else "it is no text, and so no PEM"
    if why:
        raise ClientsError(
            f"The file {str(file)!r} (--ca) cannot be read: {why}. Give the file with the CA's certificate, PEM; "
            "`pulumi stack output caCertificate` prints it."
        )
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 -m registry.clients",
        description="Print the snippet that makes a client trust the registry.",
        epilog="With a shell snippet's output do what its client needs: `... docker | sh` for most clients, and "
        '`eval "$(... crane | sh)"` for crane, ko, oras, helm, cosign and curl, which read the environment. '
        "In PowerShell on Windows: `(py -m registry.clients NAME) | Out-String | Invoke-Expression`.",
    )
    parser.add_argument("client", nargs="?", metavar="NAME", help="the client, as --list names it")
    parser.add_argument("--node", metavar="NAME", help="print the setting of nodes of this kind, as --list names it")
    parser.add_argument("--list", action="store_true", help="print the names of the clients and of the kinds of nodes")
    parser.add_argument("--stack", help="the stack whose outputs are read, instead of the selected one")
    parser.add_argument("--host", help="the registry's host; no stack is read (with --ca)")
    parser.add_argument("--ca", type=Path, metavar="FILE", help="file with the CA's certificate (with --host)")
    parser.add_argument("--username", metavar="NAME", help="the user who has the password (with --host)")
    parser.add_argument("--namespace", metavar="NS", help="the registry's namespace, for portForward (with --host)")
    return parser


def main(arguments: Optional[Sequence[str]] = None) -> str:
    """What the command prints; arguments that are wrong end the program with an error, as argparse does.

    Raises:
        ClientsError: the snippet cannot be made.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.list:
        return "\n".join([*CLIENTS, "", "With --node, for the setting nodeTrust: external:", *NODES, ""])
    if options.node and options.client:
        parser.error("--node takes the place of the client's name")
    if options.node and options.node not in NODES:
        parser.error(f"{options.node} is no kind of node that has a setting; --list prints the names of all")
    if not options.node and options.client not in CLIENTS:
        given = f"{options.client} is no client that has a snippet" if options.client else "no client is named"
        parser.error(f"{given}; --list prints the names of all")
    if bool(options.host) != bool(options.ca):
        parser.error("--host and --ca belong together")
    if (options.username or options.namespace) and not options.host:
        parser.error("--username and --namespace belong to --host and --ca; a stack has both among its outputs")
    if options.client == PORT_FORWARD and options.host and not options.namespace:
        parser.error(f"{PORT_FORWARD} goes to the registry's pod: give its namespace, too (--namespace NS)")
    if options.host and options.stack:
        parser.error("--stack is of no use with --host and --ca, which take the place of its outputs")
    try:
        if options.host:
            outputs = _Outputs(options.host, _ca_in(options.ca), options.username, options.namespace or "")
        else:
            outputs = _from_stack(options.stack)
        return client_setup(*outputs, options.stack)[key_of(options.node) if options.node else options.client]
    except ValueError as error:
        raise ClientsError(str(error)) from None


if __name__ == "__main__":
    try:
        sys.stdout.write(main())
    except ClientsError as error:
        sys.exit(str(error))
