"""Curves reach their services, once, and whatever these do, training goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chatgpt_cli.command_line import same_run
from chatgpt_cli.config.paths import StagePaths
from chatgpt_cli.errors import ConfigError
from chatgpt_cli.tracking import live
from chatgpt_cli.tracking.live import Trackers
from chatgpt_cli.tracking.services import require
from chatgpt_cli.training.events import Note, StepDone

STEP = StepDone(1, 0.1, 2.0, 100.0, 0.01, 9.0, 0.1, True)

# A service with the methods of wandb: it notes what it is told, and its name, in a file.
FAKE = """
import json, os
url = "https://example.org/run"
def Settings(**options): return options
class Run:
    url, dir = url, "."
    def _note(self, *what):
        with open(os.environ["NOTES"], "a") as stream: print(json.dumps(what), file=stream)
    def log(self, values, step): self._note("log", step, sorted(values))
    def finish(self): self._note("finish")
def init(**options):
    print("noise on standard output")
    run = Run()
    run._note("init", options["id"], options["config"])
    return run
"""


def _train(step: int) -> dict[str, Any]:
    return {"type": "train", "step": step, "loss": 3.0 - step / 100, "elapsed": step / 10}


START = {"type": "start", "step": 0, "settings": {"batch_size": 8}}
VALIDATION = {"type": "validation", "step": 20, "loss": 2.5, "elapsed": 2.1}
RECORDS = [START, _train(10), _train(20), VALIDATION]


@pytest.fixture
def stage(tmp_path: Path) -> StagePaths:
    stage = StagePaths(tmp_path / "run" / "pretrain")
    stage.root.mkdir(parents=True)
    _write(stage, RECORDS)
    return stage


def _write(stage: StagePaths, records: list[dict[str, Any]]) -> None:
    lines = [json.dumps(record) + "\n" for record in records]
    stage.metrics.write_text("".join(lines), encoding="utf-8")


def _fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> Path:
    """Let the processes of trackers find this instead of wandb; what it notes."""
    folder = tmp_path / "packages"
    folder.mkdir()
    (folder / "wandb.py").write_text(source, encoding="utf-8")
    here = str(Path(live.__file__).parents[2])
    monkeypatch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{here}")
    monkeypatch.setenv("NOTES", str(tmp_path / "notes"))
    return tmp_path / "notes"


def _tracked(stage: StagePaths, *services: Any) -> list[Note]:
    told: list[Note] = []
    with Trackers(services, stage, group="run", tell=told.append) as trackers:
        trackers(STEP)
        trackers(STEP)
    return told


def _read(notes: Path) -> list[Any]:
    return [json.loads(line) for line in notes.read_text(encoding="utf-8").splitlines()]


def test_a_continued_run_goes_on_where_it_was(
    stage: StagePaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = _fake(tmp_path, monkeypatch, FAKE)
    told = _tracked(stage, "wandb")
    assert [(note.text, note.kind) for note in told] == [("wandb: https://example.org/run", "info")]
    (_, name, settings), *logged = _read(notes)
    assert name.startswith("run-pretrain-") and settings == {"batch_size": 8}
    assert logged == [
        ["log", 10, ["train/loss"]],
        ["log", 20, ["train/loss"]],
        ["log", 20, ["validation/loss"]],
        ["finish"],
    ]
    # Continued from a checkpoint at step 10: 20 is trained and written once more.
    _write(stage, [*RECORDS, _train(30)])
    notes.unlink()
    _tracked(stage, "wandb")
    assert _read(notes) == [
        ["init", name, {"batch_size": 8}],
        ["log", 30, ["train/loss"]],
        ["finish"],
    ]
    # Another run in the same place: all of it, under another name.
    _write(stage, [START, {**_train(10), "loss": 9.0}])
    notes.unlink()
    _tracked(stage, "wandb")
    (_, other, _), *logged = _read(notes)
    assert other != name and logged == [["log", 10, ["train/loss"]], ["finish"]]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise ImportError('no such library')", "no such library"),
        ("def Settings(**_): raise SystemExit('log in first')", "log in first"),
        (FAKE.replace("def finish(self):", "def finish(self): raise OSError('no network')\n#"),
         "no network"),
        ("import os; os._exit(9)", "it ended with code 9"),
        ("import threading; threading.Event().wait()", "did not end within"),
    ],
)  # fmt: skip
def test_a_service_that_fails_is_a_warning(
    stage: StagePaths,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    reason: str,
) -> None:
    _fake(tmp_path, monkeypatch, source)
    if "Event" in source:
        monkeypatch.setattr(live, "_PATIENCE", 0.1)
    (*_, note) = _tracked(stage, "wandb")
    assert note.kind == "warning" and reason in note.text
    again = same_run("report", "--track", "wandb", run=stage.root.parent)
    assert note.text.endswith(f"chatgpt {again}") and str(stage.root.parent) in again


def test_what_comes_while_it_runs(
    stage: StagePaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process reads on until its standard input ends, half a line included."""
    notes = _fake(tmp_path, monkeypatch, FAKE)
    command = [sys.executable, "-m", "chatgpt_cli.tracking", "wandb", str(stage.root), "run"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
    ) as process:
        assert process.stdout is not None and process.stdin is not None
        assert "example.org" in process.stdout.readline()
        more = json.dumps(_train(30)) + "\n"
        with stage.metrics.open("a", encoding="utf-8", buffering=1) as stream:
            stream.write(more[:20])
            stream.flush()
            stream.write(more[20:])
        process.stdin.close()
        assert process.wait() == 0
    assert ["log", 30, ["train/loss"]] in _read(notes)


def test_a_missing_package_is_said_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    require(["tensorboard"])
    with pytest.raises(ConfigError, match="trackio is not installed") as error:
        require(["tensorboard", "trackio"])
    assert "chatgpt-cli[trackio]" in str(error.value)


def test_trackio(stage: StagePaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("trackio", reason="trackio is not installed")
    monkeypatch.setattr(live, "_PATIENCE", 600)
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    (note,) = _tracked(stage, "trackio")
    assert note.text == "trackio: trackio show --project chatgpt"
    read = """
from trackio.sqlite_storage import SQLiteStorage as storage
(run,) = storage.get_runs("chatgpt")
print(run, [(r["step"], r.get("train/loss"), r.get("validation/loss"))
            for r in storage.get_logs("chatgpt", run)])
"""
    found = subprocess.run(
        [sys.executable, "-c", read], capture_output=True, text=True, check=True
    ).stdout
    assert found.startswith("run-pretrain-")
    assert found.endswith("[(10, 2.9, None), (20, 2.8, None), (20, None, 2.5)]\n")


def test_wandb_offline(stage: StagePaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setattr(live, "_PATIENCE", 600)
    monkeypatch.setenv("WANDB__SERVICE_WAIT", "300")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    (note,) = _tracked(stage, "wandb")
    assert note.kind == "info" and "wandb sync" in note.text
    (written,) = stage.trackers.glob("wandb/offline-run-*/*.wandb")
    content = written.read_bytes()
    assert b"train/loss" in content and b"validation/loss" in content
    assert b"run-pretrain-" in content
