"""Preference training: an assistant and pairs of answers in, a preferred assistant out."""

from __future__ import annotations

from chatgpt_cli.config.paths import RunPaths
from chatgpt_cli.config.schema import Config
from chatgpt_cli.data.preferences import load_pairs
from chatgpt_cli.errors import ConfigError
from chatgpt_cli.interop.base import require_writer
from chatgpt_cli.interop.locate import locate_start
from chatgpt_cli.training.base import Base
from chatgpt_cli.training.device import as_before, choose_hardware
from chatgpt_cli.training.dpo import PreferenceLoss, set_reference
from chatgpt_cli.training.effort import Effort
from chatgpt_cli.training.events import Note, Observer
from chatgpt_cli.training.loop import Result, Trainer
from chatgpt_cli.training.samples import Sampler
from chatgpt_cli.training.start import Finished, Mode, open_stage


def prefer(config: Config, paths: RunPaths, *, mode: Mode, observe: Observer) -> Result | Finished:
    """Train the run's assistant on pairs of a better and a worse answer.

    Raises:
        ConfigError: no pairs are named, or an earlier run is in the way.
        ModelError: if there is no model yet.
        DataError: rows that cannot be used.
        TrainingError: see `Trainer.run`.
    """
    section = config.prefer
    if not section.data:
        raise ConfigError(
            "prefer.data names no pairs to learn from",
            remedy="Add files of rows with prompt, chosen and rejected, such as "
            "`data: [my-pairs.jsonl]` under prefer.",
        )
    base = Base.load(locate_start(paths, "prefer", base=config.model.from_), config)
    model, tokenizer, shape = base.loaded.model, base.loaded.tokenizer, base.loaded.config
    require_writer(shape, str(base.located.folder))
    length = config.sequence_length(section, shape.context_length)
    pairs = load_pairs(
        section, tokenizer, length, system_prompt=config.finetune.system_prompt, seed=config.seed
    )
    for text in pairs.notes:
        observe(Note(text))
    fingerprint = base.fingerprint(config, shape, section.lora, pairs.train)
    settings: dict[str, object] = section.model_dump(mode="json")
    start = open_stage(
        paths.prefer, mode=mode, fingerprint=fingerprint, settings=settings, observe=observe
    )
    if isinstance(start, Finished):
        return start
    effort = Effort.of(section, pairs.train, shape.flops_per_token(), config.hardware)
    hardware = choose_hardware(
        as_before(config.hardware, start.progress.chosen if start else {}),
        context_length=length,
        long_run=effort.is_long,
    )
    # Now the weights are those before training, also where a run goes on.
    model.to(hardware.device).set_attention(hardware.attention)
    for split in (pairs.learnt, pairs.validation):
        set_reference(model, split, hardware)
    observe(Note("The model before training has judged every answer once"))
    return Trainer(
        model=base.to_train("prefer", config, model, section.lora, start, observe),
        tokenizer=tokenizer,
        objective=PreferenceLoss(
            hardware, section.beta, section.label_smoothing, section.sft_weight
        ),
        section=section,
        train=pairs.train,
        validation=pairs.validation,
        hardware=hardware,
        stage=paths.prefer,
        fingerprint=fingerprint,
        settings=settings,
        observe=observe,
        sample=Sampler(tokenizer, hardware, "chat", config.seed),
        seed=config.seed,
    ).run(start)
