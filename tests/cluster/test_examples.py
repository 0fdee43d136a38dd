"""The examples for pull requests do what they say: their own lines run, each job in a checkout of its own."""

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from local_cluster.paths import REPOSITORY

from .support.checkouts import checkout
from .support.clients import SHARED, ClientMachine
from .support.cluster import Cluster
from .support.commands import run
from .support.stacks import Stack

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

GITHUB = REPOSITORY / "examples" / "github-actions"
GITLAB = REPOSITORY / "examples" / "gitlab-ci"
DOCKERFILE = "FROM scratch\nCOPY Dockerfile /\n"


@dataclass(kw_only=True)
class Runner:
    """What runs a job: the folder of its checkout, and the environment that its steps see."""

    cluster: Cluster
    folder: Path
    variables: dict[str, str] = field(default_factory=dict)

    def sh(self, script: str, *, cwd: Path | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a step's lines as the runner does: with bash, which stops at the first that fails."""
        environment = {**self.cluster.environment, **self.variables}
        return run(["bash", "-eo", "pipefail", "-c", script], environment, cwd=cwd or self.folder, check=check)


def secrets_of(cluster: Cluster, state: Path) -> dict[str, str]:
    """The variables and secrets of the repository: where the state is kept, and the way to the cluster."""
    state.mkdir(exist_ok=True)
    return {
        "PULUMI_BACKEND_URL": f"file://{state}",
        "PULUMI_CONFIG_PASSPHRASE": "of the test",
        "KUBECONFIG_CONTENT": Path(cluster.environment["KUBECONFIG"]).read_text(),
    }


class GithubRunner(Runner):
    """A runner of GitHub Actions, of which the test needs: the steps' lines, their folder, and GITHUB_ENV."""

    def step(self, step: Mapping[str, Any], **where: Any) -> subprocess.CompletedProcess[str]:
        """Run one step, and read what it leaves for the next ones."""
        done = self.sh(step["run"], cwd=self.folder / step.get("working-directory", "."), **where)
        self.read_environment()
        return done

    def read_environment(self) -> None:
        """Take over what a step has written into GITHUB_ENV."""
        for line in Path(self.variables["GITHUB_ENV"]).read_text().splitlines():
            name, _, value = line.partition("=")
            self.variables[name] = value


def github(cluster: Cluster, folder: Path, state: Path, stack: str) -> GithubRunner:
    """A fresh runner with a checkout of the application, and one of this program in it."""
    folder.mkdir()
    shutil.copy(GITHUB / "registry.yaml", folder)
    (folder / "Dockerfile").write_text(DOCKERFILE)
    checkout(folder / "private-registry")
    (folder / "env").touch()
    own = {"STACK": stack, "GITHUB_ENV": str(folder / "env"), "RUNNER_TEMP": str(folder), "GITHUB_SHA": "0123abc"}
    return GithubRunner(cluster=cluster, folder=folder, variables={**secrets_of(cluster, state), **own})


def steps(workflow: str, job: str) -> dict[str, dict[str, Any]]:
    """The steps of a job that have lines to run, by their names."""
    found = yaml.safe_load((GITHUB / workflow).read_text())["jobs"][job]["steps"]
    return {step["name"]: step for step in found if "run" in step}


def stacks(runner: Runner) -> str:
    return runner.sh("pulumi stack ls", cwd=runner.folder / "private-registry").stdout


def test_the_jobs_of_a_pull_request_make_use_and_destroy_a_registry_each_in_a_checkout_of_its_own(
    cluster: Cluster, tmp_path: Path
) -> None:
    up, down = steps("pull-request.yml", "up"), steps("pull-request.yml", "down")
    first = github(cluster, tmp_path / "first", tmp_path / "state", "pr-42")
    by_docker = [up.pop("Trust it and log in"), up.pop("Build and push")]
    try:
        for step in up.values():
            first.step(step)
        namespace = first.sh('pulumi stack output --stack "$STACK" namespace', cwd=first.folder / "private-registry")
        # The runner has Docker; here a machine of its own has it, which sees the same files at another place.
        with ClientMachine(tmp_path) as machine:
            there = {name: value.replace(str(tmp_path), str(SHARED)) for name, value in first.variables.items()}
            machine.sh("dockerd --iptables=false --ip6tables=false --bridge none >dockerd.log 2>&1 &")
            machine.sh(
                "timeout 60 sh -c 'until docker info >/dev/null 2>&1; do sleep 0.2; done' || cat dockerd.log >&2"
            )
            for step in by_docker:
                folder = SHARED / "first" / step.get("working-directory", ".")
                machine.sh(f"cd {folder}\n{step['run']}", there)
        # The next push to the pull request: another runner, the same stack.
        again = github(cluster, tmp_path / "again", tmp_path / "state", "pr-42")
        for step in up.values():
            again.step(step)
        assert again.variables["REGISTRY"] == first.variables["REGISTRY"]
        # A night job that runs now finds the pull request open, and leaves its registry alone; 41 is closed.
        night = github(cluster, tmp_path / "night", tmp_path / "state", "")
        reap = steps("nightly.yml", "reap")
        assert "gh pr list" in reap.pop("List the open pull requests")["run"]
        night.variables["OPEN"] = "7 42"
        night.sh("pulumi stack init pr-41", cwd=night.folder / "private-registry")
        for step in reap.values():
            said = night.step(step)
        assert "pull request 41 is not open" in said.stdout
        assert re.search(r"^pr-42\b", stacks(night), re.MULTILINE)
        assert "pr-41" not in stacks(night)
        # The pull request is closed. The job before it was killed, and has left a lock.
        last = github(cluster, tmp_path / "last", tmp_path / "state", "pr-42")
        lock = tmp_path / "state" / ".pulumi" / "locks" / "organization" / "private-registry" / "pr-42"
        lock.mkdir(parents=True, exist_ok=True)
        (lock / "0.json").write_text(
            '{"pid":1,"username":"runner","hostname":"gone","timestamp":"2026-01-01T00:00:00Z"}'
        )
        for step in down.values():
            last.step(step)
        assert "pr-42" not in stacks(last)
        assert "NotFound" in cluster.run("kubectl", "get", "namespace", namespace.stdout.strip(), check=False).stderr
    finally:
        if "pr-42" in stacks(first):
            first.sh("pulumi cancel --yes --stack pr-42 || true; pulumi destroy --yes --remove --stack pr-42",
                     cwd=first.folder / "private-registry")  # fmt: skip


def test_the_jobs_of_a_merge_request_do_so_as_well(cluster: Cluster, tmp_path: Path) -> None:
    jobs = yaml.safe_load((GITLAB / "registry.gitlab-ci.yml").read_text())

    def runner(name: str) -> Runner:
        folder = tmp_path / name
        folder.mkdir()
        shutil.copy(GITLAB / "registry.yaml", folder)
        # The job clones a release; the test has this tree in its place.
        checkout(folder / "private-registry")
        variables = {**secrets_of(cluster, tmp_path / "state"), "STACK": "mr-7"}
        return Runner(cluster=cluster, folder=folder, variables=variables)

    up, down = runner("up"), runner("down")
    up.sh("\n".join(jobs["registry up"]["script"]))
    try:
        url, ca = ((up.folder / name).read_text() for name in ("registry-url", "registry-ca.crt"))
        assert ".nip.io" in url
        assert ca.startswith("-----BEGIN CERTIFICATE-----")
    finally:
        down.sh("\n".join(jobs["registry down"]["script"]))
    assert "mr-7" not in stacks(down)


def test_the_pytest_fixture_brings_a_registry_for_a_session(cluster: Cluster, tmp_path: Path) -> None:
    shutil.copytree(REPOSITORY / "examples" / "pytest", tmp_path / "tests")
    program = checkout(tmp_path / "program")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "tests"]
    environment = {**cluster.environment, **secrets_of(cluster, tmp_path / "state"), "PRIVATE_REGISTRY": str(program)}
    done = cluster.run("env", *(f"{k}={v}" for k, v in environment.items() if k != "KUBECONFIG_CONTENT"),
                       *command, check=False, cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_another_stack_reads_the_outputs(cluster: Cluster, tmp_path: Path) -> None:
    """The three lines of the docs, in a program of somebody else."""
    text = (REPOSITORY / "docs" / "pull-requests.md").read_text()
    [program] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "Pulumi.yaml").write_text("name: app\nruntime:\n  name: python\n  options:\n    virtualenv: .venv\n")
    (tmp_path / ".venv").symlink_to(REPOSITORY / ".venv")
    with Stack(environment=cluster.environment, settings={"storage": "memory", "storageSize": "1Gi"}) as stack:
        stack.up()
        (tmp_path / "__main__.py").write_text(program.replace("pr-42", stack.name))
        environment = {**cluster.environment, **secrets_of(cluster, tmp_path / "unused")}
        environment["PULUMI_BACKEND_URL"] = cluster.environment["PULUMI_BACKEND_URL"]
        try:
            for command in (["stack", "init", stack.name], ["up", "--yes", "--skip-preview"]):
                run(["pulumi", "--non-interactive", *command], environment, cwd=tmp_path)
            printed = run(["pulumi", "stack", "output", "image"], environment, cwd=tmp_path).stdout
            assert printed.strip() == f"{stack.outputs()['registryUrl']}/team/app:1"
        finally:
            run(["pulumi", "destroy", "--yes", "--remove"], environment, cwd=tmp_path)
