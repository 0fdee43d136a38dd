"""The OCI's conformance tests against the deployed registry: what distribution 3 does not do is known by name.

Every way in is tried with passwords for pushes, the default. Every mode of passwords is tried at a load balancer, where
nothing but our pod answers. What a way in does to a request does not depend on the mode: nginx in the pod asks for the
password, with the same configuration for each. So not every pair is tried.
"""

import difflib
import json
import re
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from xml.etree import ElementTree

import pytest

from .support.clients import SHARED, ClientMachine, registry_for_clients
from .support.cluster import Cluster
from .support.places import DATA
from .support.stacks import Deployed

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

GAPS = DATA / "conformance_gaps.txt"
SUITE = "OCI Conformance Test/"
PASSED_AT_LEAST = 580
"""Test cases; guards against a suite that ran only in part."""
PAIRS = (
    ("ingress", "push"),
    ("loadBalancer", "none"),
    ("loadBalancer", "push"),
    ("loadBalancer", "basic"),
    ("nodePort", "push"),
    ("gateway", "push"),
)
"""Values of the settings `exposure` and `auth`."""


def known_gaps() -> list[str]:
    """The lines of the file that are no comments: status, number of test cases, name."""
    lines = GAPS.read_text().splitlines()
    return sorted(line for line in lines if line and not line.startswith("#"))


def cases(report: Path) -> Counter[tuple[str, str]]:
    """How many test cases of a JUnit report have each status and name."""
    found = ElementTree.parse(report).getroot().iter("testcase")  # noqa: S314 - our own program wrote it
    return Counter((case.get("status", ""), case.get("name", "").removeprefix(SUITE)) for case in found)


def gaps(report: Path) -> Iterator[str]:
    """The test cases of a JUnit report that did not pass, in the form of the file's lines."""
    found = cases(report)
    assert sum(count for (status, _), count in found.items() if status == "passed") >= PASSED_AT_LEAST
    return (f"{status} {count} {name}" for (status, name), count in found.items() if status != "passed")


def reasons(report: Path, name: str) -> Iterator[str]:
    """What a JUnit report says of the test cases of this name that did not pass, the requests included."""
    for case in ElementTree.parse(report).getroot().iter("testcase"):  # noqa: S314 - our own program wrote it
        if case.get("name") == f"{SUITE}{name}" and case.get("status") != "passed":
            yield f"{name}: {case.findtext('system-out')}\n{(case.findtext('system-err') or '')[-4000:]}"


def conform(
    machine: ClientMachine, deployed: Deployed, variables: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run the tests on a machine that trusts the CA; what they print. Their report is in the folder `results`."""
    known = {
        "OCI_REGISTRY": deployed.host,
        "OCI_RESULTS_DIR": str(SHARED / "results"),
        "SSL_CERT_DIR": str(SHARED),
    }
    return machine.sh("conformance", {**known, **variables}, check=False)


def login(deployed: Deployed) -> dict[str, str]:
    """The login for pushes, in the variables of the tests; none where there is none."""
    names = {"OCI_USERNAME": "username", "OCI_PASSWORD": "password"}
    return {variable: deployed.outputs[output] for variable, output in names.items() if output in deployed.outputs}


@pytest.mark.parametrize(("exposure", "auth"), PAIRS)
def test_the_registry_conforms_but_for_the_known_gaps(
    request: pytest.FixtureRequest, cluster: Cluster, tmp_path: Path, exposure: str, auth: str
) -> None:
    if exposure == "gateway":
        request.getfixturevalue("gateway_controller")
    with (
        registry_for_clients(cluster, tmp_path, exposure, {"auth": auth}) as deployed,
        ClientMachine(tmp_path, "clients") as machine,
    ):
        known = login(deployed)
        assert bool(known) == (auth != "none")
        conform(machine, deployed, known)
    report = tmp_path / "results" / "junit.xml"
    changes = [line for line in difflib.ndiff(known_gaps(), sorted(gaps(report))) if line[0] in "+-"]
    why = "\n".join(reason for line in changes for reason in reasons(report, line.split(" ", 3)[3]))
    assert changes == [], f"new failures (+) or closed gaps (-), and {GAPS.name} is to say what is so:\n{why}"


@pytest.mark.parametrize("auth", ["push", "basic"])
def test_who_has_no_login_gets_all_of_the_protocol_that_is_for_pulls_in_the_mode_push_alone(
    cluster: Cluster, tmp_path: Path, app_image: Path, auth: str
) -> None:
    with (
        registry_for_clients(cluster, tmp_path, "loadBalancer", {"auth": auth}) as deployed,
        ClientMachine(tmp_path, "clients") as machine,
    ):
        image = f"{deployed.host}/conformance/repo1:1"  # where the tests look by default
        deployed.crane("push", app_image, image)
        manifest = json.loads(deployed.crane("manifest", image))
        readable = {
            "OCI_API_PUSH": "false",
            "OCI_API_BLOBS_DELETE": "false",
            "OCI_API_MANIFESTS_DELETE": "false",
            "OCI_API_TAGS_DELETE": "false",
            "OCI_API_REFERRER": "false",
            "OCI_RO_DATA_TAGS": "1",
            "OCI_RO_DATA_MANIFESTS": deployed.crane("digest", image).strip(),
            "OCI_RO_DATA_BLOBS": " ".join(blob["digest"] for blob in (manifest["config"], *manifest["layers"])),
        }
        # With what is only read, the tests print their result, and then fail to write it to a file (2026-08).
        printed = conform(machine, deployed, readable).stdout
    results = dict(re.findall(r"^  ([A-Z][^.:]*)\.*: +(\w+)$", printed.partition("API conformance:")[2], re.MULTILINE))
    passed = {name for name, result in results.items() if result == "Pass"}
    failed = {name for name, result in results.items() if result == "FAIL"}
    pulls = {"Tag listing", "Blob get", "Blob head"}
    pulls |= {f"Manifest {method} by {name}" for method in ("get", "head") for name in ("digest", "tag")}
    if auth == "push":
        assert passed >= {*pulls, "Ping"}, printed
        assert not failed, printed
    else:
        assert failed >= pulls, printed
