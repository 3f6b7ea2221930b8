"""Where a chat's messages come from: an editor in the terminal, or lines piped in."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from chatgpt_cli.cli.piped import checked

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession

Read = Callable[[], str]


def reader(commands: Mapping[str, str]) -> Read:
    """What gives the next message: raises EOFError at the end, KeyboardInterrupt at Ctrl-C.

    Args:
        commands: names to complete, and what each does.
    """
    if not sys.stdin.isatty():
        return _piped
    try:
        return editor(commands, history_file()).prompt
    except ImportError:
        return _plain


def _piped() -> str:
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return checked(line)


def _plain() -> str:
    """A line typed where prompt_toolkit is not installed."""
    try:
        return input("> ")
    except (EOFError, KeyboardInterrupt):
        typer.echo()
        raise


def history_file() -> Path | None:
    """What was typed in earlier chats; None where nothing can be kept."""
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    path = Path(home) / "chatgpt" / "history"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Only for its owner: people tell chats what they tell nobody else.
        path.touch(mode=0o600)
    except OSError:
        return None
    return path if os.access(path, os.R_OK | os.W_OK) else None


def editor(commands: Mapping[str, str], history: Path | None) -> PromptSession[str]:
    """Enter sends; Alt-Enter, or Enter after a backslash, begins a new line.

    Raises:
        ImportError: without prompt_toolkit.
    """
    from prompt_toolkit import PromptSession
    from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
    from prompt_toolkit.completion import Completer, Completion
    from prompt_toolkit.filters import completion_is_selected
    from prompt_toolkit.history import FileHistory, InMemoryHistory
    from prompt_toolkit.key_binding import KeyBindings

    class Commands(Completer):
        """Names of commands, at the beginning of a message."""

        def get_completions(self, document, _event):  # type: ignore[no-untyped-def]
            typed = document.text_before_cursor
            if not typed.startswith("/") or " " in typed:
                return
            for name, meaning in commands.items():
                if name.startswith(typed):
                    yield Completion(name, -len(typed), display_meta=meaning)

    keys = KeyBindings()

    @keys.add("enter", filter=~completion_is_selected)
    def _enter(event) -> None:  # type: ignore[no-untyped-def]
        buffer = event.current_buffer
        if buffer.document.current_line_before_cursor.endswith("\\"):
            buffer.delete_before_cursor()
            buffer.newline(copy_margin=False)
        else:
            buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def _new_line(event) -> None:  # type: ignore[no-untyped-def]
        event.current_buffer.newline(copy_margin=False)

    return PromptSession(
        "> ",
        multiline=True,
        prompt_continuation="  ",
        history=InMemoryHistory() if history is None else FileHistory(str(history)),
        auto_suggest=AutoSuggestFromHistory(),
        completer=Commands(),
        complete_while_typing=True,
        key_bindings=keys,
    )
