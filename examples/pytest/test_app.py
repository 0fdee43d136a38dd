"""A test that uses the registry: it asks it for the images that it holds, with its CA and its password."""

import base64
import json
import ssl
import urllib.request


def test_the_registry_of_this_session_answers(registry: dict[str, str]) -> None:
    context = ssl.create_default_context(cadata=registry["caCertificate"])
    login = base64.b64encode(f"{registry['username']}:{registry['password']}".encode()).decode()
    request = urllib.request.Request(f"https://{registry['registryUrl']}/v2/_catalog")
    request.add_header("Authorization", f"Basic {login}")
    with urllib.request.urlopen(request, context=context, timeout=10) as answer:
        assert "repositories" in json.load(answer)
