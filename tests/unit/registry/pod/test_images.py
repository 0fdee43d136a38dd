"""Where the images of the program's pods come from, and which logins a kubelet would take for them."""

import base64
import json
import re

import pytest

from registry.pod import images

DIGEST = "sha256:" + "0" * 64
HUB = {"registryImage": "docker.io/library/registry:3"}
MIRROR = {"registryImage": "mirror.example.com:5000/hub/registry:3"}
PASSWORD = {"auth": base64.b64encode(b"me:hidden").decode()}


def login(*hosts: str, **entry: str) -> str:
    return json.dumps({"auths": {host: entry or PASSWORD for host in hosts}})


@pytest.mark.parametrize(
    ("image", "reference"),
    [
        ("python:3.13-alpine", "mirror.example.com/hub/python:3.13-alpine"),
        (f"python@{DIGEST}", f"mirror.example.com/hub/python@{DIGEST}"),
        ("docker.io/library/python:3", "docker.io/library/python:3"),
        ("localhost:5000/python", "localhost:5000/python"),
        (f"example.org/me/python:3@{DIGEST}", f"example.org/me/python:3@{DIGEST}"),
    ],
)
def test_a_name_alone_is_taken_from_the_registry_and_a_whole_reference_as_it_is(image: str, reference: str) -> None:
    assert images.IMAGE.fullmatch(image)
    assert images.whole(image, "mirror.example.com/hub") == reference


@pytest.mark.parametrize(
    "image", ["", "me/python:3", "Python:3", "https://example.org/python", "python 3", "example.org/"]
)
def test_a_reference_that_would_be_looked_for_elsewhere_is_none(image: str) -> None:
    assert not images.IMAGE.fullmatch(image)


@pytest.mark.parametrize(
    ("registry", "right"),
    [
        ("docker.io/library", True),
        ("mirror:5000", True),
        ("10.0.0.1:5000/hub/library", True),
        ("localhost", True),
        ("mirror", False),
        ("library", False),
        ("mirror.example.com/", False),
        ("https://mirror.example.com", False),
        ("", False),
    ],
)
def test_a_registry_begins_with_a_host(registry: str, right: bool) -> None:
    assert (images.REGISTRY.fullmatch(registry) is not None) == right


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (login("docker.io"), HUB),
        (login("https://index.docker.io/v1/"), HUB),
        (login("mirror.example.com:5000"), MIRROR),
        (login("https://mirror.example.com:5000/v2/"), MIRROR),
        (login("mirror.example.com:5000/hub"), MIRROR),
        (login("*.example.com:5000"), MIRROR),
        (login("example.org", "mirror.example.com:5000"), MIRROR),
        (login("mirror.example.com:5000", username="me", password="hidden"), MIRROR),  # noqa: S106
        (login("example.org"), {**HUB, "pythonImage": "example.org/me/python:3"}),
    ],
)
def test_a_login_that_a_kubelet_would_take_is_taken(given: str, found: dict[str, str]) -> None:
    assert images.login_fault(given, found) == ""


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ("me:hidden", "no JSON"),
        ('"hidden"', "no logins"),
        ('{"auths": {}}', "no logins"),
        ('{"auths": ["hidden"]}', "no logins"),
        (login("docker.io"), "logins for docker.io alone.*come from mirror.example.com:5000"),
        (login("mirror.example.com"), "logins for mirror.example.com alone"),
        (login("a.mirror.example.com:5000"), "alone"),
        (login("*.com:5000"), "alone"),
        (login("mirror.example.com:5000/other"), "alone"),
        (json.dumps({"auths": {"mirror.example.com:5000": {}}, "credsStore": "desktop"}), "holds no password"),
        (login("mirror.example.com:5000", identitytoken="hidden"), "holds no password"),
        (login("mirror.example.com:5000", username="hidden"), "holds no password"),
        ('{"auths": {"mirror.example.com:5000": "hidden"}}', "holds no password"),
    ],
)
def test_a_login_that_would_not_help_is_refused_without_a_part_of_it(given: str, fault: str) -> None:
    found = images.login_fault(given, MIRROR)
    assert re.search(fault, found)
    assert "hidden" not in found
