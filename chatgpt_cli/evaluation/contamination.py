"""Whether the model has seen test questions in training: whether they stand in its data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from chatgpt_cli.config.paths import RunPaths
from chatgpt_cli.config.schema import Config
from chatgpt_cli.data.formats.conversations import ChatRow, TextRow
from chatgpt_cli.data.rows import read_learnt
from chatgpt_cli.data.shards import TokenShards
from chatgpt_cli.errors import DataError
from chatgpt_cli.evaluation.task_rows import TaskRow
from chatgpt_cli.tokenizer.tokenizer import Tokenizer

# Tokens by which a question is found; shorter ones occur everywhere.
_ANCHOR = 8
# Tokens of the shards, and rows, that are looked through at one time.
_PIECE = 4_000_000
_ROWS = 10_000
_BASE = 0x9E3779B97F4A7C15


@dataclass(frozen=True)
class Overlap:
    """Which rows were seen in training, and in how many tokens was looked."""

    seen: list[bool]
    searched_tokens: int


def training_tokens(config: Config, paths: RunPaths, tokenizer: Tokenizer) -> Iterator[np.ndarray]:
    """All that a run's model was trained on, as pieces of token ids: shards and rows.

    What is not there (any more), or was encoded by another tokenizer, is left out.
    Pieces overlap, so that no stretch of up to 4,096 tokens is cut.
    """
    try:
        shards = TokenShards.open(paths.data, "train")
    except DataError:
        pass
    else:
        if shards.tokenizer_sha256 == tokenizer.hash:
            for start in range(0, shards.num_tokens, _PIECE):
                yield shards.read(start, min(shards.num_tokens, start + _PIECE + 4096))
    section = config.finetune
    if not section.data or section.task == "classification":
        return
    try:
        rows = read_learnt(section.data, section.task, section.direction, on_error="skip").rows
    except DataError:
        return
    # An id that no token has keeps stretches from reaching across texts.
    border = tokenizer.vocab_size
    for first in range(0, len(rows), _ROWS):
        texts = [text for row in rows[first : first + _ROWS] for text in _texts(row)]
        ids = [token for text in texts for token in [*tokenizer.encode(text.strip()), border]]
        yield np.array(ids, dtype=np.int64)


def _texts(row: ChatRow | TextRow) -> list[str]:
    """What is learnt or read of a row."""
    if isinstance(row, TextRow):
        return [row.text]
    return [message.content for message in row.messages]


def overlap(
    rows: Sequence[TaskRow], tokenizer: Tokenizer, training: Iterable[np.ndarray]
) -> Overlap:
    """Look for each row's question, word for word, in the training data.

    It is looked for as it is at a text's beginning and as it is after a space. Questions
    of fewer than eight tokens count as not seen. (Counting short n-grams instead,
    wherever they stand, would call most questions of one form seen.)
    """
    questions: dict[int, dict[int, dict[int, list[int]]]] = {}
    for index, row in enumerate(rows):
        question = row.messages[-1].content.strip()
        for ids in (tokenizer.encode(question), tokenizer.encode(f" {question}")):
            if len(ids) >= _ANCHOR:
                text = _Text(np.array(ids, dtype=np.int64))
                lengths = questions.setdefault(int(text.hashes(_ANCHOR)[0]), {})
                whole = int(text.hashes(len(ids))[0])
                lengths.setdefault(len(ids), {}).setdefault(whole, []).append(index)
    anchors = np.array(sorted(questions), dtype=np.uint64)
    seen = [False] * len(rows)
    searched = 0
    for piece in training:
        searched += len(piece)
        text = _Text(np.asarray(piece, dtype=np.int64))
        hashes = text.hashes(_ANCHOR)
        places = np.flatnonzero(np.isin(hashes, anchors))
        for anchor in np.unique(hashes[places]):
            at = places[hashes[places] == anchor]
            for length, wholes in questions[int(anchor)].items():
                for whole in set(text.at(at, length).tolist()) & wholes.keys():
                    for index in wholes[whole]:
                        seen[index] = True
    return Overlap(seen, searched)


class _Text:
    """Token ids with a 64-bit hash for every stretch of any length.

    The hash of a stretch is the sum of v[i] b^i over it, times b to the minus its start,
    modulo 2^64, where v are mixed ids: two sums and a product, whatever the length.
    """

    def __init__(self, ids: np.ndarray) -> None:
        self.ids = ids
        mixed = (ids.astype(np.uint64) + np.uint64(1)) * np.uint64(0xBF58476D1CE4E5B9)
        mixed ^= mixed >> np.uint64(29)
        mixed *= np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(32)
        sums = (mixed * _powers(_BASE, len(ids))).cumsum(dtype=np.uint64)
        self._sums = np.concatenate([np.zeros(1, dtype=np.uint64), sums])
        self._back = _powers(pow(_BASE, -1, 1 << 64), len(ids))

    def hashes(self, length: int) -> np.ndarray:
        """Of each stretch of this length, (len - length + 1,) uint64."""
        return self.at(np.arange(max(0, len(self.ids) - length + 1)), length)

    def at(self, starts: np.ndarray, length: int) -> np.ndarray:
        """Of the stretches that begin at `starts` and are not cut off by the end."""
        starts = starts[starts + length <= len(self.ids)]
        hashes: np.ndarray = (self._sums[starts + length] - self._sums[starts]) * self._back[starts]
        return hashes


def _powers(base: int, count: int) -> np.ndarray:
    """1, b, b^2, ... modulo 2^64, (count,)."""
    powers = np.full(count, base, dtype=np.uint64)
    powers[:1] = 1
    np.multiply.accumulate(powers, out=powers)
    return powers
