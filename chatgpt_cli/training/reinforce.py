"""Reinforcement: an assistant and checkable questions in, one that is right more often out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from chatgpt_cli.config.paths import RunPaths
from chatgpt_cli.config.schema import Config, ReinforceSection, Rows
from chatgpt_cli.data.formats.conversations import ChatRow
from chatgpt_cli.data.problems import left_out
from chatgpt_cli.data.questions import HeldOutQuestions, Question, QuestionBatches, as_question
from chatgpt_cli.data.rows import RowReport, read_rows
from chatgpt_cli.data.split import divide_rows, text_of
from chatgpt_cli.errors import ConfigError, DataError
from chatgpt_cli.interop.base import require_writer
from chatgpt_cli.interop.huggingface import load_model
from chatgpt_cli.interop.locate import locate_start
from chatgpt_cli.tokenizer.tokenizer import Tokenizer
from chatgpt_cli.training.base import Base
from chatgpt_cli.training.device import as_before, choose_hardware
from chatgpt_cli.training.events import Note, Observer
from chatgpt_cli.training.grpo import ReinforcedAnswers
from chatgpt_cli.training.loop import Result, Trainer
from chatgpt_cli.training.rewards import reward_of
from chatgpt_cli.training.samples import Sampler
from chatgpt_cli.training.start import Finished, Mode, open_stage


def reinforce(
    config: Config, paths: RunPaths, *, mode: Mode, observe: Observer
) -> Result | Finished:
    """Let the run's assistant answer questions, and train it on which answers were right.

    Raises:
        ConfigError: no questions or no usable reward are named, or an earlier run is in
            the way.
        ModelError: if there is no model yet.
        DataError: rows that cannot be used.
        TrainingError: see `Trainer.run`.
    """
    section = config.reinforce
    if not section.data:
        raise ConfigError(
            "reinforce.data names no questions",
            remedy="Add files of conversations whose last answer is the right one, such as "
            "`data: [my-rows.jsonl]` under reinforce.",
        )
    reward = reward_of(section)
    base = Base.load(locate_start(paths, "reinforce", base=config.model.from_), config)
    tokenizer, shape = base.loaded.tokenizer, base.loaded.config
    require_writer(shape, str(base.located.folder))
    length = config.sequence_length(section, shape.context_length)
    asked, held_out, problems = _questions(
        section, tokenizer, length, config.finetune.system_prompt
    )
    observe(Note(f"Questions: {len(asked):,} to learn from, {len(held_out):,} to validate with"))
    for text in left_out(problems):
        observe(Note(text))
    train = QuestionBatches(
        asked,
        batch_size=section.batch_size,
        sequence_length=length,
        pad_id=tokenizer.pad_id,
        seed=config.seed,
    )
    fingerprint = base.fingerprint(config, shape, section.lora, train)
    settings: dict[str, object] = section.model_dump(mode="json")
    start = open_stage(
        paths.reinforce, mode=mode, fingerprint=fingerprint, settings=settings, observe=observe
    )
    if isinstance(start, Finished):
        return start
    # Not compiled: the number of rows that the answers fill changes from step to step.
    hardware = choose_hardware(
        as_before(config.hardware, start.progress.chosen if start else {}), context_length=length
    )
    model = base.to_train("reinforce", config, base.loaded.model, section.lora, start, observe)
    before = None
    if section.kl and model.adapter is None:
        before = load_model(base.located.folder, config=shape).model.requires_grad_(False)
        before.to(hardware.device).set_attention(hardware.attention)
    return Trainer(
        model=model,
        tokenizer=tokenizer,
        objective=ReinforcedAnswers(
            section, hardware, tokenizer, asked, held_out, reward, length, config.seed, before
        ),
        section=section,
        train=train,
        validation=HeldOutQuestions(held_out, tokenizer.pad_id),
        hardware=hardware,
        stage=paths.reinforce,
        fingerprint=fingerprint,
        settings=settings,
        observe=observe,
        sample=Sampler(tokenizer, hardware, "chat", config.seed),
        seed=config.seed,
    ).run(start)


def _questions(
    section: ReinforceSection, tokenizer: Tokenizer, length: int, system_prompt: str | None
) -> tuple[list[Question], list[Question], Counter[str]]:
    """Those to learn from, those to validate with, and what was wrong with others.

    Raises:
        DataError: if there are none, or one leaves no room for an answer.
    """

    def read(data: Sequence[Rows]) -> RowReport[ChatRow]:
        return read_rows(data, on_error=section.on_error, setting="reinforce.on_error")

    def asked(row: ChatRow) -> str:
        return text_of(replace(row, messages=row.messages[:-1]))

    # By what is asked, so that no question is in both.
    rows, held_out, report = divide_rows(section, "reinforce", read, asked)
    both = [as_question(row, tokenizer, system_prompt) for row in (*rows, *held_out)]
    for question in both:
        if len(question.ids) + section.max_tokens > length:
            raise DataError(
                f"the question has {len(question.ids):,} tokens, and with an answer of "
                f"{section.max_tokens:,} it is longer than a sequence of {length:,}",
                place=question.place,
                remedy="Shorten it, lower reinforce.max_tokens, or leave the row out.",
            )
    return both[: len(rows)], both[len(rows) :], report.problems.counts
