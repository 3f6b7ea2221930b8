"""`chatgpt generate`: continue a text, answer a question, or fill in a [MASK]."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chatgpt_cli.cli import model_options as options
from chatgpt_cli.cli.chat_view import show_plain
from chatgpt_cli.cli.piped import checked
from chatgpt_cli.cli.project import (
    ConfigOption,
    JsonOption,
    Project,
    SetOption,
    open_project,
)
from chatgpt_cli.command_line import same_run
from chatgpt_cli.errors import ConfigError, DataError

if TYPE_CHECKING:
    from chatgpt_cli.generation.constraint import Constraint
    from chatgpt_cli.generation.engine import Completion, Engine
    from chatgpt_cli.generation.sampling import Sampling
    from chatgpt_cli.tokenizer.chat import Message

# So many texts take longer than compiling, which happens once on a machine.
_MANY_TEXTS = 20
_ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True)
class Prompt:
    """A text, or the turns of a conversation."""

    text: str
    messages: tuple[tuple[str, str], ...] = ()


def generate(
    prompt: Annotated[
        str | None,
        typer.Argument(help="The text to start from; - reads it from standard input."),
    ] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    model: options.ModelOption = None,
    stage: options.StageOption = "auto",
    file: Annotated[
        Path | None,
        typer.Option(
            help="Many prompts: one on each line, or JSONL rows with `prompt` or `messages`."
        ),
    ] = None,
    samples: Annotated[
        bool, typer.Option("--samples", help="Use generate.sample_prompts of the configuration.")
    ] = False,
    chat: Annotated[
        bool | None,
        typer.Option(
            "--chat/--raw",
            help="Take the prompt as a user's turn, or as text to continue. "
            "By default as the model was trained.",
            show_default=False,
        ),
    ] = None,
    n: Annotated[int, typer.Option("--n", min=1, help="Texts for each prompt.")] = 1,
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
    beams: Annotated[
        int | None,
        typer.Option(min=1, max=64, help="Follow the N most probable texts.", show_default=False),
    ] = None,
    length_penalty: Annotated[
        float | None,
        typer.Option(help="Of beam search: above 1 prefers long texts.", show_default=False),
    ] = None,
    choice: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="Write one of these. Repeat it.", show_default=False),
    ] = None,
    regex: Annotated[
        str | None,
        typer.Option(metavar="PATTERN", help="Write what this matches.", show_default=False),
    ] = None,
    json_schema: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write JSON of this schema.", show_default=False),
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Continue a text, answer a question, fill in a [MASK], or name a text's label.

    Only the text goes to standard output, so it can be piped on.
    """
    # Notes belong on standard error here, --json or not.
    project = open_project(config, set_ or [], json_output=True)
    prompts = _prompts(project, prompt, file=file, samples=samples)
    opened = options.open_model(project, model=model, stage=stage)
    options.warn_if_unfinished(project, opened)
    if opened.loaded.config.labels:
        _classify(project, opened, prompts, json_output=json_output)
        return
    if not opened.loaded.config.causal:
        _fill(project, opened, prompts, json_output=json_output)
        return

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
    if chat is None and opened.stage == "model":
        project.output.line("The prompt is continued as text; --chat takes it as a user's turn.")
    as_chat = opened.converses if chat is None else chat
    ids = [_ids(project, opened, item, as_chat=as_chat) for item in prompts]
    constraint = _constraint(opened, choice or [], regex, json_schema)
    section = project.config.generate
    kind = quantize or section.quantize
    # In few bits the compiled code rounds a little differently: the same in every run then.
    build = len(prompts) * n >= _MANY_TEXTS or kind != "none"
    writer = _Writer(
        engine=options.open_engine(project, opened, kind, draft, build=build),
        sampling=sampling,
        beams=section.beams if beams is None else beams,
        length_penalty=section.length_penalty if length_penalty is None else length_penalty,
        constraint=constraint,
        texts=n,
    )
    if writer.beams > 1:
        writer.check_beams()
    elif len(prompts) == 1 and n == 1 and not json_output:
        _stream(project, opened, writer, prompts[0], ids[0], as_chat=as_chat)
        return
    _batch(project, opened, writer, prompts, ids, json_output=json_output)


@dataclass(frozen=True)
class _Writer:
    """How texts are to be written."""

    engine: Engine
    sampling: Sampling
    beams: int
    length_penalty: float
    constraint: Callable[[], Constraint] | None
    texts: int

    def check_beams(self) -> None:
        """Raises ConfigError for what beam search cannot do."""
        if self.constraint is not None:
            raise ConfigError("beam search cannot be constrained", remedy="Leave out --beams.")
        if self.texts > self.beams:
            raise ConfigError(
                f"{self.beams} beams cannot give {self.texts} texts",
                remedy="Set --beams to at least --n.",
            )

    def write(self, prompts: list[list[int]]) -> list[Completion]:
        """`texts` texts for each prompt, one after the other."""
        from chatgpt_cli.generation.beam import beam_search

        stop_ids = self.engine.tokenizer.stop_ids
        if self.beams == 1:
            repeated = [prompt for prompt in prompts for _ in range(self.texts)]
            return self.engine.complete(
                repeated, self.sampling, stop_ids=stop_ids, constraint=self.constraint
            )
        return [
            completion
            for prompt in prompts
            for completion in beam_search(
                self.engine,
                prompt,
                beams=self.beams,
                max_tokens=self.sampling.max_tokens,
                stop_ids=stop_ids,
                length_penalty=self.length_penalty,
                best=self.texts,
            )
        ]


def _constraint(
    opened: options.OpenModel, choices: list[str], regex: str | None, schema: Path | None
) -> Callable[[], Constraint] | None:
    """Makes what every text must look like, if that was asked for.

    Raises:
        ConfigError: if more than one form is asked for, or it cannot be used.
        DataError: if the schema's file cannot be read.
    """
    asked = (("--choice", choices), ("--regex", regex), ("--json-schema", schema))
    given = [name for name, there in asked if there]
    if not given:
        return None
    if len(given) > 1:
        raise ConfigError(f"{' and '.join(given)} cannot be used together", remedy="Choose one.")
    from chatgpt_cli.generation.constraint import ConstraintMaker

    maker = ConstraintMaker(opened.loaded.tokenizer)
    if choices:
        return partial(maker.choices, choices)
    if regex is not None:
        return partial(maker.regex, regex)
    assert schema is not None
    try:
        content = json.loads(schema.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(
            f"the schema cannot be read ({reason})",
            place=str(schema),
            remedy="Give --json-schema a file that holds one JSON schema.",
        ) from None
    return partial(maker.json_schema, content)


def _prompts(
    project: Project, prompt: str | None, *, file: Path | None, samples: bool
) -> list[Prompt]:
    """Where the prompts come from: exactly one of argument, file, samples, standard input.

    Raises:
        ConfigError: if there is more than one source, or none.
        DataError: if the file is not as it should be.
    """
    given = [
        name
        for name, there in (
            ("a prompt", prompt is not None),
            ("--file", file is not None),
            ("--samples", samples),
        )
        if there
    ]
    if len(given) > 1:
        raise ConfigError(f"{' and '.join(given)} cannot be used together", remedy="Choose one.")
    if file is not None:
        return read_prompts(file)
    if samples:
        texts = project.config.generate.sample_prompts
        if not texts:
            raise ConfigError(
                "the configuration has no sample prompts",
                place="generate.sample_prompts",
                remedy="List some there, or give a prompt: "
                f"`chatgpt {same_run('generate', 'PROMPT')}`.",
            )
        return [Prompt(text) for text in texts]
    if prompt == "-" or (prompt is None and not sys.stdin.isatty()):
        prompt = checked(sys.stdin.read()).rstrip("\r\n") or None
    if prompt is None:
        raise ConfigError(
            "there is no prompt",
            remedy=f"Give one, `chatgpt {same_run('generate', 'Once upon a time')}`, pipe one in, "
            "or use --file or --samples.",
        )
    return [Prompt(_clean(prompt))]


def _clean(text: str) -> str:
    """Arguments may hold bytes that are not UTF-8, which Python keeps as surrogates."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def read_prompts(path: Path) -> list[Prompt]:
    """Prompts from a text file, one a line, or a .jsonl file; empty lines are left out.

    Raises:
        DataError: naming file and line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"not UTF-8 (byte {error.start})", place=str(path), remedy="Save the file as UTF-8."
        ) from None
    except OSError as error:
        raise DataError(
            f"the file cannot be read ({error.strerror})",
            place=str(path),
            remedy="Check the path given with --file.",
        ) from None
    lines = [(f"{path}:{i}", line) for i, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise DataError(
            "there is no prompt in the file",
            place=str(path),
            remedy="Write one on each line, or JSONL rows with prompt or messages.",
        )
    if path.suffix.lower() != ".jsonl":
        return [Prompt(line.rstrip("\r")) for _, line in lines]
    return [_row(line, place) for place, line in lines]


def _row(line: str, place: str) -> Prompt:
    """One JSONL row."""
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(
            f"not valid JSON ({error})", place=place, remedy="Each line must be one JSON object."
        ) from None
    if isinstance(row, dict):
        if isinstance(row.get("prompt"), str):
            return Prompt(row["prompt"])
        turns = row.get("messages")
        if isinstance(turns, list) and turns and all(_is_turn(turn) for turn in turns):
            messages = tuple((turn["role"], turn["content"]) for turn in turns)
            # A recorded answer at the end is what the model is asked for.
            while len(messages) > 1 and messages[-1][0] == "assistant":
                messages = messages[:-1]
            return Prompt(messages[-1][1], messages)
    raise DataError(
        "the row has neither a text `prompt` nor a list `messages` of role and content",
        place=place,
        remedy='Write {"prompt": "…"} or {"messages": [{"role": "user", "content": "…"}]}.',
    )


def _is_turn(turn: object) -> bool:
    return (
        isinstance(turn, dict)
        and turn.get("role") in _ROLES
        and isinstance(turn.get("content"), str)
    )


def _ids(
    project: Project, opened: options.OpenModel, prompt: Prompt, *, as_chat: bool
) -> list[int]:
    """The tokens that the model is to continue.

    Raises:
        ConfigError: for an empty user's turn. (An empty text is the start of any text.)
    """
    from chatgpt_cli.tokenizer.chat import render

    tokenizer = opened.loaded.tokenizer
    if not prompt.messages and not as_chat:
        return tokenizer.beginning(prompt.text)
    messages = _messages(prompt)
    if not messages[-1].content.strip():
        raise ConfigError("the prompt is empty", remedy="Write what the model is to answer.")
    system = options.system_prompt(project, opened.stage)
    if system and messages[0].role != "system":
        messages = _messages(Prompt("", (("system", system),))) + messages
    return render(messages, tokenizer, add_generation_prompt=True).ids


def _messages(prompt: Prompt) -> list[Message]:
    from chatgpt_cli.tokenizer.chat import Message

    turns: Any = prompt.messages or (("user", prompt.text),)
    return [Message(role, content) for role, content in turns]


def _stream(
    project: Project,
    opened: options.OpenModel,
    writer: _Writer,
    prompt: Prompt,
    ids: list[int],
    *,
    as_chat: bool,
) -> None:
    """Write one text as it comes."""
    if not as_chat and sys.stdout.isatty() and sys.stderr.isatty():
        # On a terminal the text reads as a whole; what is piped on is only what is new.
        typer.secho(prompt.text, nl=False, err=True, dim=True)
    constraint = writer.constraint() if writer.constraint else None
    stop_ids = writer.engine.tokenizer.stop_ids
    answer = writer.engine.stream(ids, writer.sampling, stop_ids=stop_ids, constraint=constraint)
    show_plain(answer)
    sys.stdout.write("\n")
    sys.stdout.flush()
    _tell(project, opened, [answer.completion])


def _batch(
    project: Project,
    opened: options.OpenModel,
    writer: _Writer,
    prompts: list[Prompt],
    ids: list[list[int]],
    *,
    json_output: bool,
) -> None:
    """Write all texts at the end, each under its prompt."""
    n = writer.texts
    completions = writer.write(ids)
    sources = [prompt for prompt in prompts for _ in range(n)]
    if json_output:
        project.output.json(
            {
                "model": str(opened.folder),
                "stage": opened.stage,
                "completions": [
                    {"prompt": prompt.text, **asdict(completion), "tokens": len(completion.ids)}
                    for prompt, completion in zip(sources, completions, strict=True)
                ],
            }
        )
    else:
        for index, (prompt, completion) in enumerate(zip(sources, completions, strict=True)):
            if index % n == 0:
                typer.secho(f"> {prompt.text}", bold=True)
            typer.echo(completion.text.strip("\n") + "\n")
    _tell(project, opened, completions)


def _tell(project: Project, opened: options.OpenModel, completions: list[Completion]) -> None:
    """Say on standard error what the reader of the text could not know."""
    cut = sum(completion.truncated_prompt for completion in completions)
    if cut:
        context = opened.loaded.config.context_length
        subject = "The prompt is" if len(completions) == 1 else f"{cut} prompts are"
        project.output.warn(
            f"{subject} too long for the model's context of {context} tokens: "
            "the beginning was left out."
        )
    if len(completions) == 1 and completions[0].finish_reason == "length" and sys.stderr.isatty():
        written = len(completions[0].ids)
        project.output.line(f"Ended after {written} tokens; --max-tokens allows more.")


def _classify(
    project: Project, opened: options.OpenModel, prompts: list[Prompt], *, json_output: bool
) -> None:
    """A classifier: the label of each text, and how probable it is."""
    from chatgpt_cli.generation.classify import classify

    texts = [(prompt.text,) for prompt in prompts]
    found = classify(opened.loaded.model, opened.loaded.tokenizer, texts)
    if json_output:
        rows = [
            {"prompt": prompt.text, "label": one.label, "probabilities": one.probabilities}
            for prompt, one in zip(prompts, found, strict=True)
        ]
        project.output.json({"model": str(opened.folder), "stage": opened.stage, "labels": rows})
        return
    for one in found:
        typer.echo(f"{one.label}\t{one.probability:.1%}")


def _fill(
    project: Project, opened: options.OpenModel, prompts: list[Prompt], *, json_output: bool
) -> None:
    """A masked model: the text with its best candidates, and the others beside."""
    from chatgpt_cli.generation.fill_mask import fill_masks

    results = []
    for prompt in prompts:
        masks = fill_masks(opened.loaded.model, opened.loaded.tokenizer, prompt.text)
        filled = prompt.text
        for candidates in masks:
            filled = filled.replace("[MASK]", candidates[0].text, 1)
        shown = [[asdict(candidate) for candidate in candidates] for candidates in masks]
        results.append({"prompt": prompt.text, "text": filled, "masks": shown})
        if json_output:
            continue
        typer.echo(filled)
        rows = [
            [str(number), repr(candidate.text), f"{candidate.probability:.1%}"]
            for number, candidates in enumerate(masks, 1)
            for candidate in candidates
        ]
        project.output.table("Candidates", ["mask", "token", "probability"], rows)
    if json_output:
        project.output.json({"model": str(opened.folder), "stage": opened.stage, "filled": results})
