"""What the API server says of itself is added up by label, and the table has a column for each number of nodes."""

from bench import report, scale
from bench.scale import Looks, Sample, Scale, node, total
from trust.doctor.judge import is_counted

METRICS = """\
# HELP apiserver_request_total Counter of requests.
# TYPE apiserver_request_total counter
apiserver_request_total{code="200",resource="pods",subresource="",verb="LIST"} 7
apiserver_request_total{code="200",resource="pods",subresource="log",verb="GET"} 1.2e+03
apiserver_request_total{code="500",resource="pods",subresource="log",verb="GET"} 3
apiserver_request_total_other{code="200",subresource="log"} 1000
apiserver_flowcontrol_dispatched_requests_total{flow_schema="bench-1",priority_level="global-default"} 5
apiserver_flowcontrol_dispatched_requests_total{flow_schema="bench-12",priority_level="global-default"} 50
"""


def test_a_counter_is_added_up_over_all_labels_but_those_that_are_asked_for() -> None:
    assert total(METRICS, "apiserver_request_total") == 1210
    assert total(METRICS, "apiserver_request_total", subresource="log") == 1203
    assert total(METRICS, "apiserver_request_total", subresource="log", code="500") == 3
    assert total(METRICS, "apiserver_flowcontrol_dispatched_requests_total", flow_schema="bench-1") == 5
    assert total(METRICS, "apiserver_request_duration", verb="LIST") == 0


def test_what_was_done_meanwhile_is_the_difference() -> None:
    assert Sample(110.0, 30, 1000, 8.5).since(Sample(100.0, 10, 400, 6.0)) == Sample(10.0, 20, 600, 2.5)


def test_a_simulated_node_counts_as_a_machine_and_keeps_other_pods_away() -> None:
    made = node(7)
    assert made["metadata"]["name"] == "simulated-0007"
    assert is_counted(made)
    assert [taint["effect"] for taint in made["spec"]["taints"]] == ["NoSchedule"]


def test_the_table_has_a_column_for_each_number_of_nodes() -> None:
    def measured(nodes: int) -> Scale:
        return Scale(
            nodes=nodes,
            seconds=dict.fromkeys((scale.FIRST, scale.SECOND, scale.ROTATION, scale.DESTROY), nodes / 10),
            wait=Sample(10.0, 5.0 * nodes, 20.0 * nodes, 8.0),
            rest=Sample(30.0, 0, 300.0, 3.0),
            first=Looks(seconds=2.0, requests=5 + nodes, sizes={}, processor=1.5),
            further=Looks(seconds=0.5, requests=5, sizes={"pods": 9000 * nodes}, processor=0.25),
        )

    lines = report.scale_table([measured(3), measured(1003)]).splitlines()
    assert lines[0] == "|  | 3 nodes | 1,003 nodes |"
    assert "| first `up` | 0.3 s | 100.3 s |" in lines
    assert "| requests of the program meanwhile | 1.5 a second | 501.5 a second |" in lines
    assert "| API server meanwhile | 0.80 cores | 0.80 cores |" in lines
    assert "| API server at rest | 0.10 cores | 0.10 cores |" in lines
    assert "| bytes of the list of the namespace's pods, before compression | 27,000 | 9,027,000 |" in lines
    assert "| bytes of the list of all nodes, before compression | 0 | 0 |" in lines
