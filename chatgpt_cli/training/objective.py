"""What training minimises: a batch in, a loss out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from chatgpt_cli.data.batch import Batch
from chatgpt_cli.model.transformer import Transformer
from chatgpt_cli.training.device import Hardware
from chatgpt_cli.training.loss import linear_cross_entropy, linear_log_probabilities
from chatgpt_cli.training.validation import ValidationLoss, evaluate_loss

# Positions that enter the output layer are so many times a number: shapes recur.
_POSITIONS = 128


@dataclass(frozen=True)
class Loss:
    """Sums over what a batch is averaged over (`Objective.count`), with the gradient in `total`."""

    total: Tensor
    # What else is worth a curve, each a sum too: "margin", "reward".
    sums: Mapping[str, Tensor] = field(default_factory=dict)


class Objective(Protocol):
    """What one kind of training has of its own in the loop."""

    def passes(self, model: Transformer, batch: Batch, step: int) -> Iterator[Batch]:
        """What one step updates the weights with, an update for each batch given out.

        Most objectives give out the batch; one that learns from the model's own answers
        lets it write them here. Everything follows from the weights, the batch and `step`.
        """

    def count(self, batch: Batch) -> int:
        """Of how many targets (or pairs, or answers) the loss is the mean."""

    def __call__(self, model: Transformer, batch: Batch) -> Loss:
        """The loss of a micro-batch on the model's device."""

    def validate(self, model: Transformer, batches: Iterable[Batch]) -> ValidationLoss:
        """How good the model is on data that it does not learn from."""


@dataclass(frozen=True)
class TokenLoss:
    """Cross entropy over the labels of a batch.

    Which tokens are labels makes the task: all next tokens (pretraining), hidden ones
    (masked language modelling), the assistant's (supervised finetuning).
    """

    hardware: Hardware
    # (vocab,) UTF-8 bytes that each token stands for.
    token_bytes: np.ndarray
    label_smoothing: float = 0.0

    def passes(self, _model: Transformer, batch: Batch, _step: int) -> Iterator[Batch]:
        """A batch is trained on once."""
        yield batch

    def count(self, batch: Batch) -> int:
        """The targets."""
        return int((batch.labels >= 0).sum())

    def validate(self, model: Transformer, batches: Iterable[Batch]) -> ValidationLoss:
        """The mean loss of held-out batches."""
        return evaluate_loss(model, batches, self.token_bytes, self.hardware)

    def __call__(self, model: Transformer, batch: Batch) -> Loss:
        """The negative log-likelihood of the targets, in nats."""
        with self.hardware.autocast():
            hidden = model(**batch.inputs())
        labels = batch.labels.flatten()
        hidden = hidden.flatten(0, 1)  # (positions, hidden)
        if self.hardware.device.type == "cpu":
            hidden, labels = _targets_only(hidden, labels)
        with self.hardware.autocast():
            features = model.features(hidden)
        return Loss(
            linear_cross_entropy(
                features,
                model.output_weight,
                labels,
                label_smoothing=self.label_smoothing,
                dtype=self.hardware.dtype,
            )
        )


def _targets_only(hidden: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Leave out positions without a target, all but those that fill up a multiple.

    With a seventh of the tokens masked, or only answers counting, most of the output
    layer's work would be for nothing. On a GPU the count would have to be waited for.
    """
    chosen = (labels >= 0).nonzero()[:, 0]
    size = -(-chosen.numel() // _POSITIONS) * _POSITIONS
    if size >= labels.numel():
        return hidden, labels
    padding = size - chosen.numel()
    hidden = torch.nn.functional.pad(hidden[chosen], (0, 0, 0, padding))
    return hidden, torch.nn.functional.pad(labels[chosen], (0, padding), value=-100)


def target_log_probabilities(model: Transformer, batch: Batch, hardware: Hardware) -> Tensor:
    """The log-probability (nats) of each label: (batch, time) float32, 0 where there is none.

    Logits exist for a chunk of positions at a time, in the backward pass too.
    """
    with hardware.autocast():
        hidden = model(**batch.inputs())
    labels = batch.labels.flatten()
    chosen = (labels >= 0).nonzero()[:, 0]
    with hardware.autocast():
        features = model.features(hidden.flatten(0, 1)[chosen])
    found = linear_log_probabilities(
        features, model.output_weight, labels[chosen], dtype=hardware.dtype
    )
    spread = torch.zeros(labels.shape, device=found.device).index_put((chosen,), found)
    return spread.view(batch.labels.shape)


def answer_segments(batch: Batch) -> Tensor:
    """Which segments of each row have labels: (batch, segments) bool; 0 is padding."""
    segments = int(batch.segment_ids.max()) + 1
    labels = torch.zeros(len(batch), segments, device=batch.labels.device, dtype=torch.int64)
    return labels.scatter_add(1, batch.segment_ids, (batch.labels >= 0).long()) > 0
