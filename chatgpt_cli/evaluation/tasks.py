"""Answering the rows of a task, and scoring the answers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from chatgpt_cli.config.schema import EvaluateSection, TaskSection
from chatgpt_cli.errors import ConfigError, DataError
from chatgpt_cli.evaluation.contamination import Overlap
from chatgpt_cli.evaluation.judge import judge_answers
from chatgpt_cli.evaluation.likelihood import continuation_likelihoods
from chatgpt_cli.evaluation.metrics import METRICS
from chatgpt_cli.evaluation.metrics.score import Answers, Score
from chatgpt_cli.evaluation.statistics import Interval, intervals
from chatgpt_cli.evaluation.task_rows import TaskRow
from chatgpt_cli.generation.engine import Completion, complete
from chatgpt_cli.generation.sampling import Sampling
from chatgpt_cli.model.native.library import load_library
from chatgpt_cli.model.transformer import Transformer
from chatgpt_cli.tokenizer.chat import Message, render
from chatgpt_cli.tokenizer.foreign import ForeignTokenizer
from chatgpt_cli.tokenizer.tokenizer import Tokenizer
from chatgpt_cli.training.distributed import dealt, gather, on_first

Style = Literal["chat", "text"]


@dataclass(frozen=True)
class TaskResult:
    """The scores of a task, and every answer behind them."""

    task: TaskSection
    scores: dict[str, Score]
    intervals: dict[str, Interval | None]
    predictions: list[dict[str, Any]]
    seconds: float
    # Prompts that did not fit the context and were cut.
    truncated: int
    overlap: Overlap | None = None

    def summary(self) -> dict[str, Any]:
        """What results.json holds of it."""
        return {
            "data": self.task.data,
            "settings": self.task.model_dump(mode="json"),
            "rows": len(self.predictions),
            "seconds": round(self.seconds, 2),
            "truncated_prompts": self.truncated,
            "contamination": self._contamination(),
            "metrics": {name: self._metric(name, score) for name, score in self.scores.items()},
        }

    def _metric(self, name: str, score: Score) -> dict[str, Any]:
        interval = self.intervals[name]
        return {
            "value": score.value,
            "interval": interval and [interval.low, interval.high],
            "interval_method": interval and interval.method,
            "better": score.better,
            "digits": score.digits,
            "signature": score.signature,
            **score.details,
        }

    def _contamination(self) -> dict[str, Any] | None:
        """Rows seen in training, and the scores without them."""
        if self.overlap is None:
            return None
        clean = 1.0 - np.array(self.overlap.seen, dtype=np.float64)
        return {
            "rows": sum(self.overlap.seen),
            "searched_tokens": self.overlap.searched_tokens,
            "clean_values": {
                name: score.of(clean) if clean.any() else None
                for name, score in self.scores.items()
            },
        }


def run_task(
    task: TaskSection,
    rows: list[TaskRow],
    metrics: list[str],
    section: EvaluateSection,
    model: Transformer,
    tokenizer: Tokenizer,
    *,
    style: Style,
    system_prompt: str | None,
    on_progress: Callable[[int], None] | None = None,
) -> TaskResult:
    """Let the model answer every row, by writing or by choosing, and score the answers.

    Args:
        task: what is asked, and how.
        rows: its rows (`read_task`).
        metrics: the names of those to compute.
        section: the batch size and the judge.
        model: a causal model.
        tokenizer: the model's own.
        style: as turns of a chat, or as text to be continued.
        system_prompt: put before chats that have none.
        on_progress: called with the number of rows answered.

    Raises:
        DataError: if a metric does not suit the task's rows.
        ChatGPTError: if the judge does not answer.
    """
    started = time.perf_counter()
    prompts = [_prompt(row, tokenizer, style, system_prompt) for row in rows]
    asking = _Asking(task, rows, prompts, style, section, model, tokenizer, on_progress)
    answers, cut = asking.chosen() if task.answer == "choice" else asking.written()
    scores = {name: METRICS[name](answers) for name in metrics if name != "judge"}
    if "judge" in metrics:
        scores["judge"] = on_first(lambda: _judged(section, rows, answers))
    return TaskResult(
        task,
        scores,
        intervals(scores),
        predictions_of(rows, answers, scores),
        time.perf_counter() - started,
        cut,
    )


def _prompt(
    row: TaskRow, tokenizer: Tokenizer, style: Style, system_prompt: str | None
) -> list[int]:
    messages = list(row.messages)
    if style == "text":
        return tokenizer.beginning("\n".join(message.content for message in messages))
    if system_prompt and messages[0].role != "system":
        messages.insert(0, Message("system", system_prompt))
    return render(messages, tokenizer, add_generation_prompt=True).ids


@dataclass(frozen=True)
class _Asking:
    """The rows of a task put to a model; each way of answering also counts the cut prompts."""

    task: TaskSection
    rows: list[TaskRow]
    prompts: list[list[int]]
    style: Style
    section: EvaluateSection
    model: Transformer
    tokenizer: Tokenizer
    on_progress: Callable[[int], None] | None

    def written(self) -> tuple[Answers, int]:
        """Answers by generating; a text continued ends at its line's end if no stop is set."""
        task = self.task
        stop = tuple(task.stop) or (("\n",) if self.style == "text" else ())
        sampling = Sampling(
            max_tokens=task.max_tokens, temperature=task.temperature, stop=stop, seed=0
        )
        library = load_library(self.model.output_weight.device, build=True)
        completions = dealt(
            range(len(self.prompts)),
            lambda numbers: complete(
                self.model,
                self.tokenizer,
                [self.prompts[number] for number in numbers],
                sampling,
                stop_ids=self.tokenizer.stop_ids,
                batch_size=self.section.batch_size,
                on_progress=self.on_progress,
                library=library,
                numbers=numbers,
            ),
        )
        answers = Answers(
            task,
            [completion.text.strip() for completion in completions],
            [row.references for row in self.rows],
            confidences=[_probability(one, stop, self.tokenizer) for one in completions],
        )
        return answers, sum(completion.truncated_prompt for completion in completions)

    def chosen(self) -> tuple[Answers, int]:
        """Of each row's choices the most likely; in a chat, as a whole turn with its end."""
        choices = [row.choices or [] for row in self.rows]
        continuations = [
            [_continuation(row, choice, self.tokenizer, self.style) for choice in given]
            for row, given in zip(self.rows, choices, strict=True)
        ]
        cuts = 0

        def weigh(numbers: list[int]) -> list[list[float]]:
            nonlocal cuts
            found, cuts = continuation_likelihoods(
                self.model,
                [self.prompts[number] for number in numbers],
                [continuations[number] for number in numbers],
                bos_id=self.tokenizer.bos_id,
                batch_size=self.section.batch_size,
                on_progress=self.on_progress,
            )
            return found

        try:
            likelihoods = dealt(range(len(self.prompts)), weigh)
        except ValueError as error:
            raise DataError(str(error), place=f"evaluate.tasks: {self.task.name}") from error
        cut = sum(gather(cuts))
        best = [max(range(len(scores)), key=scores.__getitem__) for scores in likelihoods]
        answers = Answers(
            self.task,
            [given[index] for given, index in zip(choices, best, strict=True)],
            [row.references for row in self.rows],
            confidences=[
                1 / sum(math.exp(one - scores[index]) for one in scores)
                for scores, index in zip(likelihoods, best, strict=True)
            ],
            choices=choices,
            likelihoods=likelihoods,
        )
        return answers, cut


def _probability(completion: Completion, stop: tuple[str, ...], tokenizer: Tokenizer) -> float:
    """The model's own probability of all it wrote, the token that ended it included."""
    by_token = completion.finish_reason == "stop"
    if by_token and stop:
        text = tokenizer.decode(completion.ids)
        by_token = not any(one in text for one in stop)
    return math.exp(completion.logprob * (len(completion.ids) + by_token))


def _continuation(row: TaskRow, choice: str, tokenizer: Tokenizer, style: Style) -> list[int]:
    if style == "chat":
        # Templates end a line before an answer.
        return [*_after("\n", choice.strip(), tokenizer), tokenizer.turn_end_id]
    before = row.messages[-1].content[-1:]
    # Words are divided by a space, Chinese characters by nothing.
    apart = not before.isspace() and ord(before) < 0x2E80 and ord(choice[:1] or " ") < 0x2E80
    return _after(before, " " + choice if apart else choice, tokenizer)


def _after(before: str, text: str, tokenizer: Tokenizer) -> list[int]:
    """The tokens of what follows other text: some tokenizers put a space before what they read."""
    plain = tokenizer.encode(text)
    if not isinstance(tokenizer, ForeignTokenizer):
        return plain
    head = tokenizer.encode(before)
    whole = tokenizer.encode(before + text)
    return whole[len(head) :] if whole[: len(head)] == head else plain


def _judged(section: EvaluateSection, rows: list[TaskRow], answers: Answers) -> Score:
    if section.judge is None:
        raise ConfigError(
            "the metric judge needs a model to ask",
            place="evaluate.judge",
            remedy="Set evaluate.judge.url and evaluate.judge.model.",
        )
    questions = [row.messages[-1].content for row in rows]
    return judge_answers(section.judge, questions, answers.predictions, answers.references)


def predictions_of(
    rows: list[TaskRow], answers: Answers, scores: dict[str, Score]
) -> list[dict[str, Any]]:
    """A JSON object for each row: asked, answered, expected, scores, and how sure."""
    found = []
    for index, row in enumerate(rows):
        one: dict[str, Any] = {
            "task": answers.task.name,
            "place": row.place,
            "prompt": row.messages[-1].content,
            "prediction": answers.predictions[index],
            "references": row.references,
            "scores": {name: score.rows[index] for name, score in scores.items()},
        }
        if answers.confidences is not None:
            one["confidence"] = answers.confidences[index]
        if answers.choices is not None and answers.likelihoods is not None:
            one |= {"choices": answers.choices[index], "likelihoods": answers.likelihoods[index]}
        found.append(one)
    return found


def with_overlap(result: TaskResult, overlap: Overlap) -> TaskResult:
    """The result with what the contamination check found, in each prediction too."""
    predictions = [
        {**one, "seen": seen} for one, seen in zip(result.predictions, overlap.seen, strict=True)
    ]
    return replace(result, predictions=predictions, overlap=overlap)
