"""Pretraining: token shards in, base model out."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from chatgpt_cli.command_line import same_run
from chatgpt_cli.config.paths import RunPaths
from chatgpt_cli.config.schema import Config
from chatgpt_cli.data.batch import Batch, BatchSource
from chatgpt_cli.data.loader import HeldOutWindows, TokenWindows
from chatgpt_cli.data.masking import MaskedBatches, MaskedHeldOut, Masking
from chatgpt_cli.data.shards import Split, TokenShards
from chatgpt_cli.errors import DataError
from chatgpt_cli.interop.base import limitation, project_shape, starting_model
from chatgpt_cli.interop.huggingface import load_model
from chatgpt_cli.model.transformer import Transformer
from chatgpt_cli.tokenizer.tokenizer import Tokenizer
from chatgpt_cli.training.adapter import require_trainable
from chatgpt_cli.training.device import as_before, choose_hardware
from chatgpt_cli.training.distillation import DistilledLoss, Teacher
from chatgpt_cli.training.effort import Effort
from chatgpt_cli.training.events import Note, Observer
from chatgpt_cli.training.loop import Prepared, Result, Trainer
from chatgpt_cli.training.objective import Objective, TokenLoss
from chatgpt_cli.training.samples import Sampler
from chatgpt_cli.training.start import Finished, Mode, open_stage


def pretrain(
    config: Config, paths: RunPaths, *, mode: Mode, observe: Observer
) -> Result | Finished:
    """Train the base model of a project.

    Raises:
        ConfigError, DataError: see `prepare`.
        TrainingError: see `Trainer.run`.
    """
    prepared = prepare(config, paths, mode=mode, observe=observe)
    return prepared if isinstance(prepared, Finished) else prepared.trainer.run(prepared.saved)


def prepare(
    config: Config, paths: RunPaths, *, mode: Mode, observe: Observer
) -> Prepared | Finished:
    """Everything for pretraining, loaded and chosen.

    Raises:
        ConfigError: settings that do not fit the text, or an earlier run in the way.
        DataError: if the text was not preprocessed or is too short.
    """
    section = config.pretrain
    tokenizer = Tokenizer.load(paths.tokenizer)
    shape = project_shape(config.model, vocab_size=tokenizer.vocab_size)
    length = config.sequence_length(section, shape.context_length)
    train = training_batches(config, paths, tokenizer, section.batch_size, length)
    effort = Effort.of(section, train, shape.flops_per_token(), config.hardware)
    validation = held_out_batches(
        config, paths, tokenizer, max_tokens=effort.evaluated_tokens(section)
    )
    fingerprint: dict[str, object] = {
        "model": shape.model_dump(exclude={"dropout"}),
        "tokenizer": tokenizer.hash,
        "objective": section.objective,
        "seed": config.seed,
        "train": train.fingerprint(),
    }
    teacher = None
    if section.distill is not None:
        teacher = Teacher.load(
            section.distill, tokenizer, causal=shape.causal, length=length, stage="pretrain"
        )
        fingerprint["teacher"] = teacher.hash
    settings: dict[str, object] = section.model_dump(mode="json")
    start = open_stage(
        paths.pretrain, mode=mode, fingerprint=fingerprint, settings=settings, observe=observe
    )
    if isinstance(start, Finished):
        return start
    hardware = choose_hardware(
        as_before(config.hardware, start.progress.chosen if start else {}),
        context_length=length,
        long_run=effort.is_long,
        int8_training="auto" if config.model.from_ is None else "if set",
    )
    if (said := limitation(shape)) is not None:
        observe(Note(said, "warning"))
    if start is not None:
        model = load_model(start.folder).model
    elif (loaded := starting_model(config.model)) is not None:
        model = loaded.model
        require_trainable(model, Path(str(config.model.from_)), "finetune")
    else:
        model = Transformer(shape)
        model.initialize(config.seed)
    observe(
        Note(
            f"Model: {shape.num_parameters():,} parameters "
            f"({shape.num_parameters(embeddings=False):,} without embeddings)"
        )
    )
    plain = TokenLoss(hardware, tokenizer.token_bytes, section.label_smoothing)
    objective: Objective = plain
    if teacher is not None:
        objective = DistilledLoss(plain, teacher.ready(hardware))
    trainer = Trainer(
        model=model,
        tokenizer=tokenizer,
        objective=objective,
        section=section,
        train=train,
        validation=validation,
        hardware=hardware,
        stage=paths.pretrain,
        fingerprint=fingerprint,
        settings=settings,
        observe=observe,
        sample=Sampler(tokenizer, hardware, "text", config.seed),
        seed=config.seed,
    )
    return Prepared(trainer, start)


def training_batches(
    config: Config, paths: RunPaths, tokenizer: Tokenizer, batch_size: int, length: int
) -> BatchSource:
    """The training text of a run, for the objective of its pretraining.

    Raises:
        DataError: if it was not preprocessed with this tokenizer, or is too short.
    """
    section = config.pretrain
    shards = _shards(paths, "train", tokenizer)
    train = TokenWindows(shards, batch_size=batch_size, sequence_length=length, seed=config.seed)
    if section.objective == "causal":
        return train
    return MaskedBatches(train, masking(config, tokenizer))


def _shards(paths: RunPaths, split: Split, tokenizer: Tokenizer) -> TokenShards:
    """Raises DataError if there are none that this tokenizer made."""
    shards = TokenShards.open(paths.data, split)
    if shards.tokenizer_sha256 != tokenizer.hash:
        raise DataError(
            "the token shards were made with another tokenizer",
            place=str(paths.data),
            remedy=f"Run `chatgpt {same_run('preprocess', run=paths.root)}` again.",
        )
    return shards


def held_out_batches(
    config: Config, paths: RunPaths, tokenizer: Tokenizer, *, max_tokens: int | None
) -> Iterable[Batch]:
    """The validation text of a run, for the objective of its pretraining."""
    section = config.pretrain
    shape = project_shape(config.model, vocab_size=1)
    length = config.sequence_length(section, shape.context_length)
    windows = HeldOutWindows(
        _shards(paths, "validation", tokenizer),
        batch_size=max(1, 8192 // length),
        sequence_length=length,
        max_tokens=max_tokens,
    )
    if section.objective == "causal":
        return windows
    return MaskedHeldOut(windows, masking(config, tokenizer))


def masking(config: Config, tokenizer: Tokenizer) -> Masking:
    """Which tokens are hidden wherever a project's masked model is trained or measured."""
    return Masking(tokenizer.vocab_size, config.pretrain.mask_probability, config.seed)
