"""Direct preference optimisation (DPO; Rafailov et al. 2023)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from chatgpt_cli.data.batch import Batch
from chatgpt_cli.data.pairs import HeldOutPairs, PairBatch
from chatgpt_cli.errors import DataError
from chatgpt_cli.model.transformer import Transformer, inference
from chatgpt_cli.training.device import Hardware
from chatgpt_cli.training.distributed import dealt, gather, interleaved, rank, world_size
from chatgpt_cli.training.objective import Loss, answer_segments, target_log_probabilities
from chatgpt_cli.training.validation import ValidationLoss


@dataclass(frozen=True)
class PreferenceLoss:
    """-log sigmoid(margin) of each pair, with margin = beta * (r(better) - r(worse)).

    r is log p(answer) - log p_before(answer), the answer's reward. With label smoothing
    e, a pair counts as the wrong way round with probability e: (1 - e) and e times the
    loss of either way (conservative DPO; Mitchell 2023). sft_weight times the mean nats per
    token of the better answer are added (RPO; Pang et al. 2024): DPO alone looks only at
    the difference, and may let both answers become less probable.
    """

    hardware: Hardware
    beta: float
    label_smoothing: float = 0.0
    sft_weight: float = 0.0

    def passes(self, _model: Transformer, batch: Batch, _step: int) -> Iterator[Batch]:
        """A batch is trained on once."""
        yield batch

    def count(self, batch: Batch) -> int:
        """The pairs."""
        return int(answer_segments(batch).sum()) // 2

    def __call__(self, model: Transformer, batch: Batch) -> Loss:
        """The loss of the batch's pairs, and sums of what tells how they are told apart.

        accuracy: the better answer has the higher reward (equal ones count half). margin:
        as above. better, worse: rewards in nats. A falling reward of the better answers
        means that they become less probable too.
        """
        assert isinstance(batch, PairBatch)
        now = target_log_probabilities(model, batch, self.hardware)  # (batch, time)
        moved = now - batch.reference
        answers = answer_segments(batch)  # (batch, segments)
        rewards = torch.zeros(answers.shape, device=moved.device)
        rewards = rewards.scatter_add(1, batch.segment_ids, moved)
        better, worse = rewards[0::2][answers[0::2]], rewards[1::2][answers[1::2]]  # (pairs,)
        margin = self.beta * (better - worse)
        e = self.label_smoothing
        loss = -(1 - e) * F.logsigmoid(margin) - e * F.logsigmoid(-margin)
        if self.sft_weight:
            loss = loss + self.sft_weight * _surprise(batch, now, answers)
        right = (margin > 0).float() + 0.5 * (margin == 0).float()
        sums = {
            "accuracy": right.sum(),
            "margin": margin.sum(),
            "better": better.sum(),
            "worse": worse.sum(),
        }
        return Loss(loss.sum(), sums)

    def validate(self, model: Transformer, batches: Iterable[Batch]) -> ValidationLoss:
        """The same of held-out pairs.

        Raises:
            DataError: if there are none.
        """
        pairs = 0
        # Of several processes each computes some batches; all add them up in their order.
        own: list[tuple[float, dict[str, float]]] = []
        with inference(model):
            for index, batch in enumerate(batches):
                pairs += self.count(batch)
                if index % world_size() == rank():
                    loss = self(model, batch.to(self.hardware.device))
                    sums = {name: float(value) for name, value in loss.sums.items()}
                    own.append((float(loss.total), sums))
        if not pairs:
            raise DataError("there are no pairs to validate with", place="prefer.validation_data")
        found = interleaved(gather(own))
        mean = sum(value for value, _ in found) / pairs
        means = {name: sum(sums[name] for _, sums in found) / pairs for name in found[0][1]}
        return ValidationLoss(mean, None, means["accuracy"], pairs, means)


def set_reference(model: Transformer, held: HeldOutPairs, hardware: Hardware) -> None:
    """Compute once what every pair's answers are worth to the model before it is trained."""
    batches = list(held.bins())

    def judge(some: list[list[list[int]]]) -> list[Tensor]:
        rows = [held.pairs.rows(bins, held.sequence_length) for bins in some]
        return [
            target_log_probabilities(model, batch.to(hardware.device), hardware).cpu()
            for batch in rows
        ]

    with inference(model):
        for bins, values in zip(batches, dealt(batches, judge), strict=True):
            held.pairs.set_reference(bins, values)


def _surprise(batch: Batch, found: Tensor, answers: Tensor) -> Tensor:
    """The mean nats per token of each better answer: (pairs,).

    Args:
        batch: pairs of rows.
        found: (batch, time) log-probabilities of the labels.
        answers: see `answer_segments`.
    """
    segments, labels = batch.segment_ids[0::2], (batch.labels[0::2] >= 0).float()
    empty = torch.zeros(answers[0::2].shape, device=found.device)
    tokens = empty.scatter_add(1, segments, labels)
    total = empty.scatter_add(1, segments, found[0::2] * labels)
    return -(total / tokens.clamp_min(1))[answers[0::2]]
