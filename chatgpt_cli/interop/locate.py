"""Which model a command works with when the user names none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from chatgpt_cli.checkpoints import best_checkpoint, model_damage
from chatgpt_cli.config.paths import RunPaths
from chatgpt_cli.errors import ModelError

Stage = Literal["auto", "pretrain", "finetune"]


@dataclass(frozen=True)
class Located:
    """A model folder and where it comes from: "pretrain", "finetune" or "model" (given)."""

    folder: Path
    stage: str


def locate_model(paths: RunPaths, *, model: Path | None, stage: Stage = "auto") -> Located:
    """The folder given, else the best (or latest) finetuned, else the best pretrained model.

    Raises:
        ModelError: if there is none, saying which command makes one, or if its files are
            not as training wrote them.
    """
    if model is not None:
        if not model.is_dir():
            raise ModelError(
                "there is no such folder",
                place=str(model),
                remedy="--model takes a model folder, with config.json and model.safetensors.",
            )
        problem = model_damage(model) if (model / "training_state").is_dir() else None
        if problem is not None:
            raise ModelError(
                f"the checkpoint is damaged: {problem}",
                place=str(model),
                remedy="If the change is meant, remove training_state and manifest.json: then it "
                "is a model folder like any other.",
            )
        return Located(model, _stage_of(model))
    names = ("finetune", "pretrain") if stage == "auto" else (stage,)
    for name in names:
        files = paths.finetune if name == "finetune" else paths.pretrain
        folder = best_checkpoint(files)
        if folder is not None:
            return Located(folder, name)
    command = "pretrain" if stage == "auto" else stage
    kind = {"auto": "trained", "pretrain": "pretrained", "finetune": "finetuned"}[stage]
    raise ModelError(
        f"there is no {kind} model here",
        place=str(paths.root),
        remedy=f"Run `chatgpt {command}` first, or name a model folder with --model.",
    )


def _stage_of(folder: Path) -> str:
    """The stage that made a given folder, if it still lies where a run put it."""
    checkpoints = folder.resolve().parent
    stage = checkpoints.parent.name
    inside = checkpoints.name == "checkpoints" and stage in ("pretrain", "finetune")
    return stage if inside else "model"
