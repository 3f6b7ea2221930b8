"""Finding the model of a run."""

from pathlib import Path

import pytest

from chatgpt_cli.config.paths import RunPaths, StagePaths
from chatgpt_cli.errors import ModelError
from chatgpt_cli.interop.locate import locate_model


def checkpoint(stage: StagePaths, name: str, pointer: Path) -> Path:
    folder = stage.checkpoints / name
    folder.mkdir(parents=True)
    pointer.write_text(name, encoding="utf-8")
    return folder


def test_finetuned_before_pretrained_and_best_before_latest(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    with pytest.raises(ModelError, match="Run `chatgpt pretrain` first"):
        locate_model(paths, model=None)

    latest = checkpoint(paths.pretrain, "step-2", paths.pretrain.latest)
    assert locate_model(paths, model=None).folder == latest
    best = checkpoint(paths.pretrain, "step-1", paths.pretrain.best)
    assert locate_model(paths, model=None).folder == best
    with pytest.raises(ModelError, match="Run `chatgpt finetune` first"):
        locate_model(paths, model=None, stage="finetune")

    tuned = checkpoint(paths.finetune, "step-5", paths.finetune.latest)
    assert locate_model(paths, model=None).folder == tuned
    assert locate_model(paths, model=None).stage == "finetune"
    assert locate_model(paths, model=None, stage="pretrain").folder == best


def test_a_given_folder(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path / "run")
    with pytest.raises(ModelError, match="no such folder"):
        locate_model(paths, model=tmp_path / "nothing")
    assert locate_model(paths, model=tmp_path).stage == "model"
    folder = tmp_path / "other" / "finetune" / "checkpoints" / "step-3"
    folder.mkdir(parents=True)
    assert locate_model(paths, model=folder).stage == "finetune"
