"""Answering the rows of a task, and scoring the answers."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from chatgpt_cli.config.schema import EvaluateSection, TaskSection
from chatgpt_cli.data.rows import ChatRow, read_rows
from chatgpt_cli.evaluation.metrics import METRICS, Score
from chatgpt_cli.generation.engine import complete
from chatgpt_cli.generation.sampling import Sampling
from chatgpt_cli.model.transformer import Transformer
from chatgpt_cli.tokenizer.chat import Message, render
from chatgpt_cli.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class TaskResult:
    """The scores of a task, and every answer behind them."""

    task: TaskSection
    scores: dict[str, Score]
    predictions: list[dict[str, Any]]
    seconds: float
    # Prompts that did not fit the context and were cut.
    truncated: int

    def summary(self) -> dict[str, Any]:
        """What results.json holds of it."""
        return {
            "data": self.task.data,
            "rows": len(self.predictions),
            "seconds": round(self.seconds, 2),
            "truncated_prompts": self.truncated,
            "metrics": {
                name: {"value": score.value, "signature": score.signature, **score.details}
                for name, score in self.scores.items()
            },
        }


def run_task(
    task: TaskSection,
    metrics: list[str],
    section: EvaluateSection,
    model: Transformer,
    tokenizer: Tokenizer,
    *,
    system_prompt: str | None,
    on_progress: Callable[[int], None] | None = None,
) -> TaskResult:
    """Let the model answer every row by generating, and score the answers.

    The prompt is the conversation up to its last answer, which is the reference (with
    those of the row's field `references`). Decoding is greedy.

    Raises:
        DataError: if the rows cannot be used.
    """
    started = time.perf_counter()
    rows = read_rows([task.data], on_error="stop", limit=section.max_rows).rows
    prompts = [_prompt(row, tokenizer, system_prompt) for row in rows]
    completions = complete(
        model,
        tokenizer,
        prompts,
        Sampling(max_tokens=task.max_tokens, temperature=0.0, seed=0),
        stop_ids=tokenizer.stop_ids,
        batch_size=section.batch_size,
        on_progress=on_progress,
    )
    answers = [completion.text.strip() for completion in completions]
    references = [_references(row) for row in rows]
    scores = {name: METRICS[name](answers, references, task) for name in metrics}
    predictions = [
        {
            "task": task.name,
            "place": row.place,
            "prompt": row.messages[-2].content,
            "prediction": answer,
            "references": accepted,
            "scores": {name: score.rows[number] for name, score in scores.items()},
        }
        for number, (row, answer, accepted) in enumerate(
            zip(rows, answers, references, strict=True)
        )
    ]
    return TaskResult(
        task,
        scores,
        predictions,
        time.perf_counter() - started,
        sum(completion.truncated_prompt for completion in completions),
    )


def _prompt(row: ChatRow, tokenizer: Tokenizer, system_prompt: str | None) -> list[int]:
    messages = list(row.messages[:-1])
    if system_prompt and messages[0].role != "system":
        messages.insert(0, Message("system", system_prompt))
    return render(messages, tokenizer, add_generation_prompt=True).ids


def _references(row: ChatRow) -> list[str]:
    more = row.extra.get("references")
    others = [str(one) for one in more] if isinstance(more, list) else []
    answer = row.messages[-1].content.strip()
    return [answer, *(one for one in others if one != answer)]
