"""The time that a build has left is learned from the programs that were built."""

from hypothesis import given
from hypothesis import strategies as st

from local_cluster.build_times import SECONDS, Remaining
from local_cluster.programs import GROUPS


def test_every_name_of_the_table_is_one_of_a_program() -> None:
    names = {program.name for group in GROUPS.values() for program in group.programs}
    assert set(SECONDS) <= names


def test_a_machine_of_half_the_speed_takes_twice_as_long() -> None:
    remaining = Remaining(["kube", "traefik", "pulumi"])
    assert remaining.minutes() == 19
    remaining.built(2 * SECONDS["kube"])
    assert remaining.minutes() == -int(-2 * (SECONDS["traefik"] + SECONDS["pulumi"]) // 60)


def test_what_was_built_before_says_nothing_of_the_pace() -> None:
    remaining = Remaining(["kube", "traefik"])
    remaining.skipped()
    assert remaining.minutes() == 4


@given(st.lists(st.tuples(st.sampled_from([*SECONDS, "another"]), st.floats(0.1, 5000)), max_size=20))
def test_in_the_end_nothing_is_left_and_before_it_is_never_less_than_nothing(built: list[tuple[str, float]]) -> None:
    remaining = Remaining([name for name, _ in built])
    for _, seconds in built:
        assert remaining.minutes() >= 1
        remaining.built(seconds)
    assert remaining.minutes() == 0
