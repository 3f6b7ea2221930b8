"""Two or more evaluations side by side: which is better, and is that more than chance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml

from chatgpt_cli.config.paths import STAGES, RunPaths
from chatgpt_cli.errors import DataError
from chatgpt_cli.evaluation.metrics.perplexity import likelihood_scores
from chatgpt_cli.evaluation.metrics.score import Score
from chatgpt_cli.evaluation.results import Evaluation, read_evaluation
from chatgpt_cli.evaluation.statistics import (
    Difference,
    Interval,
    difference,
    holm,
    intervals,
)
from chatgpt_cli.training.metrics_log import read_metrics

Verdict = Literal["better", "worse", "no clear difference"]
_LEVEL = 0.05


@dataclass(frozen=True)
class Against:
    """A run against the first one. `adjusted` is p corrected for the number of tests."""

    difference: Difference
    adjusted: float
    verdict: Verdict


@dataclass(frozen=True)
class ComparedMetric:
    """A metric of a task for each run, on the rows (or documents) that all of them have."""

    task: str
    metric: str
    better: Literal["higher", "lower"]
    digits: int
    rows: int
    values: list[float]
    intervals: list[Interval]
    # One for each run but the first.
    against: list[Against]


@dataclass(frozen=True)
class Comparison:
    """What `compare` found. `settings` are those that differ, with each run's value."""

    runs: list[str]
    folders: list[Path]
    evaluations: list[Evaluation]
    metrics: list[ComparedMetric]
    settings: dict[str, list[Any]]
    notes: list[str] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """The comparison as JSON values."""
        return {
            "runs": self.runs,
            "metrics": [asdict(one) for one in self.metrics],
            "settings": self.settings,
            "notes": self.notes,
        }


def compare(places: Sequence[Path]) -> Comparison:
    """Compare runs with the first one, on exactly the same questions.

    Differences come with a paired bootstrap interval and the p-value of approximate
    randomisation; p-values are corrected together (Holm), for among many metrics one
    would seem to differ by chance.

    Raises:
        DataError: if an evaluation is missing, or nothing can be compared.
    """
    if len(places) < 2:
        raise DataError("comparing needs two runs at least", remedy="chatgpt compare RUN_A RUN_B")
    evaluations = [read_evaluation(place) for place in places]
    notes: list[str] = []
    found = _held_out(evaluations, notes) + _texts(evaluations, notes)
    first = evaluations[0].content["tasks"]
    for task in first:
        if all(task in one.content["tasks"] for one in evaluations):
            found += _task(task, evaluations, notes)
        else:
            notes.append(f"{task}: not measured in every run")
    if not found:
        raise DataError(
            "the runs have no task in common, or none with the same questions",
            place=", ".join(map(str, places)),
            remedy="Evaluate them with the same evaluate.tasks.",
        )
    folders = [_run_of(one.folder) for one in evaluations]
    return Comparison(
        _names(places), folders, evaluations, _corrected(found), _different(folders), notes
    )


@dataclass(frozen=True)
class _Measured:
    """A metric before the p-values are corrected."""

    task: str
    metric: str
    scores: list[Score]


def _held_out(evaluations: list[Evaluation], notes: list[str]) -> list[_Measured]:
    parts = [one.documents for one in evaluations if one.documents is not None]
    names = [(one.content["held_out"] or {}).get("data") for one in evaluations]
    if len(parts) < len(evaluations) or len(set(names)) > 1:
        return []
    return _likelihood(str(names[0]), parts, notes)


def _texts(evaluations: list[Evaluation], notes: list[str]) -> list[_Measured]:
    """The texts of evaluate.texts, where every run has the same one."""
    found = []
    for name in evaluations[0].texts:
        if any(name not in one.texts for one in evaluations):
            notes.append(f"{name}: not measured in every run")
        elif len({one.content["texts"][name]["sha256"] for one in evaluations}) > 1:
            notes.append(f"{name}: not the same text in every run, and not compared")
        else:
            found += _likelihood(name, [one.texts[name] for one in evaluations], notes)
    return found


def _likelihood(name: str, parts: list[np.ndarray], notes: list[str]) -> list[_Measured]:
    """Scores of the same text, document by document, given the losses of each run."""
    sizes = [part[:, 2] for part in parts]
    if any(not np.array_equal(sizes[0], size) for size in sizes):
        notes.append(f"{name}: not the same text in every run, and not compared")
        return []
    scores = [likelihood_scores(part) for part in parts]
    same_tokens = all(np.array_equal(parts[0][:, 1], part[:, 1]) for part in parts)
    found = []
    if same_tokens:
        found.append(_Measured(name, "perplexity", [one["perplexity"] for one in scores]))
    else:
        notes.append(f"{name}: perplexities of different tokenizers cannot be compared")
    if all("bits_per_byte" in one for one in scores):
        bits = [one["bits_per_byte"] for one in scores]
        found.append(_Measured(name, "bits_per_byte", bits))
    return found


def _task(task: str, evaluations: list[Evaluation], notes: list[str]) -> list[_Measured]:
    settings = [one.content["tasks"][task]["settings"] for one in evaluations]
    for key in ("labels", "language", "answer"):
        if any(one[key] != settings[0][key] for one in settings):
            notes.append(f"{task}: its {key} are not the same in every run; not compared")
            return []
    chosen = _common_rows([one.predictions[task] for one in evaluations])
    most = max(len(one.predictions[task]) for one in evaluations)
    if not chosen[0]:
        notes.append(f"{task}: the runs answered different questions, and are not compared")
        return []
    if len(chosen[0]) < most:
        notes.append(f"{task}: compared on the {len(chosen[0])} of {most} questions in all runs")
    scores = [one.scores(task, rows) for one, rows in zip(evaluations, chosen, strict=True)]
    shared = [name for name in scores[0] if all(name in one for one in scores)]
    return [_Measured(task, name, [one[name] for one in scores]) for name in shared]


def _common_rows(runs: list[list[dict[str, Any]]]) -> list[list[int]]:
    """For each run the places of the questions that all have, in one order."""
    places: list[dict[tuple[str, str, int], int]] = []
    for rows in runs:
        seen: Counter[tuple[str, str]] = Counter()
        found = {}
        for index, row in enumerate(rows):
            question = (str(row["prompt"]), "\0".join(row["references"]))
            found[(*question, seen[question])] = index
            seen[question] += 1
        places.append(found)
    shared = [key for key in places[0] if all(key in other for other in places[1:])]
    return [[found[key] for key in shared] for found in places]


def _corrected(found: list[_Measured]) -> list[ComparedMetric]:
    differences = [[difference(one.scores[0], other) for other in one.scores[1:]] for one in found]
    adjusted = iter(holm([each.p for row in differences for each in row]))
    compared = []
    for one, row in zip(found, differences, strict=True):
        first = one.scores[0]
        against = []
        for each in row:
            p = next(adjusted)
            won = (each.value > 0) == (first.better == "higher")
            verdict: Verdict = "no clear difference"
            if p < _LEVEL:
                verdict = "better" if won else "worse"
            against.append(Against(each, p, verdict))
        compared.append(
            ComparedMetric(
                one.task,
                one.metric,
                first.better,
                first.digits,
                len(first.rows),
                [score.value for score in one.scores],
                [intervals({"": score})[""] for score in one.scores],
                against,
            )
        )
    return compared


def _run_of(folder: Path) -> Path:
    return folder.parent if folder.name == "evaluate" else folder


def _names(places: Sequence[Path]) -> list[str]:
    """Short names that differ: the folders' own, or as they were given."""
    short = [place.resolve().name for place in places]
    return short if len(set(short)) == len(short) else [str(place) for place in places]


def _different(folders: list[Path]) -> dict[str, list[Any]]:
    """The settings that are not the same in all runs."""
    settings = [run_settings(folder) for folder in folders]
    keys = list(dict.fromkeys(key for one in settings for key in one))
    found = {key: [one.get(key) for one in settings] for key in keys}
    return {
        key: values
        for key, values in found.items()
        if key != "run_dir" and any(value != values[0] for value in values)
    }


def run_settings(folder: Path) -> dict[str, Any]:
    """A run's settings by their full names: config.yaml, and what each stage began with."""
    paths = RunPaths(folder)
    try:
        content = yaml.safe_load(paths.config.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        content = {}
    found = _flat(content if isinstance(content, dict) else {}, "")
    for stage in map(paths.stage, STAGES):
        for record in read_metrics(stage.metrics):
            if record["type"] == "start" and isinstance(record.get("settings"), dict):
                found |= _flat(record["settings"], f"{stage.root.name}.")
    return {key: value for key, value in found.items() if not key.startswith("evaluate.")}


def _flat(values: dict[str, Any], prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found
