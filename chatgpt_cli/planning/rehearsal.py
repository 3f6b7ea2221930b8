"""A rehearsal: each stage of a project for a few steps in a scratch folder, timed.

What a step costs depends on the model, the processor, the compiler and the memory in ways
that no formula holds; the training itself does. The rehearsal runs the same code on the
same rows and on a sample of the same text, so it also finds a fault of the configuration
or the data before the hours are spent.
"""

from __future__ import annotations

import itertools
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from chatgpt_cli.config.budget import Budget
from chatgpt_cli.config.model import ModelConfig
from chatgpt_cli.config.paths import RunPaths
from chatgpt_cli.config.schema import Config, SourceSection, TrainingSection
from chatgpt_cli.data.batch import Batch, BatchSource
from chatgpt_cli.data.preprocess import existing, find_sources, preprocess
from chatgpt_cli.data.problems import ProblemLog
from chatgpt_cli.data.survey import survey
from chatgpt_cli.diagnosis import matmul_rate
from chatgpt_cli.interop.base import starting_model
from chatgpt_cli.training import finetune, pretrain
from chatgpt_cli.training.device import Hardware
from chatgpt_cli.training.events import Evaluated, Event, Sampled, StepDone
from chatgpt_cli.training.loop import Prepared, Trainer
from chatgpt_cli.training.memory import sequence_bytes, static_bytes

Tell = Callable[[str], None]

# Seconds that the timed steps should take, and their least and greatest number. The first
# two are not counted: they compile, and fetch memory from the system.
_SECONDS = 12.0
_STEPS = (6, 60)
_WARM_UP = 2
# The rate of training, as a share of a plain matrix product's, to choose that number.
_ASSUMED_SHARE = 0.3


@dataclass(frozen=True)
class StageRehearsal:
    """What a stage is made of, and what its parts were measured to cost.

    Attributes:
        name: "pretrain" or "finetune".
        shape: the model.
        hardware: what it runs on.
        section: the stage's settings.
        trained: parameters that are trained.
        batches_per_epoch: optimizer steps in an epoch of the data.
        step_tokens: tokens in an optimizer step, padding included.
        micro_batch_size: sequences done at one time.
        step_seconds, evaluation_seconds, save_seconds: of one each.
        start_seconds: what compiling and the first steps take beyond that.
        memory: bytes, estimated: weights, gradients, optimizer, activations.
    """

    name: str
    shape: ModelConfig
    hardware: Hardware
    section: TrainingSection
    trained: int
    batches_per_epoch: float
    step_tokens: int
    micro_batch_size: int
    step_seconds: float
    evaluation_seconds: float
    save_seconds: float
    start_seconds: float
    memory: int


@dataclass(frozen=True)
class Rehearsal:
    """All stages that can be rehearsed, the tokens of text there are, and notes."""

    stages: list[StageRehearsal]
    text_tokens: int | None
    notes: list[str]


def rehearse(config: Config, paths: RunPaths, scratch: Path, tell: Tell) -> Rehearsal:
    """Try every stage for some seconds.

    Args:
        config: the project.
        paths: its files; they are read, never written.
        scratch: an empty folder, which the caller removes.
        tell: told what is being done.

    Raises:
        ChatGPTError: whatever the stages themselves would say of the configuration or data.
    """
    torch.manual_seed(config.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rate = max(matmul_rate(dtype, device, 0.5) for dtype in (torch.float32, torch.bfloat16))
    tell(f"A plain matrix product runs at {rate / 1e9:,.0f} GFLOP/s here")
    own = RunPaths(scratch)
    stages: list[StageRehearsal] = []
    notes: list[str] = []
    tokens = None
    if config.data.sources:
        tokens, here = _text(config, paths, own, tell)
        tell(f"Pretraining for a few steps ({tokens:,} tokens of text)")
        factor = tokens / max(here, 1)
        plan = _longer(config, factor)
        prepared = pretrain.prepare(plan, own, mode="new", observe=lambda _: None)
        assert isinstance(prepared, Prepared)
        stage = _measure("pretrain", prepared.trainer, rate)
        stages.append(
            replace(
                stage,
                section=config.pretrain,
                batches_per_epoch=stage.batches_per_epoch * factor,
            )
        )
    if config.finetune.data:
        base = _finetune_base(config, paths, own)
        if base is None:
            notes.append(
                "Finetuning is not planned: there is no base model, and no text to make one of."
            )
        else:
            tell("Finetuning for a few steps")
            ready = finetune.prepare(config, base, mode="restart", observe=lambda _: None)
            assert isinstance(ready, Prepared)
            trainer = replace(ready.trainer, stage=own.finetune)
            stages.append(_measure("finetune", trainer, rate))
    return Rehearsal(stages, tokens, notes)


# ------------------------------------------------------------------------- the text


def _text(config: Config, paths: RunPaths, scratch: RunPaths, tell: Tell) -> tuple[int, int]:
    """Put shards into the scratch folder; training tokens of all the text, and of these."""
    loaded = starting_model(config.model)
    tokenizer = None if loaded is None else loaded.tokenizer
    manifest = existing(config, paths, tokenizer)
    if manifest is not None:
        for name in ("tokenizer", "data"):
            (scratch.root / name).symlink_to((paths.root / name).resolve())
        tokens = int(manifest["splits"]["train"]["tokens"])
        return tokens, tokens
    sources = find_sources(config)
    if tokenizer is None and config.tokenizer.path is None:
        tell("Reading the text and making a tokenizer of a sample")
    else:
        tell("Reading the text")
    problems = ProblemLog(config.data.on_error, "data.on_error")
    found, sample = survey(
        sources, config.data, problems, sample_bytes=config.tokenizer.sample_bytes
    )
    sample = list(dict.fromkeys(sample))
    file = scratch.root / "sample.jsonl"
    with file.open("w", encoding="utf-8", errors="replace") as stream:
        stream.writelines(json.dumps({"text": text}) + "\n" for text in sample)
    data = config.data.model_copy(
        update={
            "sources": [SourceSection(path=str(file))],
            "validation_sources": [],
            "in_parts": False,
            "validation_fraction": config.data.validation_fraction or 0.02,
        }
    )
    only = config.model_copy(update={"data": data})
    made = preprocess(only, scratch, force=True, tell=lambda _: None, tokenizer=tokenizer).manifest
    splits = made["splits"]
    per_character = sum(split["tokens"] for split in splits.values()) / max(
        1, sum(map(len, sample))
    )
    return round(per_character * found.characters), int(splits["train"]["tokens"])


def _longer(config: Config, factor: float) -> Config:
    """The budget in epochs of a text `factor` times shorter, so that it is as long."""
    amount, unit = config.pretrain.budget
    if unit != "epochs":
        return config
    section = config.pretrain.model_copy(update={"budget": Budget(amount * factor, unit)})
    return config.model_copy(update={"pretrain": section})


def _finetune_base(config: Config, paths: RunPaths, scratch: RunPaths) -> RunPaths | None:
    """The run that finetuning would begin from: the rehearsed one, else the real one."""
    if scratch.pretrain.root.is_dir() or config.model.from_ is not None:
        return scratch
    (scratch.root / "pretrain").symlink_to(paths.pretrain.root.resolve())
    return scratch if paths.pretrain.root.is_dir() else None


# ------------------------------------------------------------------------ measuring


class _Stopwatch:
    """When each thing that the training loop tells of was done."""

    def __init__(self) -> None:
        self.events: list[tuple[float, Event]] = []

    def __call__(self, event: Event) -> None:
        self.events.append((time.perf_counter(), event))

    def times(self, kind: type[Event]) -> list[float]:
        return [when for when, event in self.events if isinstance(event, kind)]


@dataclass(frozen=True)
class _Part:
    """One and two micro-batches in turn instead of whole batches, where those are long."""

    whole: BatchSource
    micro_batch_size: int

    @property
    def batch_size(self) -> int:
        return 2 * self.micro_batch_size

    @property
    def sequence_length(self) -> int:
        return self.whole.sequence_length

    @property
    def batches_per_epoch(self) -> float:
        return self.whole.batches_per_epoch

    def fingerprint(self) -> dict[str, object]:
        return self.whole.fingerprint()

    def batch(self, index: int) -> Batch:
        count = self.micro_batch_size * (1 + index % 2)
        return next(iter(self.whole.batch(index).split(count)))


def _measure(name: str, trainer: Trainer, plain_rate: float) -> StageRehearsal:
    """Train for some steps, evaluate and save once, and take the times."""
    section, train, shape = trainer.section, trainer.train, trainer.model.config
    at_once = trainer.sequences_at_once()
    micro_batches = -(-train.batch_size // at_once)
    # Of many micro-batches, one and two tell what one costs and what the update does.
    source = _Part(train, at_once) if micro_batches > 2 else train
    sequences = 1.5 * at_once if micro_batches > 2 else train.batch_size
    flops = sequences * train.sequence_length * shape.flops_per_token()
    guess = flops / (_ASSUMED_SHARE * plain_rate)
    timed = min(max(int(_SECONDS / guess), _STEPS[0]), _STEPS[1])
    short = section.model_copy(
        update={
            "budget": Budget(_WARM_UP + timed, "steps"),
            "micro_batch_size": at_once,
            "eval_every": _WARM_UP + timed,
            "save_every": _WARM_UP + timed,
            # Two, so that one alone can be timed.
            "sample_prompts": section.sample_prompts[:1] * 2,
        }
    )
    watch = _Stopwatch()
    began = time.perf_counter()
    replace(trainer, section=short, train=source, observe=watch).run()
    ended = time.perf_counter()
    steps = watch.times(StepDone)
    durations = [after - before for before, after in itertools.pairwise(steps)]
    durations = durations[_WARM_UP - 1 :]
    if micro_batches > 2:
        # Batches of one and of two micro-batches alternate, beginning with one.
        one, two = durations[_WARM_UP % 2 :: 2], durations[(_WARM_UP + 1) % 2 :: 2]
        micro = max(statistics.median(two) - statistics.median(one), 0.0)
        step = statistics.median(one) + (micro_batches - 1) * micro
    else:
        step = statistics.median(durations)
    (evaluated,) = watch.times(Evaluated)
    samples = watch.times(Sampled)
    each = samples[1] - samples[0] if samples else 0.0
    evaluation = evaluated - steps[-1] + (len(section.sample_prompts) - 2 * bool(samples)) * each
    trained = sum(one.numel() for one in trainer.model.parameters() if one.requires_grad)
    adapter = None if trainer.model.adapter is None else trained
    activations = at_once * sequence_bytes(shape, trainer.hardware, train.sequence_length)
    return StageRehearsal(
        name=name,
        shape=shape,
        hardware=trainer.hardware,
        section=section,
        trained=trained,
        batches_per_epoch=train.batches_per_epoch,
        step_tokens=train.batch_size * train.sequence_length,
        micro_batch_size=at_once,
        step_seconds=step,
        evaluation_seconds=max(evaluation, 0.0),
        save_seconds=ended - evaluated,
        start_seconds=max(steps[_WARM_UP - 1] - began - _WARM_UP * step, 0.0),
        memory=static_bytes(shape, section.optimizer, adapter) + activations,
    )
