"""The OCI's conformance tests against the deployed registry: what distribution 3 does not do is known by name."""

import difflib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from .support.clients import EXPOSURES, SHARED, ClientMachine, registry_for_clients
from .support.cluster import Cluster
from .support.places import DATA

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

GAPS = DATA / "conformance_gaps.txt"
SUITE = "OCI Conformance Test/"
PASSED_AT_LEAST = 580
"""Test cases; guards against a suite that ran only in part."""


def known_gaps() -> list[str]:
    """The lines of the file that are no comments: status, number of test cases, name."""
    lines = GAPS.read_text().splitlines()
    return sorted(line for line in lines if line and not line.startswith("#"))


def gaps(report: Path) -> Iterator[str]:
    """The test cases of a JUnit report that did not pass, in the form of the file's lines."""
    cases = ElementTree.parse(report).getroot().iter("testcase")  # noqa: S314 - our own program wrote it
    found = Counter((case.get("status", ""), case.get("name", "").removeprefix(SUITE)) for case in cases)
    assert sum(count for (status, _), count in found.items() if status == "passed") >= PASSED_AT_LEAST
    return (f"{status} {count} {name}" for (status, name), count in found.items() if status != "passed")


def reasons(report: Path, name: str) -> Iterator[str]:
    """What a JUnit report says of the test cases of this name that did not pass, the requests included."""
    for case in ElementTree.parse(report).getroot().iter("testcase"):  # noqa: S314 - our own program wrote it
        if case.get("name") == f"{SUITE}{name}" and case.get("status") != "passed":
            yield f"{name}: {case.findtext('system-out')}\n{(case.findtext('system-err') or '')[-4000:]}"


@pytest.mark.parametrize("exposure", EXPOSURES)
def test_the_registry_conforms_but_for_the_known_gaps(cluster: Cluster, tmp_path: Path, exposure: str) -> None:
    with registry_for_clients(cluster, tmp_path, exposure) as deployed, ClientMachine(tmp_path, "clients") as machine:
        variables = {
            "OCI_REGISTRY": deployed.host,
            "OCI_RESULTS_DIR": str(SHARED / "results"),
            "OCI_USERNAME": deployed.outputs["username"],
            "OCI_PASSWORD": deployed.outputs["password"],
            "SSL_CERT_DIR": str(SHARED),
        }
        machine.sh("conformance", variables, check=False)
    report = tmp_path / "results" / "junit.xml"
    changes = [line for line in difflib.ndiff(known_gaps(), sorted(gaps(report))) if line[0] in "+-"]
    why = "\n".join(reason for line in changes for reason in reasons(report, line.split(" ", 3)[3]))
    assert changes == [], f"new failures (+) or closed gaps (-), and {GAPS.name} is to say what is so:\n{why}"
