"""A Deployment is rolled out when its controller has seen it and every pod is a new one and ready."""

import asyncio
from typing import cast

import pulumi
import pytest

from registry.cluster import Cluster, Object
from registry.waiting import is_rolled_out, rolled_out


def deployment(generation: int = 2, *, seen: int = 2, replicas: int = 1, updated: int = 1, ready: int = 1) -> Object:
    status = {"observedGeneration": seen, "replicas": replicas, "updatedReplicas": updated, "readyReplicas": ready}
    return {"metadata": {"generation": generation}, "spec": {"replicas": 1}, "status": status}


def test_all_pods_are_new_and_ready() -> None:
    assert is_rolled_out(deployment())


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(deployment(seen=1), id="the controller has not seen the update"),
        pytest.param(deployment(replicas=2), id="an old pod is there"),
        pytest.param(deployment(updated=0), id="no new pod"),
        pytest.param(deployment(ready=0), id="not ready"),
        pytest.param({}, id="cannot be read"),
    ],
)
def test_otherwise_it_is_waited_for(other: Object) -> None:
    assert not is_rolled_out(other)


class Answers:
    """A cluster that gives one answer after the other, the last one for ever."""

    def __init__(self, *answers: Object) -> None:
        self.left = list(answers)

    def read(self, group_version: str, plural: str, namespace: str, name: str) -> Object:
        assert (group_version, plural, namespace, name) == ("apps/v1", "deployments", "team", "registry")
        return self.left.pop(0) if len(self.left) > 1 else self.left[0]


def test_the_wait_ends_with_the_roll_out() -> None:
    answers = Answers(deployment(seen=1), deployment(updated=0), deployment())
    asyncio.run(rolled_out(cast(Cluster, answers), "team", "registry", "1m"))
    assert answers.left == [deployment()]


def test_the_wait_is_bounded_and_says_where_to_look() -> None:
    answers = Answers(deployment(ready=0))
    with pytest.raises(pulumi.RunError, match="within 1s .the setting readyTimeout.*describe pods -n team"):
        asyncio.run(rolled_out(cast(Cluster, answers), "team", "registry", "1s"))
