"""Which checkpoints are kept, which one is used, and what counts as damage."""

import json
from pathlib import Path

import pytest

from chatgpt_cli.checkpoints import (
    Progress,
    best_checkpoint,
    damage,
    list_checkpoints,
    newest_intact,
    prune,
    step_of,
    write_manifest,
)
from chatgpt_cli.config.paths import StagePaths
from chatgpt_cli.errors import ModelError


def _checkpoint(stage: StagePaths, step: int, *, loss: float | None = None, best: int = 0) -> Path:
    folder = stage.checkpoints / f"step-{step:08d}"
    (folder / "training_state").mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "tokenizer.model"):
        (folder / name).write_text(f"{name} {step}", encoding="utf-8")
    state = {"progress": {"step": step, "validation_loss": loss, "best_step": best or None}}
    (folder / "training_state" / "state.json").write_text(json.dumps(state), encoding="utf-8")
    (folder / "training_state" / "state.safetensors").write_bytes(b"x")
    write_manifest(folder)
    return folder


@pytest.fixture
def stage(tmp_path: Path) -> StagePaths:
    stage = StagePaths(tmp_path / "pretrain")
    for step, loss in ((10, 3.0), (20, 2.0), (30, None), (40, 1.0), (50, 1.5), (60, 1.7)):
        _checkpoint(stage, step, loss=loss, best=40)
    return stage


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"keep_last": 1}, [40, 60]),
        ({"keep_last": 2}, [40, 50, 60]),
        ({"keep_last": 1, "keep_best": 3}, [40, 50, 60]),
        ({"keep_last": 1, "keep_best": 4}, [20, 40, 50, 60]),
        ({"keep_last": 1, "keep_every": 20}, [20, 40, 60]),
        ({"keep_last": 9}, [10, 20, 30, 40, 50, 60]),
    ],
)
def test_retention(stage: StagePaths, options: dict[str, int], kept: list[int]) -> None:
    prune(stage, Progress(step=60, best_step=40), **options)  # type: ignore[arg-type]
    assert [step_of(folder) for folder in list_checkpoints(stage)] == kept
    assert all(damage(folder) is None for folder in list_checkpoints(stage))


def test_the_best_stays_until_a_better_one_is_written(stage: StagePaths) -> None:
    stage.best.write_text("step-00000040\n", encoding="utf-8")
    prune(stage, Progress(step=70, best_step=70), keep_last=1)
    assert [step_of(folder) for folder in list_checkpoints(stage)] == [40, 60]


def test_the_best_is_used_whatever_the_pointers_say(stage: StagePaths) -> None:
    stage.best.write_text("step-00000010\n", encoding="utf-8")
    chosen = best_checkpoint(stage)
    assert chosen is not None and step_of(chosen) == 40
    assert best_checkpoint(StagePaths(stage.root / "nowhere")) is None


def test_a_damaged_model_is_never_used_silently(stage: StagePaths) -> None:
    weights = stage.checkpoints / "step-00000040" / "model.safetensors"
    weights.write_text("model.safetensors 41", encoding="utf-8")
    with pytest.raises(ModelError, match=r"does not have the contents.*\n.*--resume"):
        best_checkpoint(stage)


def test_the_newest_whole_one_is_taken_and_damaged_ones_are_set_aside(stage: StagePaths) -> None:
    (stage.checkpoints / "step-00000060" / "config.json").unlink()
    (stage.checkpoints / "step-00000050" / "manifest.json").write_text("{}", encoding="utf-8")
    # A whole checkpoint under another's name.
    (stage.checkpoints / "step-00000040").rename(stage.checkpoints / "step-00000049")
    told: list[str] = []
    newest = newest_intact(stage, told.append)
    assert newest is not None and newest.name == "step-00000030"
    assert [text.split(" is damaged: ")[1].split(":")[0].split(".")[0] for text in told] == [
        "config", "manifest", "it holds step 40",
    ]  # fmt: skip
    assert (stage.checkpoints / "damaged-step-00000060").is_dir()


@pytest.mark.parametrize(
    "manifest",
    [
        "[]",
        '{"format": 1}',
        '{"format": 2, "files": {}}',
        '{"format": 1, "files": {}}',
        '{"format": 1, "files": {"../../x": {"bytes": 1, "sha256": ""}}}',
        '{"format": 1, "files": {"config.json": 3}}',
        "[" * 100_000,
    ],
)
def test_manifests_that_are_none(stage: StagePaths, manifest: str) -> None:
    folder = list_checkpoints(stage)[0]
    (folder / "manifest.json").write_text(manifest, encoding="utf-8")
    assert (damage(folder) or "").startswith("manifest.json")


@pytest.mark.parametrize("name", ["..", "../..", "/etc", "step-1/../..", "", "step-x", "stepp"])
def test_pointers_lead_nowhere_else(stage: StagePaths, name: str) -> None:
    stage.best.write_text(name, encoding="utf-8")
    assert stage.pointed(stage.best) is None
    stage.best.write_bytes(b"\xff\xfe")
    assert stage.pointed(stage.best) is None
