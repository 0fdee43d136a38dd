"""What can be said of the examples for pull requests without a cluster; `tests/cluster/test_examples.py` runs them."""

import json
import re
import shutil
import subprocess
import time
from typing import Any

import pytest
import yaml

from tests.unit.support.settings import ROOT

EXAMPLES = ROOT / "examples"
WORKFLOWS = {
    name: yaml.safe_load((EXAMPLES / "github-actions" / name).read_text())
    for name in ("pull-request.yml", "nightly.yml")
}
GITLAB = yaml.safe_load((EXAMPLES / "gitlab-ci" / "registry.gitlab-ci.yml").read_text())


def steps(workflow: str, job: str) -> dict[str, dict[str, Any]]:
    return {step["name"]: step for step in WORKFLOWS[workflow]["jobs"][job]["steps"] if "run" in step}


def test_the_stacks_of_two_repositories_in_one_backend_have_different_names() -> None:
    assert WORKFLOWS["pull-request.yml"]["env"]["STACK"] == "${{ github.repository_id }}-pr-${{ github.event.number }}"
    assert '${stack#"$GITHUB_REPOSITORY_ID-pr-"}' in steps("nightly.yml", "reap")["Destroy their registries"]["run"]
    assert GITLAB[".registry"]["variables"]["STACK"] == "$CI_PROJECT_ID-mr-$CI_MERGE_REQUEST_IID"


def test_the_workflows_may_do_what_they_do_and_no_more_and_fail_with_the_first_part_of_a_pipe() -> None:
    assert WORKFLOWS["pull-request.yml"]["permissions"] == {"contents": "read"}
    assert WORKFLOWS["nightly.yml"]["permissions"] == {"contents": "read", "pull-requests": "read"}
    assert all(workflow["defaults"] == {"run": {"shell": "bash"}} for workflow in WORKFLOWS.values())


def test_pull_requests_whose_jobs_get_no_secrets_have_no_jobs() -> None:
    for job in WORKFLOWS["pull-request.yml"]["jobs"].values():
        assert "github.event.pull_request.head.repo.full_name == github.repository" in job["if"]
        assert "github.actor != 'dependabot[bot]'" in job["if"]
    for name in "registry up", "registry down":
        [rule] = GITLAB[name]["rules"]
        assert "$CI_MERGE_REQUEST_SOURCE_PROJECT_ID == $CI_MERGE_REQUEST_PROJECT_ID" in rule["if"]


@pytest.mark.parametrize(
    "lines",
    [
        steps("pull-request.yml", "up")["Bring the registry up"]["run"],
        "\n".join(GITLAB["registry up"]["script"]),
    ],
    ids=["GitHub", "GitLab"],
)
@pytest.mark.parametrize("given", [{}, {"PULUMI_CONFIG_PASSPHRASE": "", "PULUMI_ACCESS_TOKEN": ""}])
def test_without_a_passphrase_nothing_is_brought_up(lines: str, given: dict[str, str]) -> None:
    bash = shutil.which("bash") or "bash"
    done = subprocess.run(
        [bash, "-eo", "pipefail", "-c", lines],
        env={"PATH": "/nowhere", **given},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch("the (secret|variable) PULUMI_CONFIG_PASSPHRASE is missing or empty\n", done.stderr)


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed, whose language gh's --jq has")
def test_a_pull_request_counts_as_closed_an_hour_after_it_was() -> None:
    [listing] = [step["run"] for name, step in steps("nightly.yml", "reap").items() if name.startswith("List")]
    expression = re.search("--jq '(.*)'", listing)
    assert expression
    now = time.time()
    ages = {1: 0, 2: 3000, 3: 4000, 4: 10**7}
    found = [
        {"number": number, "closedAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now - age))}
        for number, age in ages.items()
    ]
    done = subprocess.run(["jq", expression[1]], input=json.dumps(found), capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["3", "4"]
