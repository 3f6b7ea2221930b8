"""The Chinese of an English message: locale/zh.txt, and how a sentence is found there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache, cached_property
from itertools import chain, count, islice
from pathlib import Path

_ENGLISH_PART = re.compile(r"(\{\}|\[\[|\]\])")
_CHINESE_PART = re.compile(r"(\{\d*(?::text|:list|:names)?\}|\[\[|\]\])")
# What divides the items of a list, and what does in Chinese.
_BETWEEN = re.compile(r"(, | and | or |; )")
# In a list of so many of each, whose names may have such words in them.
_BETWEEN_COUNTED = re.compile(r"(, | and | or |; )(?=\d)")
_NUMBER = re.compile(r"[\d,]+")
_BETWEEN_ZH = {", ": "、", " and ": "和", " or ": "或", "; ": "；"}


@cache
def chinese() -> Catalogue:
    """The messages of this program."""
    path = Path(__file__).parent / "locale" / "zh.txt"
    return Catalogue(path.read_text(encoding="utf-8"))


class Catalogue:
    """English messages and their Chinese, found by the sentence with its gaps filled in.

    An entry is two lines, the English and the Chinese one; an empty line ends it, and
    lines that begin with # are comments. In both

    - `{}` stands for what the message names. In Chinese `{1}` is the second such gap of the
      English, `{1:text}` what is in it translated, `{1:list}` a list of which each item is
      translated, `{1:names}` a list of names. Everything else is data and stays as it is.
    - `[[…]]` is a part that a message may lack; in Chinese it is left out with it.
    - `\\n` is a line break.
    """

    def __init__(self, content: str) -> None:
        """Raises ValueError for what is no entry, or stands there twice."""
        self.entries: dict[str, Entry] = {}
        for block in content.split("\n\n"):
            lines = [line for line in block.split("\n") if line and not line.startswith("#")]
            if not lines:
                continue
            if len(lines) != 2 or lines[0] in self.entries:
                raise ValueError(f"not one English and one Chinese line: {lines}")
            self.entries[lines[0]] = Entry(*(line.replace("\\n", "\n") for line in lines))
        # Those with most text of their own first; by their first character, if that is fixed.
        self._gapped: dict[str, list[Entry]] = {}
        for entry in sorted(self.entries.values(), key=lambda one: -one.length):
            if entry.has_gaps:
                self._gapped.setdefault(entry.literals[0][:1], []).append(entry)

    def translate(self, message: str) -> str:
        """The message in Chinese; several, and "place: fact", by their parts; else as it is."""
        entry = self.find(message)
        # One that begins with a gap may take "place: fact" for something else.
        if entry is not None and (entry.literals[0] or "\n" in entry.english):
            return entry.filled(message, self)
        if "\n" in message:
            return "\n".join(map(self.translate, message.split("\n")))
        parts = [self.whole(part) for part in message.split("; ")]
        if len(parts) > 1 and None not in parts:
            return "；".join(filter(None, parts))
        # The beginning of a long text is enough to tell that it is none of ours.
        for border in islice(re.finditer("[.:] ", message), 20):
            first, second = message[: border.start()], message[border.end() :]
            fact = self.whole(second)
            if fact is not None and border[0] == ": ":
                return f"{self._place(first)}：{fact}"
            if fact is not None:
                return f"{self.translate(first)}。{fact}"
        return message if entry is None else entry.filled(message, self)

    def located(self, place: str | None, fact: str) -> str:
        """ "place: fact" in Chinese."""
        said = self.translate(fact)
        return f"{self._place(place)}：{said}" if place else said

    def _place(self, place: str) -> str:
        """A place is a name, though it be spelt as a word; only "file, row 3" has words."""
        entry = self.find(place)
        return place if entry is None or not entry.has_gaps else entry.filled(place, self)

    def whole(self, message: str) -> str | None:
        """The Chinese of a message that an entry fits, None if there is none."""
        entry = self.find(message)
        return None if entry is None else entry.filled(message, self)

    def find(self, message: str) -> Entry | None:
        """The entry that fits: of several, one that says how it begins, with most text."""
        exact = self.entries.get(message.replace("\n", "\\n"))
        if exact is not None:
            return exact
        likely = chain(self._gapped.get(message[:1], ()), self._gapped.get("", ()))
        return next((one for one in likely if one.fits(message)), None)

    def put(self, value: str, kind: str) -> str:
        """What stands in a gap of this kind (nothing, text, list, names), for the sentence."""
        if kind == "text":
            return self.translate(value)
        if kind == "names":
            return _listed(_BETWEEN.split(value))
        return self._items(value) if kind == "list" else value

    def _items(self, text: str) -> str:
        """Each item of a list, such as "3 too short, 1 not JSON", with what divides them."""
        entry = self.find(text)
        if entry is not None and entry.literals[0]:
            return entry.filled(text, self)
        # An item that has a list of its own: "true or false or one of none, all".
        first, found, rest = text.partition(" or one of ")
        if found:
            return joined([self._items(first), "或", self.translate(f"one of {rest}")])
        counted = _NUMBER.fullmatch(text.partition(" ")[0])
        first, *others = (_BETWEEN_COUNTED if counted else _BETWEEN).split(text)
        pairs = zip(others[::2], others[1::2], strict=True)
        return _listed([self._item(first), *(x for a, b in pairs for x in (a, self._item(b)))])

    def _item(self, item: str) -> str:
        """One item; how many there are of it stands behind it in Chinese."""
        number, _, name = item.partition(" ")
        if _NUMBER.fullmatch(number) and (found := self.whole(name)) is not None:
            return f"{found} {number}"
        return self.translate(item)


class Entry:
    """An English message with gaps, and its Chinese."""

    def __init__(self, english: str, chinese: str) -> None:
        self.english = english
        self.chinese = chinese
        # The text around the gaps; the first is empty where a gap begins the message.
        self.literals = re.split(r"\{\}|\[\[.*?\]\]", english, flags=re.DOTALL)
        self.length = len(_ENGLISH_PART.sub("", english))

    @property
    def has_gaps(self) -> bool:
        """Whether anything in it differs from message to message."""
        return len(self.literals) > 1

    def fits(self, message: str) -> bool:
        """Whether the message is this one."""
        if not all(literal in message for literal in self.literals):
            return False
        return self._pattern.fullmatch(message) is not None

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        pattern = ""
        gaps, options = count(), count()
        for part in _ENGLISH_PART.split(self.english):
            if part == "{}":
                # What begins a message is a name, never the lines of another message.
                kind = "." if pattern else "[^\n]"
                pattern += f"(?P<g{next(gaps)}>{kind}*?)"
            elif part == "[[":
                pattern += f"(?P<o{next(options)}>"
            else:
                pattern += ")?" if part == "]]" else re.escape(part)
        return re.compile(pattern, re.DOTALL)

    def filled(self, message: str, catalogue: Catalogue) -> str:
        """The Chinese sentence, with what the message has in its gaps."""
        if not self.has_gaps:
            return self.chinese
        match = self._pattern.fullmatch(message)
        assert match is not None
        said = match.groupdict()
        pieces: list[str] = []
        numbers, options, there = count(), count(), True
        for part in _CHINESE_PART.split(self.chinese):
            if part == "[[":
                there = said.get(f"o{next(options)}") is not None
            elif part == "]]":
                there = True
            elif _CHINESE_PART.fullmatch(part):
                number, _, kind = part[1:-1].partition(":")
                value = said[f"g{number or next(numbers)}"] or ""
                pieces += [catalogue.put(value, kind)] if there else []
            elif there:
                pieces.append(part)
        return joined(pieces)


def _listed(parts: list[str]) -> str:
    """Items and what divides them in English: "a and b and c" is a、b 和 c."""
    *earlier, last = parts[1::2] or [""]
    marks = ["、" if one in (" and ", " or ") else _BETWEEN_ZH[one] for one in earlier]
    marks += [_BETWEEN_ZH[last]] if last else []
    return joined([x for pair in zip(parts[::2], [*marks, ""], strict=True) for x in pair])


def joined(pieces: Iterator[str] | list[str]) -> str:
    """Pieces in a row: a space between Chinese and Latin text, none between Chinese."""
    text = ""
    for piece in filter(None, pieces):
        left, right = text.rstrip(" "), piece.lstrip(" ")
        if left and right and _is_han(left[-1]) and _is_han(right[0]):
            text = left + right
        elif left and right and _meet(left[-1], right[0]):
            text = f"{left} {right}"
        else:
            text += piece
    return text


def _is_han(character: str) -> bool:
    return "\u4e00" <= character <= "\u9fff"


def _meet(left: str, right: str) -> bool:
    """Whether one is Chinese and the other Latin, a digit or a mark of ASCII."""
    return (_is_han(left) and "!" <= right <= "~") or ("!" <= left <= "~" and _is_han(right))
