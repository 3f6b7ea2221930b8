"""`chatgpt chat`: talk to the model."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from chatgpt_cli.cli import model_options as options
from chatgpt_cli.cli.chat_input import Read, reader
from chatgpt_cli.cli.chat_view import show_markdown, show_plain
from chatgpt_cli.cli.project import ConfigOption, Project, SetOption, open_project
from chatgpt_cli.command_line import same_run
from chatgpt_cli.files import expanded, write_text

if TYPE_CHECKING:
    from chatgpt_cli.generation.conversation import Conversation
    from chatgpt_cli.generation.engine import Completion, Stream
    from chatgpt_cli.tokenizer.chat import Message

_COMMANDS = {
    "/help": "show this",
    "/clear": "forget the conversation",
    "/system": "TEXT  set the system message; without TEXT, remove it",
    "/regenerate": "another answer to the last message",
    "/temperature": "NUMBER  how freely to write; 0 always takes the most probable token",
    "/save": "FILE  save the conversation as JSON messages",
    "/load": "FILE  continue a saved conversation",
    "/stats": "tokens and speed of the last answer",
    "/exit": "leave (also Ctrl-D)",
}
_ALIASES = {"/reset": "/clear", "/quit": "/exit"}
_KEYS = """Ctrl-C stops an answer. Alt-Enter, or Enter after a backslash, begins a new line.
A message that begins with // is sent with one slash."""


def chat(
    config: ConfigOption = None,
    set_: SetOption = None,
    model: options.ModelOption = None,
    stage: options.StageOption = "auto",
    max_tokens: options.MaxTokensOption = None,
    temperature: options.TemperatureOption = None,
    top_k: options.TopKOption = None,
    top_p: options.TopPOption = None,
    min_p: options.MinPOption = None,
    repetition_penalty: options.RepetitionPenaltyOption = None,
    stop: options.StopOption = None,
    seed: options.SeedOption = None,
    quantize: options.QuantizeOption = None,
    draft: options.DraftOption = None,
) -> None:
    """Talk to the model: /help shows the commands, /exit leaves.

    Lines piped in are answered one after the other; only answers go to standard output.
    """
    project = open_project(config, set_ or [], json_output=True)
    opened = options.open_model(project, model=model, stage=stage)
    options.warn_if_unfinished(project, opened)
    options.require_speech(opened)

    from chatgpt_cli.generation.conversation import Conversation
    from chatgpt_cli.generation.sampling import Sampling

    sampling = Sampling.from_section(
        project.config.generate,
        max_tokens=max_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        stop=stop or None,
        seed=seed,
    )
    conversation = Conversation(
        options.open_engine(project, opened, quantize, draft, build=True),
        sampling,
        options.system_prompt(project, opened.stage),
    )
    if opened.stage == "pretrain":
        project.output.warn(
            "This model was pretrained only: it continues text and does not know turns. "
            f"`chatgpt {same_run('finetune')}` teaches it to answer."
        )
    if sys.stdin.isatty():
        project.output.line(f"Model: {opened.folder}. /help shows the commands, /exit leaves.")
    meanings = {name: project.output.words(meaning) for name, meaning in _COMMANDS.items()}
    _Session(project, conversation, reader(meanings)).run()


@dataclass(frozen=True)
class _Stats:
    """The last answer in numbers."""

    completion: Completion
    # Seconds until the first text, and until the end.
    first: float
    total: float

    def __str__(self) -> str:
        tokens = len(self.completion.ids)
        rate = f", {tokens / self.total:.0f} tokens/s" if tokens and self.total else ""
        return (
            f"Read {self.completion.prompt_tokens} tokens, wrote {tokens}; first text after "
            f"{self.first:.2f} s, {self.total:.2f} s in all{rate}."
        )


class _Session:
    """Reads messages, obeys commands, shows answers."""

    def __init__(self, project: Project, conversation: Conversation, read: Read) -> None:
        self.output = project.output
        self.conversation = conversation
        self.read = read
        self.told_forgetful = False
        self.stats: _Stats | None = None
        self.obey: dict[str, Callable[[str], None]] = {
            "/help": self._help,
            "/clear": self._clear,
            "/system": self._system,
            "/regenerate": self._regenerate,
            "/temperature": self._temperature,
            "/save": self._save,
            "/load": self._load,
            "/stats": self._show_stats,
        }

    def run(self) -> None:
        while (message := self._next()) is not None:
            text = message.strip()
            if text.startswith("/") and not text.startswith("//"):
                name, _, argument = text.partition(" ")
                name = _ALIASES.get(name.lower(), name.lower())
                if name == "/exit":
                    return
                self.obey.get(name, lambda _, name=name: self._unknown(name))(argument.strip())
            elif text:
                self._answer(text.removeprefix("/") if text.startswith("//") else text)

    def _next(self) -> str | None:
        """The next message; None at the end, or after Ctrl-C twice."""
        for attempt in (1, 2):
            try:
                return self.read()
            except EOFError:
                return None
            except KeyboardInterrupt:
                if attempt == 1:
                    self.output.line("Ctrl-C again leaves.")
        return None

    def _answer(self, text: str) -> None:
        """Show the answer as it is written; Ctrl-C ends it there."""
        answer = self.conversation.ask(text)
        if self.conversation.forgetful and not self.told_forgetful:
            self.told_forgetful = True
            self.output.line(
                "The conversation is longer than the model's context: "
                "it no longer sees the oldest turns."
            )
        self._show(answer)
        completion = answer.completion
        self.conversation.answered(completion.text)
        if completion.truncated_prompt:
            self.output.warn(
                "That was longer than the model's context: its beginning was left out."
            )
        if not completion.text.strip():
            self.output.line("(The model ended its turn without a word.)")

    def _show(self, answer: Stream) -> None:
        started = time.perf_counter()
        first: list[float] = []

        def timed(pieces: Iterable[str]) -> Iterator[str]:
            for piece in pieces:
                if not first:
                    first.append(time.perf_counter() - started)
                yield piece

        ending = "\n"
        try:
            if sys.stdout.isatty():
                from rich.console import Console

                ending = ""
                show_markdown(timed(answer), Console(highlight=False))
            else:
                show_plain(timed(answer))
        except KeyboardInterrupt:
            ending = " …\n"
        sys.stdout.write(ending)
        sys.stdout.flush()
        total = time.perf_counter() - started
        self.stats = _Stats(answer.completion, first[0] if first else total, total)

    def _unknown(self, name: str) -> None:
        self.output.line(f"{name} is not a command; /help shows them.")

    def _help(self, _: str) -> None:
        width = max(map(len, _COMMANDS))
        for name, meaning in _COMMANDS.items():
            self.output.line(f"{name:{width}}  {self.output.words(meaning)}")
        self.output.line(_KEYS)

    def _clear(self, _: str) -> None:
        self.conversation.reset()
        self.told_forgetful = False
        self.output.line("The conversation starts anew.")

    def _system(self, text: str) -> None:
        self.conversation.system = text or None
        state = "set" if text else "removed"
        self.output.line(f"System message {state}; /clear to start the conversation anew.")

    def _regenerate(self, _: str) -> None:
        """Ask the last question again, with other random numbers."""
        question = self.conversation.take_back()
        if question is None:
            self.output.line("There is no answer yet.")
            return
        sampling = self.conversation.sampling
        if sampling.seed is not None:
            self.conversation.sampling = replace(sampling, seed=sampling.seed + 1)
        self._answer(question)

    def _temperature(self, number: str) -> None:
        try:
            value = float(number)
        except ValueError:
            value = -1.0
        if number and not 0 <= value < float("inf"):
            self.output.line(f"{number}: a temperature is 0 or a positive number.")
            return
        if number:
            self.conversation.sampling = replace(self.conversation.sampling, temperature=value)
        self.output.line(f"Temperature {self.conversation.sampling.temperature:g}.")

    def _show_stats(self, _: str) -> None:
        self.output.line("There is no answer yet." if self.stats is None else str(self.stats))

    def _save(self, name: str) -> None:
        """One JSON object on one line, which is also a row to finetune on."""
        if not name:
            self.output.line("Where to? /save FILE")
            return
        path = expanded(name)
        turns = [
            {"role": message.role, "content": message.content}
            for message in self.conversation.all_messages()
        ]
        try:
            write_text(path, json.dumps({"messages": turns}, ensure_ascii=False) + "\n")
        except OSError as error:
            self.output.warn(f"{path}: cannot be written ({error.strerror})")
            return
        self.output.line(f"{len(turns)} messages saved in {path}")

    def _load(self, name: str) -> None:
        """What `/save` wrote, or another row of messages."""
        if not name:
            self.output.line("What? /load FILE")
            return
        path = expanded(name)
        try:
            system, messages = read_conversation(path)
        except OSError as error:
            self.output.warn(f"{path}: cannot be read ({error.strerror})")
            return
        except ValueError as error:
            self.output.warn(f"{path}: {error}")
            return
        self.conversation.reset()
        self.conversation.system = system
        self.conversation.messages += messages
        self.told_forgetful = False
        self.output.line(f"{len(messages)} messages; write on.")


def read_conversation(path: Path) -> tuple[str | None, list[Message]]:
    """A saved conversation: its system message, and turns of the user and the assistant.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it holds something else.
    """
    from chatgpt_cli.tokenizer.chat import Message

    try:
        turns = json.loads(path.read_text(encoding="utf-8"))["messages"]
        messages = [Message(turn["role"], turn["content"]) for turn in turns]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError('not one JSON object {"messages": [{"role": …, "content": …}]}') from None
    if not all(isinstance(message.content, str) for message in messages):
        raise ValueError("a message's content is not text")
    system = None
    if messages and messages[0].role == "system":
        system = messages.pop(0).content
    roles = [message.role for message in messages]
    if roles != ["user", "assistant"] * (len(roles) // 2):
        raise ValueError("not turns of user and assistant that end with the assistant's")
    return system, messages
