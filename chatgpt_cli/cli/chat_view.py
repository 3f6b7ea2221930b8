"""How an answer is shown: Markdown on a terminal, the bare text where it is piped on."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterable

from rich.console import Console
from rich.live import Live
from rich.markdown import Markdown

# All that moves the cursor, rings, or begins a sequence for the terminal; and the marks
# that make text read in another order than it stands in.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
# Drawing takes longer than writing a token: not more often than this, in seconds.
_REDRAW = 0.05
_FENCE = re.compile(r" {0,3}(```|~~~)")


def harmless(text: str) -> str:
    """What a model wrote, with nothing in it that a terminal obeys."""
    return _UNSAFE.sub("\N{REPLACEMENT CHARACTER}", text)


def show_plain(pieces: Iterable[str]) -> None:
    """As it is written; on a terminal without what one obeys."""
    safe = sys.stdout.isatty()
    for piece in pieces:
        sys.stdout.write(harmless(piece) if safe else piece)
        sys.stdout.flush()


def show_markdown(pieces: Iterable[str], console: Console) -> None:
    """Formatted as it is written.

    A paragraph, list or block of code that is complete is printed once and stays; only
    the one being written is drawn again, so that nothing flickers and long answers scroll.
    """
    view = _MarkdownView(console)
    try:
        for piece in pieces:
            view.add(piece)
    finally:
        view.close()


class _MarkdownView:
    """The block that is being written, below those that are done."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._text = ""
        self._drawn = 0.0
        self._live = Live(
            console=console, transient=True, auto_refresh=False, vertical_overflow="crop"
        )
        self._live.start()

    def add(self, piece: str) -> None:
        self._text += harmless(piece)
        done = _complete(self._text)
        if done:
            self._live.update("", refresh=True)
            self._live.console.print(_markdown(self._text[:done]))
            self._live.console.print()
            self._text = self._text[done:].lstrip("\n")
        now = time.monotonic()
        if done or now - self._drawn >= _REDRAW:
            self._live.update(_markdown(self._text), refresh=True)
            self._drawn = now

    def close(self) -> None:
        self._live.stop()
        if self._text.strip():
            self._console.print(_markdown(self._text))


def _markdown(text: str) -> Markdown:
    # Links are shown with their address: what is written must not lead elsewhere unseen.
    return Markdown(text, hyperlinks=False)


def _complete(text: str) -> int:
    """Length of the beginning that later text cannot change: up to the last empty line.

    An empty line inside a fenced block of code, or before an indented line, ends nothing.
    """
    done, at, fence = 0, 0, ""
    for line in text.splitlines(keepends=True):
        found = _FENCE.match(line)
        if found and fence in ("", found[1]):
            fence = "" if fence else found[1]
        at += len(line)
        following = text[at : at + 1]
        ended = line.strip() == "" and line.endswith("\n")
        if ended and not fence and following not in ("", " ", "\t", "\n"):
            done = at
    return done
