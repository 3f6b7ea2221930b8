"""Rows made a little different each time: what is asked loses a few words."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from chatgpt_cli.data.batch import IGNORE, Batch, BatchSource
from chatgpt_cli.tokenizer.special import MASK, SPECIAL_TOKENS

# Tokens of a hidden span, at most; all lengths are equally frequent.
_LONGEST = 5


@dataclass(frozen=True)
class SpanMasked:
    """Batches (a `BatchSource`) with spans of tokens replaced by [MASK], others each epoch.

    Only what is read is hidden: never a special token, nor one that is to be learnt. What
    is hidden depends on the seed and the batch's index alone. As augmentation such spans
    make a model use all of a text, where it would learn a few words of each row by heart
    (for pretraining: Joshi et al. 2020, SpanBERT).
    """

    source: BatchSource
    share: float
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
        return {**self.source.fingerprint(), "mask_spans": self.share}

    def batch(self, index: int) -> Batch:
        batch = self.source.batch(index)
        ids = batch.input_ids.numpy()
        random = np.random.default_rng([self.seed, 3, index])
        starts = random.random(ids.shape) < self.share * 2 / (1 + _LONGEST)
        lengths = random.integers(1, _LONGEST + 1, size=ids.shape)
        hidden = np.zeros_like(starts)
        for offset in range(_LONGEST):
            reached = starts & (lengths > offset)
            hidden[:, offset:] |= reached[:, : ids.shape[1] - offset]
        learnt = np.zeros_like(starts)
        learnt[:, 1:] = batch.labels.numpy()[:, :-1] != IGNORE
        hidden &= ~learnt & (ids >= len(SPECIAL_TOKENS))
        return replace(batch, input_ids=torch.from_numpy(np.where(hidden, MASK, ids)))
