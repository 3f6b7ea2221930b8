"""The --help of a command in another language than English, which Typer does not wrap."""

from __future__ import annotations

import re
import shutil
import unicodedata
from typing import Any

from typer.core import TyperCommand

from chatgpt_cli.language import translator

# Words stay whole, and so do a Chinese character and the punctuation behind or before it.
_UNITS = re.compile(r"[（《“]*(?:[^\s\u2e80-\uffff]+|[\u2e80-\uffef])[，。；：、？！）》”…]*|\s+")
# Names longer than this have a line of their own, as Click has it.
_NAMES = 30


class TranslatedCommand(TyperCommand):
    """A command whose help is in the chosen language."""

    def get_help(self, ctx: Any) -> str:
        """The page that --help prints."""
        return help_page(self, ctx)


def help_page(command: TyperCommand, context: Any) -> str:
    """Usage, what the command does, its arguments and options; laid out as Click does."""
    say = translator()
    width = min(shutil.get_terminal_size().columns, 80) - 2
    usage = " ".join(map(say, command.collect_usage_pieces(context)))
    lines = [f"{say('Usage')}：{context.command_path} {usage}"]
    for paragraph in (command.help or "").split("\n\n"):
        lines += ["", *(f"  {line}" for line in wrapped(said(paragraph), width - 2))]
    parameters = command.get_params(context)
    for title, kind in (("Arguments", "argument"), ("Options", "option")):
        rows = [_row(one, context) for one in parameters if one.param_type_name == kind]
        if rows := [row for row in rows if row is not None]:
            lines += ["", f"{say(title)}：", *_listed(rows, width)]
    return "\n".join(lines)


def said(paragraph: str) -> str:
    """A paragraph of a docstring in the chosen language."""
    return translator()(" ".join(paragraph.split()))


def _row(parameter: Any, context: Any) -> tuple[str, str] | None:
    """Names of a parameter, and what it does with its default and limits."""
    record = parameter.get_help_record(context)
    if record is None:
        return None
    say = translator()
    names, text = record
    about = parameter.help or ""
    # Click puts these behind: "  [default: 1; x>=1]".
    more = text.removeprefix(about).strip().removeprefix("[").removesuffix("]")
    limits = "；".join(map(say, more.split("; "))) if more else ""
    return names, said(about) + (f"  [{limits}]" if limits else "")


def _listed(rows: list[tuple[str, str]], width: int) -> list[str]:
    """Two columns."""
    column = min(max(len(names) for names, _ in rows), _NAMES)
    lines = []
    for names, text in rows:
        first, *rest = wrapped(text, max(width - column - 4, 20)) or [""]
        if len(names) > column:
            lines.append(f"  {names}")
            names = ""
        lines.append(f"  {names:<{column}}  {first}".rstrip())
        lines += [f"{'':{column + 4}}{line}" for line in rest]
    return lines


def wrapped(text: str, width: int) -> list[str]:
    """Lines of at most `width` columns; a Chinese character takes two."""
    lines, line, room = [], "", width
    for unit in _UNITS.findall(text):
        size = sum(2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in unit)
        if size > room and line.strip():
            lines.append(line.rstrip())
            line, room = "", width
        if line or not unit.isspace():
            line, room = line + unit, room - size
    return [*lines, line.rstrip()] if line.strip() else lines
