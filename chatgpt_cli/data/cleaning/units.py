"""Text as units that can be counted and compared: words, and characters of unspaced scripts."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

# Scripts written without spaces between words: each character is a unit (Thai, Lao and Khmer
# among them, whose words cannot be told apart without a dictionary either).
_UNSPACED = (
    (0x0E00, 0x0EFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x3040, 0x30FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x2FFFF),
)
_CHARACTERS = 0x30000
_IN_WORD, _SINGLE, _LETTER = 1, 2, 4
# An odd number has an inverse modulo 2**64, which takes a word's place out of its hash.
_BASE = 0x9E3779B97F4A7C15
_INVERSE = pow(_BASE, -1, 1 << 64)


@dataclass(frozen=True)
class Units:
    """The units of several documents, one after the other.

    Attributes:
        hashes: (units,) uint64, equal for units that differ in case only.
        lengths: (units,) int64, in characters.
        document: (units,) int64, the number of the document a unit is of, ascending.
        single: (units,) bool, a character of an unspaced script.
        lettered: (units,) bool, there is a letter in it.
        counts: (documents,) int64, how many units each document has.
    """

    hashes: np.ndarray
    lengths: np.ndarray
    document: np.ndarray
    single: np.ndarray
    lettered: np.ndarray
    counts: np.ndarray

    def per_document(self, chosen: np.ndarray) -> np.ndarray:
        """(documents,) float64: the sum of a value that each unit has."""
        return np.asarray(np.bincount(self.document, chosen, len(self.counts)))


def units_of(texts: Sequence[str]) -> Units:
    """Divide documents into words and single characters; all else only separates these.

    A word's hash is the polynomial of its characters in `_BASE` modulo 2**64, taken from
    running sums of the whole text, so that no step goes word by word.
    """
    lowered = [text.lower() for text in texts]
    joined = "\n".join([*lowered, ""])
    codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    codes = np.minimum(codes, _CHARACTERS - 1)
    kinds = _kinds()[codes]
    in_word = np.concatenate(([False], (kinds & _IN_WORD) > 0, [False]))
    edges = np.diff(in_word.view(np.int8))
    singles = np.flatnonzero(kinds & _SINGLE)
    starts = np.concatenate((np.flatnonzero(edges == 1), singles))
    stops = np.concatenate((np.flatnonzero(edges == -1), singles + 1))
    if len(singles):
        order = np.argsort(starts, kind="stable")
        starts, stops = starts[order], stops[order]
    powers, inverses = _powers(1 << max(len(codes), 1).bit_length())
    sums = np.zeros(len(codes) + 1, dtype=np.uint64)
    np.cumsum(_mixed_codes()[codes] * powers[: len(codes)], out=sums[1:])
    letters = np.concatenate(([0], np.cumsum(kinds & _LETTER, dtype=np.int64)))
    ends = np.cumsum([len(text) + 1 for text in lowered])
    document = np.searchsorted(ends, starts, side="right")
    return Units(
        hashes=mix((sums[stops] - sums[starts]) * inverses[starts]),
        lengths=stops - starts,
        document=document,
        single=(kinds[starts] & _SINGLE) > 0,
        lettered=letters[stops] > letters[starts],
        counts=np.bincount(document, minlength=len(texts)),
    )


def mix(values: np.ndarray) -> np.ndarray:
    """Numbers without pattern, one for each (the finaliser of SplitMix64; Steele et al. 2014)."""
    mixed: np.ndarray = values ^ (values >> np.uint64(30))
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def phrases(units: Units, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of every `length` units in a row, and the unit that each begins with.

    A document that is shorter has one, of all its units; one without units has none.
    """
    hashes, document = units.hashes, units.document
    total = hashes.copy()
    for step in range(1, length):
        same = document[step:] == document[:-step]
        factor = np.uint64(pow(_BASE, step, 1 << 64))
        total[:-step] += np.where(same, hashes[step:] * factor, np.uint64(0))
    firsts = np.cumsum(units.counts) - units.counts
    whole = np.zeros(len(hashes), dtype=np.bool_)
    if len(hashes) >= length:
        whole[: len(hashes) - length + 1] = (
            document[length - 1 :] == document[: len(hashes) - length + 1]
        )
    whole[firsts[(units.counts > 0) & (units.counts < length)]] = True
    begins = np.flatnonzero(whole)
    return mix(total[begins]), begins


@cache
def _kinds() -> np.ndarray:
    """(characters,) uint8: what each character is, as flags."""
    kinds = np.zeros(_CHARACTERS, dtype=np.uint8)
    for code in range(_CHARACTERS):
        character = chr(code)
        if character.isalnum() or unicodedata.category(character).startswith("M"):
            kinds[code] = _IN_WORD | (_LETTER if character.isalpha() else 0)
    for first, last in _UNSPACED:
        inside = kinds[first : last + 1]
        inside[inside > 0] = _SINGLE | _LETTER
    return kinds


@cache
def _mixed_codes() -> np.ndarray:
    return mix(np.arange(1, _CHARACTERS + 1, dtype=np.uint64) * np.uint64(_BASE))


@cache
def _powers(count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first powers of `_BASE` and of its inverse, modulo 2**64."""
    tables = []
    for base in (_BASE, _INVERSE):
        factors = np.full(count, base, dtype=np.uint64)
        factors[0] = 1
        tables.append(np.cumprod(factors, dtype=np.uint64))
    return tables[0], tables[1]
