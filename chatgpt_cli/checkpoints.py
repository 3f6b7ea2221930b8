"""Checkpoint folders: which there are, whether they are whole, and which one to use.

Needs no PyTorch: commands ask here before they load anything.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import TypeAdapter

from chatgpt_cli.command_line import same_run
from chatgpt_cli.config.paths import StagePaths
from chatgpt_cli.errors import ModelError, TrainingError
from chatgpt_cli.files import discard, sha256

STATE = Path("training_state") / "state.json"
TENSORS = Path("training_state") / "state.safetensors"
# What several processes wrote of an optimizer's state that was divided among them.
SHARDS = Path("training_state") / "shards"
_MANIFEST = "manifest.json"
_FORMAT = 1
# What a model is read from, one of each group: its shape, its weights (or an adapter's),
# its tokenizer (this program's own, or one that came with a model from elsewhere). Only
# these are verified when it is used and not trained.
_MODEL_FILES = (
    ("config.json", "adapter_config.json"),
    ("model.safetensors", "adapter_model.safetensors"),
    ("tokenizer.model", "tokenizer.json"),
)
# What reading JSON that is not as expected can raise.
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)
_STATE_FILES = ((STATE.as_posix(),), (TENSORS.as_posix(),))


@dataclass
class Progress:
    """Where training stands; all of it is saved and restored."""

    step: int = 0
    tokens: int = 0
    # Seconds spent training, over all sessions.
    elapsed: float = 0.0
    best_step: int | None = None
    # The lowest validation loss, or what else checkpoints are ranked by.
    best_loss: float | None = None
    # Evaluations since the best one.
    stale: int = 0
    finished: str | None = None
    # The same measure of this very step, if it was evaluated.
    validation_loss: float | None = None
    # Steps without an update, because the loss or a gradient was not a number.
    skipped: int = 0
    # How the loss of late runs and varies, and the last step where it jumped.
    usual_loss: float | None = None
    usual_deviation: float = 0.0
    last_spike: int | None = None
    # What was chosen automatically at the start: a continuation keeps it, because
    # another choice would round numbers otherwise.
    chosen: dict[str, str | int] = field(default_factory=dict)


_PROGRESS = TypeAdapter(Progress)


def progress_from(values: object) -> Progress:
    """A saved `Progress`.

    Raises:
        ValueError: for values of other types.
    """
    return _PROGRESS.validate_python(values)


def name_of(step: int) -> str:
    """The folder of the checkpoint of a step."""
    return f"step-{step:08d}"


def step_of(folder: Path) -> int:
    """The step of a checkpoint, by its folder's name."""
    return int(folder.name.removeprefix("step-"))


def list_checkpoints(stage: StagePaths) -> list[Path]:
    """All checkpoints of a stage, oldest first."""
    found = (p for p in stage.checkpoints.glob("step-*") if re.fullmatch(r"step-\d+", p.name))
    return sorted((path for path in found if path.is_dir()), key=step_of)


def write_manifest(folder: Path) -> None:
    """Note size and hash of every file in a checkpoint."""
    files = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    (folder / _MANIFEST).write_text(
        json.dumps({"format": _FORMAT, "files": files}, indent=2), encoding="utf-8"
    )


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint's files, or None if all are as they were written."""
    problem = _damaged(folder, (*_MODEL_FILES, *_STATE_FILES), None)
    if problem is None:
        try:
            step = read_progress(folder).step
        except UNREADABLE as error:
            return f"{STATE} cannot be read ({error})"
        if name_of(step) != folder.name:
            return f"it holds step {step:,}"
    return problem


def model_damage(folder: Path) -> str | None:
    """As `damage`, but only of the files that a model is read from."""
    return _damaged(folder, _MODEL_FILES, [name for group in _MODEL_FILES for name in group])


def _damaged(
    folder: Path, needed: Iterable[tuple[str, ...]], only: Collection[str] | None
) -> str | None:
    """Args:
    needed: groups of files, of each of which one must have been written.
    only: look at no others than these.
    """
    try:
        files = _read_manifest(folder)
        missing = [group for group in needed if not any(name in files for name in group)]
        if missing:
            return f"{_MANIFEST} does not name {missing[0][0]}"
        for name in files:
            if only is not None and name not in only:
                continue
            problem = _file_damage(folder, name, files[name])
            if problem:
                return problem
    except UNREADABLE as error:
        return f"{_MANIFEST} cannot be read ({error})"
    return None


def _read_manifest(folder: Path) -> dict[str, Any]:
    manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
    if manifest["format"] != _FORMAT:
        raise ValueError(f"its format is {manifest['format']}, not {_FORMAT}")
    files: dict[str, Any] = dict(manifest["files"])
    if any(PurePosixPath(name).is_absolute() or ".." in name.split("/") for name in files):
        raise ValueError("it names files elsewhere")
    return files


def _file_damage(folder: Path, name: str, recorded: dict[str, Any]) -> str | None:
    path = folder / name
    if not path.is_file():
        return f"{name} is missing"
    if path.stat().st_size != recorded["bytes"]:
        return f"{name} has {path.stat().st_size:,} bytes instead of {recorded['bytes']:,}"
    if sha256(path) != recorded["sha256"]:
        return f"{name} does not have the contents that were written"
    return None


def newest_intact(stage: StagePaths, warn: Callable[[str], None]) -> Path | None:
    """The newest checkpoint whose files are all as written.

    A damaged one is named through `warn`, set aside under another name and never
    used; then the one before it is tried.

    Raises:
        TrainingError: if a damaged one cannot be set aside.
    """
    for folder in reversed(list_checkpoints(stage)):
        problem = damage(folder)
        if problem is None:
            return folder
        aside = folder.with_name(f"damaged-{folder.name}")
        try:
            if aside.exists():
                discard(aside)
            folder.rename(aside)
        except OSError as error:
            raise TrainingError(
                f"the checkpoint is damaged ({problem}) and cannot be set aside ({error})",
                place=str(folder),
                remedy="Move it elsewhere, then continue with --resume.",
            ) from error
        warn(f"Checkpoint {folder.name} is damaged: {problem}. It was set aside as {aside.name}.")
    return None


def best_checkpoint(stage: StagePaths) -> Path | None:
    """The checkpoint to use: the best so far, or the newest if none was evaluated.

    The newest one's state tells, not the files `best` and `latest`, which are there for
    people and other programs and may lag behind a process that died.

    Raises:
        ModelError: if its files are not as they were written.
    """
    folders = list_checkpoints(stage)
    if not folders:
        return None
    newest = folders[-1]
    chosen = newest
    problem = _damaged(newest, _STATE_FILES, (STATE.as_posix(),))
    if problem is None:
        try:
            best = read_progress(newest).best_step
            chosen = next((one for one in folders if best == step_of(one)), newest)
            problem = model_damage(chosen)
        except UNREADABLE as error:
            problem = f"{STATE} cannot be read ({error})"
    if problem is not None:
        resumed = same_run(stage.root.name, "--resume", run=stage.root.parent)
        raise ModelError(
            f"the checkpoint is damaged: {problem}",
            place=str(chosen),
            remedy=f"`chatgpt {resumed}` sets it aside and goes on from the one before it; "
            "--model DIR uses another one as it is.",
        )
    return chosen


def read_progress(folder: Path) -> Progress:
    """Where training stood when a checkpoint was written.

    Raises:
        OSError, ValueError, KeyError, TypeError: if its state is missing or no such thing.
    """
    state = json.loads((folder / STATE).read_text(encoding="utf-8"))
    return progress_from(state["progress"])


def prune(
    stage: StagePaths,
    progress: Progress,
    *,
    keep_last: int,
    keep_best: int = 1,
    keep_every: int | None = None,
) -> None:
    """Remove the checkpoints that nothing asks to keep.

    Args:
        stage: where they lie.
        progress: where training stands; its best step is always kept, and what `best` names.
        keep_last: so many of the newest stay,
        keep_best: so many of those with the lowest validation loss,
        keep_every: and those of steps that are multiples of this.
    """
    folders = list_checkpoints(stage)
    keep = {step_of(folder) for folder in folders[-keep_last:]} | {progress.best_step}
    # The best one until a better one is written.
    if (best := stage.pointed(stage.best)) is not None:
        keep.add(step_of(best))
    if keep_every:
        keep |= {step for step in map(step_of, folders) if step % keep_every == 0}
    others = [folder for folder in folders if step_of(folder) not in keep]
    if keep_best > 1 and others:
        keep |= _lowest(folders, keep_best)
    for folder in others:
        if step_of(folder) not in keep:
            discard(folder)


def _lowest(folders: list[Path], count: int) -> set[int]:
    """The steps of the checkpoints with the lowest validation losses."""
    losses = []
    for folder in folders:
        try:
            loss = read_progress(folder).validation_loss
        except UNREADABLE:
            # It stays until somebody has looked at it.
            loss = float("-inf")
        if loss is not None:
            losses.append((loss, step_of(folder)))
    return {step for _, step in sorted(losses)[:count]}
