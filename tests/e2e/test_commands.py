"""The commands as a user types them, in processes of their own."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}


def _chatgpt(folder: Path, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "chatgpt_cli", *arguments],
        cwd=folder,
        env=ENVIRONMENT,
        input=stdin,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=240,
        check=False,
    )


def test_the_five_commands_and_chat(project: Path) -> None:
    tracked = ["--set", "trackers=[tensorboard]"]
    for command, options in (("preprocess", []), ("pretrain", tracked), ("finetune", [])):
        done = _chatgpt(project, command, *options)
        assert done.returncode == 0, done.stderr
        assert "Next: chatgpt" in done.stdout
    report = (project / "run" / "finetune" / "report.html").read_text(encoding="utf-8")
    assert "<svg" in report and "http" not in report.replace("http://www.w3.org", "")

    done = _chatgpt(project, "evaluate", "--metric", "bleu", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert list(result["tasks"]["say"]["metrics"]) == ["bleu"]
    assert "tok:" in result["tasks"]["say"]["metrics"]["bleu"]["signature"]
    rows = (project / "run" / "evaluate" / "predictions.jsonl").read_text(encoding="utf-8")
    assert len(rows.splitlines()) == result["tasks"]["say"]["rows"]

    for stage, data in (("auto", "held-out answers"), ("pretrain", "held-out text")):
        done = _chatgpt(project, "evaluate", "--metric", "perplexity", "--stage", stage, "--json")
        assert json.loads(done.stdout)["held_out"]["data"] == data
        assert json.loads(done.stdout)["held_out"]["perplexity"] > 1

    done = _chatgpt(project, "evaluate", "--task", "say", "--max-rows", "3")
    assert done.returncode == 0 and "exact_match" in done.stdout, done.stderr
    assert "95% interval" in done.stdout
    done = _chatgpt(project, "compare", "run", "run/evaluate", "--json")
    assert done.returncode == 0, done.stderr
    gaps = [one["against"][0]["difference"] for one in json.loads(done.stdout)["metrics"]]
    assert {gap["value"] for gap in gaps} == {0.0} and {gap["p"] for gap in gaps} == {1.0}
    assert "<svg" in (project / "comparison.html").read_text(encoding="utf-8")
    assert len(list(project.glob("run/*/trackers/tensorboard/events*"))) == 1
    done = _chatgpt(project, "report", "--sentence", "Say dog 1", "--track", "tensorboard")
    assert len(list(project.glob("run/*/trackers/tensorboard/events*"))) == 2
    assert done.returncode == 0 and "validation loss" in done.stdout, done.stderr
    page = (project / "run" / "report.html").read_text(encoding="utf-8")
    for part in ("What to do next", "下一步", 'class="token', "attention", "held-out"):
        assert part in page
    done = _chatgpt(project, "generate", "Say the 3", "--max-tokens", "5", "--temperature", "0")
    assert done.returncode == 0 and done.stdout.strip(), done.stderr
    done = _chatgpt(project, "chat", "--max-tokens", "5", stdin="Say cat 1\n/exit\n")
    assert done.returncode == 0, done.stderr
    again = _chatgpt(project, "pretrain")
    assert again.returncode == 0 and "Already trained" in again.stdout


def test_ctrl_c_saves_and_resume_goes_on(project: Path) -> None:
    assert _chatgpt(project, "preprocess").returncode == 0
    command = [sys.executable, "-m", "chatgpt_cli", "pretrain", "--set"]
    process = subprocess.Popen(
        [*command, "pretrain.budget=100000 steps", "--set", "pretrain.early_stopping=0"],
        cwd=project,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "validation loss" in line:
            process.send_signal(signal.SIGINT)
            break
    rest = process.stdout.read()
    assert process.wait(timeout=120) == 130
    set_ = "--set 'pretrain.budget=100000 steps' --set pretrain.early_stopping=0"
    again = f"chatgpt pretrain {set_} --resume"
    assert again in rest and "everything is saved" in rest
    done = _chatgpt(project, "pretrain", "--resume", "--set", "pretrain.budget=1 steps")
    assert done.returncode == 0, done.stderr


def test_kill_9_and_resume_ends_as_if_undisturbed(project: Path) -> None:
    assert _chatgpt(project, "preprocess").returncode == 0
    budget = ("--set", "pretrain.budget=400 steps", "--set", "pretrain.save_every=40",
              "--set", "pretrain.eval_every=200")  # fmt: skip
    whole = _chatgpt(project, "pretrain", "--json", *budget)
    assert whole.returncode == 0, whole.stderr
    process = subprocess.Popen(
        [sys.executable, "-m", "chatgpt_cli", "pretrain", "--restart", *budget],
        cwd=project,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
    )
    checkpoints = project / "run" / "pretrain" / "checkpoints"
    while process.poll() is None and not (checkpoints / "step-00000080").exists():
        pass
    process.kill()
    process.wait()
    again = _chatgpt(project, "pretrain", "--resume", "--json", *budget)
    assert again.returncode == 0, again.stderr
    one, other = json.loads(whole.stdout), json.loads(again.stdout)
    assert (one["step"], one["best_loss"]) == (other["step"], other["best_loss"])


USAGE = [
    (("pretrian",), 2, "Did you mean pretrain?"),
    (("pretrain", "--confg", "x"), 2, "No such option"),
    (("pretrain", "--config", "nowhere.yaml"), 2, "no such configuration"),
    (("pretrain", "--set", "pretrain.budget=1"), 2, "an amount and a unit"),
    (("pretrain", "--resume", "--restart"), 2, "exclude each other"),
    (("pretrain",), 1, "chatgpt preprocess"),
    (("finetune",), 1, "chatgpt pretrain"),
    (("evaluate",), 1, "chatgpt pretrain"),
    (("evaluate", "--metric", "blue"), 2, "did you mean bleu"),
    (("evaluate", "--task", "sey"), 2, "did you mean say"),
    (("evaluate", "--metric", "recall"), 2, "suits none of the tasks"),
    (("compare", "run", "nowhere"), 1, "no such folder"),
    (("report",), 1, "nothing to report"),
    (("generate", "hello"), 1, "chatgpt pretrain"),
]


@pytest.mark.parametrize(("arguments", "code", "words"), USAGE)
def test_mistakes_are_explained(
    arguments: tuple[str, ...], code: int, words: str, project: Path
) -> None:
    done = _chatgpt(project, *arguments)
    assert done.returncode == code, done.stderr
    assert words in done.stderr and "Traceback" not in done.stderr


def test_errors_as_json(project: Path) -> None:
    done = _chatgpt(project, "pretrain", "--json")
    assert "preprocess" in json.loads(done.stdout)["error"]["remedy"]


def test_preferences_and_whole_numbers(project: Path) -> None:
    for command in ("preprocess", "pretrain", "prefer"):
        done = _chatgpt(project, command)
        assert done.returncode == 0, done.stderr
    assert "margin" in done.stdout and "Next: chatgpt evaluate" in done.stdout
    assert '"margin"' in (project / "run" / "prefer" / "metrics.jsonl").read_text(encoding="utf-8")

    done = _chatgpt(project, "quantize", "--bits", "4", "--max-rows", "5", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["bytes"]["quantized"] < result["bytes"]["float32"]
    assert {score["metric"] for score in result["scores"]} == {"perplexity", "exact_match", "bleu"}
    assert "What quantization changes" in done.stderr and "95% interval" in done.stderr
    assert {score["measured_on"] for score in result["scores"][1:]} == {"5 rows"}
    # As `evaluate` measures the same model.
    done = _chatgpt(project, "evaluate", "--max-rows", "5", "--json")
    scores = json.loads(done.stdout)
    assert result["precision"] == scores["precision"] and scores["precision"] in done.stderr
    assert result["scores"][0]["original"] == scores["held_out"]["perplexity"]
    small = str(Path("run", "quantize", "int4"))
    # It knows that it was trained to answer: nothing is said of continuing text.
    done = _chatgpt(project, "generate", "--model", small, "--max-tokens", "2", "Say dog 1")
    assert done.returncode == 0 and "continued as text" not in done.stderr, done.stderr
    done = _chatgpt(project, "generate", "--model", small, "--chat", "--seed", "1", "Say dog 1")
    assert done.returncode == 0 and done.stdout.strip(), done.stderr
    done = _chatgpt(project, "quantize", "--bits", "4")
    assert done.returncode == 2 and "there is something already" in done.stderr


def test_help_is_light() -> None:
    code = (
        "import sys; from chatgpt_cli.cli.main import main; main(['--help']); "
        "assert not {'torch', 'numpy', 'pydantic', 'typer'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize(
    "command",
    [
        "preprocess",
        "pretrain",
        "finetune",
        "prefer",
        "reinforce",
        "distill-data",
        "evaluate",
        "quantize",
        "report",
        "generate",
        "chat",
        "config",
    ],
)
def test_help_of_each_command_does_not_load_torch(command: str) -> None:
    code = (
        f"import sys; from chatgpt_cli.cli.main import main; main(['{command}', '--help']); "
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, encoding="utf-8"
    )
    assert "--config" in done.stdout


def test_config_prints_what_can_be_read_again(project: Path) -> None:
    done = _chatgpt(project, "config", "--set", "seed=5")
    assert done.returncode == 0
    # What the preset chose stands beside it.
    assert "positions: rope" in done.stderr and "positions: null" in done.stdout
    (project / "copy.yaml").write_text(done.stdout, encoding="utf-8")
    assert _chatgpt(project, "config", "--config", "copy.yaml").stdout == done.stdout
    schema = json.loads(_chatgpt(project, "config", "--schema").stdout)
    assert "pretrain" in schema["properties"]
