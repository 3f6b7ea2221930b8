"""Documents that are nearly the same: MinHash signatures, compared where bands of them agree.

MinHash: Broder 1997; locality-sensitive hashing in bands: Leskovec, Rajaraman and Ullman,
Mining of Massive Datasets, chapter 3. The similarity of two documents is that of their sets
of shingles, |A & B| / |A | B| (Jaccard); a shingle is some units in a row (`units.py`):
words, or characters of Chinese.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from chatgpt_cli.config.schema import NearDuplicatesSection
from chatgpt_cli.data.cleaning.units import Units, mix, phrases

# Two of three pairs of signatures of this many numbers tell a similarity of 0.8 to within 0.025.
PERMUTATIONS = 256
# A pair at the threshold is to be compared with at least this probability.
_COMPARED = 0.97
# Documents that are looked up at one time; more are looked up in several rounds.
_ROUND = 20_000_000
# In a band, a document is compared with this many at most that do not resemble each other.
_REPRESENTATIVES = 32
_PAIRS = 1 << 14


@dataclass(frozen=True)
class Bands:
    """A signature divided into `count` bands of `rows` numbers each."""

    count: int
    rows: int


def bands_for(threshold: float) -> Bands:
    """The longest bands of which two documents at the threshold still share one (97%).

    They share a given band of r rows with probability t**r, and so one of b bands with
    1 - (1 - t**r)**b. Longer bands make fewer comparisons in vain.
    """
    for rows in range(PERMUTATIONS, 1, -1):
        count = PERMUTATIONS // rows
        if 1 - (1 - threshold**rows) ** count >= _COMPARED:
            return Bands(count, rows)
    return Bands(PERMUTATIONS, 1)


@dataclass(frozen=True)
class Signatures:
    """What is compared of each document.

    Attributes:
        rows: (documents, PERMUTATIONS) uint16: the lower halves of the numbers, which agree
            by chance once in 65,536 times.
        keys: (documents, bands) uint64: a hash of each band of the whole numbers.
        empty: (documents,) bool: nothing in it can be compared.
    """

    rows: np.ndarray
    keys: np.ndarray
    empty: np.ndarray


def signatures(units: Units, section: NearDuplicatesSection) -> Signatures:
    """Sign documents; the same text always has the same signature."""
    shingles, begins = phrases(units, section.shingle)
    owner = units.document[begins]
    rows = np.full((len(units.counts), PERMUTATIONS), 0xFFFFFFFF, dtype=np.uint32)
    signed, firsts = np.unique(owner, return_index=True)
    if len(signed):
        hashed = np.empty_like(shingles)
        for number, (factor, summand) in enumerate(_PERMUTED):
            # Multiply-shift hashing: Dietzfelbinger et al. 1997.
            np.multiply(shingles, factor, out=hashed)
            hashed += summand
            hashed >>= np.uint64(32)
            rows[signed, number] = np.minimum.reduceat(hashed, firsts)
    keys = _keys(rows, bands_for(section.threshold))
    return Signatures(rows.astype(np.uint16), keys, units.counts == 0)


def _keys(rows: np.ndarray, bands: Bands) -> np.ndarray:
    parts = rows[:, : bands.count * bands.rows].reshape(len(rows), bands.count, bands.rows)
    keys = np.zeros(parts.shape[:2], dtype=np.uint64)
    for row in range(bands.rows):
        keys = mix(keys ^ parts[:, :, row])
    return keys


def _permuted() -> list[tuple[np.uint64, np.uint64]]:
    r = np.random.Generator(np.random.PCG64(20))
    drawn = r.integers(0, 1 << 64, size=(PERMUTATIONS, 2), dtype=np.uint64)
    return [(factor | np.uint64(1), summand) for factor, summand in drawn]


_PERMUTED = _permuted()


def similar_pairs(
    keys: np.ndarray,
    usable: np.ndarray,
    rows: Callable[[np.ndarray], np.ndarray],
    threshold: float,
) -> np.ndarray:
    """Pairs of documents that share a band's key and are at least this similar.

    Of those with one key, the first is compared with all others; of those unlike it, again
    the first; and so on. So a crowd of equal documents costs no more than their number.

    Args:
        keys: (documents,) uint64, of one band.
        usable: (documents,) bool, which of them to compare.
        rows: gives the signatures of documents by their numbers.
        threshold: from 0 to 1.

    Returns:
        (pairs, 2) int64: an earlier document and a later one.
    """
    numbers = np.flatnonzero(usable)
    rounds = max(1, -(-len(numbers) // _ROUND))
    found = [np.zeros((0, 2), dtype=np.int64)]
    for part in range(rounds):
        members = numbers[keys[numbers] % np.uint64(rounds) == part] if rounds > 1 else numbers
        members = members[np.argsort(keys[members], kind="stable")]
        for _ in range(_REPRESENTATIVES):
            own = keys[members]
            first = np.concatenate(([True], own[1:] != own[:-1]))[: len(own)]
            earlier = members[first][np.cumsum(first) - 1][~first]
            members = members[~first]
            if not len(members):
                break
            alike = _similar(earlier, members, rows, threshold)
            found.append(np.stack((earlier[alike], members[alike]), axis=1))
            members = members[~alike]
    return np.concatenate(found)


def _similar(
    earlier: np.ndarray,
    later: np.ndarray,
    rows: Callable[[np.ndarray], np.ndarray],
    threshold: float,
) -> np.ndarray:
    """(pairs,) bool: whether the signatures agree in a sufficient share of their numbers."""
    alike = np.zeros(len(earlier), dtype=np.bool_)
    for start in range(0, len(earlier), _PAIRS):
        part = slice(start, start + _PAIRS)
        alike[part] = (rows(earlier[part]) == rows(later[part])).mean(axis=1) >= threshold
    return alike


def repeated_by(pairs: Iterable[np.ndarray]) -> dict[int, int]:
    """Which documents go, and for the sake of which: an earlier one that stays.

    A document that resembles only one that goes itself stays: similarity is not passed on.
    """
    joined = np.unique(np.concatenate([np.zeros((0, 2), dtype=np.int64), *pairs]), axis=0)
    ordered = joined[np.lexsort((joined[:, 0], joined[:, 1]))]
    gone: dict[int, int] = {}
    for earlier, later in ordered.tolist():
        if later not in gone and earlier not in gone:
            gone[later] = earlier
    return gone
