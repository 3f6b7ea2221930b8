"""Finetuning: a base model and supervised rows in, an assistant out."""

from __future__ import annotations

from chatgpt_cli.config.paths import RunPaths
from chatgpt_cli.config.schema import Config
from chatgpt_cli.data.replay import ReplayedBatches
from chatgpt_cli.data.rows import check_rows
from chatgpt_cli.errors import ConfigError
from chatgpt_cli.interop.locate import locate_start
from chatgpt_cli.training.adapter import unread_tokens
from chatgpt_cli.training.base import Base
from chatgpt_cli.training.device import as_before, choose_hardware
from chatgpt_cli.training.distillation import DistilledLoss, Teacher
from chatgpt_cli.training.effort import Effort
from chatgpt_cli.training.events import Note, Observer
from chatgpt_cli.training.finetune_task import load_task
from chatgpt_cli.training.loop import Prepared, Result, Trainer
from chatgpt_cli.training.objective import Objective, TokenLoss
from chatgpt_cli.training.pretrain import training_batches
from chatgpt_cli.training.samples import Sampler
from chatgpt_cli.training.scored import scored
from chatgpt_cli.training.start import Finished, Mode, open_stage


def finetune(
    config: Config, paths: RunPaths, *, mode: Mode, observe: Observer
) -> Result | Finished:
    """Train the project's base model on its rows, for `finetune.task`.

    Raises:
        ConfigError, ModelError, DataError: see `prepare`.
        TrainingError: see `Trainer.run`.
    """
    prepared = prepare(config, paths, mode=mode, observe=observe)
    return prepared if isinstance(prepared, Finished) else prepared.trainer.run(prepared.saved)


def prepare(
    config: Config, paths: RunPaths, *, mode: Mode, observe: Observer
) -> Prepared | Finished:
    """Everything for finetuning, loaded and chosen.

    Raises:
        ConfigError: no rows are named, the base is of the wrong kind for the task, or an
            earlier run is in the way.
        ModelError: if there is no base model yet.
        DataError: rows that cannot be used.
    """
    section = config.finetune
    if not section.data:
        raise ConfigError(
            "finetune.data names no rows to learn from",
            remedy="Add files of rows, such as `data: [my-rows.jsonl]` under finetune; "
            "`chatgpt inspect FILE` says which it can read.",
        )
    located = locate_start(paths, "finetune", base=config.model.from_)
    check_rows(section)
    base = Base.load(located, config)
    length = config.sequence_length(section, base.loaded.config.context_length)
    data = load_task(config, base.loaded, length=length, place=str(base.located.folder))
    for text in data.notes:
        observe(Note(text))
    tokenizer, shape = base.loaded.tokenizer, data.model.config
    train = data.train
    if section.replay:
        text_batches = training_batches(config, paths, tokenizer, section.batch_size, length)
        train = ReplayedBatches(train, text_batches, section.replay)
    fingerprint = base.fingerprint(config, shape, section.lora, train)
    teacher = None
    if section.distill is not None:
        teacher = Teacher.load(section.distill, tokenizer, causal=True, length=length, stage="auto")
        fingerprint["teacher"] = teacher.hash
    settings: dict[str, object] = section.model_dump(mode="json")
    start = open_stage(
        paths.finetune, mode=mode, fingerprint=fingerprint, settings=settings, observe=observe
    )
    if isinstance(start, Finished):
        return start
    # A checkpoint's adapter says itself which vectors it trains.
    new = section.lora is not None and start is None
    unread = unread_tokens(data.tokens, paths, located, tokenizer) if new else []
    model = base.to_train("finetune", config, data.model, section.lora, start, observe, unread)
    if section.freeze_layers > shape.num_layers:
        raise ConfigError(
            f"finetune.freeze_layers is {section.freeze_layers}, but the model has "
            f"{shape.num_layers} layers",
            remedy="Set fewer.",
        )
    model.freeze(section.freeze_layers, unseen_tokens=located.stage == "pretrain")
    effort = Effort.of(section, train, shape.flops_per_token(), config.hardware)
    hardware = choose_hardware(
        as_before(config.hardware, start.progress.chosen if start else {}),
        context_length=length,
        long_run=effort.is_long,
        int8_training="never" if section.lora else "if set" if config.model.from_ else "auto",
    )
    plain = TokenLoss(hardware, data.target_bytes, section.label_smoothing)
    objective: Objective = plain
    if teacher is not None:
        objective = DistilledLoss(plain, teacher.ready(hardware))
    trainer = Trainer(
        model=model,
        tokenizer=tokenizer,
        objective=scored(objective, config, tokenizer, shape, data.style),
        section=section,
        train=train,
        validation=data.validation(effort.evaluated_tokens(section)),
        hardware=hardware,
        stage=paths.finetune,
        fingerprint=fingerprint,
        settings=settings,
        observe=observe,
        sample=Sampler(tokenizer, hardware, data.style, config.seed),
        seed=config.seed,
    )
    return Prepared(trainer, start)
