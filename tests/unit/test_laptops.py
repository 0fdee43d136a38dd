"""The program starts on laptops that are not Linux: what only a node or a pod has is not imported there."""

import ast
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


def test_an_older_python_ends_the_program_with_one_sentence_before_anything_else_is_imported() -> None:
    tree = ast.parse((ROOT / "__main__.py").read_text())
    imported = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = [alias.name for node in imported[:2] if isinstance(node, ast.Import) for alias in node.names]
    assert names == ["pulumi", "registry.stack.python_version"]
    script = "import sys; sys.path.insert(0, sys.argv[1]); sys.version_info = (3, 10, 13); import " + names[1]
    done = subprocess.run([sys.executable, "-c", script, str(ROOT)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    sentence = "This program needs Python 3.11 or newer, and its virtual environment .venv was made with Python 3.10."
    assert sentence in done.stderr.splitlines()[-1]


def test_the_doctor_starts_without_pulumi() -> None:
    script = "import sys; sys.modules['pulumi'] = None; sys.path.insert(0, sys.argv[1]); import trust.doctor.__main__"
    subprocess.run([sys.executable, "-c", script, str(ROOT)], check=True, capture_output=True)
