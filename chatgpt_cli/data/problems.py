"""Rows and files that cannot be used: collected, shown, counted."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from chatgpt_cli.errors import DataError

_SHOWN = 10
# How a place names a row of a file.
_ROW = re.compile(r":\d+$|, row \d+$")


@dataclass(frozen=True)
class Problem:
    """A row or file that was not used: where it is and why."""

    place: str
    reason: str
    # A few words that count alike problems together.
    kind: str
    # Where in the row, if one field is at fault.
    field: str | None = None


def left_out(counts: Counter[str]) -> list[str]:
    """A note of the rows that were left out and why, if there were any."""
    if not counts:
        return []
    reasons = ", ".join(f"{count:,} {kind}" for kind, count in counts.most_common())
    return [f"Left out: {counts.total():,} rows ({reasons})"]


def alike(problems: Iterable[Problem]) -> list[tuple[Problem, int]]:
    """The first of each fault in a file, and how many more rows of the file have the same."""
    counts: dict[tuple[str, str, str | None], list[Problem]] = {}
    for one in problems:
        file = _ROW.sub("", one.place)
        counts.setdefault((file, one.reason, one.field), []).append(one)
    return [(found[0], len(found) - 1) for found in counts.values()]


@dataclass
class ProblemLog:
    """Collects problems; with `on_error="stop"` ten of them, or the end, stop the work.

    Attributes:
        setting: the key that `on_error` comes from, if it is one; for the message.
    """

    on_error: Literal["stop", "skip"]
    setting: str | None
    counts: Counter[str] = field(default_factory=Counter)
    first: list[Problem] = field(default_factory=list)

    def add(self, problem: Problem) -> None:
        """Note a problem.

        Raises:
            DataError: at the tenth one, unless they are to be skipped.
        """
        self.counts[problem.kind] += 1
        if len(self.first) < _SHOWN:
            self.first.append(problem)
        if self.on_error == "stop" and len(self.first) == _SHOWN:
            self.check(more=True)

    def check(self, *, more: bool = False) -> None:
        """Raise DataError if there were problems that are not to be skipped."""
        if self.on_error == "skip" or not self.first:
            return
        lines = ""
        for one, others in alike(self.first):
            lines += f"\n  {one.place}: {one.reason}"
            lines += f"\n  … the same in {others} more rows of this file" if others else ""
        count = f"the first {len(self.first)}" if more else str(len(self.first))
        raise DataError(
            f"some of the data cannot be used ({count}):{lines}",
            remedy="Correct these."
            if self.setting is None
            else f"Correct these, or leave such rows out with --set {self.setting}=skip.",
        )
