"""What can be said of the examples for pull requests without a cluster; `tests/cluster/test_examples.py` runs them."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
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


PULUMI = """\
# Stands for the Pulumi CLI: it keeps the lock of a stack as that does, and writes down what it was asked for.
import os, signal, sys, time
lock = "lock"
done = lambda what: open("log", "a").write(what + "\\n")
words = [word for word in sys.argv[1:] if not word.startswith("-")]
command = " ".join(words[:2]) if words[0] in ("stack", "config") else words[0]
if command == "version":
    print("v3.272.0")
elif command == "up":
    def interrupted(*_):
        print("^C received; cancelling", flush=True)
        if os.environ["ENDS"] == "killed":
            os._exit(1)
        for _ in range(10):  # what a provider takes to end what it has begun
            time.sleep(0.1)
            print("creating", flush=True)
        done("up ended")
        os.remove(lock)
        os._exit(1)
    signal.signal(signal.SIGINT, interrupted)
    open(lock, "w").close()
    done("up")
    while True:
        time.sleep(60)
elif command == "destroy":
    if os.path.exists(lock):
        done("destroy refused")
        sys.exit("error: the stack is currently locked by 1 lock(s)")
    done("destroy")
elif command == "cancel":
    done("cancel")
    os.remove(lock)
elif command == "stack rm":
    done("stack rm")
elif command == "stack history":
    print('[{"kind": "destroy", "startTime": "2026-01-01T00:00:00.000Z", "message": "", "environment": {},')
    print('  "config": {}, "result": "succeeded"}]')
"""


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("ends", "after"),
    [
        ("by itself", ["up ended", "destroy", "stack rm"]),
        ("killed", ["destroy refused", "cancel", "destroy", "stack rm"]),
    ],
)
def test_control_c_while_the_session_of_tests_brings_its_registry_up_leaves_nothing(
    ends: str, after: list[str], tmp_path: Path
) -> None:
    shutil.copytree(EXAMPLES / "pytest", tmp_path / "tests")
    (tmp_path / "Pulumi.yaml").write_text("name: private-registry\nruntime: python\n")
    (tmp_path / "pulumi").write_text(f"#!{sys.executable} -S\n{PULUMI}")
    (tmp_path / "pulumi").chmod(0o755)
    log = tmp_path / "log"
    log.touch()
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "tests"]
    path = f"{tmp_path}:{os.environ['PATH']}"
    session = subprocess.Popen(
        command, cwd=tmp_path, env={**os.environ, "PATH": path, "PRIVATE_REGISTRY": str(tmp_path), "ENDS": ends},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        wait_until(lambda: log.read_text() == "up\n" or session.poll() is not None, "pulumi up runs")
        os.killpg(session.pid, signal.SIGINT)  # as a terminal does
        said, _ = session.communicate(timeout=60)
    finally:
        if session.poll() is None:
            os.killpg(session.pid, signal.SIGKILL)
            session.communicate()
    assert log.read_text().splitlines() == ["up", *after], said
    assert session.returncode == pytest.ExitCode.INTERRUPTED
