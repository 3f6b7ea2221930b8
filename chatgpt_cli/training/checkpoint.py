"""Checkpoints: a Hugging Face model folder, the state of training, and a manifest of hashes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from chatgpt_cli.config.paths import StagePaths
from chatgpt_cli.errors import TrainingError
from chatgpt_cli.files import atomic_path, sha256, write_text
from chatgpt_cli.interop.huggingface import save_model
from chatgpt_cli.model.transformer import Transformer
from chatgpt_cli.tokenizer.tokenizer import Tokenizer

_STATE = Path("training_state") / "state.json"
_TENSORS = Path("training_state") / "state.safetensors"
_MANIFEST = "manifest.json"


@dataclass
class Progress:
    """Where training stands; all of it is saved and restored."""

    step: int = 0
    tokens: int = 0
    # Seconds spent training, over all sessions.
    elapsed: float = 0.0
    best_step: int | None = None
    best_loss: float | None = None
    # Evaluations since the best one.
    stale: int = 0
    finished: str | None = None


@dataclass(frozen=True)
class Saved:
    """What a checkpoint holds besides the model."""

    folder: Path
    progress: Progress
    # What must be the same for a continuation, and the settings it was trained with.
    fingerprint: dict[str, object]
    settings: dict[str, object]
    optimizer: dict[str, Tensor]
    rng: dict[str, Tensor]


def save_checkpoint(
    stage: StagePaths,
    *,
    model: Transformer,
    tokenizer: Tokenizer,
    progress: Progress,
    fingerprint: dict[str, object],
    settings: dict[str, object],
    optimizer: dict[str, Tensor],
) -> Path:
    """Write `checkpoints/step-NNNNNNNN`, all of it or nothing, and point `latest` to it.

    Raises:
        TrainingError: if the disk is full or cannot be written; what was there stays.
    """
    target = stage.checkpoints / f"step-{progress.step:08d}"
    try:
        with atomic_path(target) as folder:
            save_model(model, tokenizer, folder)
            (folder / _STATE).parent.mkdir()
            state = {
                "progress": asdict(progress),
                "fingerprint": fingerprint,
                "settings": settings,
            }
            (folder / _STATE).write_text(
                json.dumps(state, ensure_ascii=False, indent=2), encoding="utf-8"
            )
            tensors = {f"optimizer.{name}": value for name, value in optimizer.items()}
            tensors |= {f"rng.{name}": value for name, value in _random_state().items()}
            save_file({n: t.contiguous().cpu() for n, t in tensors.items()}, folder / _TENSORS)
            _write_manifest(folder)
        write_text(stage.latest, target.name + "\n")
    except (OSError, SafetensorError) as error:
        free = shutil.disk_usage(stage.root.parent).free
        raise TrainingError(
            f"the checkpoint of step {progress.step:,} could not be written: {error}",
            place=str(stage.checkpoints),
            remedy=f"{free / 1e6:,.0f} MB are free there. Earlier checkpoints are intact: free "
            "some space and continue with --resume.",
        ) from error
    return target


def _write_manifest(folder: Path) -> None:
    files = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    (folder / _MANIFEST).write_text(
        json.dumps({"format": 1, "files": files}, indent=2), encoding="utf-8"
    )


def prune(stage: StagePaths, keep_last: int) -> None:
    """Remove all checkpoints but the newest `keep_last` and those pointed to."""
    keep = {stage.pointed(stage.best), stage.pointed(stage.latest)}
    for folder in list_checkpoints(stage)[:-keep_last]:
        if folder not in keep:
            shutil.rmtree(folder)


def list_checkpoints(stage: StagePaths) -> list[Path]:
    """All checkpoints of a stage, oldest first."""
    return sorted(path for path in stage.checkpoints.glob("step-*") if path.is_dir())


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint's files, or None if all are as they were written."""
    try:
        files = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))["files"]
        for name, recorded in files.items():
            path = folder / name
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != recorded["bytes"]:
                return f"{name} has {path.stat().st_size:,} bytes instead of {recorded['bytes']:,}"
            if sha256(path) != recorded["sha256"]:
                return f"{name} does not have the contents that were written"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{_MANIFEST} cannot be read ({error})"
    return None


def newest_intact(stage: StagePaths, warn: Callable[[str], None]) -> Path | None:
    """The newest checkpoint whose files are all as written.

    A damaged one is named through `warn`, set aside under another name and never
    used; then the one before it is tried.
    """
    for folder in reversed(list_checkpoints(stage)):
        problem = damage(folder)
        if problem is None:
            return folder
        aside = folder.with_name(f"damaged-{folder.name}")
        shutil.rmtree(aside, ignore_errors=True)
        folder.rename(aside)
        warn(f"Checkpoint {folder.name} is damaged: {problem}. It was set aside as {aside.name}.")
    return None


def load_state(folder: Path) -> Saved:
    """Read what `save_checkpoint` wrote besides the model (verify it first)."""
    try:
        state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
        tensors = load_file(folder / _TENSORS)
        return Saved(
            folder=folder,
            progress=Progress(**state["progress"]),
            fingerprint=state["fingerprint"],
            settings=state["settings"],
            optimizer=_with_prefix(tensors, "optimizer."),
            rng=_with_prefix(tensors, "rng."),
        )
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise TrainingError(
            f"the state of training cannot be read ({error})",
            place=str(folder / "training_state"),
            remedy="Use an earlier checkpoint, or start over with --restart.",
        ) from error


def _with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _random_state() -> dict[str, Tensor]:
    """PyTorch's generators, which dropout draws from; nothing else uses chance."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore_random_state(rng: dict[str, Tensor]) -> None:
    """Set PyTorch's generators to a saved state."""
    torch.set_rng_state(rng["cpu"])
    if "cuda" in rng and torch.cuda.is_available():
        torch.cuda.set_rng_state(rng["cuda"])
