"""Finetuning: a base model and supervised rows in, an assistant out."""

from __future__ import annotations

from chatgpt_cli.config.paths import RunPaths
from chatgpt_cli.config.schema import Config
from chatgpt_cli.data.sft import load_conversations
from chatgpt_cli.errors import ConfigError
from chatgpt_cli.files import sha256
from chatgpt_cli.interop.huggingface import load_model
from chatgpt_cli.interop.locate import locate_model
from chatgpt_cli.training.device import as_before, choose_hardware
from chatgpt_cli.training.effort import Effort
from chatgpt_cli.training.events import Note, Observer
from chatgpt_cli.training.loop import Result, Trainer
from chatgpt_cli.training.samples import Sampler
from chatgpt_cli.training.start import Finished, Mode, open_stage


def finetune(
    config: Config, paths: RunPaths, *, mode: Mode, observe: Observer
) -> Result | Finished:
    """Train the project's base model on its supervised rows.

    Raises:
        ConfigError: no rows are named, the base is a masked model, or an earlier run is
            in the way.
        ModelError: if there is no base model yet.
        DataError: rows that cannot be used.
        TrainingError: see `Trainer.run`.
    """
    section = config.finetune
    if not section.data:
        raise ConfigError(
            "finetune.data names no rows to learn from",
            remedy="Add files of chat messages, Alpaca or ShareGPT rows, such as "
            "`data: [my-rows.jsonl]` under finetune.",
        )
    base = locate_model(paths, model=None, stage="pretrain").folder
    loaded = load_model(base)
    model, tokenizer, shape = loaded.model, loaded.tokenizer, loaded.config
    if not shape.causal:
        raise ConfigError(
            "the base model is bidirectional (masked): it cannot write answers",
            place=str(base),
            remedy="Finetune a causal model: model.preset tiny with pretrain.objective causal.",
        )
    length = section.sequence_length or shape.context_length
    conversations = load_conversations(section, tokenizer, length, seed=config.seed)
    for text in conversations.notes:
        observe(Note(text))
    fingerprint: dict[str, object] = {
        "model": shape.model_dump(exclude={"dropout"}),
        "tokenizer": tokenizer.hash,
        "base": sha256(base / "model.safetensors"),
        "seed": config.seed,
        "train": conversations.train.fingerprint(),
    }
    settings: dict[str, object] = section.model_dump(mode="json")
    start = open_stage(
        paths.finetune, mode=mode, fingerprint=fingerprint, settings=settings, observe=observe
    )
    if isinstance(start, Finished):
        return start
    if start is not None:
        model = load_model(start.folder).model
    effort = Effort.of(section, conversations.train, shape.flops_per_token(), config.hardware)
    hardware = choose_hardware(
        as_before(config.hardware, start.progress.chosen if start else {}),
        context_length=length,
        long_run=effort.is_long,
    )
    return Trainer(
        model=model,
        tokenizer=tokenizer,
        section=section,
        train=conversations.train,
        validation=conversations.validation.some(effort.evaluated_tokens(section)),
        hardware=hardware,
        stage=paths.finetune,
        fingerprint=fingerprint,
        settings=settings,
        observe=observe,
        sample=Sampler(model, tokenizer, hardware, "chat", config.seed),
        seed=config.seed,
    ).run(start)
