"""Writes docs/reference/: the commands from their options, the settings from the schema.

python docs/generate.py          # `make reference`
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from chatgpt_cli.cli.main import COMMANDS, command_of
from chatgpt_cli.config.schema import Config

FOLDER = Path(__file__).parent / "reference"
_MADE = "<!-- Made by `make reference`; edit the code instead. -->\n"
_WIDTH = 92


def cli() -> str:
    """Every command with its --help."""
    parts = [
        _MADE,
        "# Commands\n",
        "What `chatgpt COMMAND --help` says, for all of them. Each also takes `--lang zh` or "
        "`--lang en`, the language of its messages, and `--debug`.\n",
    ]
    parts += [f"- [`{name}`](#{name}): {text}" for name, text in COMMANDS.items()]
    for name in COMMANDS:
        command = command_of(name)
        context = command.make_context(
            f"chatgpt {name}", [], resilient_parsing=True, terminal_width=_WIDTH
        )
        lines = [line.rstrip() for line in command.get_help(context).strip().splitlines()]
        parts += [f"\n## {name}\n", "```text", *lines, "```"]
    return "\n".join(parts) + "\n"


def config() -> str:
    """Every setting: type, default, what it does."""
    parts = [
        _MADE,
        "# Settings\n",
        "All keys of the YAML file. Unknown keys are errors. `chatgpt config` shows a project's "
        "values, `chatgpt config --schema` gives editors a JSON Schema.\n",
        *_table(Config, ""),
    ]
    seen: set[type[BaseModel]] = set()
    for name, field in Config.model_fields.items():
        parts += _section(field, name, seen)
    return "\n".join(parts) + "\n"


def _section(field: FieldInfo, name: str, seen: set[type[BaseModel]]) -> list[str]:
    """A section's table, and those of the sections in it that were not shown yet."""
    model = _model_in(field.annotation)
    if model is None or model in seen:
        return []
    seen.add(model)
    about = inspect.cleandoc(model.__doc__ or "")
    parts = [f"\n## {name}\n", f"{about}\n", *_table(model, name)]
    for inner, one in model.model_fields.items():
        parts += _section(one, f"{name}.{inner}", seen)
    return parts


def _table(model: type[BaseModel], name: str) -> list[str]:
    comments = _comments(model)
    rows = ["| key | values | default | |", "|---|---|---|---|"]
    for key, field in model.model_fields.items():
        inner = _model_in(field.annotation)
        if not name and inner is not None:
            continue
        default = "required" if field.is_required() else _shown(field)
        cells = [f"`{field.alias or key}`", _type(field), default, comments.get(key, "")]
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return rows


def _comments(model: type[BaseModel]) -> dict[str, str]:
    """The comment above each field in the source, also of the classes it builds on."""
    found: dict[str, str] = {}
    for part in reversed(model.__mro__):
        if not (isinstance(part, type) and issubclass(part, BaseModel)) or part is BaseModel:
            continue
        pending: list[str] = []
        for line in inspect.getsource(part).splitlines():
            text = line.strip()
            field = re.match(r"    (\w+): ", line)
            if text.startswith("#"):
                pending.append(text.lstrip("# "))
            else:
                if field and pending:
                    found[field[1]] = " ".join(pending)
                pending = []
    return found


def _shown(field: FieldInfo) -> str:
    value: Any = field.get_default(call_default_factory=True)
    if value is None:
        return "–"
    if isinstance(value, BaseModel):
        return "see below"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value}`" if str(value) != "" else "empty"


def _type(field: FieldInfo) -> str:
    limits = [
        f"{sign} {limit}"
        for one in field.metadata
        for sign, name in ((">", "gt"), ("≥", "ge"), ("<", "lt"), ("≤", "le"))
        if (limit := getattr(one, name, None)) is not None
    ]
    return ", ".join([_words(field.annotation), *limits])


def _words(annotation: Any) -> str:
    """A type as a reader of YAML would say it."""
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(annotation))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "a section"
    inner = [one for one in get_args(annotation) if one is not type(None)]
    if get_origin(annotation) in (list, tuple):
        return "a list" if not inner else f"a list of {_words(inner[0])}"
    if get_origin(annotation) is not None and hasattr(annotation, "__metadata__"):
        return _words(inner[0])
    if inner:
        return " or ".join(dict.fromkeys(_words(one) for one in inner))
    names = {"int": "whole number", "float": "number", "bool": "true, false", "Path": "path"}
    name = getattr(annotation, "__name__", str(annotation))
    return {**names, "str": "text", "Budget": "amount and unit"}.get(name, name)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in get_args(annotation):
        if (found := _model_in(inner)) is not None:
            return found
    return None


PAGES = {"cli.md": cli, "config.md": config}

if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, make in PAGES.items():
        (FOLDER / name).write_text(make(), encoding="utf-8", newline="\n")
