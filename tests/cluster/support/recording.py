"""A recorded run: the commands that the README gives, and what they print, as a picture of a terminal.

`make recording` writes the picture, and a test compares it with what it records itself. What differs from run to run is
replaced: ids and addresses by those of an example, digests and durations by an ellipsis; and the nodes, which are
proved in any order, get one line. A picture has to fit on a screen, so most lines are left out: each gap is
an ellipsis.
"""

import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from rich.text import Text

from local_cluster import cluster as local_cluster
from local_cluster import demo
from local_cluster.paths import REPOSITORY

from .checkouts import checkout
from .cluster import Cluster, running_cluster
from .commands import run
from .pictures import picture, terminal

PICTURE = REPOSITORY / "docs" / "terminal.svg"
TITLE = "Recorded by a test on the local cluster. … is what was left out; ids and addresses are examples."
ARCHIVE = "# app.tar is the archive of an image"
"""What stands in the picture for the one command that is not run: the local cluster's machine may have no Docker."""

_PROVED = r"    (\S.*): proved, (\d+ of \d+)"
SHOWN = (
    r"Updating \(.*|Destroying \(.*",
    _PROVED,
    r"Outputs:|    (namespace|password|registryUrl) *: .*",
    r"Resources:|    [+-] \d+ (created|deleted)|Duration: .*",
    r"\S+@sha256:.*",
    r"pod/.*",
    r"Stack '.*' has been removed!|Created stack '.*'",
)
"""The lines of what is printed that the picture has."""

_REPLACED = {
    r"(registry-pr-42-)[a-z0-9]{6}\b": r"\1gkwvpn",
    r"\b\d+-\d+-\d+-\d+\.nip\.io": "10-99-0-200.nip.io",
    r"sha256:[0-9a-f]{64}": "sha256:…",
    r"Duration: .*": "Duration: …",
}
SECONDS = 500
"""How long all commands may take; on two processors of which nobody else wants much, they take two minutes."""
_STEP = "\x1e"
"""What separates the output of two commands."""


def commands(readme: str) -> list[str]:
    """The README's commands from `pulumi stack init` to `pulumi stack rm`, without their comments."""
    found = [re.split(r"\s+# ", line)[0] for line in re.findall(r"^\$ (.*)", readme, re.MULTILINE)]
    start, end = found.index("pulumi stack init pr-42"), found.index("kubectl wait --for=condition=Ready pod/app")
    [destroy] = [command for command in found if command.startswith("pulumi destroy")]
    return [*found[start : end + 1], destroy]


def is_run(command: str) -> bool:
    """Whether the command is run. The image's archive is made from files instead."""
    return not command.startswith("docker save")


def record(cluster: Cluster) -> list[tuple[str, str]]:
    """Run the commands in a shell; each with what it has printed.

    Raises:
        AssertionError: one of them failed, or has printed the password.
    """
    given = commands((REPOSITORY / "README.md").read_text())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = checkout(folder / "private-registry")
        (folder / "image").mkdir()
        shutil.copy(demo.app_image(folder / "image", "sleep", "1000000"), program)
        (folder / "state").mkdir()
        own = {"HOME": name, "PULUMI_BACKEND_URL": f"file://{folder / 'state'}"}
        environment = {**cluster.environment, **own}
        for variable in ("DOCKER_CONFIG", "XDG_CONFIG_HOME", "SSL_CERT_FILE", "SSL_CERT_DIR"):
            environment.pop(variable, None)
        before, after = given[:-1], given[-1]
        script = "".join(f"printf '{_STEP}'\n{command}\n" for command in before if is_run(command))
        script += f"pulumi stack output --show-secrets password >{folder}/password\nprintf '{_STEP}'\n{after}\n"
        try:
            shell = ["bash", "-eo", "pipefail", "-c", f"exec 2>&1\n{script}"]
            done = run(shell, environment, cwd=program, timeout=SECONDS)
        finally:
            _remove(environment, program)
        password = (folder / "password").read_text().strip()
    assert len(password) > 30
    assert password not in done.stdout
    printed = iter(done.stdout.split(_STEP)[1:])
    return [(command, next(printed)) if is_run(command) else (ARCHIVE, "") for command in given]


def _remove(environment: Mapping[str, str], program: Path) -> None:
    """Remove what the commands have left: the pod always, the stack if one of them failed."""
    run(["kubectl", "delete", "pod", "app", "--ignore-not-found", "--now"], environment, timeout=120)
    if "pr-42" in run(["pulumi", "stack", "ls"], environment, cwd=program).stdout:
        run(["pulumi", "destroy", "--yes", "--remove", "--stack", "pr-42"], environment, cwd=program)


def shown(printed: str) -> list[str]:
    """The lines of a command's output that the picture has; an ellipsis is where others were."""
    lines: list[str] = []
    for line in _together(printed.splitlines()):
        if re.match(r"Updating \(|Destroying \(", line):
            lines = ["…"]  # instead of the preview
        if any(re.fullmatch(pattern, line) for pattern in SHOWN):
            lines.append(line)
        elif line.strip() and lines[-1:] != ["…"]:
            lines.append("…")
    text = "\n".join(lines)
    for pattern, replacement in _REPLACED.items():
        text = re.sub(pattern, replacement, text)
    return text.splitlines()


def _together(lines: list[str]) -> list[str]:
    """The lines with one instead of all that say which nodes are proved: at the place of the last one."""
    found = {index: match for index, line in enumerate(lines) if (match := re.fullmatch(_PROVED, line))}
    if not found:
        return lines
    nodes = sorted(node for match in found.values() for node in match[1].split(", "))
    last = max(found)
    lines[last] = f"    {', '.join(nodes)}: proved, {found[last][2]}"
    return [line for index, line in enumerate(lines) if index == last or index not in found]


def drawn(recorded: list[tuple[str, str]]) -> str:
    """The picture of a terminal in which the commands were run."""
    console = terminal(110)
    for command, printed in recorded:
        line = Text(command, "dim") if command == ARCHIVE else Text.assemble(("$ ", "bold green"), (command, "bold"))
        console.print(line, soft_wrap=True)
        for output in shown(printed):
            console.print(Text(output, "dim" if output == "…" else ""), soft_wrap=True)
    return picture(console, TITLE, "terminal")


if __name__ == "__main__":
    local_cluster.up()
    PICTURE.write_text(drawn(record(running_cluster())))
