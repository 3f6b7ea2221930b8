"""A run made again from its record: the same to the bit, or told apart."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chatgpt_cli.cli.main import main
from chatgpt_cli.reproduction.record import read_record

Printed = pytest.CaptureFixture[str]


def _json(capsys: Printed, *arguments: str, code: int = 0) -> Any:
    capsys.readouterr()
    assert main([*arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def trained(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose run has text, a base model and an assistant."""
    monkeypatch.chdir(project)
    for command in ("preprocess", "pretrain", "finetune"):
        # Not in the file: a repetition must take what was used, not what the file says.
        assert main([command, "--set", "seed=7", "--set", "pretrain.dropout=0.1"]) == 0
    return project / "run"


def test_a_run_is_made_again_to_the_bit(trained: Path, capsys: Printed) -> None:
    done = _json(capsys, "reproduce", str(trained))
    assert done["same"] is True and done["differs"] == []
    for stage in done["stages"]:
        assert stage["same_weights"] and stage["largest"] == 0 and stage["differs"] == []
        assert stage["losses"] == 12 + 3
    again = Path(done["again"])
    assert json.loads((again / "reproduction.json").read_text())["same_text"] is True
    # It is a run like any other, and can be repeated itself.
    assert _json(capsys, "reproduce", str(again), "--check")["differs"] == []
    # Once more: nothing is left to do, and the answer is the same.
    assert _json(capsys, "reproduce", str(trained))["stages"] == done["stages"]


def test_what_was_recorded(trained: Path) -> None:
    (session,) = read_record(trained / "pretrain")
    assert session.config["seed"] == 7 and session.config["pretrain"]["dropout"] == 0.1
    assert {"python", "torch", "code", "threads"} <= session.environment.keys()
    (text,) = read_record(trained / "data")
    assert list(text.files) == ["text.txt"] and len(text.files["text.txt"]) == 64
    (rows,) = read_record(trained / "finetune")
    assert list(rows.files) == ["rows.jsonl"]


def test_preprocessing_waits_for_no_pytorch(project: Path) -> None:
    """Its record names PyTorch's version, which takes a second to load."""
    script = (
        "import sys; from chatgpt_cli.cli.main import main; "
        "print(main(['preprocess']), 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=project, check=True, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == "0 False"
    (text,) = read_record(project / "run" / "data")
    assert text.environment["torch"] is not None


def test_other_weights_are_told(trained: Path, capsys: Printed) -> None:
    """A base model changed behind the run's back shows in the finetuned one."""
    record = trained / "finetune" / "provenance.json"
    content = json.loads(record.read_text(encoding="utf-8"))
    content["sessions"][-1]["config"]["finetune"]["learning_rate"] = 0.5
    content["sessions"][-1]["environment"]["torch"] = "1.0"
    record.write_text(json.dumps(content), encoding="utf-8")
    done = _json(capsys, "reproduce", str(trained), "--to", "other", code=1)
    assert any("torch: 1.0 →" in line for line in done["differs"])
    base, assistant = done["stages"]
    assert base["same_weights"] and not assistant["same_weights"]
    assert assistant["largest"] > 0 and assistant["first_step"] == 2


@pytest.mark.parametrize("file", ["text.txt", "rows.jsonl"])
def test_changed_data_are_named(trained: Path, file: str, capsys: Printed) -> None:
    path = trained.parent / file
    path.write_text(path.read_text(encoding="utf-8") + " ", encoding="utf-8")
    fault = _json(capsys, "reproduce", str(trained), code=1)["error"]
    assert f"{file} has other contents" in fault["fact"]
    path.unlink()
    fault = _json(capsys, "reproduce", str(trained), code=1)["error"]
    assert "not here" in fault["fact"] and file in fault["place"]


def test_an_interrupted_repetition_goes_on(
    trained: Path, capsys: Printed, monkeypatch: pytest.MonkeyPatch
) -> None:
    from chatgpt_cli.reproduction import repeat

    def break_off(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setitem(repeat._TRAIN, "finetune", break_off)
        assert main(["reproduce", str(trained)]) == 130
    assert _json(capsys, "reproduce", str(trained))["same"] is True


def test_a_continued_stage_says_so(trained: Path, capsys: Printed) -> None:
    continued = ["--resume", "--set", "finetune.budget=16 steps"]
    assert main(["finetune", *continued, "--set", "seed=7", "--set", "pretrain.dropout=0.1"]) == 0
    first, second = read_record(trained / "finetune")
    assert (first.step, second.step) == (0, 12)
    differs = _json(capsys, "reproduce", str(trained), "--check")["differs"]
    assert any("finetune, continued at step 12 with finetune.budget" in line for line in differs)


def test_nothing_else_is_overwritten(trained: Path, capsys: Printed) -> None:
    (trained.parent / "mine").mkdir()
    (trained.parent / "mine" / "thesis.txt").write_text("x")
    fault = _json(capsys, "reproduce", str(trained), "--to", "mine", code=2)["error"]
    assert "something else" in fault["fact"] and fault["place"] == "mine"
