"""Showing results: rich on a terminal, plain lines when piped, one object with --json."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table

from chatgpt_cli.language import translator
from chatgpt_cli.ranks import this_rank

# A piped progress display writes a line when this much more is done, or after this time.
_PLAIN_STEP = 0.1
_PLAIN_SECONDS = 30.0


class _Console(Console):
    """Leaves it to the command what happens when nobody reads its output any more."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


class Output:
    """Where a command writes. With `json_output`, all but the JSON goes to stderr.

    It is given English, and writes the language that was chosen. Of several processes at
    one task the first one speaks for all.
    """

    def __init__(self, *, json_output: bool = False) -> None:
        self._json = json_output
        self._silent = not this_rank().is_first
        # What a part of a message is called in the chosen language.
        self.words = translator()
        # Piped text is not broken into lines of 80 characters.
        stream = sys.stderr if json_output else sys.stdout
        width = None if stream.isatty() else 200
        self.console = _Console(
            stderr=json_output, highlight=False, width=width, soft_wrap=True, quiet=self._silent
        )

    def line(self, text: str = "") -> None:
        """A plain line."""
        self.console.print(escape(self.words(text)))

    def success(self, text: str) -> None:
        """A line that says something is done."""
        self.console.print(f"[green]✓[/green] {escape(self.words(text))}")

    def warn(self, text: str) -> None:
        """A line that the user should not miss."""
        self.console.print(f"[yellow]![/yellow] {escape(self.words(text))}")

    def table(
        self,
        title: str,
        columns: Sequence[str],
        rows: Sequence[Sequence[object]],
        *,
        worded: Collection[str] = (),
        names: Collection[str] = (),
    ) -> None:
        """A table; numbers are aligned to the right.

        Args:
            title: stands above it.
            columns: their names.
            rows: a cell for each column.
            worded: the columns whose cells are words to be translated; others hold data.
            names: columns that are called by data, such as a run.
        """
        table = Table(title=escape(self.words(title)), title_justify="left", title_style="bold")
        for index, name in enumerate(columns):
            numeric = bool(rows) and all(_is_number(row[index]) for row in rows)
            shown = name if name in names else self.words(name)
            table.add_column(escape(shown), justify="right" if numeric else "left")
        for row in rows:
            cells = (
                self.words(str(cell)) if name in worded else str(cell)
                for name, cell in zip(columns, row, strict=True)
            )
            table.add_row(*map(escape, cells))
        self.console.print(table)

    def json(self, value: Any) -> None:
        """One JSON value on stdout."""
        if self._silent:
            return
        sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
        sys.stdout.flush()

    def alarm(self, text: str) -> None:
        """Said by a process that is about to end, whichever of several it is."""
        print(self.words(f"Error: {self.words(text)}"), file=sys.stderr, flush=True)

    def next_step(self, text: str) -> None:
        """The closing line: where the result is and what to run next."""
        self.console.print(f"[bold]→[/bold] {escape(self.words(text))}")

    @contextmanager
    def progress(self, description: str, total: float) -> Iterator[ProgressDisplay]:
        """Show how far the work is; `total` is in any unit."""
        display = (
            _Bar(self, description, total)
            if self.console.is_terminal
            else ProgressDisplay(self, description, total)
        )
        try:
            yield display
        finally:
            display.close()


class ProgressDisplay:
    """Progress as sparse plain lines."""

    def __init__(self, output: Output, description: str, total: float) -> None:
        self._output = output
        self._description = description
        self._total = total
        self._shown = 0.0
        self._when = time.monotonic()

    def update(self, done: float, status: str = "") -> None:
        """`done` of the total, and a few words on how it goes."""
        share = done / self._total if self._total else 1.0
        now = time.monotonic()
        if share - self._shown < _PLAIN_STEP and now - self._when < _PLAIN_SECONDS and share < 1:
            return
        if share > self._shown:
            said = self._output.words(status)
            self._output.line(f"{self._description} {share:4.0%}  {said}".rstrip())
        self._shown, self._when = share, now

    def close(self) -> None:
        """End the display."""


class _Bar(ProgressDisplay):
    """Progress as a bar at the bottom of the terminal."""

    def __init__(self, output: Output, description: str, total: float) -> None:
        self._words = output.words
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[status]}"),
            console=output.console,
            transient=True,
        )
        self._task: TaskID = self._bar.add_task(escape(description), total=total, status="")
        self._bar.start()

    def update(self, done: float, status: str = "") -> None:
        self._bar.update(self._task, completed=done, status=escape(self._words(status)))

    def close(self) -> None:
        self._bar.stop()


def _is_number(cell: object) -> bool:
    text = str(cell).strip().rstrip("%").replace(",", "").lstrip("+-")
    return text in ("", "–") or text.replace(".", "", 1).isdigit()
