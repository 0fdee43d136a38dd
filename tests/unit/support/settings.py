"""The program's settings as the engine hands them over, with the defaults of Pulumi.yaml."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pulumi
import yaml

from registry import settings

ROOT = Path(__file__).parents[3]
PROJECT = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())
SCHEMA: dict[str, dict[str, Any]] = {key: entry for key, entry in PROJECT["config"].items() if ":" not in key}
DEFAULTS = {
    key: entry["default"] if entry["type"] == "string" else json.dumps(entry["default"])
    for key, entry in SCHEMA.items()
}
"""The default of each setting, as the configuration holds it."""


class FakeConfig(pulumi.Config):
    """The stack's configuration: the defaults, except for what the test sets."""

    def __init__(self, **values: str) -> None:
        super().__init__("private-registry")
        self._values = {**DEFAULTS, **values}

    def get(self, key: str, default: str | None = None) -> str | None:  # type: ignore[override]
        return self._values.get(key, default)


def stored(kind: settings.StorageKind = "volume", **values: Any) -> settings.Storage:
    """The default storage of a kind, except for some of its fields."""
    made = settings.Storage(kind=kind, size=settings.SIZES[kind], storage_class="", bucket=None, replicas=1)
    return dataclasses.replace(made, **values)


def having(**values: Any) -> settings.Settings:
    """The default settings, except for some."""
    return dataclasses.replace(settings.load(FakeConfig()), **values)
