"""A run made again from its record: the same to the bit, or told apart."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from chatgpt_cli.checkpoints import step_of
from chatgpt_cli.cli.main import main
from chatgpt_cli.files import sha256
from chatgpt_cli.provenance import read_record

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
    assert session.environment["precision"] == "float32"
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


def test_the_evaluation_is_recorded_checked_and_repeated(trained: Path, capsys: Printed) -> None:
    questions = trained.parent / "questions.jsonl"
    lines = (trained.parent / "rows.jsonl").read_text(encoding="utf-8").splitlines()[:6]
    questions.write_text("\n".join(lines), encoding="utf-8")
    task = f"evaluate.tasks=[{{name: say, data: {questions}, metrics: [bleu], max_tokens: 4}}]"
    assert main(["evaluate", "--set", "seed=7", "--set", task]) == 0
    (session,) = read_record(trained / "evaluate")
    assert session.config["evaluate"]["tasks"][0]["name"] == "say"
    best = json.loads((trained / "evaluate" / "results.json").read_text())["model"]
    assert session.model is not None and session.model["folder"] == best
    assert session.model["sha256"] == sha256(Path(best) / "model.safetensors")
    assert session.step == session.model["step"] == step_of(Path(best))
    assert session.environment["precision"] == "float32"
    # The rows of the task, and those that finetuning kept aside.
    assert session.files["questions.jsonl"] == sha256(questions)
    assert session.files["rows.jsonl"] == sha256(trained.parent / "rows.jsonl")

    done = _json(capsys, "reproduce", str(trained))
    assert done["same"] is True
    assert {one["metric"] for one in done["scores"]} == {"perplexity", "bits_per_byte", "bleu"}
    assert all(one["value"] == one["again"] for one in done["scores"])
    assert (Path(done["again"]) / "evaluate" / "provenance.json").is_file()

    questions.write_text("\n".join(lines[1:]), encoding="utf-8")
    fault = _json(capsys, "reproduce", str(trained), "--check", code=1)["error"]
    assert "questions.jsonl has other contents" in fault["fact"]


def test_a_text_of_ones_own_is_checked_and_repeated(trained: Path, capsys: Printed) -> None:
    text = trained.parent / "kept.txt"
    text.write_text("the cat and the dog saw Tom.\n\nTom saw the cat.", encoding="utf-8")
    texts = f"evaluate.texts=[{{name: kept, data: [{text}]}}]"
    assert main(["evaluate", "--task", "kept", "--set", texts]) == 0
    (session,) = read_record(trained / "evaluate")
    assert session.options == ["--set", texts]
    assert session.files == {"kept.txt": sha256(text)}

    done = _json(capsys, "reproduce", str(trained))
    assert done["same"] is True
    assert {(one["task"], one["metric"]) for one in done["scores"]} == {
        ("kept", "perplexity"), ("kept", "bits_per_byte")
    }  # fmt: skip

    text.write_text("Something else.", encoding="utf-8")
    fault = _json(capsys, "reproduce", str(trained), "--check", code=1)["error"]
    assert "kept.txt has other contents" in fault["fact"]


def test_the_shards_of_a_base_models_evaluation(trained: Path) -> None:
    assert main(["evaluate", "--stage", "pretrain", "--metric", "perplexity"]) == 0
    (session,) = read_record(trained / "evaluate")
    (name,) = session.files
    assert name.startswith("data/validation") and session.files[name] == sha256(trained / name)


def test_other_threads_are_no_difference(trained: Path, capsys: Printed) -> None:
    """A repetition takes as many as then, so that nothing is to be warned of."""
    record = trained / "finetune" / "provenance.json"
    content = json.loads(record.read_text(encoding="utf-8"))
    content["sessions"][-1]["environment"]["threads"] = 64
    record.write_text(json.dumps(content), encoding="utf-8")
    capsys.readouterr()
    assert main(["reproduce", str(trained), "--check"]) == 0
    said = capsys.readouterr().out
    assert "finetune ran on 64 threads" in said and "a repetition takes 64" in said
    assert "Not as it was" not in said and "all as they were: 2." in said


def test_the_settings_of_a_run_are_those_it_ran_with(
    trained: Path,
) -> None:
    """Also of the stages before the last one, and whatever the file says today."""

    def recorded() -> Any:
        return yaml.safe_load((trained / "config.yaml").read_text(encoding="utf-8"))

    assert recorded()["pretrain"]["dropout"] == 0.1 and recorded()["seed"] == 7
    other = ["--set", "seed=7", "--set", "serve.port=9", "--set", "tokenizer.vocab_size=500"]
    longer = ["--set", "finetune.budget=13 steps", *other]
    assert main(["finetune", "--resume", *longer]) == 0
    now = recorded()
    assert now["finetune"]["budget"] == "13 steps" and now["serve"]["port"] == 9
    # What other stages recorded stays, and it is a configuration.
    assert now["pretrain"]["dropout"] == 0.1 and now["tokenizer"]["vocab_size"] == 400
    assert main(["config", "--config", str(trained / "config.yaml")]) == 0
    page = (trained / "finetune" / "report.html").read_text(encoding="utf-8")
    assert "chatgpt.yaml --set finetune.budget=13 steps" in page

    file = trained.parent / "chatgpt.yaml"
    file.write_text(file.read_text().replace("budget: 12 steps", "budget: 99 steps"))
    assert main(["report"]) == 0
    page = (trained / "report.html").read_text(encoding="utf-8")
    assert "dropout: 0.1" in page and "budget: 13 steps" in page and "99 steps" not in page
    assert "Finetuning, from step 12" in page
    assert main(["evaluate", "--metric", "perplexity", "--max-rows", "3"]) == 0
    assert recorded()["evaluate"]["max_rows"] == 3
