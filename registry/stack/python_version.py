"""Ends the program with one sentence where Python is too old for it; `__main__.py` imports this module first.

The rest of the program cannot be imported by an older Python, which would end in a traceback of its syntax or of a
missing module. This module is read by any Python 3.
"""

import sys

import pulumi

if sys.version_info < (3, 11):  # noqa: UP036 - the one line that an older Python has to reach
    raise pulumi.RunError(
        "This program needs Python 3.11 or newer, and its virtual environment .venv was made with Python %d.%d. Put a "
        "newer python3 first on PATH, remove the folder .venv, and run the command again." % sys.version_info[:2]
    )
