"""The provider gets every setting that a user can give the default one."""

import asyncio
import inspect
from collections.abc import Iterator
from typing import cast

import pulumi
import pulumi_kubernetes as k8s
import pytest

from registry.cluster import Cluster
from registry.stack.provider import REFUSED, SETTINGS, arguments, check_settings, snake
from tests.unit.support.clusters import QuietCluster

NOT_KEPT = {"delete_unreachable"}
"""Its variable has to work at `destroy`, so the state does not hold it."""


@pytest.fixture(autouse=True)
def no_settings() -> Iterator[None]:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)  # outputs need one
    pulumi.runtime.set_all_config({})
    yield
    pulumi.runtime.set_all_config({})
    loop.run_until_complete(pulumi.runtime.stack.wait_for_rpcs())  # or the next program would wait for these outputs


def arguments_of(**settings: str) -> dict[str, object]:
    pulumi.runtime.set_all_config({f"kubernetes:{key}": value for key, value in settings.items()})
    return arguments(cast(Cluster, QuietCluster()))


def test_every_argument_of_the_sdk_is_handed_on_or_decided_here() -> None:
    signature = inspect.signature(k8s.Provider._internal_init)  # type: ignore[attr-defined]
    known = set(signature.parameters) - {"self", "__self__", "resource_name", "opts", "__props__"}
    decided = {"cluster_identifier", "context", "kubeconfig", "upsert_existing_objects"}
    assert {snake(key) for key in (*SETTINGS, *REFUSED)} | decided | NOT_KEPT == known
    assert not set(SETTINGS) & set(REFUSED)


def test_the_projects_own_settings_are_not_lost() -> None:
    found = arguments_of(enableConfigMapMutable="true", enableSecretMutable="true")
    assert found["enable_config_map_mutable"] is True
    assert found["enable_secret_mutable"] is True


def test_the_context_is_kept_and_the_path_in_kubeconfig_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/home/me/kubeconfig")
    found = arguments_of()
    assert found["context"] == QuietCluster.context
    assert found["kubeconfig"] == ""
    assert found["upsert_existing_objects"] is True
    assert found["cluster_identifier"] == QuietCluster.uid
    assert not NOT_KEPT & set(found)


def test_settings_of_every_kind_are_read() -> None:
    found = arguments_of(
        namespace="team-a", skipUpdateUnreachable="true", kubeClientSettings='{"qps": 50}', deleteUnreachable="true"
    )
    assert found["namespace"] == "team-a"
    assert found["skip_update_unreachable"] is True
    assert found["kube_client_settings"] == {"qps": 50}
    assert "delete_unreachable" not in found


def test_what_would_have_the_provider_do_another_thing_than_the_program_expects_is_refused() -> None:
    given = {"cluster": "b", "enablePatchForce": "true", "enableServerSideApply": "false", "renderYamlToDirectory": "x"}
    arguments_of(**given)
    with pytest.raises(pulumi.RunError) as caught:
        check_settings()
    lines = str(caught.value).splitlines()
    assert len(lines) == len(REFUSED)
    for (key, value), line in zip(given.items(), lines, strict=True):
        assert line.startswith(f"The setting kubernetes:{key} is {value}, but "), line
        assert f"pulumi config rm kubernetes:{key}" in line


def test_the_values_that_the_program_needs_are_no_error_and_no_variable_changes_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PULUMI_K8S_ENABLE_SERVER_SIDE_APPLY", "false")
    monkeypatch.setenv("PULUMI_K8S_ENABLE_PATCH_FORCE", "true")
    for given in ({}, {"enablePatchForce": "false", "enableServerSideApply": "true"}):
        found = arguments_of(**given)
        check_settings()
        assert found["enable_server_side_apply"] is True
        assert found["enable_patch_force"] is False


def test_a_kubeconfig_in_the_settings_is_a_secret_of_the_state() -> None:
    found = arguments_of(kubeconfig="apiVersion: v1")["kubeconfig"]
    assert isinstance(found, pulumi.Output)
