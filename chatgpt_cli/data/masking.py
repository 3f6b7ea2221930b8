"""Hiding tokens for masked language modelling."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from chatgpt_cli.data.batch import IGNORE, Batch, BatchSource
from chatgpt_cli.data.loader import HeldOutWindows, TokenWindows
from chatgpt_cli.tokenizer.special import BOS, CLS, EOS, MASK, SEP, SPECIAL_TOKENS


def mask_batch(
    ids: np.ndarray, *, vocab_size: int, probability: float, random: np.random.Generator
) -> Batch:
    """Choose tokens as targets and hide them, as BERT does (Devlin et al. 2019, section 3.1).

    Each token that is not special becomes a target with `probability`; of the targets 80%
    are replaced by [MASK], 10% by a random token, 10% are left. Documents stand between
    [CLS] and [SEP].

    Args:
        ids: (batch, time) token ids, int64, documents between [BOS] and [EOS].
        vocab_size: random replacements are drawn from the non-special part of it.
        probability: share of tokens to be predicted.
        random: where chance comes from.
    """
    starts = ids == BOS
    index = np.arange(ids.shape[1])
    segment_starts = np.maximum.accumulate(np.where(starts, index, 0), axis=1)
    hidden, labels = _hide(ids, vocab_size, probability, random)
    return Batch(
        input_ids=torch.from_numpy(hidden),
        labels=torch.from_numpy(labels),
        segment_ids=torch.from_numpy(1 + np.cumsum(starts, axis=1, dtype=np.int64)),
        position_ids=torch.from_numpy(index - segment_starts),
    )


def _hide(
    ids: np.ndarray,
    vocab_size: int,
    probability: float,
    random: np.random.Generator,
    *,
    in_each: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """The ids with some hidden (in each row at least one, if that is wanted), those as labels."""
    special = ids < len(SPECIAL_TOKENS)
    chances = np.where(special, 1.0, random.random(ids.shape))
    target = chances < probability
    if in_each:
        least = chances.min(1, keepdims=True)
        target |= (chances == least) & (least < 1)
    labels = np.where(target, ids, IGNORE)
    fate = random.random(ids.shape)
    replacement = random.integers(len(SPECIAL_TOKENS), vocab_size, size=ids.shape)
    hidden = np.where(target & (fate < 0.8), MASK, ids)
    hidden = np.where(target & (fate >= 0.8) & (fate < 0.9), replacement, hidden)
    return np.where(ids == BOS, CLS, np.where(ids == EOS, SEP, hidden)), labels


@dataclass(frozen=True)
class Hidden:
    """How tokens of batches that are laid out already are hidden."""

    vocab_size: int
    probability: float
    seed: int

    def of(self, batch: Batch, split: int, index: int) -> Batch:
        """The batch with some tokens hidden, the same ones for the same split and index."""
        random = np.random.default_rng([self.seed, split, index])
        ids = batch.input_ids.numpy()
        # Rows may be short: one without a target would teach nothing.
        hidden, labels = _hide(ids, self.vocab_size, self.probability, random, in_each=True)
        return replace(batch, input_ids=torch.from_numpy(hidden), labels=torch.from_numpy(labels))


@dataclass(frozen=True)
class MaskedRows:
    """Masked language modelling over the rows of another source (a `BatchSource`)."""

    source: BatchSource
    hidden: Hidden

    @property
    def batch_size(self) -> int:
        return self.source.batch_size

    @property
    def sequence_length(self) -> int:
        return self.source.sequence_length

    @property
    def batches_per_epoch(self) -> float:
        return self.source.batches_per_epoch

    def fingerprint(self) -> dict[str, object]:
        return {**self.source.fingerprint(), "mask_probability": self.hidden.probability}

    def batch(self, index: int) -> Batch:
        return self.hidden.of(self.source.batch(index), 1, index)


@dataclass(frozen=True)
class MaskedHeldOutRows:
    """Held-out batches with the same tokens hidden at every evaluation."""

    source: Iterable[Batch]
    hidden: Hidden

    def __iter__(self) -> Iterator[Batch]:
        for index, batch in enumerate(self.source):
            yield self.hidden.of(batch, 2, index)


@dataclass(frozen=True)
class MaskedWindows:
    """Masked language modelling over the training stream (a `BatchSource`).

    The masks of a batch depend on the seed and its index alone, so every epoch
    hides other tokens and a continued run hides the same.
    """

    source: TokenWindows
    vocab_size: int
    probability: float
    seed: int

    @property
    def batch_size(self) -> int:
        return self.source.batch_size

    @property
    def sequence_length(self) -> int:
        return self.source.sequence_length

    @property
    def batches_per_epoch(self) -> float:
        return self.source.batches_per_epoch

    def fingerprint(self) -> dict[str, object]:
        return {**self.source.fingerprint(), "mask_probability": self.probability}

    def batch(self, index: int) -> Batch:
        return mask_batch(
            self.source.windows(index)[:, :-1],
            vocab_size=self.vocab_size,
            probability=self.probability,
            random=np.random.default_rng([self.seed, 1, index]),
        )


@dataclass(frozen=True)
class MaskedHeldOut:
    """The validation stream with the same tokens hidden at every evaluation."""

    source: HeldOutWindows
    vocab_size: int
    probability: float
    seed: int

    def __iter__(self) -> Iterator[Batch]:
        for index, windows in enumerate(self.source.windows()):
            yield mask_batch(
                windows[:, :-1],
                vocab_size=self.vocab_size,
                probability=self.probability,
                random=np.random.default_rng([self.seed, 2, index]),
            )
