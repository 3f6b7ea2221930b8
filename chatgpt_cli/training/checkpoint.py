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
    SHARDS,
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
from chatgpt_cli.ranks import this_rank
from chatgpt_cli.tokenizer.tokenizer import Tokenizer
from chatgpt_cli.training.metrics_log import Mark
from chatgpt_cli.training.shards import WrittenShards, shapes_in

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
    # The job of several processes that wrote it.
    job: str | None = None
    # Where the optimizer's state lies that was divided among them.
    shards: Path | None = None
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
    rng: list[dict[str, Tensor]],
    shards: WrittenShards | None = None,
) -> Path:
    """Write `checkpoints/step-NNNNNNNN`, all of it or nothing, and point `latest` to it.

    `rng` are the generators' states of all processes, by rank; `shards` is what of the
    optimizer's state is divided among them.

    Raises:
        TrainingError: if the disk is full or cannot be written; what was there stays.
    """
    target = stage.checkpoints / name_of(progress.step)
    needed = size_of(model, tokenizer, optimizer)
    try:
        if shards is None:
            make_room(stage, progress, needed)
        with atomic_path(target) as folder:
            save_model(model, tokenizer, folder, stage=stage.root.name)
            (folder / STATE).parent.mkdir()
            state = {
                "progress": asdict(progress),
                "fingerprint": fingerprint,
                "settings": settings,
                "metrics": asdict(metrics),
                "job": this_rank().job,
            }
            (folder / STATE).write_text(
                json.dumps(state, ensure_ascii=False, indent=2), encoding="utf-8"
            )
            tensors = {f"optimizer.{name}": value for name, value in optimizer.items()}
            for rank, states in enumerate(rng):
                tensors |= {f"rng.{_of_rank(name, rank)}": one for name, one in states.items()}
            save_file({n: t.contiguous().cpu() for n, t in tensors.items()}, folder / TENSORS)
            if shards is not None:
                shards.move_to(folder / SHARDS)
            write_manifest(folder)
        write_text(stage.latest, target.name + "\n")
    except (OSError, SafetensorError) as error:
        raise unwritten(stage, progress, needed, error) from error
    return target


def unwritten(
    stage: StagePaths, progress: Progress, needed: int, error: Exception
) -> TrainingError:
    """That a checkpoint could not be written, and what helps."""
    free = shutil.disk_usage(stage.root.parent).free
    return TrainingError(
        f"the checkpoint of step {progress.step:,} could not be written: {error}",
        place=str(stage.checkpoints),
        remedy=f"It needs about {_megabytes(needed)}; {_megabytes(free)} are free there. "
        "Earlier checkpoints are intact: free some space and continue with --resume.",
    )


def size_of(model: Transformer, tokenizer: Tokenizer, optimizer: dict[str, Tensor]) -> int:
    """About how many bytes a checkpoint takes on the disk."""
    saved = model.parameters() if model.adapter is None else adapter_weights(model).values()
    tensors: list[Tensor] = [*saved, *optimizer.values()]
    numbers = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    return numbers + tokenizer.size_on_disk + _SMALL_FILES


def make_room(stage: StagePaths, progress: Progress, needed: int) -> None:
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
            shards=folder / SHARDS if (folder / SHARDS).is_dir() else None,
            metrics=Mark(int(state["metrics"]["bytes"]), str(state["metrics"]["sha256"])),
            optimizer=_with_prefix(tensors, "optimizer."),
            rng=_checked_random_state(_with_prefix(tensors, "rng.")),
            job=state.get("job"),
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
    expected = {name: parameter.shape for name, parameter in model.named_parameters()}
    found = {name: tensor.shape for name, tensor in saved.optimizer.items()}
    if saved.shards is not None:
        found |= {name: shape for name, (shape, _) in shapes_in(saved.shards).items()}
    for name, shape in found.items():
        parameter = name.partition(".")[2].rpartition(".")[0]
        if parameter not in expected or (shape and shape != expected[parameter]):
            raise TrainingError(
                f"the optimizer's state does not fit the model: {name} is {tuple(shape)}",
                place=str(saved.folder / TENSORS),
                remedy="Use an earlier checkpoint, or start over with --restart.",
            )


def _with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _of_rank(name: str, rank: int) -> str:
    """What the state of a generator is called; the first process's has the plain name."""
    return f"{name}.{rank}" if rank else name


def random_state() -> dict[str, Tensor]:
    """PyTorch's generators, which dropout draws from; nothing else uses chance."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    if torch.backends.mps.is_available():
        state["mps"] = torch.mps.get_rng_state()
    return state


def _checked_random_state(rng: dict[str, Tensor]) -> dict[str, Tensor]:
    own = torch.get_rng_state()
    for name, state in rng.items():
        if name.startswith("cpu") and (state.dtype, state.shape) != (own.dtype, own.shape):
            raise ValueError("the generator's state is of another size")
    if "cpu" not in rng:
        raise KeyError("rng.cpu")
    return rng


def restore_random_state(rng: dict[str, Tensor], rank: int) -> None:
    """Set PyTorch's generators to what they were in this process, if it existed then."""
    cpu, cuda, mps = (_of_rank(name, rank) for name in ("cpu", "cuda", "mps"))
    if cpu in rng:
        torch.set_rng_state(rng[cpu])
    if cuda in rng and torch.cuda.is_available():
        torch.cuda.set_rng_state(rng[cuda])
    if mps in rng and torch.backends.mps.is_available():
        torch.mps.set_rng_state(rng[mps])
