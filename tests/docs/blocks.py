"""The blocks of the documentation: which there are, what is in them, whether they run.

A comment right before a block says what is special about it:

    <!-- not run: REASON -->     its commands are read, not run
    <!-- file: NAME -->          its content is the file NAME for the commands after it
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
_FENCE = re.compile(r"^(?P<indent>\s*)```(?P<language>\w*)\s*$")
_MARK = re.compile(r"^\s*<!-- (?P<kind>not run|file): (?P<text>.+?) -->\s*$")


@dataclass(frozen=True)
class Block:
    """A code block: its file and first line, its language, its lines, and its mark."""

    page: Path
    line: int
    language: str
    text: str
    not_run: str | None = None
    file: str | None = None

    @property
    def place(self) -> str:
        """Where it is, for messages."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    def commands(self) -> list[list[str]]:
        """The arguments of each `chatgpt` command in it."""
        joined = self.text.replace("\\\n", " ")
        lines = [line.strip().removeprefix("$ ") for line in joined.splitlines()]
        return [
            _arguments(line) for line in lines if line.startswith("chatgpt ") and "→" not in line
        ]


def _arguments(line: str) -> list[str]:
    """A command line's arguments; a comment begins with # after a blank."""
    for separator in (" | ", " > ", " >> ", " && "):
        line = line.partition(separator)[0]
    # Variables are numbers in these pages, but for keys, which can be anything.
    line = re.sub(r"\$\{?\w+\}?", "1", line)
    return shlex.split(line, comments=True)[1:]


def pages() -> list[Path]:
    """Every page of the documentation that people write."""
    own = [ROOT / name for name in ("README.md", "README.zh-CN.md", "CONTRIBUTING.md")]
    guides = [path for path in (ROOT / "docs").rglob("*.md") if "reference" not in path.parts]
    return [path for path in own if path.exists()] + sorted(guides)


def blocks(page: Path) -> list[Block]:
    """The fenced and indented blocks of a page."""
    found: list[Block] = []
    lines = page.read_text(encoding="utf-8").splitlines()
    at, marks = 0, {}
    while at < len(lines):
        fence, mark = _FENCE.match(lines[at]), _MARK.match(lines[at])
        start = at
        if mark:
            marks = {mark["kind"].replace(" ", "_"): mark["text"]}
        elif fence:
            at += 1
            body = []
            while lines[at].strip() != "```":
                body.append(lines[at].removeprefix(fence["indent"]))
                at += 1
            text = "\n".join(body)
            found.append(Block(page, start + 1, fence["language"], text, **marks))
            marks = {}
        elif lines[at].startswith("    ") and (at == 0 or not lines[at - 1].strip()):
            body = []
            while at < len(lines) and (lines[at].startswith("    ") or not lines[at].strip()):
                body.append(lines[at][4:])
                at += 1
            found.append(Block(page, start + 1, "", "\n".join(body), **marks))
            marks = {}
            continue
        elif lines[at].strip():
            marks = {}
        at += 1
    return found
