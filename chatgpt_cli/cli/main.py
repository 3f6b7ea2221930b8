"""The `chatgpt` command: its subcommands, loaded when they are called, and its errors."""

from __future__ import annotations

import _thread
import difflib
import errno
import importlib
import json
import os
import re
import signal
import sys
import threading
from contextlib import suppress
from contextvars import copy_context
from typing import Any

from chatgpt_cli.language import (
    LANGUAGES,
    Language,
    chosen,
    located,
    preferred,
    speaking,
    translator,
)

# What `chatgpt --help` shows. A command's module is imported only when it is called.
COMMANDS = {
    "init": "Write a commented configuration for a new project.",
    "config": "Show the resolved configuration, or its JSON Schema.",
    "plan": "Time, memory and cost, estimated before an hour is spent.",
    "preprocess": "Raw text to tokenizer, token shards and a data report.",
    "inspect": "What finetuning would make of your rows: formats, faults, lengths.",
    "pretrain": "Token shards to a base model.",
    "distill-data": "Let a larger model write rows to finetune on.",
    "finetune": "Base model and supervised rows to an assistant.",
    "prefer": "Assistant and pairs of answers to one that gives the better answer (DPO).",
    "reinforce": "Assistant and checkable questions to one more often right (GRPO).",
    "evaluate": "Measure a model on held-out data.",
    "compare": "Compare evaluated runs, with significance.",
    "runs": "The runs of a folder: steps, losses, scores, sizes; old checkpoints removed.",
    "reproduce": "Repeat a run from what it recorded, and compare.",
    "report": "One page with all that is known of a run.",
    "generate": "Continue a text, answer a question, fill in a [MASK].",
    "chat": "Talk to the model.",
    "serve": "The model as an OpenAI-compatible server, with a page to chat on.",
    "quantize": "Write the model in 8 or 4 bits, and measure what that changes.",
    "export": "Write the model as a .gguf file, or with an adapter merged in.",
    "doctor": "What is installed, what this machine can do, what is missing.",
    "completion": "Let Tab complete commands, options and settings in your shell.",
}

# Commands that compute for long, and should not suffer from what else runs.
_TRAINING = ("plan", "pretrain", "finetune", "prefer", "reinforce", "reproduce")

# The exit codes of a process that a signal ends.
_ENDED = tuple(128 + number for number in signal.valid_signals())

# What helps against the system's most frequent refusals.
_OF_SYSTEM = {
    errno.ENOSPC: "Free some space",
    errno.EACCES: "Allow writing there, or choose another place",
    errno.EROFS: "Choose a place that can be written",
    errno.EISDIR: "Name a file, not a folder",
    errno.ENOTDIR: "Name a folder, not a file",
}

_USAGE = """\
Usage: chatgpt COMMAND [OPTIONS]

Train your own ChatGPT-style model, from raw text to a chat you can talk to.

Commands:
{commands}

One YAML file describes a project; every command takes --config FILE (left out:
chatgpt.yaml in this folder, else the built-in quickstart) and --set KEY=VALUE.

  chatgpt COMMAND --help   the command's options
  chatgpt --version        the version
  --lang zh                speak Chinese (en: English); else as CHATGPT_LANG or the locale says
  --debug                  show the traceback of an error"""


def run() -> None:
    """Entry point of the console script; ends the process with the exit code."""
    set_up()
    try:
        code = main(sys.argv[1:])
    except KeyboardInterrupt:
        code = 130
    except SystemExit as signalled:
        code = signalled.code if isinstance(signalled.code, int) else 1
    _settle(code)
    sys.exit(code)


def _settle(code: int) -> None:
    """Let nothing that arrives while Python shuts down change the exit code or be shown.

    PyTorch's shutting down takes a moment, and an exception there has no place to go. Whoever
    sends one more signal gets the end at once.
    """
    for number in (getattr(signal, name, None) for name in ("SIGINT", "SIGTERM", "SIGHUP")):
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: os._exit(code))
    for stream in (sys.stdout, sys.stderr):
        # What cannot be written is met again, and told, by Python itself.
        with suppress(AttributeError, OSError, ValueError):
            stream.flush()


def set_up() -> None:
    """What is the process's own: how it writes, and how signals end it."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="replace")
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _terminate)
    sys.unraisablehook = _deliver_again


def _terminate(number: int, _frame: object) -> None:
    """End as after an error: what was begun is tidied, the run directory given up."""
    sys.exit(128 + number)


def _deliver_again(lost: sys.UnraisableHookArgs) -> None:
    """A signal that arrived where Python drops what is raised, as in a destructor, comes again."""
    if isinstance(lost.exc_value, KeyboardInterrupt):
        number: int = signal.SIGINT
    elif isinstance(lost.exc_value, SystemExit) and lost.exc_value.code in _ENDED:
        number = lost.exc_value.code - 128
    else:
        sys.__unraisablehook__(lost)
        return
    # Not from here: what is raised in this hook would be dropped as well.
    threading.Timer(0.01, _thread.interrupt_main, [number]).start()


def main(arguments: list[str]) -> int:
    """Run a command line and return its exit code."""
    debug = "--debug" in arguments or os.environ.get("CHATGPT_DEBUG") == "1"
    language, arguments = _spoken([one for one in arguments if one != "--debug"])
    if language is None:
        with speaking(preferred(os.environ)):
            say = translator()
        print(say(f"Error: --lang is one of {', '.join(LANGUAGES)}"), file=sys.stderr)
        return 2
    with speaking(language):
        # What the command sets, such as how its project was named, ends with it.
        return copy_context().run(_run, arguments, debug=debug)


def _spoken(arguments: list[str]) -> tuple[Language | None, list[str]]:
    """The language that --lang or the environment names, and what else stands there.

    None for a --lang that there is not.
    """
    rest: list[str] = []
    said: str | None = None
    given = iter(arguments)
    for one in given:
        if one == "--lang":
            said = next(given, "")
        elif one.startswith("--lang="):
            said = one.removeprefix("--lang=")
        else:
            rest.append(one)
    if said is None:
        return preferred(os.environ), rest
    return next((one for one in LANGUAGES if one == said), None), rest


def _run(arguments: list[str], *, debug: bool) -> int:
    """The exit code of a command line, without what is said to all commands alike."""
    say = translator()
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        width = max(map(len, COMMANDS))
        listed = "\n".join(f"  {name:<{width}}  {say(text)}" for name, text in COMMANDS.items())
        print(say(_USAGE).format(commands=listed))
        return 0 if arguments else 2
    if arguments[0] in ("--version", "-V"):
        from chatgpt_cli import __version__

        print(f"chatgpt {__version__}")
        return 0
    if arguments[0] not in COMMANDS:
        near = difflib.get_close_matches(arguments[0], COMMANDS, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"There are {', '.join(COMMANDS)}."
        print(say(f"Error: {arguments[0]} is not a command\n{hint}"), file=sys.stderr)
        return 2
    try:
        return _call(arguments[0], arguments[1:])
    except KeyboardInterrupt:
        print(say("Interrupted."), file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader has gone, as with `| head`; nothing more can be written.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if debug:
            raise
        return _report(error, as_json="--json" in arguments)


def _call(name: str, arguments: list[str]) -> int:
    """Run one command through Typer, which parses its options."""
    if name in _TRAINING:
        _share_the_processor()
    result: Any = command_of(name).main(
        args=arguments,
        prog_name=f"chatgpt {name}",
        standalone_mode=False,
        obj=[name, *arguments, "--lang", chosen()],
    )
    return result if isinstance(result, int) else 0


def command_of(name: str) -> Any:
    """A command with its options, as Typer makes it."""
    import typer
    from typer.main import get_command

    written = name.replace("-", "_")
    command = getattr(importlib.import_module(f"chatgpt_cli.cli.{written}"), written)
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    if chosen() == "en":
        app.command(help=command.__doc__)(command)
        return get_command(app)
    from chatgpt_cli.cli.help_page import TranslatedCommand

    app.command(help=command.__doc__, cls=TranslatedCommand)(command)
    return get_command(app)


def _share_the_processor() -> None:
    """Let threads that wait for each other sleep soon, instead of spinning.

    Beside one other busy program training was two to three times as fast so (two cores,
    libgomp), and 2% slower alone. Must be set before PyTorch is loaded; what the user
    set stays.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def _is_out_of_memory(error: Exception) -> bool:
    """PyTorch, without which nothing of this kind comes up, tells its own kinds."""
    if isinstance(error, MemoryError):
        return True
    if "torch" not in sys.modules:
        return False
    from chatgpt_cli.training.memory import is_out_of_memory

    return is_out_of_memory(error)


def _parsed(message: str) -> tuple[str | None, str]:
    """The option that Click's message is about, and the rest in fewer words."""
    found = re.fullmatch(r"Invalid value for '(.+?)'(?: \(.*\))?: (.*)", message, re.DOTALL)
    place, fact = found.groups() if found else (None, message)
    fact = fact.removeprefix("Value error, ").partition(", unable to parse")[0]
    return place, fact.replace("Input should be", "it should be")


def _report(error: Exception, *, as_json: bool) -> int:
    """Say what went wrong, without a traceback; the exit code."""
    from chatgpt_cli.errors import ChatGPTError, ProcessMissing
    from chatgpt_cli.ranks import this_rank

    place: str | None = None
    say = translator()
    if type(error).__name__ == "Abort":
        print(say("Interrupted."), file=sys.stderr)
        return 130
    # Typer brings its own copy of Click in some versions: told by what it can do.
    describe = getattr(error, "format_message", None)
    if describe is not None:
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "chatgpt"
        place, fact = _parsed(str(describe()))
        remedy, code = f"See {command} --help.", 2
    elif isinstance(error, ChatGPTError):
        fact, place, remedy, code = error.fact, error.place, error.remedy or "", error.exit_code
    elif _is_out_of_memory(error):
        fact, code = "the memory is not enough", 1
        remedy = "Set a smaller micro_batch_size, sequence_length or model.preset."
    elif isinstance(error, OSError):
        # A full disk, a folder that may not be written: nothing in here can help it.
        fact, place, code = error.strerror or str(error), error.filename, 1
        remedy = (
            f"{_OF_SYSTEM.get(error.errno or 0, 'Correct it')}, and run the command again. "
            "Files that were there are intact."
        )
    else:
        fact, code = f"this is a bug: {type(error).__name__}: {error}", 1
        remedy = "Run the command again with --debug for the traceback, and report it."
    of_all = isinstance(error, ChatGPTError) and not isinstance(error, ProcessMissing)
    if of_all and not this_rank().is_first:
        # The first of several processes says it.
        return code
    if as_json:
        print(json.dumps({"error": {"fact": fact, "place": place, "remedy": remedy}}))
    else:
        print(say(f"Error: {located(place, fact)}"), file=sys.stderr)
        if remedy:
            print(say(remedy), file=sys.stderr)
    return code
