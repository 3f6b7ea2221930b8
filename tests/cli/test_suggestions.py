"""The commands that the program suggests act on the run that it speaks of."""

from __future__ import annotations

import json
import shlex
from contextvars import Context
from pathlib import Path

import pytest

from chatgpt_cli.cli.main import main
from chatgpt_cli.command_line import quoted, remember, same_run
from chatgpt_cli.config.schema import Config
from chatgpt_cli.provenance import read_record, write_record
from chatgpt_cli.reproduction.record import text_session

Printed = pytest.CaptureFixture[str]


@pytest.fixture
def other(project: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Options for a run that is not the one the configuration names, with words to quote."""
    monkeypatch.chdir(project)
    (project / "chatgpt.yaml").rename(project / "my own.yaml")
    overrides = ("run_dir=runs/a b", "pretrain.budget=4 steps", "pretrain.eval_every=2")
    sets = [part for one in overrides for part in ("--set", one)]
    return ("--config", "my own.yaml", *sets)


def _suggested(text: str, sign: str) -> list[str]:
    """The words of the command that stands behind `sign` in a line, as a shell reads them."""
    (line,) = (one for one in text.splitlines() if sign in one)
    return shlex.split(line.partition(sign)[2].partition("`")[0])


def _asked(command: str, run: Path) -> str:
    """What is suggested outside of a command, as in a library."""
    return Context().run(lambda: same_run(command, run=run))


def test_the_next_command_is_for_the_same_run(other: tuple[str, ...], capsys: Printed) -> None:
    assert main(["pretrain", *other]) == 1
    assert _suggested(capsys.readouterr().err, "Run `chatgpt ") == ["preprocess", *other]
    assert main(["preprocess", *other]) == 0
    assert _suggested(capsys.readouterr().out, "Next: chatgpt ") == ["pretrain", *other]
    assert main(["pretrain", *other]) == 0
    assert _suggested(capsys.readouterr().out, "Next: chatgpt ") == ["finetune", *other]
    # The base model has not learnt to answer. What --max-rows means is not for others.
    assert main(["evaluate", *other, "--max-rows", "2"]) == 0
    assert _suggested(capsys.readouterr().out, "Next: chatgpt ") == ["finetune", *other]
    assert main(["evaluate", *other, "--stage", "pretrain"]) == 0
    following = _suggested(capsys.readouterr().out, "Next: chatgpt ")
    assert following[: len(other) + 3] == ["generate", *other, "--stage", "pretrain"]
    assert main([*following, "--max-tokens", "2"]) == 0
    assert main(["report", *other]) == 0
    page = Path("runs/a b/report.html").read_text(encoding="utf-8")
    assert f"chatgpt {quoted('finetune', *other)}".replace("'", "&#x27;") in page


def test_compare_and_reproduce_name_the_command_as_it_was_typed(
    other: tuple[str, ...], capsys: Printed
) -> None:
    assert main(["preprocess", *other]) == 0
    assert main(["pretrain", *other]) == 0
    capsys.readouterr()
    rest = [*other[:2], *other[4:], "--set", "run_dir=runs/a b"]
    assert main(["compare", "runs/a b", "runs/a b"]) == 1
    assert _suggested(capsys.readouterr().err, "Run `chatgpt ") == ["evaluate", *rest]
    newest = max(Path("runs/a b/pretrain/checkpoints").iterdir())
    state = newest / "training_state" / "state.json"
    stopped = json.loads(state.read_text(encoding="utf-8"))
    stopped["progress"]["finished"] = None
    state.write_text(json.dumps(stopped), encoding="utf-8")
    assert main(["reproduce", "runs/a b"]) == 1
    assert _suggested(capsys.readouterr().err, "`chatgpt ") == ["pretrain", *rest, "--resume"]


def test_a_run_that_recorded_nothing_is_named_by_its_folder(tmp_path: Path) -> None:
    assert _asked("evaluate", tmp_path) == f"evaluate --set run_dir={tmp_path}"
    write_record(tmp_path / "data", [Context().run(text_session, Config(), {})])
    assert read_record(tmp_path / "data")[0].options == []
    assert _asked("evaluate", tmp_path) == f"evaluate --set run_dir={tmp_path}"


def test_what_was_typed_is_forgotten_with_the_command(project: Path) -> None:
    before = same_run("chat")
    assert main(["config", "--config", str(project / "chatgpt.yaml"), "--set", "seed=9"]) == 0
    assert same_run("chat") == before and "seed=9" not in before


@pytest.mark.parametrize(
    "given", ["seed=1", "finetune.data=['a b.jsonl', \"c'd\"]", "run_dir=运行"]
)
def test_words_come_back_from_the_shell(given: str) -> None:
    def suggest() -> str:
        remember(Path("a b.yaml"), [given], Path("runs/x"))
        return same_run("finetune", "--resume", run=Path("runs/x"))

    words = shlex.split(Context().run(suggest))
    assert words == ["finetune", "--config", "a b.yaml", "--set", given, "--resume"]
