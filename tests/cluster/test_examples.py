"""The examples for pull requests do what they say: their own lines run, each job in a checkout of its own."""

import json
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
REPOSITORY_ID = "812345678"
DOCKERFILE = "FROM scratch\nCOPY Dockerfile /\n"


@dataclass(kw_only=True)
class Runner:
    """What runs a job: the folder of its checkout, and the environment that its steps see."""

    cluster: Cluster
    folder: Path
    variables: dict[str, str] = field(default_factory=dict)

    def sh(self, script: str, *, cwd: Path | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a step's lines as GitLab's runner does, and GitHub's where `shell: bash` is set."""
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
    own["GITHUB_REPOSITORY_ID"] = REPOSITORY_ID
    return GithubRunner(cluster=cluster, folder=folder, variables={**secrets_of(cluster, state), **own})


def steps(workflow: str, job: str) -> dict[str, dict[str, Any]]:
    """The steps of a job that have lines to run, by their names."""
    read = yaml.safe_load((GITHUB / workflow).read_text())
    assert read["defaults"]["run"]["shell"] == "bash", "GitHub's runner has no pipefail without it"
    found = read["jobs"][job]["steps"]
    return {step["name"]: step for step in found if "run" in step}


def stacks(runner: Runner) -> str:
    return runner.sh("pulumi stack ls", cwd=runner.folder / "private-registry").stdout


def protected(stack: str) -> str:
    """The state of a stack that cannot be destroyed: it holds something protected."""
    root = f"urn:pulumi:{stack}::private-registry::pulumi:pulumi:Stack"
    top = {"urn": f"{root}::private-registry-{stack}", "type": "pulumi:pulumi:Stack", "custom": False}
    kept = {"urn": f"{root}$app:index:Kept::kept", "type": "app:index:Kept", "parent": top["urn"], "protect": True}
    manifest = {"time": "2026-01-01T00:00:00Z", "magic": "", "version": ""}
    return json.dumps(
        {"version": 3, "deployment": {"manifest": manifest, "resources": [top, {"custom": False, **kept}]}}
    )


def lock(state: Path, stack: str) -> None:
    """Leave the lock of a job whose runner was lost."""
    folder = state / ".pulumi" / "locks" / "organization" / "private-registry" / stack
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "0.json").write_text('{"pid":1,"username":"runner","hostname":"gone","timestamp":"2026-01-01T00:00:00Z"}')


def test_the_jobs_of_a_pull_request_make_use_and_destroy_a_registry_each_in_a_checkout_of_its_own(
    cluster: Cluster, tmp_path: Path
) -> None:
    up, down = steps("pull-request.yml", "up"), steps("pull-request.yml", "down")
    name = yaml.safe_load((GITHUB / "pull-request.yml").read_text())["env"]["STACK"]
    stack = name.replace("${{ github.repository_id }}", REPOSITORY_ID).replace("${{ github.event.number }}", "42")
    state = tmp_path / "state"
    first = github(cluster, tmp_path / "first", state, stack)
    by_docker = [up.pop(name) for name in ("Trust it and log in", "Build and push", "Log out and trust it no more")]
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
                (tmp_path / "step").write_text(step["run"])
                machine.sh(f"cd {folder}\nbash -eo pipefail {SHARED}/step", there)
                if step["name"] == "Build and push":
                    machine.sh(f"test -e /etc/docker/certs.d/{first.variables['REGISTRY']}/ca.crt")
                    assert first.variables["REGISTRY"] in machine.sh("cat .docker/config.json").stdout
            machine.sh(f"test ! -e /etc/docker/certs.d/{first.variables['REGISTRY']}")
            assert first.variables["REGISTRY"] not in machine.sh("cat .docker/config.json").stdout
        # The next push to the pull request: another runner, the same stack.
        again = github(cluster, tmp_path / "again", state, stack)
        for step in up.values():
            again.step(step)
        assert again.variables["REGISTRY"] == first.variables["REGISTRY"]
        # A night job that runs now leaves 42 alone, which is open, and another repository's 41.
        night = github(cluster, tmp_path / "night", state, "")
        reap = steps("nightly.yml", "reap")
        [listing] = [name for name in reap if name.startswith("List")]
        assert "gh pr list" in reap.pop(listing)["run"]
        night.variables["CLOSED"] = "39 40 41"
        program = night.folder / "private-registry"
        own = [f"{REPOSITORY_ID}-pr-{number}" for number in (39, 40, 41)]
        for made in [*own, "77-pr-41"]:
            night.sh(f"pulumi stack init {made}", cwd=program)
        (tmp_path / "protected.json").write_text(protected(own[0]))
        night.sh(f"pulumi stack import --force --stack {own[0]} --file {tmp_path}/protected.json", cwd=program)
        lock(state, own[1])
        *log_in, destroy = reap.values()
        for step in log_in:
            night.step(step)
        said = night.step(destroy, check=False)
        # The first cannot be destroyed, and the second is locked: the others are destroyed all the same.
        assert said.returncode == 1, said.stdout + said.stderr
        assert f"not destroyed: {own[0]}\n" in said.stderr
        left = stacks(night)
        assert {found for found in (*own, "77-pr-41", stack) if re.search(rf"^{found}\b", left, re.MULTILINE)} == {
            own[0], "77-pr-41", stack
        }  # fmt: skip
        # The pull request is closed. The job before it was killed, and has left a lock.
        last = github(cluster, tmp_path / "last", state, stack)
        lock(state, stack)
        for step in down.values():
            last.step(step)
        assert stack not in stacks(last)
        assert "NotFound" in cluster.run("kubectl", "get", "namespace", namespace.stdout.strip(), check=False).stderr
    finally:
        if stack in stacks(first):
            first.sh(f"pulumi cancel --yes --stack {stack} || true; pulumi destroy --yes --remove --stack {stack}",
                     cwd=first.folder / "private-registry")  # fmt: skip


def test_the_jobs_of_a_merge_request_do_so_as_well_in_a_folder_that_is_used_again(
    cluster: Cluster, tmp_path: Path
) -> None:
    jobs = yaml.safe_load((GITLAB / "registry.gitlab-ci.yml").read_text())
    # The job clones a release; this tree is one here.
    release = tmp_path / "release"
    release.mkdir()
    (checkout(release) / ".venv").unlink()
    git = "git -c user.name=test -c user.email=test@example.com"
    stack = jobs[".registry"]["variables"]["STACK"]
    stack = stack.replace("$CI_PROJECT_ID", "1234").replace("$CI_MERGE_REQUEST_IID", "7")
    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.copy(GITLAB / "registry.yaml", folder)
    own = {"STACK": stack, "PRIVATE_REGISTRY_REPOSITORY": f"file://{release}"}
    runner = Runner(cluster=cluster, folder=folder, variables={**secrets_of(cluster, tmp_path / "state"), **own})
    runner.sh(f"{git} init -q; git add -A; {git} commit -qm release; git tag v0.1.0", cwd=release)

    def job(name: str) -> None:
        runner.sh("\n".join(jobs[".registry"]["before_script"]))
        (folder / "private-registry" / ".venv").symlink_to(REPOSITORY / ".venv")
        runner.sh("\n".join(jobs[name]["script"]))

    job("registry up")
    try:
        url, ca = ((folder / name).read_text() for name in ("registry-url", "registry-ca.crt"))
        assert ".nip.io" in url
        assert ca.startswith("-----BEGIN CERTIFICATE-----")
    finally:
        job("registry down")
    assert stack not in stacks(runner)


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
