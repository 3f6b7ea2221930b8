"""What a task of finetuning trains: which model, on which batches, towards what."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from chatgpt_cli.config.schema import Config
from chatgpt_cli.data.batch import Batch, BatchSource
from chatgpt_cli.data.labelled import load_labelled
from chatgpt_cli.data.masking import MaskedBatches, MaskedHeldOut, Masking
from chatgpt_cli.data.packed import HeldOutRows
from chatgpt_cli.data.sft import load_conversations
from chatgpt_cli.errors import ConfigError
from chatgpt_cli.interop.huggingface import LoadedModel
from chatgpt_cli.model.transformer import Transformer
from chatgpt_cli.training.pretrain import masking
from chatgpt_cli.training.samples import Style


@dataclass(frozen=True)
class FinetuneData:
    """A task of finetuning, ready for the loop."""

    model: Transformer
    train: BatchSource
    held_out: HeldOutRows
    # Bytes that each target stands for, none where targets are labels.
    target_bytes: np.ndarray
    style: Style
    notes: list[str]
    # Those that the training rows hold, each once; none of labelled texts.
    tokens: np.ndarray
    masking: Masking | None = None

    def validation(self, max_tokens: int) -> Iterable[Batch]:
        """What the model is validated with, of about so many tokens."""
        some = self.held_out.some(max_tokens)
        return some if self.masking is None else MaskedHeldOut(some, self.masking)


def load_task(config: Config, base: LoadedModel, *, length: int, place: str) -> FinetuneData:
    """Read the rows of `finetune.data` as the task wants them.

    Args:
        config: the project.
        base: the model to finetune.
        length: tokens of a sequence.
        place: where the model lies, for messages.

    Raises:
        ConfigError: if the model is of the wrong kind for the task, or another setting is.
        DataError: rows that cannot be used.
    """
    section, tokenizer = config.finetune, base.tokenizer
    if section.task == "classification":
        _only_whole_models(config)
        data = load_labelled(
            section, tokenizer, causal=base.config.causal, length=length, seed=config.seed
        )
        return FinetuneData(
            base.model.with_labels(data.labels),
            data.train,
            data.validation,
            np.zeros(len(data.labels), dtype=np.int64),
            "text",
            data.notes,
            np.zeros(0, dtype=np.int64),
        )
    masked = section.task == "masked_language_modeling"
    if base.config.causal == masked:
        raise _wrong_model(base, section.task, place)
    rows = load_conversations(section, tokenizer, length, seed=config.seed)
    hides = masking(config, tokenizer) if masked else None
    train: BatchSource = rows.train if hides is None else MaskedBatches(rows.train, hides)
    style: Style = "text" if section.task == "language_modeling" else "chat"
    return FinetuneData(
        base.model,
        train,
        rows.validation,
        tokenizer.token_bytes,
        style,
        rows.notes,
        rows.tokens,
        hides,
    )


def _only_whole_models(config: Config) -> None:
    section = config.finetune
    used = [
        name
        for name, there in (
            ("lora", section.lora is not None),
            ("distill", section.distill is not None),
            ("replay", section.replay > 0),
        )
        if there
    ]
    if used:
        raise ConfigError(
            f"finetune.task classification trains the whole model; finetune.{used[0]} does not "
            "go with it",
            remedy=f"Remove finetune.{used[0]}.",
        )


def _wrong_model(base: LoadedModel, task: str, place: str) -> ConfigError:
    if base.config.causal:
        return ConfigError(
            "the base model is causal: it continues text and does not fill masks",
            place=place,
            remedy="Set finetune.task: language_modeling, or pretrain with objective masked.",
        )
    return ConfigError(
        f"the base model is bidirectional (masked): it cannot write, as finetune.task {task} needs",
        place=place,
        remedy="Set finetune.task to classification or masked_language_modeling, or finetune a "
        "causal model: model.preset tiny with pretrain.objective causal.",
    )
