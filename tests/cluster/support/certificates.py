"""The certificate that clients are shown."""

import hashlib
import ssl

from .stacks import Deployed


def served_certificate(deployed: Deployed) -> str:
    """The fingerprint of the certificate that a client is shown; the client verifies it."""
    name, _, port = deployed.host.partition(":")
    shown = deployed.cluster.run(
        "openssl",
        "s_client",
        "-connect",
        f"{name}:{port or 443}",
        "-servername",
        name,
        "-verify_hostname",
        name,
        "-verify_return_error",
        "-CAfile",
        deployed.ca_file,
        text="",
    ).stdout
    pem = shown[shown.index("-----BEGIN") : shown.index("-----END CERTIFICATE-----")] + "-----END CERTIFICATE-----\n"
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
