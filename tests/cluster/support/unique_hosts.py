"""An admission webhook as that of ingress-nginx: a host and path that another Ingress has are refused.

It runs as a program in the cluster's network: `python unique_hosts.py PORT CERTIFICATE KEY`. It asks the cluster with
the kubeconfig of the environment, through kubectl, as often as it is asked.
"""

import json
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def served(ingress: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Every host and path that an Ingress serves."""
    for rule in ingress["spec"].get("rules") or []:
        for path in rule.get("http", {}).get("paths", []):
            yield rule.get("host", ""), path.get("path", "/")


def refusal(wanted: Mapping[str, Any]) -> str:
    """Why an Ingress is refused; empty if it is not."""
    command = ["kubectl", "get", "ingresses", "--all-namespaces", "-o", "json"]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["items"]
    own = (wanted["metadata"]["namespace"], wanted["metadata"]["name"])
    for other in found:
        name = (other["metadata"]["namespace"], other["metadata"]["name"])
        for host, path in served(wanted):
            if name != own and (host, path) in served(other):
                return f'host "{host}" and path "{path}" is already defined in ingress {"/".join(name)}'
    return ""


class Webhook(BaseHTTPRequestHandler):
    """Answers AdmissionReviews (admission.k8s.io/v1)."""

    def do_POST(self) -> None:
        """Say whether an Ingress is let in."""
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["request"]
        words = refusal(request["object"])
        response = {"uid": request["uid"], "allowed": not words, "status": {"message": words}}
        body = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())


def main(port: str, certificate: str, key: str) -> None:
    """Serve until the process ends."""
    server = ThreadingHTTPServer(("0.0.0.0", int(port)), Webhook)  # noqa: S104 - the network is the cluster's own
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
