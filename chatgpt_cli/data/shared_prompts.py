"""Conversations that begin alike read their common beginning once.

Questions about one passage, or rows with one long system prompt, differ only in their ends.
Put into one sequence as a text that branches, each has the same loss and gradient as alone,
and the beginning costs the work of one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from chatgpt_cli.data.batch import IGNORE, BranchedBatch
from chatgpt_cli.data.packed import Conversations, EncodedRows, laid_out, places, sha256_of

# Shorter beginnings, such as "Translate into Chinese:", are not worth a branch; and for less
# than a tenth of all tokens the rows stay apart, free to be shuffled.
_SHORTEST = 16
_WORTH = 0.1


@dataclass(frozen=True)
class Group:
    """Rows that share their first tokens."""

    rows: list[int]
    shared: int

    def length(self, lengths: np.ndarray) -> int:
        """Tokens of all of them together."""
        return int(lengths[self.rows].sum()) - self.shared * (len(self.rows) - 1)


def share_prompts(data: Conversations, capacity: int) -> EncodedRows:
    """The same rows, those with a common beginning put together where that saves much.

    Args:
        data: conversations of at most `capacity` tokens.
        capacity: tokens of a sequence.
    """
    groups = alike(data, capacity)
    saved = len(data.ids) - sum(group.length(data.lengths) for group in groups)
    return SharedPrompts.of(data, groups) if saved > _WORTH * len(data.ids) else data


def alike(data: Conversations, capacity: int) -> list[Group]:
    """Every row in a group, those that begin alike together.

    A row joins the group before it if that saves tokens: its own beginning is no longer
    read, but where it has less in common with the others, they share less.
    """
    lengths = data.lengths
    prompts = [_prompt(data, row) for row in range(len(data))]
    heads = [prompt[:_SHORTEST].tobytes() for prompt in prompts]
    often = Counter(heads)
    # Rows whose first tokens no other row has need no sorting, which copies their tokens.
    alone = [row for row, head in enumerate(heads) if often[head] == 1]
    others = [row for row, head in enumerate(heads) if often[head] > 1]
    others.sort(key=lambda row: prompts[row].astype(">i4").tobytes())
    groups: list[Group] = []
    for row in others:
        if groups:
            last = groups[-1]
            shared = _common(prompts[last.rows[-1]], prompts[row])
            if len(last.rows) > 1:
                shared = min(shared, last.shared)
            joined = Group([*last.rows, row], shared)
            lost = (last.shared - shared) * (len(last.rows) - 1)
            fits = joined.length(lengths) <= capacity
            if shared >= _SHORTEST and shared > lost and fits:
                groups[-1] = joined
                continue
        groups.append(Group([row], 0))
    return groups + [Group([row], 0) for row in alone]


def _prompt(data: Conversations, row: int) -> np.ndarray:
    """The tokens that a row may share: those before the one that predicts its first target."""
    start, stop = int(data.starts[row]), int(data.starts[row + 1])
    first = int(np.argmax(data.targets[start:stop]))
    return data.ids[start : start + max(0, first - 1)]


def _common(one: np.ndarray, other: np.ndarray) -> int:
    """How many tokens both begin with."""
    shortest = min(len(one), len(other))
    differ = one[:shortest] != other[:shortest]
    return int(np.argmax(differ)) if differ.any() else shortest


@dataclass(frozen=True)
class SharedPrompts:
    """Groups of rows (an `EncodedRows`), end to end: a beginning, then a branch for each row."""

    ids: np.ndarray  # (tokens,) int32
    labels: np.ndarray  # (tokens,) int32, the next token where it is to be learnt, or IGNORE
    positions: np.ndarray  # (tokens,) int32
    branches: np.ndarray  # (tokens,) int32; 0 is the beginning
    starts: np.ndarray  # (groups + 1,) int64
    conversations: int
    pad_id: int

    @classmethod
    def of(cls, data: Conversations, groups: list[Group]) -> SharedPrompts:
        """Rows put together as the groups say."""
        total = sum(group.length(data.lengths) for group in groups)
        ids, labels, positions, branches = (np.zeros(total, np.int32) for _ in range(4))
        labels[:] = IGNORE
        starts, at = [0], 0
        for group in groups:
            for branch, begin, read in _pieces(data, group):
                size = read.stop - read.start
                part = slice(at, at + size)
                ids[part] = data.ids[read]
                positions[part] = np.arange(read.start - begin, read.stop - begin)
                branches[part] = branch
                following = slice(read.start + 1, read.stop)
                labels[at : at + size - 1] = np.where(
                    data.targets[following], data.ids[following], IGNORE
                )
                at += size
            starts.append(at)
        return cls(ids, labels, positions, branches, np.array(starts), len(data), data.pad_id)

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> np.ndarray:
        """(groups,) tokens of each."""
        return np.diff(self.starts)

    def hash(self) -> str:
        """SHA-256 of all of it."""
        return sha256_of(self.ids, self.labels, self.positions, self.branches, self.starts)

    def rows(self, bins: list[list[int]], length: int) -> BranchedBatch:
        """Groups put into rows of `length` tokens, each a segment."""
        where = list(places(bins, self.starts))
        labels = np.full((len(bins), length), IGNORE, dtype=np.int64)
        positions, branches = np.zeros_like(labels), np.zeros_like(labels)
        for one in where:
            labels[one.row, one.columns] = self.labels[one.tokens]
            positions[one.row, one.columns] = self.positions[one.tokens]
            branches[one.row, one.columns] = self.branches[one.tokens]
        plain = laid_out(self.ids, where, labels, self.pad_id)
        return BranchedBatch(
            plain.input_ids,
            plain.labels,
            plain.segment_ids,
            torch.from_numpy(positions),
            torch.from_numpy(branches),
        )


def _pieces(data: Conversations, group: Group) -> Iterator[tuple[int, int, slice]]:
    """Branch, where its row begins, and the tokens to read, of the beginning and every row."""
    begins = [int(data.starts[row]) for row in group.rows]
    if group.shared:
        yield 0, begins[0], slice(begins[0], begins[0] + group.shared)
    for branch, (row, begin) in enumerate(zip(group.rows, begins, strict=True), start=1):
        yield branch, begin, slice(begin + group.shared, int(data.starts[row + 1]))
