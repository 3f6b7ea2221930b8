"""The list of runs, and cleaning up: never the newest or the best checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chatgpt_cli.checkpoints import best_checkpoint, list_checkpoints
from chatgpt_cli.cli.main import main
from chatgpt_cli.config.paths import StagePaths
from chatgpt_cli.runs import find_runs, removable


def _checkpoint(stage: StagePaths, step: int, best: int | None) -> None:
    """As much of a checkpoint as listing looks at."""
    state = stage.checkpoints / f"step-{step:08d}" / "training_state"
    state.mkdir(parents=True)
    progress = {"step": step, "best_step": best, "best_loss": 1.5, "finished": None}
    (state / "state.json").write_text(json.dumps({"progress": progress}), encoding="utf-8")
    (state.parent / "model.safetensors").write_bytes(b"x" * 1000)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    stage = StagePaths(tmp_path / "runs" / "one" / "pretrain")
    for step in (10, 20, 30, 40):
        _checkpoint(stage, step, best=min(step, 20))
    (stage.checkpoints / "damaged-step-00000015").mkdir()
    return tmp_path / "runs" / "one"


def _steps(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "pretrain" / "checkpoints").iterdir())


def test_only_what_is_neither_newest_nor_best_is_removable(run: Path) -> None:
    assert [path.name for path in removable(run)] == [
        "damaged-step-00000015",
        "step-00000010",
        "step-00000030",
    ]


def test_a_damaged_newest_state_keeps_everything(run: Path) -> None:
    newest = list_checkpoints(StagePaths(run / "pretrain"))[-1]
    (newest / "training_state" / "state.json").write_text("{", encoding="utf-8")
    assert [path.name for path in removable(run)] == ["damaged-step-00000015"]
    (summary,) = find_runs(run)
    assert summary.stages[0].progress is None


def test_clean_lists_first_and_removes_on_yes(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(run.parent.parent)
    before = _steps(run)
    assert main(["runs", "--clean"]) == 0
    printed = capsys.readouterr().out
    assert _steps(run) == before and "step-00000030" in printed and "--clean --yes" in printed
    assert main(["runs", "--yes"]) == 2
    assert _steps(run) == before
    assert main(["runs", "--clean", "--yes"]) == 0
    assert _steps(run) == ["step-00000020", "step-00000040"]
    assert main(["runs", "--clean"]) == 0
    assert "nothing to remove" in capsys.readouterr().out


def test_a_real_run_is_listed_and_still_works_when_cleaned(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    kept = ["--set", "pretrain.keep_last=9"]
    for command in ("preprocess", "pretrain"):
        assert main([command, *kept]) == 0
    assert main(["evaluate", "--metric", "perplexity"]) == 0
    capsys.readouterr()
    assert main(["runs", ".", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["runs"]
    assert found["run"] == "run" and found["stages"]["pretrain"]["finished"] == "budget"
    best = best_checkpoint(StagePaths(project / "run" / "pretrain"))
    assert len(removable(project / "run")) >= 1
    assert main(["runs", ".", "--clean", "--yes"]) == 0
    assert best_checkpoint(StagePaths(project / "run" / "pretrain")) == best
    assert main(["pretrain", "--resume", *kept]) == 0
    assert main(["runs", "."]) == 0
    assert "finished (budget)" in capsys.readouterr().out


def test_no_folder_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", str(tmp_path / "nowhere")]) == 1
    assert "no such folder" in capsys.readouterr().err
