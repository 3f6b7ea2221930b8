"""Two or more evaluations side by side: which is better, and is that more than chance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from chatgpt_cli.errors import DataError
from chatgpt_cli.evaluation.metrics.perplexity import likelihood_scores
from chatgpt_cli.evaluation.metrics.score import Score
from chatgpt_cli.evaluation.results import Evaluation, read_evaluation
from chatgpt_cli.evaluation.seeds import SeedDifference, Spread, spread, welch
from chatgpt_cli.evaluation.settings import differing, run_settings, seed_groups
from chatgpt_cli.evaluation.statistics import (
    Difference,
    Interval,
    difference,
    holm,
    intervals,
)

Verdict = Literal["better", "worse", "no clear difference", "not tested"]
_LEVEL = 0.05


@dataclass(frozen=True)
class Against:
    """A run against the first one. `adjusted` is p corrected for the number of tests."""

    difference: Difference
    adjusted: float
    verdict: Verdict


@dataclass(frozen=True)
class GroupAgainst:
    """A group against the first one; `adjusted` is None where there is no p."""

    difference: SeedDifference
    adjusted: float | None
    verdict: Verdict


@dataclass(frozen=True)
class Group:
    """Runs that differ in the seed alone, by their places; or a single run."""

    name: str
    runs: list[int]


@dataclass(frozen=True)
class ComparedMetric:
    """A metric of a task for each run, on the rows (or documents) that all of them have."""

    task: str
    metric: str
    better: Literal["higher", "lower"]
    digits: int
    rows: int
    values: list[float]
    intervals: list[Interval | None]
    # One for each run but the first; none where runs form groups.
    against: list[Against]
    # One for each group, and for each but the first; none where no runs form a group.
    spreads: list[Spread]
    groups_against: list[GroupAgainst]


@dataclass(frozen=True)
class Comparison:
    """What `compare` found. `settings` are those that differ, with each run's value; None if
    those of a run are not recorded.

    `groups` are there if any two runs differ in the seed alone: then groups are compared, and
    not runs.
    """

    runs: list[str]
    folders: list[Path]
    evaluations: list[Evaluation]
    groups: list[Group]
    metrics: list[ComparedMetric]
    settings: dict[str, list[Any]] | None
    notes: list[str] = field(default_factory=list)

    @property
    def seeds_alone(self) -> bool:
        """Whether nothing but the seed differs, so that every difference is chance."""
        return len(self.groups) == 1

    def changed(self) -> dict[str, list[Any]]:
        """The settings that differ between groups, with each group's value; else as `settings`."""
        if self.settings is None or not self.groups:
            return self.settings or {}
        firsts = [group.runs[0] for group in self.groups]
        found = {key: [row[index] for index in firsts] for key, row in self.settings.items()}
        return {
            key: row
            for key, row in found.items()
            if key != "seed" and any(value != row[0] for value in row)
        }

    def summary(self) -> dict[str, Any]:
        """The comparison as JSON values."""
        return {
            "runs": self.runs,
            "groups": [asdict(one) for one in self.groups],
            "metrics": [asdict(one) for one in self.metrics],
            "settings": self.settings,
            "notes": self.notes,
        }


@dataclass(frozen=True)
class _Refusal:
    """Why something is not compared, and what would help."""

    fact: str
    remedy: str


@dataclass(frozen=True)
class _Measured:
    """A metric before the p-values are corrected.

    Metrics of one `measurement` say the same in other units, and are one test.
    """

    task: str
    metric: str
    measurement: str
    scores: list[Score]


def compare(places: Sequence[Path]) -> Comparison:
    """Compare runs with the first one, on exactly the same questions.

    Runs that differ in the seed alone are groups, whose means are compared (Welch's t-test,
    a seed is a unit). Without any, differences of runs come with a paired bootstrap interval
    and the p-value of approximate randomisation: a question is a unit. P-values are corrected
    together (Holm), for among many metrics one would seem to differ by chance.

    Raises:
        DataError: if an evaluation is missing, or nothing can be compared.
    """
    if len(places) < 2:
        raise DataError("comparing needs two runs at least", remedy="chatgpt compare RUN_A RUN_B")
    evaluations = [read_evaluation(place) for place in places]
    runs = _names(places)
    folders = [_run_of(one.folder) for one in evaluations]
    notes: list[str] = []
    settings = [
        run_settings(folder, str(one.content["stage"]))
        for folder, one in zip(folders, evaluations, strict=True)
    ]
    groups = _groups(runs, seed_groups(settings))
    refused: list[_Refusal] = []
    found = _held_out(runs, evaluations, refused, paired=not groups)
    found += _texts(evaluations, refused, paired=not groups)
    found += _tasks(evaluations, refused, notes)
    if not found:
        raise DataError(
            "; ".join(one.fact for one in refused),
            place=", ".join(map(str, places)),
            remedy="\n".join(dict.fromkeys(one.remedy for one in refused)),
        )
    unknown = [run for run, one in zip(runs, settings, strict=True) if not one]
    notes += [one.fact for one in refused]
    notes += [f"{run}: its settings are not recorded, and are not compared" for run in unknown]
    compared = _of_groups(found, groups) if groups else _of_runs(found)
    return Comparison(
        runs,
        folders,
        evaluations,
        groups,
        compared,
        None if unknown else differing(settings),
        notes,
    )


def _groups(runs: list[str], places: list[list[int]]) -> list[Group]:
    """The groups by what the names of their runs begin with; none if all are single runs."""
    if len(places) == len(runs):
        return []
    members = [[runs[index] for index in group] for group in places]
    names = [one[0] if len(one) == 1 else f"{_beginning(one)}*" for one in members]
    if len(set(names)) < len(names) or "*" in names:
        names = [" ".join(one) for one in members]
    return [Group(name, group) for name, group in zip(names, places, strict=True)]


def _beginning(names: list[str]) -> str:
    beginning = names[0]
    while not all(name.startswith(beginning) for name in names):
        beginning = beginning[:-1]
    return beginning


def _held_out(
    runs: list[str], evaluations: list[Evaluation], refused: list[_Refusal], *, paired: bool
) -> list[_Measured]:
    measured = [one.content["held_out"] for one in evaluations]
    if not any(measured):
        return []
    kinds = [one and str(one["data"]) for one in measured]
    if not all(measured):
        refused.append(
            _Refusal(
                f"{next(filter(None, kinds))}: not measured in every run",
                "Measure it with `chatgpt evaluate` without --task.",
            )
        )
        return []
    if len(set(kinds)) > 1:
        other = next(index for index, kind in enumerate(kinds) if kind != kinds[0])
        refused.append(
            _Refusal(
                f"{runs[0]} was measured on {kinds[0]} and {runs[other]} on {kinds[other]}, "
                "before and after finetuning",
                "Measure the same stage of each with `chatgpt evaluate --stage`.",
            )
        )
        return []
    kind = str(kinds[0])
    texts = [one.get("text_sha256") for one in measured]
    if not all(texts):
        refused.append(
            _Refusal(
                f"{kind}: it is not recorded which text that was, and it is not compared",
                "Evaluate the runs again with `chatgpt evaluate`.",
            )
        )
        return []
    if len(set(texts)) > 1:
        refused.append(
            _Refusal(
                f"{kind}: not the same text in every run, and not compared",
                "Keep the same text or rows for validation in all runs, and evaluate again.",
            )
        )
        return []
    parts = [one.documents for one in evaluations if one.documents is not None]
    return _likelihood(kind, parts, evaluations, refused, paired=paired)


def _texts(
    evaluations: list[Evaluation], refused: list[_Refusal], *, paired: bool
) -> list[_Measured]:
    """The texts of evaluate.texts, where every run has the same one."""
    found = []
    for name in evaluations[0].texts:
        if any(name not in one.texts for one in evaluations):
            refused.append(
                _Refusal(
                    f"{name}: not measured in every run",
                    "Evaluate them with the same evaluate.texts.",
                )
            )
        elif len({one.content["texts"][name]["text_sha256"] for one in evaluations}) > 1:
            refused.append(
                _Refusal(
                    f"{name}: not the same text in every run, and not compared",
                    "Evaluate them with the same evaluate.texts.",
                )
            )
        else:
            parts = [one.texts[name] for one in evaluations]
            found += _likelihood(name, parts, evaluations, refused, paired=paired)
    return found


def _likelihood(
    kind: str,
    parts: list[np.ndarray],
    evaluations: list[Evaluation],
    refused: list[_Refusal],
    *,
    paired: bool,
) -> list[_Measured]:
    """Perplexity and bits per byte of one text, given each run's losses of its documents."""
    if paired and any(not np.array_equal(parts[0][:, 2], part[:, 2]) for part in parts):
        refused.append(
            _Refusal(
                f"{kind}: not the same words of it were asked for in every run, and not compared",
                "Masked models have to hide the same: give the runs the same seed, tokenizer "
                "and pretrain.mask_probability.",
            )
        )
        return []
    scores = [likelihood_scores(part) for part in parts]
    found = []
    if len({one.content["tokenizer_sha256"] for one in evaluations}) == 1:
        found.append(
            _Measured(kind, "perplexity", "likelihood", [one["perplexity"] for one in scores])
        )
    else:
        refused.append(
            _Refusal(
                f"{kind}: perplexities of different tokenizers cannot be compared",
                "Give the runs the same tokenizer (tokenizer.path).",
            )
        )
    if all("bits_per_byte" in one for one in scores):
        bits = [one["bits_per_byte"] for one in scores]
        found.append(_Measured(kind, "bits_per_byte", "likelihood", bits))
    return found


def _tasks(
    evaluations: list[Evaluation], refused: list[_Refusal], notes: list[str]
) -> list[_Measured]:
    tasks = dict.fromkeys(task for one in evaluations for task in one.content["tasks"])
    if not tasks and any(one.content["held_out"] for one in evaluations):
        return []
    found: list[_Measured] = []
    everywhere = [
        task for task in tasks if all(task in one.content["tasks"] for one in evaluations)
    ]
    remedy = "Evaluate them with the same evaluate.tasks."
    for task in tasks:
        if task in everywhere:
            found += _task(task, evaluations, refused, notes)
        elif everywhere:
            refused.append(_Refusal(f"{task}: not measured in every run", remedy))
    # Where a run has none at all, another reason may say why.
    if not everywhere and (not refused or all(one.content["tasks"] for one in evaluations)):
        refused.append(_Refusal("the runs have no task in common", remedy))
    return found


def _task(
    task: str, evaluations: list[Evaluation], refused: list[_Refusal], notes: list[str]
) -> list[_Measured]:
    settings = [one.content["tasks"][task]["settings"] for one in evaluations]
    for key in ("labels", "language", "answer"):
        if any(one[key] != settings[0][key] for one in settings):
            refused.append(
                _Refusal(
                    f"{task}: its {key} are not the same in every run, and it is not compared",
                    "Set the task the same in all runs, and evaluate again.",
                )
            )
            return []
    chosen = _common_rows([one.predictions[task] for one in evaluations])
    most = max(len(one.predictions[task]) for one in evaluations)
    if not chosen[0]:
        refused.append(
            _Refusal(
                f"{task}: the runs answered different questions, and are not compared",
                "Give the task the same data in all runs, and evaluate again.",
            )
        )
        return []
    if len(chosen[0]) < most:
        notes.append(f"{task}: compared on the {len(chosen[0])} of {most} questions in all runs")
    scores = [one.scores(task, rows) for one, rows in zip(evaluations, chosen, strict=True)]
    shared = [name for name in scores[0] if all(name in one for one in scores)]
    return [_Measured(task, name, name, [one[name] for one in scores]) for name in shared]


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


def _of_runs(found: list[_Measured]) -> list[ComparedMetric]:
    """Each run against the first, a question being the unit."""
    differences = [[difference(one.scores[0], other) for other in one.scores[1:]] for one in found]
    adjusted = _adjusted(found, [[each.p for each in row] for row in differences])
    compared = []
    for one, row, corrected in zip(found, differences, adjusted, strict=True):
        against = [
            Against(each, 1.0 if p is None else p, _verdict(one, each.value, p))
            for each, p in zip(row, corrected, strict=True)
        ]
        compared.append(_compared(one, against=against))
    return compared


def _of_groups(found: list[_Measured], groups: list[Group]) -> list[ComparedMetric]:
    """Each group against the first, a seed being the unit."""
    values = [
        [[one.scores[index].value for index in group.runs] for group in groups] for one in found
    ]
    differences = [[welch(row[0], other) for other in row[1:]] for row in values]
    adjusted = _adjusted(found, [[each.p for each in row] for row in differences])
    compared = []
    for one, row, gaps, corrected in zip(found, values, differences, adjusted, strict=True):
        against = [
            GroupAgainst(each, p, _verdict(one, each.value, p))
            for each, p in zip(gaps, corrected, strict=True)
        ]
        compared.append(_compared(one, spreads=list(map(spread, row)), groups_against=against))
    return compared


def _adjusted(found: list[_Measured], values: list[list[float | None]]) -> list[list[float | None]]:
    """P-values (metrics, others) corrected together; of one measurement the larger counts."""
    keys = [
        [(one.task, one.measurement, index) for index in range(len(row))]
        for one, row in zip(found, values, strict=True)
    ]
    tests: dict[tuple[str, str, int], float] = {}
    for key_row, row in zip(keys, values, strict=True):
        for key, p in zip(key_row, row, strict=True):
            if p is not None:
                tests[key] = max(p, tests.get(key, 0.0))
    corrected = dict(zip(tests, holm(list(tests.values())), strict=True))
    return [[corrected.get(key) for key in row] for row in keys]


def _verdict(one: _Measured, value: float, p: float | None) -> Verdict:
    if p is None:
        return "not tested"
    if p >= _LEVEL:
        return "no clear difference"
    return "better" if (value > 0) == (one.scores[0].better == "higher") else "worse"


def _compared(
    one: _Measured,
    *,
    against: Sequence[Against] = (),
    spreads: Sequence[Spread] = (),
    groups_against: Sequence[GroupAgainst] = (),
) -> ComparedMetric:
    first = one.scores[0]
    return ComparedMetric(
        one.task,
        one.metric,
        first.better,
        first.digits,
        len(first.rows),
        [score.value for score in one.scores],
        [intervals({"": score})[""] for score in one.scores],
        list(against),
        list(spreads),
        list(groups_against),
    )


def _run_of(folder: Path) -> Path:
    return folder.parent if folder.name == "evaluate" else folder


def _names(places: Sequence[Path]) -> list[str]:
    """Short names that differ: the folders' own, or as they were given."""
    short = [place.resolve().name for place in places]
    return short if len(set(short)) == len(short) else [str(place) for place in places]
