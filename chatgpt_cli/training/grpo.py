"""Group relative policy optimisation (GRPO; Shao et al. 2024): learning from checked answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from chatgpt_cli.config.schema import ReinforceSection
from chatgpt_cli.data.batch import Batch
from chatgpt_cli.data.packing import pack
from chatgpt_cli.data.questions import AnswerBatch, Question, QuestionBatch, as_conversations
from chatgpt_cli.errors import DataError
from chatgpt_cli.generation.engine import Completion, complete
from chatgpt_cli.generation.sampling import Sampling
from chatgpt_cli.model.lora import adapter_off
from chatgpt_cli.model.transformer import Transformer, inference
from chatgpt_cli.tokenizer.tokenizer import Tokenizer
from chatgpt_cli.training.device import Hardware
from chatgpt_cli.training.objective import Loss, answer_segments, target_log_probabilities
from chatgpt_cli.training.rewards import Reward
from chatgpt_cli.training.validation import ValidationLoss

# Answers written at a time, and rows of them read at a time without gradients.
_WRITTEN = 128
_READ = 16


@dataclass(frozen=True)
class ReinforcedAnswers:
    """The model answers every question several times and learns from how these compare.

    An answer's advantage A is its reward less the mean of its group. Each of its tokens
    adds -min(r A, clip(r, 1 - c, 1 + c) A) to the loss, r being its probability now over
    that when it was written, and kl * (q - log q - 1), q being its probability before
    training over that now (Schulman's estimate of KL(now || before)). The sum over all
    tokens is divided by the number of answers, a constant: neither by each answer's
    length nor by the group's deviation, as Dr. GRPO (Liu et al. 2025) shows one should.
    """

    section: ReinforceSection
    hardware: Hardware
    tokenizer: Tokenizer
    questions: Sequence[Question]
    held_out: Sequence[Question]
    reward: Reward
    sequence_length: int
    seed: int
    # The model before training, where kl needs it and it is not this one without adapter.
    before: Transformer | None = None

    # ----------------------------------------------------------- writing and marking

    def passes(self, model: Transformer, batch: Batch, step: int) -> Iterator[Batch]:
        """Write answers, mark them, and give them out for each update."""
        assert isinstance(batch, QuestionBatch)
        asked = [self.questions[number] for number in batch.numbers.tolist()]
        size = self.section.group_size
        repeated = [question for question in asked for _ in range(size)]
        # Another part of the generator's numbers in each step, the same after a resume.
        seed = (self.seed * 1_000_003 + step * len(repeated)) % 2**62
        written = self._write(model, repeated, self.section.temperature, seed)
        rewards = torch.tensor(
            [self.reward(one.text, q) for one, q in zip(written, repeated, strict=True)]
        )
        groups = rewards.view(-1, size)  # (questions, group)
        advantages = (groups - groups.mean(1, keepdim=True)).flatten()
        answers = self._as_rows(repeated, written, advantages, rewards)
        answers = self._with_probabilities(model, answers)
        for _ in range(self.section.updates):
            yield answers

    def _write(
        self, model: Transformer, questions: Sequence[Question], temperature: float, seed: int
    ) -> list[Completion]:
        sampling = Sampling(
            max_tokens=self.section.max_tokens, temperature=temperature, top_p=1.0, seed=seed
        )
        with inference(model):
            return complete(
                model,
                self.tokenizer,
                [list(question.ids) for question in questions],
                sampling,
                stop_ids=self.tokenizer.stop_ids,
                batch_size=_WRITTEN,
            )

    def _as_rows(
        self,
        questions: Sequence[Question],
        written: Sequence[Completion],
        advantages: Tensor,
        rewards: Tensor,
    ) -> AnswerBatch:
        """Questions and answers packed; an answer that ended by itself has its end as well."""
        end = self.tokenizer.turn_end_id
        answers = [[*one.ids, *[end] * (one.finish_reason == "stop")] for one in written]
        room = [self.sequence_length - len(answer) for answer in answers]
        asked = [question.ids[-left:] for question, left in zip(questions, room, strict=True)]
        data = as_conversations(asked, answers, self.tokenizer.pad_id)
        bins = pack(data.lengths, self.sequence_length)
        plain = data.rows(bins, self.sequence_length)
        # Segments are numbered from 2 in the order of a row's members; 0 is padding.
        table = np.zeros((2, len(bins), 2 + max(map(len, bins))), dtype=np.float32)
        for row, members in enumerate(bins):
            table[0, row, 2 : 2 + len(members)] = advantages[members]
            table[1, row, 2 : 2 + len(members)] = rewards[members]
        by_segment = torch.from_numpy(table)
        nothing = torch.zeros(plain.labels.shape)
        return AnswerBatch(
            plain.input_ids,
            plain.labels,
            plain.segment_ids,
            plain.position_ids,
            advantage=by_segment[0].gather(1, plain.segment_ids),
            old=nothing,
            reference=nothing,
            reward=by_segment[1].gather(1, plain.segment_ids),
        )

    def _with_probabilities(self, model: Transformer, answers: AnswerBatch) -> AnswerBatch:
        """With what is needed of the log-probabilities before the updates."""
        if self.section.updates > 1:
            answers = replace(answers, old=self._read(model, answers))
        if self.section.kl and self.before is not None:
            return replace(answers, reference=self._read(self.before, answers))
        if self.section.kl:
            with adapter_off(model):
                return replace(answers, reference=self._read(model, answers))
        return answers

    def _read(self, model: Transformer, answers: AnswerBatch) -> Tensor:
        with inference(model):
            parts = [
                target_log_probabilities(model, part.to(self.hardware.device), self.hardware)
                for part in answers.split(_READ)
            ]
        # Out of inference mode, where gradients may not flow past it.
        return torch.cat(parts).cpu().clone()

    # ----------------------------------------------------------------------- learning

    def count(self, batch: Batch) -> int:
        """The answers."""
        return int(answer_segments(batch).sum())

    def __call__(self, model: Transformer, batch: Batch) -> Loss:
        """The loss, and sums of each answer's reward, length, entropy and divergence."""
        assert isinstance(batch, AnswerBatch)
        now = target_log_probabilities(model, batch, self.hardware)  # (batch, time)
        real = batch.labels >= 0
        old = batch.old if self.section.updates > 1 else now.detach()
        ratio = (now - old).exp()
        limited = ratio.clamp(1 - self.section.clip, 1 + self.section.clip)
        gain = torch.minimum(ratio * batch.advantage, limited * batch.advantage)
        loss = -gain[real].sum()
        sums = {
            "reward": (batch.reward * _first(batch)).sum(),
            "length": real.sum(),
            "surprise": -now.sum(),
        }
        if self.section.kl:
            q = batch.reference - now
            divergence = (q.exp() - q - 1)[real].sum()
            loss = loss + self.section.kl * divergence
            sums["kl"] = divergence
        return Loss(loss, sums)

    def validate(self, model: Transformer, batches: Iterable[Batch]) -> ValidationLoss:
        """1 - the mean reward of the most probable answers to held-out questions.

        Raises:
            DataError: if there are none.
        """
        rewards = []
        for batch in batches:
            assert isinstance(batch, QuestionBatch)
            asked = [self.held_out[number] for number in batch.numbers.tolist()]
            written = self._write(model, asked, 0.0, 0)
            rewards += [self.reward(one.text, q) for one, q in zip(written, asked, strict=True)]
        if not rewards:
            raise DataError("there are no questions to validate with", place="reinforce.data")
        mean = sum(rewards) / len(rewards)
        return ValidationLoss(1 - mean, None, mean, len(rewards), {"reward": mean})


def _first(batch: Batch) -> Tensor:
    """Where each answer's first label is: (batch, time) bool."""
    real = batch.labels >= 0
    before = torch.zeros_like(real)
    same = batch.segment_ids[:, 1:] == batch.segment_ids[:, :-1]
    before[:, 1:] = real[:, :-1] & same
    return real & ~before
