"""The program starts on laptops that are not Linux: what only a node or a pod has is not imported there."""

import subprocess
import sys

from tests.unit.support.settings import ROOT

SCRIPT = """
import ast, importlib, signal, sys
for name in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules[name] = None
for name in ("SIGCHLD", "SIGHUP", "SIGKILL"):
    delattr(signal, name)
sys.path.insert(0, sys.argv[1])
tree = ast.parse(open(f"{sys.argv[1]}/__main__.py").read())
found = [node.module for node in tree.body if isinstance(node, ast.ImportFrom)]
for name in found:
    importlib.import_module(name)
print(len(found))
"""


def test_every_module_that_the_program_imports_starts_where_windows_lacks_modules_of_unix() -> None:
    command = [sys.executable, "-c", SCRIPT, str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10


def test_the_doctor_starts_without_pulumi() -> None:
    script = "import sys; sys.modules['pulumi'] = None; sys.path.insert(0, sys.argv[1]); import trust.doctor.__main__"
    subprocess.run([sys.executable, "-c", script, str(ROOT)], check=True, capture_output=True)
