"""The registry's Secret is named in other namespaces and taken out again, and nothing else is changed there."""

import io
import urllib.error
from email.message import Message
from typing import Any, cast

import pytest

from registry.pod import attach

OWN, SECRET = "registry-dev", "registry-dev-r"


def refused(code: int) -> urllib.error.HTTPError:
    return urllib.error.HTTPError("https://api", code, "refused", Message(), io.BytesIO())


class FakeApi:
    """ServiceAccounts by namespace, and the pod's Deployment; with the API's rules for versions."""

    def __init__(self, **accounts: list[str]) -> None:
        self.accounts = {
            name.replace("_", "-"): {
                "metadata": {"name": "default", "resourceVersion": "1"},
                "imagePullSecrets": [{"name": each} for each in entries],
            }
            for name, entries in accounts.items()
        }
        self.deployment: dict[str, Any] | None = {"metadata": {}}
        self.conflicts = 0

    def names(self, *namespaces: str) -> None:
        """Have the Deployment name these namespaces."""
        container = {"args": ["attach.py", SECRET, *namespaces]}
        self.deployment = {"metadata": {}, "spec": {"template": {"spec": {"containers": [container]}}}}

    def entries(self, namespace: str) -> list[str]:
        return [entry["name"] for entry in self.accounts[namespace].get("imagePullSecrets") or []]

    def call(self, path: str, patch: dict[str, Any] | None = None) -> dict[str, Any]:
        parts = path.split("/")
        if parts[-2] == "deployments":
            assert parts[-3:] == [OWN, "deployments", attach.DEPLOYMENT]
            if self.deployment is None:
                raise refused(404)
            return self.deployment
        if parts[4] not in self.accounts:
            raise refused(403)  # with the namespace the role has gone that lets the pod ask
        account = self.accounts[parts[4]]
        if patch is None:
            return dict(account)
        if self.conflicts:
            self.conflicts -= 1
            account["metadata"] = {"name": "default", "resourceVersion": "2"}
            raise refused(409)
        assert patch["metadata"] == {"resourceVersion": account["metadata"]["resourceVersion"]}
        account["imagePullSecrets"] = patch["imagePullSecrets"]
        return account


def as_api(fake: FakeApi) -> attach.Api:
    return cast(attach.Api, fake)


def test_entries_of_others_stay_where_ours_comes_and_goes() -> None:
    fake = FakeApi(a=[], b=["theirs"])
    for _ in range(2):
        assert attach.attach_all(as_api(fake), SECRET, ["a", "b"])
        assert (fake.entries("a"), fake.entries("b")) == ([SECRET], ["theirs", SECRET])
    fake.deployment = None
    for _ in range(2):
        attach.detach_all(as_api(fake), OWN, SECRET, ["a", "b"])
        assert (fake.entries("a"), fake.entries("b")) == ([], ["theirs"])


def test_a_change_by_somebody_else_at_the_same_time_is_not_overwritten() -> None:
    fake = FakeApi(a=["theirs"])
    fake.conflicts = 2
    assert attach.attach_all(as_api(fake), SECRET, ["a"])
    assert fake.entries("a") == ["theirs", SECRET]


def test_a_namespace_that_is_missing_is_named_and_keeps_no_other_from_being_served(
    capsys: pytest.CaptureFixture[str],
) -> None:
    fake = FakeApi(b=[])
    assert not attach.attach_all(as_api(fake), SECRET, ["a", "b"])
    assert "a: not attached: HTTP Error 403" in capsys.readouterr().out
    assert fake.entries("b") == [SECRET]


def test_a_namespace_that_has_gone_needs_no_clean_up(capsys: pytest.CaptureFixture[str]) -> None:
    fake = FakeApi(b=[SECRET])
    fake.deployment = {"metadata": {"deletionTimestamp": "now"}}
    attach.detach_all(as_api(fake), OWN, SECRET, ["a", "b"])
    assert fake.entries("b") == []
    assert capsys.readouterr().out.startswith("a: gone, or not ours to change any more")


def test_a_pod_that_is_only_replaced_leaves_what_is_still_wanted() -> None:
    fake = FakeApi(a=[SECRET], b=[SECRET])
    fake.names("a")
    attach.detach_all(as_api(fake), OWN, SECRET, ["a", "b"])
    assert (fake.entries("a"), fake.entries("b")) == ([SECRET], [])
