"""Earlier texts are found by their longest common beginning, and the oldest make room."""

from __future__ import annotations

from typing import cast

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from chatgpt_cli.generation.prefix_cache import PrefixCache
from chatgpt_cli.model.kv_cache import KVCache

HEAD = [7] * 16
# All begin alike, as with a system message.
TEXTS = st.lists(st.lists(st.integers(0, 2), max_size=6).map(lambda end: HEAD + end), max_size=25)


class _Rows:
    """Stands for the engine's cache: four bytes for a token, which say how long the text is."""

    store = torch.zeros(1, 1, 1, 1, 1)

    def save(self, _row: int, length: int) -> Tensor:
        return torch.full((1, 1, length, 1), float(length))


ROWS = cast(KVCache, _Rows())


def common(one: list[int], other: list[int]) -> int:
    return max(n for n in range(min(len(one), len(other)) + 1) if one[:n] == other[:n])


@given(kept=TEXTS, asked=TEXTS)
def test_the_longest_common_beginning_is_found(
    kept: list[list[int]], asked: list[list[int]]
) -> None:
    cache = PrefixCache(1)
    for text in kept:
        cache.add(text, ROWS, 0)
    for prompt in asked:
        known, saved = cache.find(prompt)
        best = min(max((common(text, prompt) for text in kept), default=0), len(prompt) - 1)
        assert known == (best if best >= 16 else 0)
        assert (saved is None) == (known == 0) and (saved is None or saved.shape[2] >= known)


def test_what_is_continued_goes_and_the_longest_unused_makes_room() -> None:
    cache = PrefixCache(250 / 1e6)
    one, two, three, four = ([n, *HEAD, 0, 0, 0] for n in range(4))  # 80 bytes each
    for text in (one, [*one, 1], two, three):
        cache.add(text, ROWS, 0)
    assert cache.find([*one, 1, 1])[0] == 21
    cache.add(four, ROWS, 0)
    assert [cache.find([*text, 9])[0] for text in (one, two, three, four)] == [20, 0, 20, 20]
