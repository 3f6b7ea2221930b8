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
from chatgpt_cli.config.paths import STAGES, RunPaths, StagePaths
from chatgpt_cli.errors import DataError
from chatgpt_cli.files import discard

# How deep runs may lie under the folder that is asked for.
_DEPTH = 2


@dataclass(frozen=True)
class StageSummary:
    """A stage that was trained, by its newest checkpoint; no progress if that is damaged."""

    name: str
    progress: Progress | None


@dataclass(frozen=True)
class RunSummary:
    """A run: its stages, its scores as texts by "task metric", bytes and last change."""

    folder: Path
    stages: list[StageSummary]
    scores: dict[str, str]
    bytes: int
    changed: float


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
    stages = [
        StageSummary(name, _progress(folders[-1]))
        for name in STAGES
        if (folders := list_checkpoints(paths.stage(name)))
    ]
    entries = [path for path in folder.rglob("*") if not path.is_symlink()]
    stats = [stat for path in entries if (stat := _stat(path)) and path.is_file()]
    return RunSummary(
        folder=folder,
        stages=stages,
        scores=_scores(paths.evaluate / "results.json"),
        bytes=sum(stat.st_size for stat in stats),
        changed=max((stat.st_mtime for stat in stats), default=folder.stat().st_mtime),
    )


def _stat(path: Path) -> os.stat_result | None:
    """None for a file that has gone meanwhile, as training removes old checkpoints."""
    try:
        return path.stat()
    except OSError:
        return None


def _progress(checkpoint: Path) -> Progress | None:
    try:
        return read_progress(checkpoint)
    except UNREADABLE:
        return None


def _scores(path: Path) -> dict[str, str]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return {
            f"{task} {name}": f"{metric['value']:.{metric['digits']}f}"
            for task, entry in content["tasks"].items()
            for name, metric in entry["metrics"].items()
        }
    except UNREADABLE:
        return {}


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
    progress = _progress(folders[-1]) if folders else None
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
