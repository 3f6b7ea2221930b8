"""The list of runs, and cleaning up: never the newest or the best checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chatgpt_cli.checkpoints import best_checkpoint, list_checkpoints
from chatgpt_cli.cli.main import main
from chatgpt_cli.config.loader import load_config
from chatgpt_cli.config.paths import RunPaths, StagePaths
from chatgpt_cli.lock import run_lock
from chatgpt_cli.runs import find_runs, removable
from chatgpt_cli.training.events import Event, StepDone
from chatgpt_cli.training.pretrain import pretrain


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


def test_a_run_that_is_being_trained_is_running(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with run_lock(run, "pretrain"):
        assert main(["runs", str(run.parent)]) == 0
        said = capsys.readouterr().out
        assert "running" in said and "stopped" not in said
    with run_lock(run, "reproduce"):
        assert find_runs(run)[0].stages[0].running
    # Before its first checkpoint, too.
    with run_lock(run, "finetune"):
        _, finetune = find_runs(run)[0].stages
        assert finetune.running and finetune.progress is None
        assert main(["runs", str(run.parent)]) == 0
        said = capsys.readouterr().out
        assert "running" in said and "stopped" in said and "damaged" not in said
    assert main(["runs", str(run.parent)]) == 0
    assert "running" not in capsys.readouterr().out


def test_scores_of_an_unfinished_or_earlier_model_are_told(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    assert main(["preprocess"]) == 0
    config = load_config(None, []).config

    def stop(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(config, RunPaths(config.run_dir), mode="new", observe=stop)
    capsys.readouterr()
    assert main(["evaluate", "--metric", "perplexity"]) == 0
    said = capsys.readouterr()
    assert "pretrain has not ended; it stands at step 8, and its budget is 12 steps" in " ".join(
        (said.out + said.err).split()
    )
    assert main(["generate", "Once", "--max-tokens", "1"]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "the model of step 8: pretrain has not ended" in said
    assert "Go on with it: chatgpt pretrain --resume" in said
    assert main(["pretrain", "--resume"]) == 0
    capsys.readouterr()
    old = "The scores are of pretrain step 8, the model of today is pretrain step 12"
    (found,) = find_runs(Path("run"))
    assert found.outdated is not None and old in found.outdated
    for command in (["runs", "."], ["report"], ["compare", "run", "run"]):
        assert main(command) == 0
        said = capsys.readouterr()
        assert old in " ".join((said.out + said.err).split()), command
    for page in ("run/report.html", "comparison.html"):
        assert old in Path(page).read_text(encoding="utf-8")
    assert main(["evaluate", "--metric", "perplexity"]) == 0
    said = capsys.readouterr()
    assert "has not ended" not in said.out + said.err
    assert find_runs(Path("run"))[0].outdated is None


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
    # A base model's score, as a number with its interval.
    bits = found["scores"]["held-out text bits_per_byte"]
    results = json.loads((project / "run" / "evaluate" / "results.json").read_text())["held_out"]
    assert bits["value"] == results["bits_per_byte"]
    assert bits["interval"] == results["intervals"]["bits_per_byte"]
    assert bits["interval"][0] < bits["value"] < bits["interval"][1]
    assert found["outdated"] is None and not found["stages"]["pretrain"]["running"]
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
