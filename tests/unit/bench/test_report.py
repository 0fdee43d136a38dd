"""What the bench writes: the ratio is that of the rounds, and the plot needs nothing from elsewhere."""

import re
from xml.etree import ElementTree

from bench import report, timeline
from bench.nodes import Cost
from bench.throughput import Load, Throughput, loads
from bench.timeline import Course, Step

LOAD = Load("2 x 50 MB", 2, 50_000_000)
ALONE, HERE = [1.0, 2.0, 4.0], [2.0, 2.5, 4.0]
SECONDS = {
    timeline.UP: 10.0,
    timeline.APPLY: 8.0,
    timeline.AGAIN: 3.0,
    timeline.PREVIEW: 3.1,
    timeline.DESTROY: 8.5,
    timeline.EMPTY: 5.0,
}
COURSE = Course(SECONDS, [Step("start", 0, 2), Step("ConfigMap short", 2, 2.1), Step("Deployment registry", 2.1, 9.5)])


def test_the_ratio_is_the_median_of_the_rounds_and_not_of_times_of_different_rounds() -> None:
    measured = [
        Throughput(way="nodePort", load=LOAD, direction=each, alone=ALONE, here=HERE) for each in ("push", "pull")
    ]
    assert measured[0].ratio == 0.8
    row = report.throughput_table(measured).splitlines()[-1]
    assert row == "| nodePort, 2 x 50 MB | 40 MB/s | 50 MB/s | 0.80 | 40 MB/s | 50 MB/s | 0.80 |"


def test_the_loads_are_those_that_have_a_goal_and_small_ones_on_demand() -> None:
    assert [(each.count, each.size) for each in loads(1)] == [(1, 2 * 10**9), (8, 256 * 10**6), (2000, 20_000)]
    assert [each.name for each in loads(1)] == ["1 x 2,000 MB", "8 x 256 MB", "2,000 x 20 kB"]
    assert all(each.count * each.size < 10**8 for each in loads(0.01))


def test_what_was_done_and_what_is_compared_with_it_are_in_the_table() -> None:
    lines = report.timeline_table({"volume": [COURSE], "memory": [COURSE, COURSE]}).splitlines()
    assert lines[0] == "|  | storage: volume | storage: memory |"
    assert lines[2] == "| first `up` | 10.0 s | 10.0 s |"
    assert lines[-2].endswith("| 2.0 s | 2.0 s |")
    assert lines[-1].endswith("| 3.5 s | 3.5 s |")


def test_the_plot_shows_the_long_steps_and_loads_nothing_from_elsewhere() -> None:
    text = report.plot(COURSE)
    shown = "".join(ElementTree.fromstring(text).itertext()).replace("\xa0", " ")  # noqa: S314 - it was made right here
    assert "Deployment registry" in shown
    assert "kubectl apply" in shown
    assert "short" not in shown
    assert set(re.findall(r"https?://[^\s\"')]+", text)) <= {"http://www.w3.org/2000/svg", "https://www.textualize.io"}
    assert "font-face" not in text
    assert text == report.plot(COURSE)


def test_the_round_in_the_middle_is_drawn() -> None:
    rounds = [Course({timeline.UP: seconds}) for seconds in (12.0, 9.0, 10.0)]
    assert report.typical(rounds) is rounds[2]


def test_what_an_agent_takes_is_said_for_each_number_of_stacks() -> None:
    costs = [Cost(stacks=1, agents=3, megabytes=19.04, millicores=0.514, wakeups=31.2)]
    row = report.agents_table(costs).splitlines()[-1]
    assert row == "| 1 | 3 | 19.0 MB | 0.51 millicores | 31 |"
