"""What training minimises: a batch in, a loss and its number of targets out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from chatgpt_cli.data.batch import Batch
from chatgpt_cli.model.transformer import Transformer
from chatgpt_cli.training.device import Hardware
from chatgpt_cli.training.loss import CHUNK, linear_cross_entropy


@dataclass(frozen=True)
class TokenLoss:
    """Cross entropy over the labels of a batch.

    Which tokens are labels makes the task: all next tokens (pretraining), hidden ones
    (masked language modelling), the assistant's (supervised finetuning).
    """

    hardware: Hardware
    label_smoothing: float = 0.0

    def __call__(self, model: Transformer, batch: Batch) -> Tensor:
        """Sum of the loss over the batch's targets, in nats."""
        with self.hardware.autocast():
            hidden = model(
                batch.input_ids, position_ids=batch.position_ids, segment_ids=batch.segment_ids
            )
        labels = batch.labels.flatten()
        hidden = hidden.flatten(0, 1)  # (positions, hidden)
        if self.hardware.device.type == "cpu":
            hidden, labels = _targets_only(hidden, labels)
        with self.hardware.autocast():
            features = model.features(hidden)
        return linear_cross_entropy(
            features,
            model.output_weight,
            labels,
            label_smoothing=self.label_smoothing,
            dtype=self.hardware.dtype,
        )


def _targets_only(hidden: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Leave out positions without a target, in whole chunks so that shapes recur.

    With a seventh of the tokens masked, or only answers counting, most of the output
    layer's work would be for nothing. On a GPU the count would have to be waited for.
    """
    chosen = (labels >= 0).nonzero()[:, 0]
    size = -(-chosen.numel() // CHUNK) * CHUNK
    if size >= labels.numel():
        return hidden, labels
    padding = size - chosen.numel()
    hidden = torch.nn.functional.pad(hidden[chosen], (0, 0, 0, padding))
    return hidden, torch.nn.functional.pad(labels[chosen], (0, padding), value=-100)
