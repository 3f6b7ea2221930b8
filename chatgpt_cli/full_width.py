"""Full-width punctuation where a file's syntax wants ASCII: what a Chinese keyboard writes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

# What to write instead of each.
ASCII = {
    "：": ":",
    "，": ",",
    "［": "[",
    "］": "]",
    "｛": "{",
    "｝": "}",
    "【": "[",
    "】": "]",
    "“": '"',
    "”": '"',
    "‘": "'",
    "’": "'",
    "＃": "#",
    "\u3000": " ",
}
_OPENING = "［｛【“”‘’"
_INDENTATION = re.compile(r"[ \u3000]*")
_LIST_DASHES = re.compile(r"(?:-[ \u3000]+)*")
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*[ ]*(?P<colon>[:：])[ \u3000]*")
_BLOCK_TEXT = re.compile(r"[:-] *[|>][-+0-9]*\s*(?:#.*)?$")


@dataclass(frozen=True)
class Slip:
    """A full-width character at a place for syntax."""

    # Counted from 1.
    line: int
    character: str

    def __str__(self) -> str:
        return _sentence(self.character)


def _sentence(character: str) -> str:
    if character == "\u3000":
        return "here is a full-width space; write ordinary spaces"
    if character == "：":
        return "here is a full-width ：; write : and a space"
    return f"here is a full-width {character}; write {ASCII[character]}"


def slips_in_yaml(text: str) -> list[Slip]:
    """Every one in a configuration file; quoted text, comments and block text are left out.

    Text may begin with “ as well: ask only if the file, or the setting there, is wrong.
    """
    found: list[Slip] = []
    block: int | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        indentation = len(line) - len(line.lstrip())
        if block is not None and (not line.strip() or indentation > block):
            continue
        block = indentation if _BLOCK_TEXT.search(line) else None
        found += [Slip(number, one) for one in dict.fromkeys(_in_line(line))]
    return found


def _in_line(line: str) -> Iterator[str]:
    start = _INDENTATION.match(line)
    assert start is not None
    if not line.strip() or line.lstrip().startswith("#"):
        return
    yield from _full_width(start[0])
    rest = line[start.end() :]
    if rest.startswith("＃"):
        yield "＃"
        return
    dashes = _LIST_DASHES.match(rest)
    assert dashes is not None
    yield from _full_width(dashes[0])
    rest = rest[dashes.end() :]
    if key := _KEY.match(rest):
        yield from _full_width(key[0])
        rest = rest[key.end() :]
    if rest[:1] in ("[", "{", *_OPENING):
        yield from _full_width(_outside_quotes(rest))


def _outside_quotes(value: str) -> str:
    """A value without its quoted parts and its comment."""
    bare = re.sub(r'"(?:[^"\\]|\\.)*"|\'[^\']*\'', "", value)
    return re.sub(r"\s#.*", "", bare)


def _full_width(text: Iterable[str]) -> Iterator[str]:
    return (character for character in text if character in ASCII)


def slip_in_json(text: str, error: json.JSONDecodeError) -> str | None:
    """The sentence about the character at which JSON broke off, if it is one of these."""
    here = text[error.pos : error.pos + 1]
    if here in ASCII:
        return _sentence(here)
    # A string that begins with " and ends with ”.
    if error.msg.startswith("Unterminated string"):
        closing = next((one for one in reversed(text[error.pos :]) if one in "“”"), None)
        return _sentence(closing) if closing else None
    return None
