"""`chatgpt chat` with lines piped in, and its conversation."""

import io
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import typer
from prompt_toolkit.application import create_app_session
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput
from rich.console import Console
from typer.testing import CliRunner, Result

from chatgpt_cli.cli import chat as chat_module
from chatgpt_cli.cli.chat import chat
from chatgpt_cli.cli.chat_input import editor, history_file
from chatgpt_cli.cli.chat_view import show_markdown, show_plain
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
    assert "/regenerate" in result.stderr and "/what is not a command" in result.stderr


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
    """Input typed on a terminal: strings are messages, exceptions are keys."""

    def __init__(self, *events: Any) -> None:
        self.events = list(events)

    def __call__(self) -> str:
        event = self.events.pop(0)
        if isinstance(event, str):
            return event
        raise event


def converse(conversation: Conversation, *events: Any) -> tuple[Terminal, list[str]]:
    """Run a session with these events; returns what is left of them and the notes."""
    terminal, notes = Terminal(*events), []

    class Output:
        def line(self, text: str) -> None:
            notes.append(text)

        warn = line

    class Project:
        output = Output()

    project: Any = Project()
    chat_module._Session(project, conversation, terminal).run()
    return terminal, notes


def test_ctrl_d_and_a_second_ctrl_c_leave(conversation: Conversation) -> None:
    left, _ = converse(conversation, EOFError(), "never read")
    assert left.events == ["never read"]
    left, notes = converse(
        conversation, KeyboardInterrupt(), "hello", KeyboardInterrupt(), KeyboardInterrupt(),
        "never read",
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
    converse(conversation, "hello", EOFError())
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


def test_another_answer_and_another_temperature(conversation: Conversation) -> None:
    conversation.sampling = Sampling(temperature=0, seed=3)
    _, notes = converse(
        conversation, "/regenerate", "/stats", "hello", "/regenerate", "/stats",
        "/temperature", "/temperature 0.5", "/temperature -1", "/temperature warm", EOFError(),
    )  # fmt: skip
    assert [message.content for message in conversation.messages] == ["hello", "cat"]
    assert (conversation.sampling.seed, conversation.sampling.temperature) == (4, 0.5)
    assert notes[:2] == ["There is no answer yet."] * 2
    assert notes[2].startswith("Read ") and " wrote 2;" in notes[2]
    assert notes[3:5] == ["Temperature 0.", "Temperature 0.5."]
    assert all("a temperature is 0 or" in note for note in notes[5:])


def test_a_saved_conversation_goes_on(conversation: Conversation, tmp_path: Path) -> None:
    saved = tmp_path / "saved.json"
    converse(conversation, "/system Be kind.", "hello", f"/save {saved}", EOFError())
    before = conversation.all_messages()
    conversation.system = None
    conversation.reset()
    converse(conversation, f"/load {saved}", EOFError())
    assert conversation.all_messages() == before
    _, notes = converse(conversation, "/regenerate", "/load", f"/load {tmp_path}/none", EOFError())
    assert notes[0] == "What? /load FILE" and "cannot be read" in notes[1]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("hello", "not one JSON object"),
        ('{"messages": [{"role": "user"}]}', "not one JSON object"),
        ('{"messages": 5}', "not one JSON object"),
        ("[" * 100_000, "not one JSON object"),
        ('{"messages": [{"role": "user", "content": 5}]}', "is not text"),
        ('{"messages": [{"role": "user", "content": "a"}]}', "end with the assistant"),
    ],
)
def test_what_is_no_conversation_is_refused(
    content: str, said: str, conversation: Conversation, tmp_path: Path
) -> None:
    conversation.messages += [Message("user", "a"), Message("assistant", "b")]
    (tmp_path / "bad.json").write_text(content, encoding="utf-8")
    _, notes = converse(conversation, f"/load {tmp_path}/bad.json", EOFError())
    assert said in notes[0]
    assert len(conversation.messages) == 2


def typed(text: str, history: Path | None = None) -> list[str]:
    """Messages that come from these keys in the editor."""
    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        keys.send_text(text)
        session = editor({"/save": "", "/stats": "", "/system": ""}, history)
        return [session.prompt() for _ in range(text.count("!\r"))]


def test_the_editor(tmp_path: Path) -> None:
    assert typed("hello!\r") == ["hello!"]
    # Two ways to begin a line, and lines that are pasted.
    assert typed("one\\\rtwo\x1b\rthree!\r") == ["one\ntwo\nthree!"]
    assert typed("\x1b[200~pasted\nlines\x1b[201~!\r") == ["pasted\nlines!"]
    history = tmp_path / "history"
    assert typed("first!\rsecond!\r", history) == ["first!", "second!"]
    # The arrow finds what an earlier chat was told.
    assert typed("\x1b[A\x1b[A!\r", history) == ["first!!"]


def test_the_editor_completes_commands() -> None:
    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        completer = editor({"/save": "", "/stats": "", "/system": ""}, None).completer
        assert completer is not None

        def offered(text: str) -> list[str]:
            found = completer.get_completions(Document(text), CompleteEvent())
            return [completion.text for completion in found]

        assert offered("/s") == ["/save", "/stats", "/system"]
        assert offered("/sy") == ["/system"]
        assert offered("s") == offered("/save x") == []


def test_history_is_for_its_owner_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    path = history_file()
    assert path is not None and path.is_relative_to(tmp_path)
    assert path.stat().st_mode & 0o077 == 0
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    assert history_file() is None


ANSWER = """# A *title*

A paragraph of two
lines.

- one

- two with `code`

```python
x = 1

y = 2
```

| a | b |
|---|---|
| 1 | 2 |

The end"""


def shown(pieces: Iterable[str], *, terminal: bool) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=60, height=12, highlight=False)
    show_markdown(pieces, console)
    return out.getvalue()


def screen(text: str) -> list[str]:
    """What remains on a terminal after it has obeyed rich's sequences."""
    lines, row = [""], 0
    for token in re.findall(r"\x1b\[[0-9;?]*[a-zA-Z]|\n|\r|[^\x1b\n\r]+", text):
        if token == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif token == "\r":
            pass
        elif token.endswith("A") and token.startswith("\x1b["):
            row -= int(token[2:-1] or 1)
        elif token == "\x1b[2K":
            lines[row] = ""
        elif not token.startswith("\x1b"):
            lines[row] += token
    return [line.rstrip() for line in lines]


def test_a_streamed_answer_looks_like_the_whole_one() -> None:
    streamed = [line for line in screen(shown(ANSWER, terminal=True)) if line]
    whole = [line for line in screen(shown([ANSWER], terminal=True)) if line]
    assert streamed == whole
    text = "\n".join(streamed)
    assert text.count("A title") == text.count("The end") == text.count("x = 1") == 1
    assert "**" not in text and "```" not in text


def test_what_is_finished_is_not_drawn_again() -> None:
    drawn = shown([f"Paragraph {number}.\n\n" for number in range(50)], terminal=True)
    # While it was written, and when it was done.
    assert all(1 <= drawn.count(f"Paragraph {number}.") <= 2 for number in range(49))


EVIL = "\x1b[2J\x1b]0;title\x07 [bold red]tags[/] \x9b31m [here](http://a.b) \u202eabc\x08"


def test_an_answer_cannot_command_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for pieces in ([EVIL], list(EVIL)):
        drawn = shown(pieces, terminal=True)
        assert "\x1b[2J" not in drawn and "\x1b]" not in drawn
        assert not set(drawn) & set("\x07\x08\x9b\u202e")
        # Neither tags of rich's nor links to where they do not say.
        assert "[bold red]tags[/]" in drawn and "http://a.b" in drawn
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    show_plain([EVIL])
    assert not set(capsys.readouterr().out) & set("\x1b\x07\x08\x9b\u202e")
