"""The loss on text that training does not see."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from chatgpt_cli.command_line import same_run
from chatgpt_cli.data.batch import Batch
from chatgpt_cli.errors import DataError
from chatgpt_cli.model.transformer import Transformer
from chatgpt_cli.training.device import Hardware
from chatgpt_cli.training.distributed import gather, rank, world_size


@dataclass(frozen=True)
class ValidationLoss:
    """What a model does on held-out text.

    `nats_per_token` depends on the tokenizer; `bits_per_byte` does not: the loss over
    the UTF-8 bytes that the targets stand for. None where targets stand for no bytes.
    """

    nats_per_token: float
    bits_per_byte: float | None
    accuracy: float
    tokens: int
    # What else an objective measures, by name.
    details: Mapping[str, float] = field(default_factory=dict)
    # What checkpoints are ranked by if not the loss; the lowest is the best.
    rank: float | None = None

    @property
    def perplexity(self) -> float:
        """exp of the loss, infinite where that overflows."""
        return math.exp(self.nats_per_token) if self.nats_per_token < 700 else math.inf


def evaluate_loss(
    model: Transformer, batches: Iterable[Batch], token_bytes: np.ndarray, hardware: Hardware
) -> ValidationLoss:
    """Mean loss over all targets of `batches`, without dropout and label smoothing.

    Args:
        model: left in the mode it was in.
        batches: held-out data.
        token_bytes: (vocab,) UTF-8 bytes that each token stands for.
        hardware: device and dtype of the multiplications.

    Raises:
        DataError: if there is not a single target.
    """
    return mean_loss(document_losses(model, batches, token_bytes, hardware))


def mean_loss(documents: np.ndarray) -> ValidationLoss:
    """The loss over all of `document_losses`.

    Raises:
        DataError: if there is not a single target.
    """
    nats, targets, size, correct = documents.sum(0).tolist()
    if targets == 0:
        raise DataError(
            "the validation data has no token to predict",
            place="data.validation_fraction",
            remedy="With few documents set data.split: tail, which keeps the end of the text "
            "aside, or name data.validation_sources; then "
            f"`chatgpt {same_run('preprocess')}` again.",
        )
    return ValidationLoss(
        nats_per_token=nats / targets,
        bits_per_byte=nats / math.log(2) / size if size else None,
        accuracy=correct / targets,
        tokens=int(targets),
    )


@torch.inference_mode()
def document_losses(
    model: Transformer, batches: Iterable[Batch], token_bytes: np.ndarray, hardware: Hardware
) -> np.ndarray:
    """Of each held-out document (documents, 4): nats, targets, their UTF-8 bytes, hits.

    A document begins where `Batch.begins` says; the arguments are those of `evaluate_loss`.
    Of several processes each computes some batches, and all have the same bits as one.
    """
    was_training = model.training
    model.eval()
    lengths = torch.from_numpy(token_bytes)
    # By batch, so that sums are added in the order of batches, whoever computed them.
    parts: dict[int, tuple[int, np.ndarray]] = {}
    begun = 0
    for index, batch in enumerate(batches):
        labels = batch.labels.flatten()
        owners = batch.begins.flatten().cumsum(0) + begun
        begun = int(owners[-1])
        positions = (labels >= 0).nonzero()[:, 0]
        if positions.numel() == 0 or index % world_size() != rank():
            continue
        with hardware.autocast():
            hidden = model(**batch.to(hardware.device).inputs())
        chosen = labels[positions]
        hidden = hidden.flatten(0, 1)[positions.to(hardware.device)]
        nats, hits = [], []
        for part, label in zip(torch.split(hidden, 2048), torch.split(chosen, 2048), strict=True):
            with hardware.autocast():
                logits = model.logits(part).float()  # (positions, vocab)
            label = label.to(hardware.device)
            nats.append(torch.nn.functional.cross_entropy(logits, label, reduction="none"))
            hits.append(logits.argmax(-1) == label)
        columns = (
            torch.cat(nats).cpu(),
            torch.ones(len(chosen)),
            lengths[chosen],
            torch.cat(hits).cpu(),
        )
        owners = owners[positions]
        first = int(owners[0])
        counted = [np.bincount(owners - first, column.double()) for column in columns]
        parts[index] = first, np.stack(counted, axis=1)
    model.train(was_training)
    documents = np.zeros((begun + 1, 4))
    everywhere = {index: part for said in gather(parts) for index, part in said.items()}
    for _, (first, sums) in sorted(everywhere.items()):
        documents[first : first + len(sums)] += sums
    # Text before the first document's start and documents without a target are none.
    return documents[documents[:, 1] > 0]
