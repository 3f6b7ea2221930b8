"""Saving and loading checkpoints: a Hugging Face model folder and the state of training."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from chatgpt_cli.checkpoints import (
    STATE,
    TENSORS,
    Progress,
    name_of,
    progress_from,
    prune,
    write_manifest,
)
from chatgpt_cli.config.paths import StagePaths
from chatgpt_cli.errors import TrainingError
from chatgpt_cli.files import atomic_path, write_text
from chatgpt_cli.interop.huggingface import save_model
from chatgpt_cli.model.lora import adapter_weights
from chatgpt_cli.model.transformer import Transformer
from chatgpt_cli.tokenizer.tokenizer import Tokenizer
from chatgpt_cli.training.metrics_log import Mark

# Configuration, manifest, tokenizer files and the blocks that file systems round up to.
_SMALL_FILES = 1_000_000


@dataclass(frozen=True)
class Saved:
    """What a checkpoint holds besides the model."""

    folder: Path
    progress: Progress
    # What must be the same for a continuation, and the settings it was trained with.
    fingerprint: dict[str, object]
    settings: dict[str, object]
    # How much of metrics.jsonl belongs to it.
    metrics: Mark
    optimizer: dict[str, Tensor]
    rng: dict[str, Tensor]
    # What is different in the continuation, each as "a.b: 1 → 2".
    changes: list[str] = field(default_factory=list)


def save_checkpoint(
    stage: StagePaths,
    *,
    model: Transformer,
    tokenizer: Tokenizer,
    progress: Progress,
    fingerprint: dict[str, object],
    settings: dict[str, object],
    metrics: Mark,
    optimizer: dict[str, Tensor],
) -> Path:
    """Write `checkpoints/step-NNNNNNNN`, all of it or nothing, and point `latest` to it.

    Raises:
        TrainingError: if the disk is full or cannot be written; what was there stays.
    """
    target = stage.checkpoints / name_of(progress.step)
    needed = size_of(model, tokenizer, optimizer)
    try:
        _make_room(stage, progress, needed)
        with atomic_path(target) as folder:
            save_model(model, tokenizer, folder)
            (folder / STATE).parent.mkdir()
            state = {
                "progress": asdict(progress),
                "fingerprint": fingerprint,
                "settings": settings,
                "metrics": asdict(metrics),
            }
            (folder / STATE).write_text(
                json.dumps(state, ensure_ascii=False, indent=2), encoding="utf-8"
            )
            tensors = {f"optimizer.{name}": value for name, value in optimizer.items()}
            tensors |= {f"rng.{name}": value for name, value in _random_state().items()}
            save_file({n: t.contiguous().cpu() for n, t in tensors.items()}, folder / TENSORS)
            write_manifest(folder)
        write_text(stage.latest, target.name + "\n")
    except (OSError, SafetensorError) as error:
        free = shutil.disk_usage(stage.root.parent).free
        raise TrainingError(
            f"the checkpoint of step {progress.step:,} could not be written: {error}",
            place=str(stage.checkpoints),
            remedy=f"It needs about {_megabytes(needed)}; {_megabytes(free)} are free there. "
            "Earlier checkpoints are intact: free some space and continue with --resume.",
        ) from error
    return target


def size_of(model: Transformer, tokenizer: Tokenizer, optimizer: dict[str, Tensor]) -> int:
    """About how many bytes a checkpoint takes on the disk."""
    saved = model.parameters() if model.adapter is None else adapter_weights(model).values()
    tensors: list[Tensor] = [*saved, *optimizer.values()]
    numbers = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    return numbers + tokenizer.size_on_disk + _SMALL_FILES


def _make_room(stage: StagePaths, progress: Progress, needed: int) -> None:
    """See to it that a checkpoint fits, before anything is written.

    When space is short, what would be removed after the save is removed before it; the
    newest and the best checkpoint stay.

    Raises:
        OSError: if there is still too little.
    """
    place = next(p for p in (stage.root, *stage.root.parents) if p.exists())
    if shutil.disk_usage(place).free < needed:
        prune(stage, progress, keep_last=1)
    free = shutil.disk_usage(place).free
    if free < needed:
        raise OSError("the disk is full")


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"


def load_state(folder: Path) -> Saved:
    """Read what `save_checkpoint` wrote besides the model (verify it first).

    Raises:
        TrainingError: if a file is missing or does not hold what it should.
    """
    try:
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        tensors = load_file(folder / TENSORS)
        return Saved(
            folder=folder,
            progress=progress_from(state["progress"]),
            fingerprint=dict(state["fingerprint"]),
            settings=dict(state["settings"]),
            metrics=Mark(int(state["metrics"]["bytes"]), str(state["metrics"]["sha256"])),
            optimizer=_with_prefix(tensors, "optimizer."),
            rng=_checked_random_state(_with_prefix(tensors, "rng.")),
        )
    except (
        OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError,
        ValidationError, SafetensorError,
    ) as error:  # fmt: skip
        raise TrainingError(
            f"the state of training cannot be read ({error})",
            place=str(folder / "training_state"),
            remedy="Use an earlier checkpoint, or start over with --restart.",
        ) from error


def check_optimizer_state(model: Transformer, saved: Saved) -> None:
    """Refuse tensors that do not belong to the model's parameters.

    Raises:
        TrainingError: naming the first one.
    """
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    for name, tensor in saved.optimizer.items():
        parameter = name.partition(".")[2].rpartition(".")[0]
        expected = shapes.get(parameter)
        if expected is None or (tensor.ndim and tensor.shape != expected):
            raise TrainingError(
                f"the optimizer's state does not fit the model: {name} is {tuple(tensor.shape)}",
                place=str(saved.folder / TENSORS),
                remedy="Use an earlier checkpoint, or start over with --restart.",
            )


def _with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _random_state() -> dict[str, Tensor]:
    """PyTorch's generators, which dropout draws from; nothing else uses chance."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _checked_random_state(rng: dict[str, Tensor]) -> dict[str, Tensor]:
    own = torch.get_rng_state()
    if rng["cpu"].dtype != own.dtype or rng["cpu"].shape != own.shape:
        raise ValueError("the generator's state is of another size")
    return rng


def restore_random_state(rng: dict[str, Tensor]) -> None:
    """Set PyTorch's generators to a saved state."""
    torch.set_rng_state(rng["cpu"])
    if "cuda" in rng and torch.cuda.is_available():
        torch.cuda.set_rng_state(rng["cuda"])
