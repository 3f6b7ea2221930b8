"""What was read before need not be read again: keys and values of earlier texts."""

from __future__ import annotations

from torch import Tensor

from chatgpt_cli.model.kv_cache import KVCache

# Shorter beginnings are read as fast as they are found.
_LEAST = 16


class PrefixCache:
    """The most recently used texts with their keys and values, up to a size in memory."""

    def __init__(self, megabytes: float) -> None:
        self._budget = int(megabytes * 1e6)
        # In the order of their last use.
        self._entries: dict[tuple[int, ...], Tensor] = {}

    @property
    def bytes(self) -> int:
        """Memory in use."""
        return sum(saved.nbytes for saved in self._entries.values())

    def find(self, prompt: list[int]) -> tuple[int, Tensor | None]:
        """How many first tokens of a prompt are known, and where from.

        One token less than all: the last one must be read for what follows it.
        """
        best, found = 0, None
        for text in self._entries:
            known = _common(text, prompt)
            if known > best:
                best, found = known, text
        best = min(best, len(prompt) - 1)
        if found is None or best < _LEAST:
            return 0, None
        saved = self._entries.pop(found)
        self._entries[found] = saved
        return best, saved

    def add(self, ids: list[int], cache: KVCache, row: int) -> None:
        """Keep a text that has ended; what it continues is no longer needed."""
        size = cache.store[:, 0, :, :1].nbytes * len(ids)
        if len(ids) < _LEAST or size > self._budget:
            return
        text = tuple(ids)
        for other in list(self._entries):
            if _common(other, ids) == min(len(other), len(ids)):
                if len(other) >= len(ids):
                    return
                del self._entries[other]
        while self._entries and self.bytes + size > self._budget:
            del self._entries[next(iter(self._entries))]
        self._entries[text] = cache.save(row, len(ids))


def _common(one: tuple[int, ...], other: list[int]) -> int:
    """Length of the common beginning."""
    shorter = min(len(one), len(other))
    if list(one[:shorter]) == other[:shorter]:
        return shorter
    return next(i for i in range(shorter) if one[i] != other[i])
