"""Hiding tokens for masked language modelling."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from chatgpt_cli.data.batch import IGNORE, Batch, BatchSource
from chatgpt_cli.tokenizer.special import BOS, CLS, EOS, MASK, SEP, SPECIAL_TOKENS

# What separates the chance of one split from that of the other.
_TRAINING, _VALIDATION = 1, 2


@dataclass(frozen=True)
class Masking:
    """Which tokens become targets and are hidden, as in BERT (Devlin et al. 2019, section 3.1).

    Each token that is not special becomes a target with `probability`, and in every row at
    least one does: a short row without any would teach nothing. Of the targets 80% are
    replaced by [MASK], 10% by a random token, 10% are left. Documents stand between [CLS]
    and [SEP].

    Attributes:
        vocab_size: random replacements are drawn from the non-special part of it.
        probability: share of tokens to be predicted.
        seed: with a batch's split and number it decides all of that batch.
    """

    vocab_size: int
    probability: float
    seed: int

    def of(self, batch: Batch, split: int, index: int) -> Batch:
        """The batch with tokens hidden, and those as its labels."""
        random = np.random.default_rng([self.seed, split, index])
        ids = batch.input_ids.numpy()  # (batch, time)
        chances = np.where(ids < len(SPECIAL_TOKENS), 1.0, random.random(ids.shape))
        least = chances.min(1, keepdims=True)
        target = (chances < self.probability) | ((chances == least) & (least < 1))
        fate = random.random(ids.shape)
        replacement = random.integers(len(SPECIAL_TOKENS), self.vocab_size, size=ids.shape)
        hidden = np.where(target & (fate < 0.8), MASK, ids)
        hidden = np.where(target & (fate >= 0.8) & (fate < 0.9), replacement, hidden)
        hidden = np.where(ids == BOS, CLS, np.where(ids == EOS, SEP, hidden))
        return replace(
            batch,
            input_ids=torch.from_numpy(hidden),
            labels=torch.from_numpy(np.where(target, ids, IGNORE)),
        )


@dataclass(frozen=True)
class MaskedBatches:
    """Masked language modelling over the batches of another source (a `BatchSource`).

    Every epoch hides other tokens, and a continued run hides the same.
    """

    source: BatchSource
    masking: Masking

    @property
    def batch_size(self) -> int:
        """Sequences in a batch."""
        return self.source.batch_size

    @property
    def sequence_length(self) -> int:
        """Tokens in a sequence."""
        return self.source.sequence_length

    @property
    def batches_per_epoch(self) -> float:
        """Batches until every row was seen once."""
        return self.source.batches_per_epoch

    def fingerprint(self) -> dict[str, object]:
        """The source's, and how much is hidden."""
        return {**self.source.fingerprint(), "mask_probability": self.masking.probability}

    def batch(self, index: int) -> Batch:
        """Batch `index` of the source with tokens hidden."""
        return self.masking.of(self.source.batch(index), _TRAINING, index)


@dataclass(frozen=True)
class MaskedHeldOut:
    """Held-out batches with the same tokens hidden at every evaluation."""

    source: Iterable[Batch]
    masking: Masking

    def __iter__(self) -> Iterator[Batch]:
        for index, batch in enumerate(self.source):
            yield self.masking.of(batch, _VALIDATION, index)
