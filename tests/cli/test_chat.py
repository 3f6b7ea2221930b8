"""`chatgpt chat` with lines piped in, and its conversation."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from chatgpt_cli.cli import chat as chat_module
from chatgpt_cli.cli.chat import chat
from chatgpt_cli.errors import ModelError
from chatgpt_cli.generation.conversation import Conversation
from chatgpt_cli.generation.engine import Engine, Stream
from chatgpt_cli.generation.sampling import Sampling
from chatgpt_cli.interop.huggingface import load_model
from chatgpt_cli.tokenizer.chat import Message, render
from tests.cli.speaking import make_run

app = typer.Typer()
app.command()(chat)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("tuned"))


@pytest.fixture
def conversation(tuned: Path) -> Conversation:
    loaded = load_model(tuned.parent / "finetune" / "checkpoints" / "step-00000001")
    return Conversation(Engine.of(loaded.model, loaded.tokenizer), Sampling(temperature=0))


def run(config: Path, *lines: str) -> Result:
    return CliRunner().invoke(app, ["--config", str(config)], input="\n".join(lines))


def test_only_answers_are_on_standard_output(tuned: Path) -> None:
    result = run(tuned, "hello", "", "and you?", "/help", "/what", "//slash")
    assert result.exit_code == 0, result.exception
    assert result.stdout == "cat\ncat\ncat\n"
    assert "/reset" in result.stderr and "/what is not a command" in result.stderr


def test_exit_leaves_the_rest_unread(tuned: Path) -> None:
    assert run(tuned, "hello", "/exit", "hello").stdout == "cat\n"


def test_save_reset_and_system(tuned: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one.json", tmp_path / "new folder" / "two.json"
    result = run(
        tuned, "/system Be 天.", "//a", f"/save {one}", "/reset", "/system", "b", f"/save {two}",
        "/save", f"/save {one}/x",
    )  # fmt: skip
    assert result.exit_code == 0, result.exception
    assert json.loads(one.read_text(encoding="utf-8")) == {
        "messages": [
            {"role": "system", "content": "Be 天."},
            {"role": "user", "content": "/a"},
            {"role": "assistant", "content": "cat"},
        ]
    }
    turns = json.loads(two.read_text(encoding="utf-8"))["messages"]
    assert [turn["content"] for turn in turns] == ["b", "cat"]
    assert "/save FILE" in result.stderr and "cannot be written" in result.stderr


def test_outgrowing_the_context_is_said_once(tuned: Path) -> None:
    result = run(tuned, *["the cat sat on the mat"] * 8)
    assert result.stdout == "cat\n" * 8
    assert result.stderr.count("no longer sees the oldest turns") == 1


def test_the_oldest_turns_go_first_and_the_system_message_stays(
    conversation: Conversation,
) -> None:
    conversation.system = "cat"
    for number in range(6):
        conversation.messages += [
            Message("user", f"the dog {number}"), Message("assistant", "the sun"),
        ]  # fmt: skip
    conversation.messages.append(Message("user", "last"))
    ids = conversation.prompt()
    assert conversation.forgetful
    room = conversation.engine.model.config.context_length - 12
    assert len(ids) <= room
    # The system message and whole exchanges from the end, as many as there is room for.
    turns = conversation.messages
    candidates = [
        render([Message("system", "cat"), *turns[start:]], conversation.engine.tokenizer,
               add_generation_prompt=True).ids
        for start in range(0, len(turns), 2)
    ]  # fmt: skip
    assert ids == next(candidate for candidate in candidates if len(candidate) <= room)
    assert len(conversation.messages) == 13


def test_one_turn_that_is_too_long_is_answered(tuned: Path) -> None:
    result = run(tuned, "cat " * 100)
    assert result.stdout == "cat\n"
    assert "its beginning was left out" in result.stderr


class Terminal:
    """Input typed on a terminal: strings are lines, exceptions are keys."""

    def __init__(self, *events: Any) -> None:
        self.events = list(events)

    def __call__(self, _prompt: str) -> str:
        event = self.events.pop(0)
        if isinstance(event, str):
            return event
        raise event


def on_terminal(
    monkeypatch: pytest.MonkeyPatch, conversation: Conversation, *events: Any
) -> tuple[Terminal, list[str]]:
    """Run a session with these events; returns what is left of them and the notes."""
    terminal, notes = Terminal(*events), []

    class Output:
        def line(self, text: str) -> None:
            notes.append(text)

        warn = line

    class Project:
        output = Output()

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", terminal)
    project: Any = Project()
    chat_module._Session(project, conversation).run()
    return terminal, notes


def test_ctrl_d_and_a_second_ctrl_c_leave(
    monkeypatch: pytest.MonkeyPatch, conversation: Conversation
) -> None:
    left, _ = on_terminal(monkeypatch, conversation, EOFError(), "never read")
    assert left.events == ["never read"]
    left, notes = on_terminal(
        monkeypatch, conversation, KeyboardInterrupt(), "hello", KeyboardInterrupt(),
        KeyboardInterrupt(), "never read",
    )  # fmt: skip
    assert left.events == ["never read"]
    assert notes.count("Ctrl-C again leaves.") == 2
    assert [message.content for message in conversation.messages] == ["hello", "cat"]


def test_ctrl_c_stops_the_answer_only(
    monkeypatch: pytest.MonkeyPatch, conversation: Conversation,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    whole = Stream.__iter__

    def interrupted(self: Stream) -> Any:
        yield next(whole(self))
        raise KeyboardInterrupt

    monkeypatch.setattr(Stream, "__iter__", interrupted)
    on_terminal(monkeypatch, conversation, "hello", EOFError())
    said = conversation.messages[1].content
    assert said and capsys.readouterr().out.startswith(f"{said} …")


def test_a_masked_model_cannot_converse(tmp_path: Path) -> None:
    config = make_run(
        tmp_path, "pretrain", causal=False, norm="layernorm", mlp="geglu", qk_norm=False
    )
    error = run(config, "hello").exception
    assert isinstance(error, ModelError) and "masked model" in error.fact


def test_a_base_model_talks_with_a_warning(tmp_path: Path) -> None:
    result = run(make_run(tmp_path, "pretrain"), "hello")
    assert result.stdout == "cat\n"
    assert "pretrained only" in result.stderr
