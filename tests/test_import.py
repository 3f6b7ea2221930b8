"""The package is light to import: what is heavy is loaded when it is needed."""

from __future__ import annotations

import subprocess
import sys


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = (
        "import sys; before = set(sys.modules); import chatgpt_cli; "
        "new = set(sys.modules) - before; "
        "assert new <= {'chatgpt_cli', '__future__'}, new"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
