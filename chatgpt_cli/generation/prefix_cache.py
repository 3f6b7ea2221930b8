"""What was read before need not be read again: keys and values of earlier texts."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence

from torch import Tensor

from chatgpt_cli.model.kv_cache import KVCache

# Shorter beginnings are read as fast as they are found.
_LEAST = 16


class PrefixCache:
    """The most recently used texts with their keys and values, up to a size in memory.

    No text is the beginning of another. So in alphabetical order a text's neighbours are
    those with which it has most in common, and one that it continues stands right before it.
    """

    def __init__(self, megabytes: float) -> None:
        self._budget = int(megabytes * 1e6)
        # In the order of their last use, and in alphabetical order.
        self._entries: dict[tuple[int, ...], Tensor] = {}
        self._order: list[tuple[int, ...]] = []
        self._bytes = 0

    def find(self, prompt: Sequence[int]) -> tuple[int, Tensor | None]:
        """How many first tokens of a prompt are known, and where from.

        One token less than all: the last one must be read for what follows it.
        """
        wanted = tuple(prompt)
        at = bisect_left(self._order, wanted)
        known, text = max(
            ((_common(one, wanted), one) for one in self._order[max(0, at - 1) : at + 1]),
            default=(0, ()),
        )
        known = min(known, len(wanted) - 1)
        if known < _LEAST:
            return 0, None
        # Used last from now on.
        self._entries[text] = self._entries.pop(text)
        return known, self._entries[text]

    def add(self, ids: Sequence[int], cache: KVCache, row: int) -> None:
        """Keep a text that has ended; what it continues is no longer needed."""
        size = cache.store[:, 0, :, :1].nbytes * len(ids)
        if len(ids) < _LEAST or size > self._budget:
            return
        text = tuple(ids)
        at = bisect_left(self._order, text)
        if at < len(self._order) and self._order[at][: len(text)] == text:
            return
        if at and text[: len(self._order[at - 1])] == self._order[at - 1]:
            self._remove(self._order[at - 1])
        while self._entries and self._bytes + size > self._budget:
            self._remove(next(iter(self._entries)))
        self._entries[text] = cache.save(row, len(text))
        self._bytes += size
        insort(self._order, text)

    def _remove(self, text: tuple[int, ...]) -> None:
        self._bytes -= self._entries.pop(text).nbytes
        del self._order[bisect_left(self._order, text)]


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the common beginning."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))
