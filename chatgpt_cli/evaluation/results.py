"""The files of an evaluation: results.json, predictions.jsonl, held_out.npy, texts.npy."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chatgpt_cli import __version__
from chatgpt_cli.command_line import same_run
from chatgpt_cli.config.schema import TaskSection
from chatgpt_cli.errors import ChatGPTError, DataError
from chatgpt_cli.evaluation.metrics import METRICS
from chatgpt_cli.evaluation.metrics.score import Answers, Score, mean_score
from chatgpt_cli.evaluation.run import HeldOut, Results, Subject
from chatgpt_cli.evaluation.statistics import intervals
from chatgpt_cli.files import atomic_path, write_json, write_text

FORMAT = 2


@dataclass(frozen=True)
class Evaluation:
    """An evaluation read back from its files."""

    folder: Path
    # results.json as it is.
    content: dict[str, Any]
    # The rows of predictions.jsonl by task.
    predictions: dict[str, list[dict[str, Any]]]
    # Losses of the held-out documents, (documents, 4), if they were measured.
    documents: np.ndarray | None
    # The same of each text of evaluate.texts.
    texts: dict[str, np.ndarray]

    def scores(self, task: str, rows: list[int] | None = None) -> dict[str, Score]:
        """The scores of a task, computed anew from its answers (of some rows only)."""
        chosen = self.predictions[task]
        if rows is not None:
            chosen = [chosen[index] for index in rows]
        entry = self.content["tasks"][task]
        answers = _answers(TaskSection.model_validate(entry["settings"]), chosen)
        found = {}
        for name, metric in entry["metrics"].items():
            if name in METRICS:
                found[name] = METRICS[name](answers)
            else:
                marks = [float(row["scores"][name]) for row in chosen]
                found[name] = mean_score(
                    marks, signature=metric["signature"], digits=int(metric["digits"])
                )
        return found


def write_results(folder: Path, subject: Subject, results: Results) -> dict[str, Any]:
    """Write all files of an evaluation; what results.json holds."""
    content: dict[str, Any] = {
        "format": FORMAT,
        "version": __version__,
        "model": str(subject.folder),
        "stage": subject.stage,
        "tokenizer_sha256": subject.tokenizer.hash,
        "parameters": sum(one.numel() for one in subject.model.parameters()),
        "precision": str(subject.hardware.chosen()["precision"]),
        "held_out": None if results.held_out is None else _losses(results.held_out),
        "texts": {one.name: _losses(one) for one in results.texts},
        "tasks": {result.task.name: result.summary() for result in results.tasks},
        "notes": results.notes,
    }
    lines = [
        json.dumps(row, ensure_ascii=False)
        for result in results.tasks
        for row in result.predictions
    ]
    write_text(folder / "predictions.jsonl", "".join(line + "\n" for line in lines))
    if results.held_out is not None:
        _save(folder / "held_out.npy", results.held_out.documents)
    if results.texts:
        _save(folder / "texts.npy", np.concatenate([one.documents for one in results.texts]))
    write_json(folder / "results.json", content)
    return content


def fuller(
    folder: Path, planned: list[tuple[TaskSection, list[str]]], max_rows: int | None
) -> str | None:
    """The tasks of which an earlier evaluation here has more than is planned, as a list.

    Args:
        planned: tasks and their metrics.
        max_rows: of each task.
    """
    now = {task.name: metrics for task, metrics in planned}
    try:
        earlier = json.loads((folder / "results.json").read_text(encoding="utf-8"))["tasks"]
        more = [
            name
            for name, entry in earlier.items()
            if name not in now
            or (max_rows is not None and entry["rows"] > max_rows)
            or set(entry["metrics"]) - set(now[name])
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # None there, or damaged: then there is nothing to lose.
        return None
    return ", ".join(more) or None


def _save(target: Path, documents: np.ndarray) -> None:
    with atomic_path(target) as path, path.open("wb") as stream:
        np.save(stream, documents)


def _losses(held_out: HeldOut) -> dict[str, Any]:
    scores = held_out.scores()
    ranges = intervals(scores)
    return {
        "data": held_out.name,
        "text_sha256": held_out.text_sha256,
        "perplexity": held_out.loss.perplexity,
        "bits_per_byte": held_out.loss.bits_per_byte,
        "nats_per_token": held_out.loss.nats_per_token,
        "token_accuracy": held_out.loss.accuracy,
        "tokens": held_out.loss.tokens,
        "documents": len(held_out.documents),
        "intervals": {name: one and [one.low, one.high] for name, one in ranges.items()},
    }


def find_evaluation(place: Path) -> Path:
    """The folder of an evaluation, given itself or the run directory it lies in.

    Raises:
        DataError: if there is none.
    """
    for folder in (place, place / "evaluate"):
        if (folder / "results.json").is_file():
            return folder
    if not place.is_dir():
        raise DataError(
            "there is no such folder",
            place=str(place),
            remedy="Name run directories; `chatgpt runs` lists those in runs/.",
        )
    raise DataError(
        "there is no evaluation here",
        place=str(place),
        remedy=f"Run `chatgpt {same_run('evaluate', run=place)}` first.",
    )


def read_evaluation(place: Path) -> Evaluation:
    """Read what `write_results` wrote.

    Raises:
        DataError: if it is missing, damaged or of another format.
    """
    folder = find_evaluation(place)
    run = folder.parent if folder.name == "evaluate" else folder
    try:
        content = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        if content.get("format") != FORMAT:
            raise DataError(
                f"the results are of format {content.get('format')}, not {FORMAT}",
                place=str(folder),
                remedy=f"Make them again with `chatgpt {same_run('evaluate', run=run)}`.",
            )
        predictions: dict[str, list[dict[str, Any]]] = {name: [] for name in content["tasks"]}
        for line in (folder / "predictions.jsonl").read_text(encoding="utf-8").split("\n"):
            if line:
                row = json.loads(line)
                predictions[row["task"]].append(row)
        documents = None
        if content["held_out"] is not None:
            documents = np.load(folder / "held_out.npy", allow_pickle=False)
        return Evaluation(folder, content, predictions, documents, _texts(folder, content))
    except ChatGPTError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"the results cannot be read ({type(error).__name__}: {error})",
            place=str(folder),
            remedy=f"Make them again with `chatgpt {same_run('evaluate', run=run)}`.",
        ) from error


def _texts(folder: Path, content: dict[str, Any]) -> dict[str, np.ndarray]:
    """The documents of each text, which lie one after another in one file."""
    entries = content.get("texts", {})
    if not entries:
        return {}
    together = np.load(folder / "texts.npy", allow_pickle=False)
    ends = np.cumsum([entry["documents"] for entry in entries.values()])
    if len(together) != ends[-1]:
        raise ValueError(f"texts.npy holds {len(together)} documents, not {ends[-1]}")
    return dict(zip(entries, np.split(together, ends[:-1]), strict=True))


def _answers(task: TaskSection, rows: list[dict[str, Any]]) -> Answers:
    chosen = task.answer == "choice"
    return Answers(
        task,
        [row["prediction"] for row in rows],
        [row["references"] for row in rows],
        confidences=[row["confidence"] for row in rows],
        choices=[row["choices"] for row in rows] if chosen else None,
        likelihoods=[row["likelihoods"] for row in rows] if chosen else None,
    )
