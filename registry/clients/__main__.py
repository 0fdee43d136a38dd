"""Print the snippet that makes a client trust the registry.

    python3 -m registry.clients --list
    python3 -m registry.clients NAME [--stack STACK]
    python3 -m registry.clients NAME --host HOST --ca FILE [--username NAME] [--namespace NS]

Run it in the program's folder. Host, CA and user are outputs of the selected stack, or of STACK, which are read through
the Pulumi CLI; with `--host` and `--ca` no stack is needed.

It runs with the system's Python, from 3.9 on, and the standard library.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Optional

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
    command = ["pulumi", "stack", "output", "--json", *(["--stack", stack] if stack else [])]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - no shell reads it
    except OSError as error:
        raise ClientsError(
            f"The Pulumi CLI cannot be run ({error.strerror}), and the registry's host and CA are outputs of the "
            "stack. Put pulumi on the PATH, or give both: --host HOST --ca FILE."
        ) from None
    if done.returncode != 0:
        raise ClientsError(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
    outputs = json.loads(done.stdout or "{}")
    host, ca = outputs.get("registryUrl"), outputs.get("caCertificate")
    if not host or ca is None:
        named = f"The stack {stack}" if stack else "The selected stack"
        raise ClientsError(f"{named} has no registry yet. Bring it up with `pulumi up`, or give --host and --ca.")
    return _Outputs(host, ca, outputs.get("username"), outputs.get("namespace") or "")


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
        '`eval "$(... crane | sh)"` for crane, ko, oras, helm, cosign and curl, which read the environment.',
    )
    parser.add_argument("client", nargs="?", metavar="NAME", help="the client, as --list names it")
    parser.add_argument("--list", action="store_true", help="print the names of the clients")
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
        return "\n".join(CLIENTS) + "\n"
    if options.client not in CLIENTS:
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
        return client_setup(*outputs)[options.client]
    except ValueError as error:
        raise ClientsError(str(error)) from None


if __name__ == "__main__":
    try:
        sys.stdout.write(main())
    except ClientsError as error:
        sys.exit(str(error))
