"""CONTRIBUTING.md's picture of the packages is what the code imports."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
_PACKAGES = sorted(path.parent.name for path in (ROOT / "chatgpt_cli").glob("*/__init__.py"))
# The one arrow against the others, which the text names.
_BACK = {("training", "evaluation")}


def _arrows() -> dict[str, set[str]]:
    """What each package may import, itself or by way of others."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    found: dict[str, set[str]] = {name: set() for name in _PACKAGES}
    for left, right in re.findall(r"^ +([\w &]+) --> ([\w &]+)$", text, re.MULTILINE):
        for one in left.split(" & "):
            found[one] |= set(right.split(" & "))
    for _ in found:
        for targets in found.values():
            targets |= {further for one in set(targets) for further in found[one]}
    return found


def _imports(package: str) -> set[str]:
    names = set()
    for path in (ROOT / "chatgpt_cli" / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("chatgpt_cli."):
                names.add(str(node.module).split(".")[1])
    return names & set(_PACKAGES) - {package}


@pytest.mark.parametrize("package", _PACKAGES)
def test_arrows_point_one_way(package: str) -> None:
    allowed = _arrows()[package] | {to for start, to in _BACK if start == package}
    assert _imports(package) <= allowed


def test_no_circle() -> None:
    for package, targets in _arrows().items():
        assert package not in targets
