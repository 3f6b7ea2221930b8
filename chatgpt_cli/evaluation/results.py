"""The files of an evaluation: results.json, predictions.jsonl, held_out.npy."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chatgpt_cli import __version__
from chatgpt_cli.config.schema import TaskSection
from chatgpt_cli.errors import ChatGPTError, DataError
from chatgpt_cli.evaluation.metrics import METRICS
from chatgpt_cli.evaluation.metrics.score import Answers, Score, mean_score
from chatgpt_cli.evaluation.run import Results, Subject
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
        "parameters": sum(one.numel() for one in subject.model.parameters()),
        "precision": str(subject.hardware.chosen()["precision"]),
        "held_out": _held_out(results),
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
        with atomic_path(folder / "held_out.npy") as path, path.open("wb") as stream:
            np.save(stream, results.held_out.documents)
    write_json(folder / "results.json", content)
    return content


def _held_out(results: Results) -> dict[str, Any] | None:
    held_out = results.held_out
    if held_out is None:
        return None
    scores = held_out.scores()
    ranges = intervals(scores)
    return {
        "data": held_out.name,
        "perplexity": held_out.loss.perplexity,
        "bits_per_byte": held_out.loss.bits_per_byte,
        "nats_per_token": held_out.loss.nats_per_token,
        "token_accuracy": held_out.loss.accuracy,
        "tokens": held_out.loss.tokens,
        "documents": len(held_out.documents),
        "intervals": {name: [one.low, one.high] for name, one in ranges.items()},
    }


def find_evaluation(place: Path) -> Path:
    """The folder of an evaluation, given itself or the run directory it lies in.

    Raises:
        DataError: if there is none.
    """
    for folder in (place, place / "evaluate"):
        if (folder / "results.json").is_file():
            return folder
    raise DataError(
        "there is no evaluation here" if place.is_dir() else "there is no such folder",
        place=str(place),
        remedy="Name run directories, such as runs/quickstart, after `chatgpt evaluate`.",
    )


def read_evaluation(place: Path) -> Evaluation:
    """Read what `write_results` wrote.

    Raises:
        DataError: if it is missing, damaged or of another format.
    """
    folder = find_evaluation(place)
    try:
        content = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        if content.get("format") != FORMAT:
            raise DataError(
                f"the results are of format {content.get('format')}, not {FORMAT}",
                place=str(folder),
                remedy="Make them again with `chatgpt evaluate`.",
            )
        predictions: dict[str, list[dict[str, Any]]] = {name: [] for name in content["tasks"]}
        for line in (folder / "predictions.jsonl").read_text(encoding="utf-8").split("\n"):
            if line:
                row = json.loads(line)
                predictions[row["task"]].append(row)
        documents = None
        if content["held_out"] is not None:
            documents = np.load(folder / "held_out.npy", allow_pickle=False)
        return Evaluation(folder, content, predictions, documents)
    except ChatGPTError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"the results cannot be read ({type(error).__name__}: {error})",
            place=str(folder),
            remedy="Make them again with `chatgpt evaluate`.",
        ) from error


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
