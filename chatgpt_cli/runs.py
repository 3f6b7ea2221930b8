"""The runs of a folder as they lie on the disk; needs no PyTorch."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chatgpt_cli.checkpoints import (
    UNREADABLE,
    Progress,
    list_checkpoints,
    read_progress,
    step_of,
)
from chatgpt_cli.command_line import same_run
from chatgpt_cli.config.paths import STAGES, RunPaths, StagePaths
from chatgpt_cli.errors import DataError
from chatgpt_cli.files import discard
from chatgpt_cli.lock import holder

# How deep runs may lie under the folder that is asked for.
_DEPTH = 2
# As an evaluation shows them.
_BITS_DIGITS = 3


@dataclass(frozen=True)
class StageSummary:
    """A stage, by its newest checkpoint; no progress if that is damaged, or there is none yet."""

    name: str
    progress: Progress | None
    # Whether it is being trained at this moment.
    running: bool = False


@dataclass(frozen=True)
class Scored:
    """A value of an evaluation, the digits it is shown with, and its 95% interval."""

    value: float
    digits: int
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class RunSummary:
    """A run: its stages, its scores by "task metric", bytes and last change.

    `outdated` says so if the scores are of another model than the run's of today.
    """

    folder: Path
    stages: list[StageSummary]
    scores: dict[str, Scored]
    bytes: int
    changed: float
    outdated: str | None = None


def find_runs(folder: Path) -> list[RunSummary]:
    """The runs in a folder (or the run that it is), the last changed first.

    Raises:
        DataError: if there is no such folder.
    """
    if not folder.is_dir():
        raise DataError(
            "there is no such folder",
            place=str(folder),
            remedy="Name the folder that holds run directories; by default runs/, which the "
            "first `chatgpt preprocess` makes.",
        )
    level, found = [folder], []
    for _ in range(_DEPTH + 1):
        found += [one for one in level if _is_run(one)]
        level = [
            inner
            for one in level
            if not _is_run(one)
            for inner in one.iterdir()
            if inner.is_dir() and not inner.name.startswith(".")
        ]
    return sorted(map(_summary, found), key=lambda run: -run.changed)


def _is_run(folder: Path) -> bool:
    paths = RunPaths(folder)
    stages = any(paths.stage(name).checkpoints.is_dir() for name in STAGES)
    return stages or (paths.config.is_file() and paths.data.is_dir())


def _summary(folder: Path) -> RunSummary:
    paths = RunPaths(folder)
    trained = [name for name in STAGES if list_checkpoints(paths.stage(name))]
    works = holder(folder)
    if works == "reproduce":
        # It trains one stage after the other.
        works = next(reversed(trained), None)
    stages = [
        StageSummary(name, stage_progress(paths.stage(name)), running=works == name)
        for name in STAGES
        if works == name or name in trained
    ]
    results = _results(paths.evaluate / "results.json")
    entries = [path for path in folder.rglob("*") if not path.is_symlink()]
    stats = [stat for path in entries if (stat := _stat(path)) and path.is_file()]
    return RunSummary(
        folder=folder,
        stages=stages,
        scores=_scores(results),
        bytes=sum(stat.st_size for stat in stats),
        changed=max((stat.st_mtime for stat in stats), default=folder.stat().st_mtime),
        outdated=_outdated(paths, results),
    )


def _stat(path: Path) -> os.stat_result | None:
    """None for a file that has gone meanwhile, as training removes old checkpoints."""
    try:
        return path.stat()
    except OSError:
        return None


def stage_progress(stage: StagePaths) -> Progress | None:
    """Where a stage stands, by its newest checkpoint; None without one that can be read."""
    try:
        return read_progress(list_checkpoints(stage)[-1])
    except (*UNREADABLE, IndexError):
        return None


def _results(path: Path) -> dict[str, Any]:
    """results.json; nothing where it is missing or no such thing."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except UNREADABLE:
        return {}
    return content if isinstance(content, dict) else {}


def _scores(results: dict[str, Any]) -> dict[str, Scored]:
    try:
        found = {
            f"{task} {name}": Scored(
                float(metric["value"]), int(metric["digits"]), _interval(metric.get("interval"))
            )
            for task, entry in results["tasks"].items()
            for name, metric in entry["metrics"].items()
        }
        for one in filter(None, (results.get("held_out"), *results.get("texts", {}).values())):
            if (bits := one.get("bits_per_byte")) is not None:
                ends = _interval(one.get("intervals", {}).get("bits_per_byte"))
                found[f"{one['data']} bits_per_byte"] = Scored(float(bits), _BITS_DIGITS, ends)
        return found
    except UNREADABLE:
        return {}


def _interval(ends: Any) -> tuple[float, float] | None:
    return None if ends is None else (float(ends[0]), float(ends[1]))


def outdated(run: Path) -> str | None:
    """A sentence if a run's scores are of another model than the one it has today."""
    paths = RunPaths(run)
    return _outdated(paths, _results(paths.evaluate / "results.json"))


def _outdated(paths: RunPaths, results: dict[str, Any]) -> str | None:
    stage, scored = results.get("stage"), Path(str(results.get("model"))).name
    trained = [name for name in STAGES if list_checkpoints(paths.stage(name))]
    if stage not in trained or re.fullmatch(r"step-\d+", scored) is None:
        return None
    progress = stage_progress(paths.stage(trained[-1]))
    if progress is None:
        return None
    today = progress.step if progress.best_step is None else progress.best_step
    step = step_of(Path(scored))
    if (stage, step) == (trained[-1], today):
        return None
    return (
        f"The scores are of {stage} step {step:,}, the model of today is {trained[-1]} step "
        f"{today:,}: `chatgpt {same_run('evaluate', run=paths.root)}` scores that."
    )


def removable(folder: Path) -> list[Path]:
    """Checkpoints of a run that are neither the newest nor the best of their stage, and
    damaged ones that were set aside.

    A stage whose newest state cannot be read keeps all it has: which is the best is not
    known then.
    """
    found = []
    for stage in map(RunPaths(folder).stage, STAGES):
        found += sorted(
            path
            for path in stage.checkpoints.glob("damaged-step-*")
            if re.fullmatch(r"damaged-step-\d+", path.name) and path.is_dir()
        )
        found += _outlived(stage)
    return found


def _outlived(stage: StagePaths) -> list[Path]:
    folders = list_checkpoints(stage)
    progress = stage_progress(stage)
    if progress is None:
        return []
    kept = {folders[-1], stage.pointed(stage.best), stage.pointed(stage.latest)}
    return [one for one in folders if one not in kept and step_of(one) != progress.best_step]


def size_of(folder: Path) -> int:
    """The bytes of a folder's files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def remove(folders: list[Path], tell: Callable[[str], None]) -> None:
    """Remove checkpoints that `removable` named; call it with the run's lock."""
    for folder in folders:
        discard(folder)
        tell(f"Removed {folder}")
