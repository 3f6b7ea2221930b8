"""What to do next, in plain words, from what a run has measured so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from chatgpt_cli.command_line import same_run
from chatgpt_cli.evaluation.verdict import Record, verdict
from chatgpt_cli.evaluation.words import Words

# A share of rows above which something deserves a sentence.
_MANY = 0.05
_UNSURE = 0.1
# Below this share of preferred answers there is something to gain.
_PREFERRED = 0.9


def next_steps(
    stages: Mapping[str, Sequence[Record]], results: dict[str, Any] | None
) -> list[Words]:
    """Sentences, the most important first.

    Args:
        stages: the records of metrics.jsonl of each stage, if there are any.
        results: the content of results.json, if there is one.
    """
    steps = []
    for name, records in stages.items():
        if records:
            judged = verdict(records)
            steps.append(Words(f"{name}: {judged.text}", f"{name}：{judged.chinese}"))
    if not stages.get("pretrain"):
        steps.append(
            Words(
                f"Run chatgpt {same_run('preprocess')}, then chatgpt {same_run('pretrain')}.",
                f"运行 chatgpt {same_run('preprocess')}，再运行 chatgpt {same_run('pretrain')}。",
            )
        )
    elif not stages.get("finetune"):
        steps.append(
            Words(
                f"Run chatgpt {same_run('finetune')}, so that the model learns to answer.",
                f"运行 chatgpt {same_run('finetune')}，让模型学会回答。",
            )
        )
    if results is None:
        evaluate = same_run("evaluate")
        run = Words(f"Run chatgpt {evaluate} for scores.", f"运行 chatgpt {evaluate} 以获得得分。")
        return [*steps, run]
    return steps + steps_from_scores(results)


def steps_from_scores(results: dict[str, Any]) -> list[Words]:
    """What the scores alone say, given the content of results.json."""
    steps = [step for task, entry in results["tasks"].items() for step in _of_task(task, entry)]
    weakest = _weakest(results["tasks"])
    if weakest is not None:
        task, value = weakest
        steps.append(
            Words(
                f"The weakest task is {task} ({value:.1%}). More and more varied rows like its own "
                "under finetune.data help it most; read its worst answers below first.",
                f"最弱的任务是 {task}（{value:.1%}）。在 finetune.data 中增加更多、更多样的同类数据"
                "最有帮助；请先阅读下面它答得最差的例子。",
            )
        )
    return steps


def _of_task(task: str, entry: dict[str, Any]) -> list[Words]:
    found = []
    rows = entry["rows"]
    if _is_preference(entry) and (value := entry["metrics"]["accuracy"]["value"]) < _PREFERRED:
        found.append(
            Words(
                f"{task}: in {value:.0%} of the pairs the better answer is the more probable one. "
                f"chatgpt {same_run('prefer')} learns from pairs of other questions (prefer.data).",
                f"{task}：只有 {value:.0%} 的成对答案中较好的一个概率更高。"
                f"chatgpt {same_run('prefer')} 可以用"
                "其他问题的成对答案（prefer.data）来学习。",
            )
        )
    seen = (entry.get("contamination") or {}).get("rows", 0)
    if seen > _MANY * rows:
        found.append(
            Words(
                f"{task}: {seen} of {rows} test questions were seen in training, so its scores say "
                "little about new questions. Take them out of the training data.",
                f"{task}：{rows} 个测试问题中有 {seen} 个在训练中出现过，得分不能说明模型对新问题的"
                "能力。请将它们从训练数据中移除。",
            )
        )
    if entry["truncated_prompts"]:
        cut = entry["truncated_prompts"]
        found.append(
            Words(
                f"{task}: {cut} prompts were cut because they are longer than the context. Set a "
                "larger model.context_length.",
                f"{task}：{cut} 个提示超出上下文长度而被截断。请增大 model.context_length。",
            )
        )
    invalid = max((metric.get("invalid", 0) for metric in entry["metrics"].values()), default=0)
    if invalid > _MANY * rows:
        found.append(
            Words(
                f"{task}: {invalid} of {rows} answers are no label or number at all. With "
                "answer: choice the model can only choose among the labels.",
                f"{task}：{rows} 个回答中有 {invalid} 个根本不是标签或数字。"
                "设置 answer: choice 后，模型只能在标签中选择。",
            )
        )
    calibration = entry["metrics"].get("calibration_error")
    if calibration is not None and calibration["value"] > _UNSURE:
        found.append(
            Words(
                f"{task}: the model's confidence is off by {calibration['value']:.0%} on average; "
                "do not take its probabilities at their word. label_smoothing helps.",
                f"{task}：模型的置信度平均偏差 {calibration['value']:.0%}，其概率不可尽信。"
                "可设置 label_smoothing 改善。",
            )
        )
    return found


def _is_preference(entry: dict[str, Any]) -> bool:
    """Whether the task is to find a better answer the more probable one of two."""
    settings = entry["settings"]
    return (
        settings["answer"] == "choice"
        and settings["prompt"] is None
        and settings["labels"] is None
        and "accuracy" in entry["metrics"]
    )


def _weakest(tasks: dict[str, Any]) -> tuple[str, float] | None:
    """The task with the lowest first score, as a share, if there are several."""
    shares = {}
    for task, entry in tasks.items():
        metric = next(iter(entry["metrics"].values()), None)
        if (
            metric is None
            or _is_preference(entry)
            or metric["better"] != "higher"
            or metric["digits"] not in (1, 3)
        ):
            continue
        shares[task] = metric["value"] / (100 if metric["digits"] == 1 else 1)
    if len(shares) < 2:
        return None
    return min(shares.items(), key=lambda pair: pair[1])
