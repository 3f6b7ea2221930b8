"""Evaluation against the naive loop: one row at a time, the whole text again for each token.

    python -m benchmarks.evaluate_speed --config configs/quickstart.yaml [--json FILE] [--quick]

Needs a finetuned run of that configuration. Written answers: `chatgpt evaluate` batches
rows by length and keeps keys and values; also shown is one row at a time with the same
cache, as most scripts do it. Chosen answers: a prompt is computed once for all choices.
The answers must be the same ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.report import Report, options
from chatgpt_cli.config.loader import load_config
from chatgpt_cli.config.paths import RunPaths
from chatgpt_cli.config.schema import EvaluateSection, TaskSection
from chatgpt_cli.evaluation.likelihood import continuation_likelihoods
from chatgpt_cli.evaluation.task_rows import TaskRow, read_task
from chatgpt_cli.evaluation.tasks import run_task
from chatgpt_cli.interop.huggingface import load_model
from chatgpt_cli.interop.locate import locate_model
from chatgpt_cli.model.transformer import Transformer
from chatgpt_cli.tokenizer.chat import render
from chatgpt_cli.tokenizer.special import END
from chatgpt_cli.tokenizer.tokenizer import Tokenizer


def main() -> None:
    """Measure, compare, write."""
    parser = options(__doc__)
    parser.add_argument("--config", type=Path, default=Path("configs/quickstart.yaml"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    config = load_config(arguments.config, arguments.set).config
    folder = locate_model(RunPaths(config.run_dir), model=None, stage="finetune").folder
    loaded = load_model(folder, device="cpu", dtype=torch.float32)
    loaded.model.set_attention("matmul")
    loaded.model.eval()
    report = Report("evaluate_speed")
    limit = 40 if arguments.quick else None
    _written(report, config.evaluate, loaded.model, loaded.tokenizer, limit)
    _chosen(report, config.evaluate, loaded.model, loaded.tokenizer, limit)
    report.write(arguments.json)


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    return work(), time.perf_counter() - started


def _written(
    report: Report,
    section: EvaluateSection,
    model: Transformer,
    tokenizer: Tokenizer,
    limit: int | None,
) -> None:
    """All tasks with written answers: naive, one row at a time with a cache, and ours."""
    seconds = {"naive": 0.0, "one_row": 0.0, "batched": 0.0}
    rows = same = 0
    single = section.model_copy(update={"batch_size": 1})
    for task in section.tasks:
        if task.answer == "choice":
            continue
        asked = read_task(task, limit=limit)
        work = {
            "batched": lambda t=task, a=asked: _answers(t, a, section, model, tokenizer),
            "one_row": lambda t=task, a=asked: _answers(t, a, single, model, tokenizer),
            "naive": lambda t=task, a=asked: [_naive(t, row, model, tokenizer) for row in a],
        }
        found = {}
        for name, run in work.items():
            found[name], taken = _timed(run)
            seconds[name] += taken
        rows += len(asked)
        same += sum(a == b for a, b in zip(found["batched"], found["naive"], strict=True))
    report.figure("written_rows", rows)
    report.figure("naive_rows_per_second", rows / seconds["naive"])
    report.figure("one_row_with_cache_rows_per_second", rows / seconds["one_row"])
    report.figure("batched_rows_per_second", rows / seconds["batched"])
    report.figure("batched_over_one_row_with_cache", seconds["one_row"] / seconds["batched"])
    report.target("batched_over_naive", seconds["naive"] / seconds["batched"], least=10)
    report.target("same_answers", same / rows, least=1)


def _answers(
    task: TaskSection,
    rows: list[TaskRow],
    section: EvaluateSection,
    model: Transformer,
    tokenizer: Tokenizer,
) -> list[str]:
    result = run_task(task, rows, [], section, model, tokenizer, style="chat", system_prompt=None)
    return [str(row["prediction"]) for row in result.predictions]


@torch.inference_mode()
def _naive(task: TaskSection, row: TaskRow, model: Transformer, tokenizer: Tokenizer) -> str:
    ids = render(row.messages, tokenizer, add_generation_prompt=True).ids
    prompt = len(ids)
    room = min(task.max_tokens, model.config.context_length - prompt)
    for _ in range(room):
        logits = model.logits(model(torch.tensor([ids]))[:, -1])
        token = int(logits.argmax())
        if token in tokenizer.stop_ids:
            break
        ids.append(token)
    return tokenizer.decode(ids[prompt:]).strip()


def _chosen(
    report: Report,
    section: EvaluateSection,
    model: Transformer,
    tokenizer: Tokenizer,
    limit: int | None,
) -> None:
    """The first task with labels, its labels as choices: a whole text for each, and ours."""
    task = next((task for task in section.tasks if task.labels is not None), None)
    if task is None:
        return
    asked = read_task(task, limit=limit)
    prompts = [render(row.messages, tokenizer, add_generation_prompt=True).ids for row in asked]
    choices = [[*tokenizer.encode(name), END] for name in task.labels or []]
    (ours, _), fast = _timed(
        lambda: continuation_likelihoods(
            model, prompts, [choices] * len(prompts), bos_id=tokenizer.bos_id
        )
    )
    naive, slow = _timed(
        lambda: [[_likelihood(model, prompt, choice) for choice in choices] for prompt in prompts]
    )
    best = [[scores.index(max(scores)) for scores in found] for found in (ours, naive)]
    same = sum(a == b for a, b in zip(*best, strict=True)) / len(prompts)
    gap = max(
        abs(a - b) for x, y in zip(ours, naive, strict=True) for a, b in zip(x, y, strict=True)
    )
    report.figure("chosen_rows", len(prompts))
    report.figure("choices_naive_rows_per_second", len(prompts) / slow)
    report.figure("choices_shared_prefix_rows_per_second", len(prompts) / fast)
    report.figure("choices_largest_difference_nats", gap)
    report.target("choices_over_naive", slow / fast, least=10)
    report.target("same_choices", same, least=1)


@torch.inference_mode()
def _likelihood(model: Transformer, prompt: list[int], choice: list[int]) -> float:
    ids = torch.tensor([[*prompt, *choice]])
    scores = model.logits(model(ids)[0, len(prompt) - 1 : -1]).log_softmax(-1)
    return float(scores.gather(1, torch.tensor(choice)[:, None]).sum())


if __name__ == "__main__":
    main()
