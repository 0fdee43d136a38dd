"""Which images the program's pods are made of, where they come from, and whether a login is one for them.

What this deliberately does not do: it pulls nothing, so it does not know whether an image or a login is right.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import cast

# The grammar of image references (github.com/distribution/reference, reference.go), but for IPv6 addresses. A first
# part without a dot or a port would be no host: Docker Hub would be asked for it.
_PATH = r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*"
_HOST = r"(?:localhost|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+|[A-Za-z0-9-]+(?=:))(?::[0-9]+)?"
_VERSION = r"(?::\w[\w.-]{0,127})?(?:@sha256:[0-9a-f]{64})?"

REGISTRY = re.compile(rf"{_HOST}(?:/{_PATH})*")
"""A registry's host, with a path if there is one, such as `docker.io/library`."""
IMAGE = re.compile(rf"(?:{_HOST}/(?:{_PATH}/)*)?{_PATH}{_VERSION}")
"""The name of an image alone, such as `python:3.13-alpine`, or a whole reference that begins with a host."""

KEYS = ("imageRegistry", "registryImage", "nginxImage", "pythonImage")
"""The settings from which `Images` are made."""

_DOCKER_HUB = ("docker.io", "index.docker.io", "registry-1.docker.io")
"""Hosts that Docker Hub has in images, and in logins."""


@dataclass(frozen=True)
class Images:
    """The images of the program's pods, and how nodes get them."""

    registry: str
    """Image of the registry (distribution v3)."""
    nginx: str
    """Image of nginx with a POSIX shell, for the container in front of the registry."""
    python: str
    """Image with Python 3.12 or newer for the node agent and for the container that pushes the proof image."""
    pull_secret: str | None
    """Name of the Secret with the login with which nodes pull them; None: they need none."""


def whole(image: str, registry: str) -> str:
    """The whole reference of an image that is named alone, or is one already.

    Args:
        image: The setting, such as `python:3.13-alpine`.
        registry: Where images come from that are named alone, such as `docker.io/library`.
    """
    return image if "/" in image else f"{registry}/{image}"


def login_fault(login: str, images: Mapping[str, str]) -> str:
    """The rule that a login breaks, as the end of a sentence that begins with the setting; empty if it breaks none.

    No part of the login is in the sentence but the hosts that it is for.

    Args:
        login: The setting, which is to be the content of Docker's config.json.
        images: The whole references of the images, by setting.
    """
    try:
        found = cast(object, json.loads(login))
    except ValueError:
        return "it is no JSON"
    logins = cast(dict[str, object], found).get("auths") if isinstance(found, dict) else None
    if not isinstance(logins, dict) or not logins:
        return "it has no logins (key auths)"
    entries = cast(dict[str, object], logins)
    usable = {host for host, entry in entries.items() if _is_login(entry)}
    if any(_is_for(host, image) for host in usable for image in images.values()):
        return ""
    of = ", ".join(sorted({image.partition("/")[0] for image in images.values()}))
    if any(_is_for(host, image) for host in entries for image in images.values()):
        return f"its entry for {of} holds no password, as where Docker keeps passwords in a store of its own"
    return f"it has logins for {', '.join(sorted(entries))} alone, and the images come from {of}"


def _is_login(entry: object) -> bool:
    """Whether a kubelet can log in with an entry: it needs a user and a password, and knows no other kind of login."""
    if not isinstance(entry, dict):
        return False
    given = cast(dict[str, object], entry)
    return bool(given.get("auth") or (given.get("username") and given.get("password")))


def _is_for(key: str, image: str) -> bool:
    """Whether a kubelet takes a login for an image (Kubernetes, pkg/credentialprovider/keyring.go).

    Args:
        key: What the login is for: a URL, or a host with a port and a path; parts of the host's name may have `*`.
        image: A whole reference.
    """
    key = re.sub(r"^https?://", "", key)
    host, _, path = re.sub(r"/v[12]/?$", "", key).partition("/")
    own, _, rest = image.partition("/")
    if own in _DOCKER_HUB and host in _DOCKER_HUB:
        return True
    (name, _, port), (own_name, _, own_port) = host.partition(":"), own.partition(":")
    parts, own_parts = name.split("."), own_name.split(".")
    same = port == own_port and len(parts) == len(own_parts)
    return same and all(map(fnmatchcase, own_parts, parts)) and rest.startswith(path)
