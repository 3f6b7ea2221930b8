"""What of an answer counts: words and characters, numbers, labels."""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Iterable
from decimal import Decimal
from typing import Literal

Language = Literal["en", "zh"]

# Han characters (with 〇 and the iteration mark) and kana: written without spaces.
_UNSPACED = "\u3005\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_CHARACTER = re.compile(f"[{_UNSPACED}]")
_ARTICLE = re.compile(r"\b(a|an|the)\b")
_WORD = re.compile(r"[^\W_]+")

_FULLWIDTH = str.maketrans("０１２３４５６７８９．－＋", "0123456789.-+")
_FULLWIDTH_GROUP = re.compile(r"(?<=[０-９])，(?=[０-９]{3}(?![０-９]))")
# 1,234,567.8 or 1234.5 or .5; a minus belongs to the number unless it subtracts it.
_NUMBER = re.compile(
    r"(?:(?<![\w)\]])[-−])?"
    r"(?:(?<![\d.])\d{1,3}(?:,\d{3})+(?![\d])(?:\.\d+)?|\d+(?:\.\d+)?|(?<!\d)\.\d+)"
)


def language_of(texts: Iterable[str]) -> Language:
    """The language most letters belong to: "zh" for Han and kana, "en" for all others."""
    unspaced = other = 0
    for text in texts:
        here = len(_CHARACTER.findall(text))
        unspaced += here
        other += sum(character.isalpha() for character in text) - here
    return "zh" if unspaced > other else "en"


def words(text: str, language: Language) -> list[str]:
    """The units that token F1 and exact match compare.

    English by the rules of SQuAD's script (Rajpurkar et al. 2016): lower case, no
    punctuation, no articles, split at spaces; Unicode's punctuation counts as ASCII's
    does. Characters written without spaces are one unit each, so in Chinese every
    character counts and spaces do not; there "a" is a letter and stays.
    """
    text = "".join(character for character in text.lower() if not _is_punctuation(character))
    if language == "en":
        text = _ARTICLE.sub(" ", text)
    return _CHARACTER.sub(r" \g<0> ", text).split()


def rouge_words(text: str) -> list[str]:
    """The units of ROUGE and of n-gram variety: lower-case words of letters and digits.

    For ASCII text these are rouge-score's own; letters of other alphabets are letters
    too, and characters written without spaces are one unit each.
    """
    return _WORD.findall(_CHARACTER.sub(r" \g<0> ", text.lower()))


def _is_punctuation(character: str) -> bool:
    return character in string.punctuation or unicodedata.category(character).startswith("P")


def last_number(text: str) -> str | None:
    """The last number in a text, written plainly: "It is 1,200.0 yuan." -> "1200".

    Knows thousands separators and full-width digits (１２，３４５). None if there is none.
    """
    text = _FULLWIDTH_GROUP.sub(",", text).translate(_FULLWIDTH)
    found = _NUMBER.findall(text)
    if not found:
        return None
    plain = format(Decimal(found[-1].replace(",", "").replace("−", "-")), "f")
    if "." in plain:
        plain = plain.rstrip("0").rstrip(".")
    return plain.lstrip("-") if not plain.strip("-0") else plain


def label(text: str) -> str:
    """A label as it is compared: without surrounding spaces and without case."""
    return text.strip().casefold()
