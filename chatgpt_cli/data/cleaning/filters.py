"""Rules of thumb that tell prose from menus, lists, noise and copies of one sentence.

From Gopher (Rae et al. 2021, appendix A1.1), C4 (Raffel et al. 2020, section 2.2) and
FineWeb (Penedo et al. 2024, section 3.6), which found them on web pages in English. What
they count as words are the units of `units.py`, so they hold for Chinese too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np

from chatgpt_cli.config.schema import FiltersSection
from chatgpt_cli.data.cleaning.units import Units, phrases, units_of

_BULLETS = ("-", "*", "•", "‣", "◦", "▪", "●", "·", "–", "—", "○", "■", "□", "➢", "►")
_ELLIPSES = ("...", "…", "。。。")
_ENDINGS = tuple(".!?;:。！？；：…\"'”’」』）)")
# Units of a phrase whose repetition counts.
_PHRASE = 10


@dataclass(frozen=True)
class Batch:
    """Some documents to be judged, and what several rules look at."""

    texts: Sequence[str]
    units: Units
    limits: FiltersSection

    @cached_property
    def lines(self) -> list[list[str]]:
        """The lines of each document that are not blank."""
        return [[line for line in map(str.strip, text.split("\n")) if line] for text in self.texts]

    def share_of_lines(self, test: Callable[[str], bool]) -> np.ndarray:
        """(documents,) float64: of a document's lines, those that pass."""
        return np.array([sum(map(test, lines)) / max(len(lines), 1) for lines in self.lines])


def failed_rules(batch: Batch) -> list[str | None]:
    """For each document the key of the first rule that it breaks, or None."""
    failed: list[str | None] = [None] * len(batch.texts)
    for rule in _RULES:
        if getattr(batch.limits, rule.__name__) is None:
            continue
        for number in np.flatnonzero(rule(batch)):
            failed[number] = failed[number] or rule.__name__
    return failed


# Each rule has the name of its limit and tells (documents,) bool which documents break it.


def min_words(batch: Batch) -> np.ndarray:
    """Fewer words than a document needs (Gopher)."""
    return np.asarray(batch.units.counts < batch.limits.min_words)


def max_words(batch: Batch) -> np.ndarray:
    """More words than a document may have (Gopher)."""
    return np.asarray(batch.units.counts > batch.limits.max_words)


def mean_word_length(batch: Batch) -> np.ndarray:
    """Single characters, which have a length of one by nature, are no words here."""
    assert batch.limits.mean_word_length is not None
    least, most = batch.limits.mean_word_length
    units = batch.units
    words = units.per_document(~units.single)
    mean = units.per_document(np.where(units.single, 0, units.lengths)) / np.maximum(words, 1)
    return np.asarray((2 * words > units.counts) & ((mean < least) | (mean > most)))


def min_lettered_words(batch: Batch) -> np.ndarray:
    """Too few words with a letter in them (Gopher)."""
    found = batch.units.per_document(batch.units.lettered)
    return np.asarray(found < batch.limits.min_lettered_words * batch.units.counts)


def min_stop_words(batch: Batch) -> np.ndarray:
    """Too few of the words that every prose has (Gopher)."""
    units = batch.units
    found = np.zeros(len(units.counts), dtype=np.int64)
    for word in _hashes(tuple(batch.limits.stop_words)):
        found += units.per_document(units.hashes == word) > 0
    return np.asarray(found < (batch.limits.min_stop_words or 0))


def max_repeated_phrases(batch: Batch) -> np.ndarray:
    """Too many words inside phrases of ten that came before (Gopher)."""
    units = batch.units
    hashes, begins = phrases(units, _PHRASE)
    _, firsts = np.unique(hashes ^ units.document[begins].astype(np.uint64), return_index=True)
    again = np.ones(len(begins), dtype=np.bool_)
    again[firsts] = False
    borders = np.zeros(len(units.hashes) + _PHRASE + 1, dtype=np.int64)
    np.add.at(borders, begins[again], 1)
    np.add.at(borders, begins[again] + _PHRASE, -1)
    inside = np.cumsum(borders)[: len(units.hashes)] > 0
    return np.asarray(units.per_document(inside) > batch.limits.max_repeated_phrases * units.counts)


def max_symbols(batch: Batch) -> np.ndarray:
    """Too many hashes and ellipses for the words (Gopher)."""
    found = [text.count("#") + text.count("…") + text.count("...") for text in batch.texts]
    return np.asarray(np.array(found) > batch.limits.max_symbols * batch.units.counts)


def max_bullet_lines(batch: Batch) -> np.ndarray:
    """Too many lines that begin with a bullet (Gopher)."""
    share = batch.share_of_lines(lambda line: line.startswith(_BULLETS))
    return np.asarray(share > batch.limits.max_bullet_lines)


def max_ellipsis_lines(batch: Batch) -> np.ndarray:
    """Too many lines that end with an ellipsis (Gopher)."""
    share = batch.share_of_lines(lambda line: line.endswith(_ELLIPSES))
    return np.asarray(share > batch.limits.max_ellipsis_lines)


def min_ended_lines(batch: Batch) -> np.ndarray:
    """Too few lines that end with a mark of punctuation (C4, FineWeb)."""
    share = batch.share_of_lines(lambda line: line.endswith(_ENDINGS))
    return np.asarray(share < batch.limits.min_ended_lines)


def max_repeated_lines(batch: Batch) -> np.ndarray:
    """Too many lines that are there twice (FineWeb)."""
    shares = [1 - len(set(lines)) / max(len(lines), 1) for lines in batch.lines]
    return np.asarray(np.array(shares) > batch.limits.max_repeated_lines)


def refused_phrases(batch: Batch) -> np.ndarray:
    """A phrase that no document may hold (C4)."""
    wanted = [phrase.lower() for phrase in batch.limits.refused_phrases or ()]
    lowered = (text.lower() for text in batch.texts)
    return np.array([any(phrase in text for phrase in wanted) for text in lowered], dtype=np.bool_)


_RULES = (
    min_words,
    max_words,
    mean_word_length,
    min_lettered_words,
    min_stop_words,
    max_repeated_phrases,
    max_symbols,
    max_bullet_lines,
    max_ellipsis_lines,
    min_ended_lines,
    max_repeated_lines,
    refused_phrases,
)


@cache
def _hashes(words: tuple[str, ...]) -> list[np.uint64]:
    return list(units_of(words).hashes)
