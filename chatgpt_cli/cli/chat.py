"""`chatgpt chat`: talk to the model."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from chatgpt_cli.cli import model_options as options
from chatgpt_cli.cli.project import ConfigOption, Project, SetOption, open_project
from chatgpt_cli.files import write_text

if TYPE_CHECKING:
    from chatgpt_cli.generation.conversation import Conversation

_HELP = """/reset          forget the conversation
/system TEXT    set the system message; without TEXT, remove it
/save FILE      save the conversation as JSON messages
/exit           leave (also Ctrl-D)
Ctrl-C stops an answer. A line that begins with // is sent with one slash."""


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
) -> None:
    """Talk to the model: /help shows the commands, /exit leaves.

    Lines piped in are answered one after the other; only answers go to standard output.
    """
    project = open_project(config, set_ or [], json_output=True)
    opened = options.open_model(project, model=model, stage=stage)
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
        options.open_engine(project, opened, quantize, build=True),
        sampling,
        options.system_prompt(project, opened.stage),
    )
    if opened.stage == "pretrain":
        project.output.warn(
            "This model was pretrained only: it continues text and does not know turns. "
            "`chatgpt finetune` teaches it to answer."
        )
    if sys.stdin.isatty():
        project.output.line(f"Model: {opened.folder}. /help shows the commands, /exit leaves.")
    _Session(project, conversation).run()


class _Session:
    """Reads lines, obeys commands, shows answers."""

    def __init__(self, project: Project, conversation: Conversation) -> None:
        self.output = project.output
        self.conversation = conversation
        self.told_forgetful = False
        if sys.stdin.isatty():
            with contextlib.suppress(ImportError):
                import readline  # noqa: F401  (gives input() history and editing)

    def run(self) -> None:
        while (line := self._read()) is not None:
            text = line.strip()
            if text.startswith("/") and not text.startswith("//"):
                if not self._command(*_split(text)):
                    return
            elif text:
                self._answer(text.removeprefix("/") if text.startswith("//") else text)

    def _read(self) -> str | None:
        """The next line; None at the end, or after Ctrl-C twice."""
        if not sys.stdin.isatty():
            return sys.stdin.readline() or None
        for attempt in (1, 2):
            try:
                return input("> ")
            except EOFError:
                typer.echo()
                return None
            except KeyboardInterrupt:
                typer.echo()
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
        try:
            for piece in answer:
                sys.stdout.write(piece)
                sys.stdout.flush()
        except KeyboardInterrupt:
            sys.stdout.write(" …")
        sys.stdout.write("\n")
        sys.stdout.flush()
        completion = answer.completion
        self.conversation.answered(completion.text)
        if completion.truncated_prompt:
            self.output.warn(
                "That was longer than the model's context: its beginning was left out."
            )
        if not completion.text.strip():
            self.output.line("(The model ended its turn without a word.)")

    def _command(self, name: str, argument: str) -> bool:
        """Obey a command; False to leave."""
        if name in ("/exit", "/quit"):
            return False
        if name == "/help":
            self.output.line(_HELP)
        elif name == "/reset":
            self.conversation.reset()
            self.told_forgetful = False
            self.output.line("The conversation starts anew.")
        elif name == "/system":
            self.conversation.system = argument or None
            state = "set" if argument else "removed"
            self.output.line(f"System message {state}; /reset to start the conversation anew.")
        elif name == "/save":
            self._save(argument)
        else:
            self.output.line(f"{name} is not a command; /help shows them.")
        return True

    def _save(self, name: str) -> None:
        """One JSON object on one line, which is also a row to finetune on."""
        if not name:
            self.output.line("Where to? /save FILE")
            return
        path = Path(name).expanduser()
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


def _split(text: str) -> tuple[str, str]:
    name, _, argument = text.partition(" ")
    return name.lower(), argument.strip()
