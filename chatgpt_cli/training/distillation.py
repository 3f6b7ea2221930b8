"""Distillation: a small model learns the probabilities of a larger one (Hinton et al. 2015)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from chatgpt_cli.config.schema import DistillSection
from chatgpt_cli.data.batch import Batch
from chatgpt_cli.errors import ConfigError
from chatgpt_cli.interop.huggingface import load_model, weights_hash
from chatgpt_cli.interop.locate import Stage, locate_named
from chatgpt_cli.model.transformer import Transformer
from chatgpt_cli.tokenizer.tokenizer import Tokenizer
from chatgpt_cli.training.device import Hardware
from chatgpt_cli.training.loss import CHUNK
from chatgpt_cli.training.objective import Loss, TokenLoss
from chatgpt_cli.training.validation import ValidationLoss


@dataclass(frozen=True)
class Teacher:
    """The larger model, how its probabilities are learnt, and its weights' hash."""

    model: Transformer
    section: DistillSection
    hash: str

    @classmethod
    def load(
        cls,
        section: DistillSection,
        tokenizer: Tokenizer,
        *,
        causal: bool,
        length: int,
        stage: Stage,
    ) -> Teacher:
        """Read the model that a configuration names.

        Args:
            section: names the teacher.
            tokenizer: the student's.
            causal: whether the student is a causal model.
            length: the tokens of a sequence that both read.
            stage: whose model is taken if the teacher is a run directory.

        Raises:
            ConfigError: if teacher and student do not see the same tokens in the same way.
            ModelError: if there is no such model.
        """
        folder = locate_named(section.teacher, stage)
        loaded = load_model(folder)
        if loaded.tokenizer.hash != tokenizer.hash:
            raise ConfigError(
                "teacher and student have different tokenizers: their probabilities are of "
                "different tokens",
                place=str(folder),
                remedy=f"Set tokenizer.path to {folder}, preprocess and pretrain again; or let "
                "the teacher write answers with `chatgpt distill-data`, which any model can learn.",
            )
        if loaded.config.causal != causal:
            raise ConfigError(
                "of teacher and student one is causal and the other is not", place=str(folder)
            )
        if loaded.config.context_length < length:
            raise ConfigError(
                f"the teacher's context ({loaded.config.context_length}) is shorter than the "
                f"sequences ({length} tokens)",
                place=str(folder),
                remedy="Set a shorter sequence_length, or take a teacher that reads as much.",
            )
        loaded.model.requires_grad_(False)
        return cls(loaded.model, section, weights_hash(folder))

    def ready(self, hardware: Hardware) -> Teacher:
        """The same, where and how the student is computed."""
        self.model.to(hardware.device).eval()
        self.model.set_attention(hardware.attention)
        return self


@dataclass(frozen=True)
class DistilledLoss:
    """(1 - w) * cross entropy with the labels + w * T^2 * KL(teacher || student), both at T.

    The value is the cross entropy alone, so that it stays comparable with training
    without a teacher; the gradient is that of the whole.
    """

    plain: TokenLoss
    teacher: Teacher

    def passes(self, model: Transformer, batch: Batch, step: int) -> Iterator[Batch]:
        """As those of the loss without a teacher."""
        return self.plain.passes(model, batch, step)

    def count(self, batch: Batch) -> int:
        """The targets."""
        return self.plain.count(batch)

    def validate(self, model: Transformer, batches: Iterable[Batch]) -> ValidationLoss:
        """The loss on the labels alone."""
        return self.plain.validate(model, batches)

    def __call__(self, model: Transformer, batch: Batch) -> Loss:
        """The loss, and as `teacher_kl` the divergence at the temperature, in nats."""
        labels = batch.labels.flatten()
        chosen = (labels >= 0).nonzero()[:, 0]
        features = self._features(model, batch, chosen)
        with torch.no_grad():
            taught = self._features(self.teacher.model, batch, chosen)
        section = self.teacher.section
        nll, divergence = _LinearDistillation.apply(  # type: ignore[no-untyped-call]
            features,
            model.output_weight,
            labels[chosen],
            taught,
            self.teacher.model.output_weight,
            section.weight,
            section.temperature,
            self.plain.label_smoothing,
            self.plain.hardware.dtype,
        )
        return Loss(nll, {"teacher_kl": divergence})

    def _features(self, model: Transformer, batch: Batch, chosen: Tensor) -> Tensor:
        with self.plain.hardware.autocast():
            hidden = model(**batch.inputs())
            return model.features(hidden.flatten(0, 1)[chosen])


class _LinearDistillation(torch.autograd.Function):
    """Both models' logits exist for a chunk of positions at a time, so the teacher's whole
    distribution can be learnt, not only its most probable tokens."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        labels: Tensor,
        taught: Tensor,
        teacher_weight: Tensor,
        share: float,
        temperature: float,
        smoothing: float,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        x, w = features.to(dtype), weight.to(dtype)
        y, v = taught.to(dtype), teacher_weight.to(dtype)
        by_features = torch.empty_like(features)
        learn_weight = ctx.needs_input_grad[1]
        by_weight = torch.zeros_like(weight, dtype=torch.float32) if learn_weight else None
        nll = torch.zeros((), device=x.device)
        divergence = torch.zeros((), device=x.device)
        for start in range(0, x.shape[0], CHUNK):
            part = slice(start, start + CHUNK)
            columns = labels[part, None]
            logits = (x[part] @ w.T).float()  # (positions, vocab)
            log_student = (logits / temperature).log_softmax(-1)
            log_teacher = ((y[part] @ v.T).float() / temperature).log_softmax(-1)
            target = log_teacher.exp()
            divergence += (target * (log_teacher - log_student)).sum()
            # d KL(teacher || student) / d logits = (student - teacher) / T
            soft = (log_student.exp() - target) * (share * temperature)
            log_plain = logits.log_softmax(-1)
            nll -= log_plain.gather(1, columns).sum()
            gradient = log_plain.exp_()
            if smoothing:
                gradient -= smoothing / w.shape[0]
            hit = torch.full_like(columns, smoothing - 1, dtype=torch.float32)
            gradient.scatter_add_(1, columns, hit).mul_(1 - share).add_(soft)
            rounded = gradient.to(dtype)
            by_features[part] = rounded @ w
            if by_weight is not None:
                by_weight += rounded.T @ x[part]
        ctx.save_for_backward(by_features, by_weight)
        ctx.mark_non_differentiable(divergence)
        return nll, divergence

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        by_features, by_weight = ctx.saved_tensors
        weight_gradient = None if by_weight is None else by_weight * outputs[0]
        return by_features * outputs[0], weight_gradient, *[None] * 7
