"""Which model and which method suit a task, an amount of data and a budget."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from chatgpt_cli.config.model import PRESETS, ModelConfig
from chatgpt_cli.config.schema import Config
from chatgpt_cli.planning.estimate import COMPUTE_OPTIMAL, StageEstimate, optimal_tokens
from chatgpt_cli.training.effort import FEW_STEPS

Task = Literal["text", "chat", "qa", "translation", "classification"]

SIZES = ("nano", "tiny", "small", "medium", "base", "large")
# Repetitions after which text has little left to teach: Muennighoff et al. 2023, "Scaling
# Data-Constrained Language Models" (four epochs are nearly as good as fresh text), and
# their constant for how its value decays.
_GOOD_EPOCHS = 4
_REPETITION = 15.4
# Text from which a model of one's own learns a language, not only its subjects: the
# smallest models that write plain English (Eldan & Li 2023) read about half a billion tokens.
_LANGUAGE_TOKENS = 100_000_000
# A model from which on the memory for training all of it is worth a word.
_LORA_PARAMETERS = 50_000_000


@dataclass(frozen=True)
class SizeChoice:
    """A preset in a given time: what it would read, and whether it is expected to do best."""

    preset: str
    parameters: int
    tokens: float
    epochs: float
    optimal_seconds: float
    best: bool


def compare_sizes(
    config: Config, estimate: StageEstimate, text_tokens: int, seconds: float
) -> list[SizeChoice]:
    """All sizes in the same time on the same text, at the speed that was measured.

    The speed is carried over by FLOPs, so that it is about right for sizes near the
    measured one. The best has the least loss by the law of Hoffmann et al. 2022 with the
    constants of Besiroglu et al. 2024, repeated text counted as by Muennighoff et al. 2023.
    """
    rate = estimate.flops / (estimate.tokens / estimate.tokens_per_second)
    made = []
    for preset in SIZES:
        section = config.model.model_copy(update={"preset": preset, **_sizes_open()})
        shape = section.build(vocab_size=config.tokenizer.vocab_size)
        tokens = seconds * rate / shape.flops_per_token()
        made.append((_loss(shape, tokens, text_tokens), preset, shape, tokens))
    best = min(made)[1]
    return [
        SizeChoice(
            preset=preset,
            parameters=shape.num_parameters(),
            tokens=tokens,
            epochs=tokens / text_tokens,
            optimal_seconds=optimal_tokens(shape) * shape.flops_per_token() / rate,
            best=preset == best,
        )
        for _, preset, shape, tokens in made
    ]


def _sizes_open() -> dict[str, None]:
    """What a preset brings itself, so that another one is not built with this one's sizes."""
    sizes = set().union(*(PRESETS[name] for name in SIZES)) | {"head_dim", "intermediate_size"}
    return dict.fromkeys(sizes - {"vocab_size"})


def _loss(shape: ModelConfig, tokens: float, unique: int) -> float:
    """Nats per token by the law; good for comparing sizes, not for foretelling a loss."""
    repeats = max(tokens / unique - 1, 0.0)
    worth = min(tokens, unique) + unique * _REPETITION * (1 - math.exp(-repeats / _REPETITION))
    parameters = shape.num_parameters(embeddings=False)
    return float(1.8172 + 482.01 / parameters**0.3478 + 2085.43 / worth**0.3658)


def advise(
    config: Config,
    estimates: list[StageEstimate],
    sizes: list[SizeChoice],
    *,
    task: Task,
    text_tokens: int | None,
    free_memory: int | None,
) -> list[str]:
    """What to change, each with its reason; empty if nothing is to be said."""
    said = []
    by_name = {estimate.name: estimate for estimate in estimates}
    pretrain, finetune = by_name.get("pretrain"), by_name.get("finetune")
    if pretrain is not None:
        said += _on_text(pretrain, sizes, own=config.model.from_ is None)
    own = config.model.from_ is None and task in ("chat", "qa", "text")
    if own and text_tokens is not None and text_tokens < _LANGUAGE_TOKENS:
        said.append(
            f"The text has {text_tokens:,} tokens: a model trained on it alone knows what "
            "stands in it, and little else. To talk about anything else, start from a model "
            "that speaks already: model.from: smollm2 (English), or a Qwen folder or name "
            "(Chinese), with finetune.lora: {}."
        )
    if task == "classification" and config.pretrain.objective == "causal":
        said.append(
            "To classify only, a bidirectional model reads the whole text at once: model.preset: "
            "bert with pretrain.objective: masked."
        )
    if task == "translation" and config.model.from_ is None:
        said.append(
            "Translation is learnt from pairs: 27,000 short ones give a BLEU of 31 to 35 in 80 "
            "minutes of one core, and rare words stay wrong. More pairs help more than more time."
        )
    full = finetune is not None and config.finetune.lora is None
    if finetune is not None and full and finetune.parameters >= _LORA_PARAMETERS:
        held = 16 * finetune.parameters / 1e9  # weight, gradient and AdamW's two numbers
        said.append(
            f"Finetuning all {finetune.parameters:,} parameters holds {held:.1f} GB of weights, "
            "gradients and optimizer; finetune.lora: {} a quarter of that, and it forgets less."
        )
    for estimate in estimates:
        said += _few_steps(config, estimate)
        if free_memory is not None and estimate.memory > free_memory:
            said.append(
                f"{estimate.name} needs about {estimate.memory / 1e9:.1f} GB and "
                f"{free_memory / 1e9:.1f} GB are free: set a smaller micro_batch_size, "
                "hardware.gradient_checkpointing: true, or a smaller model."
            )
    return said


def _few_steps(config: Config, estimate: StageEstimate) -> list[str]:
    section = config.pretrain if estimate.name == "pretrain" else config.finetune
    if section.budget.unit != "epochs" or estimate.steps >= FEW_STEPS:
        return []
    return [
        f"{estimate.name} is {math.ceil(estimate.steps)} steps of {section.batch_size} sequences, "
        f"too few to learn much: set a smaller {estimate.name}.batch_size, or more epochs."
    ]


def _on_text(pretrain: StageEstimate, sizes: list[SizeChoice], *, own: bool) -> list[str]:
    """Of how often the text is read; whether it is enough only for a model from nothing."""
    said = []
    best = next((choice for choice in sizes if choice.best), None)
    if best is not None and not 0.6 < best.parameters / pretrain.parameters < 1.7:
        said.append(
            f"In this time and with this text a model of preset {best.preset} "
            f"({best.parameters:,} parameters) is expected to learn most."
        )
    if pretrain.epochs > _GOOD_EPOCHS + 1:
        said.append(
            f"The text is read {pretrain.epochs:.0f} times; after {_GOOD_EPOCHS} it teaches less "
            "each time. More text helps most; else pretrain.dropout: 0.1 to 0.2, and leave "
            "early_stopping on."
        )
    per_parameter = pretrain.tokens / pretrain.parameters
    if own and per_parameter < COMPUTE_OPTIMAL / 10:
        said.append(
            f"The budget reads {per_parameter:.1f} tokens for each parameter; compute is best "
            f"spent at about {COMPUTE_OPTIMAL}. A smaller model would be better after the same "
            "time, or this one after a longer one."
        )
    return said
