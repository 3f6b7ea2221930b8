"""`chatgpt inspect`: what finetuning would make of files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from chatgpt_cli.cli.output import Output
from chatgpt_cli.cli.project import (
    ConfigOption,
    JsonOption,
    Project,
    SetOption,
    open_project,
)
from chatgpt_cli.command_line import same_run
from chatgpt_cli.language import located

if TYPE_CHECKING:
    from chatgpt_cli.config.schema import Rows
    from chatgpt_cli.data.row_inspection import RowInspection, Sample
    from chatgpt_cli.tokenizer.tokenizer import Tokenizer

# What learns from rows of a format.
_USES = {
    "classification": "finetune.task: classification",
    "plain text": "chatgpt finetune (finetune.task: language_modeling)",
    "preference": "chatgpt prefer",
    "judged answer": "no command trains on these yet",
}
# Of each kind.
_SHOWN_PROBLEMS = 8
_SHOWN_CHARACTERS = 1200


def inspect(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILE]...",
            help="Files, folders, globs or URLs of rows. Left out: the project's finetune.data.",
            show_default=False,
        ),
    ] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    model: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Count with the tokenizer of this model or run."),
    ] = None,
    rows: Annotated[int, typer.Option(min=0, help="Rows of each format to show.")] = 2,
    json_output: JsonOption = False,
) -> None:
    """Say which rows are in files: formats, faults, lengths, labels, and how a model sees them."""
    project = open_project(config, set_ or [], json_output=json_output)
    from chatgpt_cli.data.row_inspection import inspect_rows
    from chatgpt_cli.errors import ConfigError

    section = project.config.finetune
    named: list[Rows] = [*(files or [])] or [*section.data, *section.validation_data]
    if not named:
        raise ConfigError(
            "there is nothing to inspect: no file is given, and finetune.data names none",
            remedy="Run `chatgpt inspect FILE`.",
        )
    tokenizer, length = _tokenizer(project, model)
    inspection = inspect_rows(named, section, tokenizer, length=length, samples=rows)
    if json_output:
        project.output.json(_as_json(inspection))
    _show(project, inspection, configured=not files)
    if not inspection.rows:
        raise typer.Exit(1)


def _tokenizer(project: Project, model: Path | None) -> tuple[Tokenizer | None, int]:
    """The tokenizer that the project finetunes with, if there is one yet, and its sequences."""
    from chatgpt_cli.errors import ModelError
    from chatgpt_cli.interop.base import project_shape
    from chatgpt_cli.interop.huggingface import load_tokenizer
    from chatgpt_cli.interop.locate import resolve_model
    from chatgpt_cli.tokenizer.tokenizer import Tokenizer

    config = project.config
    if model is not None:
        folder = model / "tokenizer" if (model / "tokenizer").is_dir() else model
        tokenizer: Tokenizer | None = Tokenizer.load(folder)
    else:
        try:
            start = config.model.from_
            if start is None:
                tokenizer = Tokenizer.load(project.paths.tokenizer)
            else:
                tokenizer = load_tokenizer(resolve_model(start))
        except ModelError:
            return None, 0
    assert tokenizer is not None
    shape = project_shape(config.model, vocab_size=tokenizer.vocab_size)
    return tokenizer, config.sequence_length(config.finetune, shape.context_length)


def _show(project: Project, inspection: RowInspection, *, configured: bool) -> None:
    output = project.output
    output.table(
        "Rows",
        ["format", "rows", "told by the fields", "for"],
        [
            [
                name,
                f"{found.rows:,}",
                "; ".join(", ".join(fields) or "–" for fields, _ in found.fields.most_common(3)),
                _USES.get(name, "chatgpt finetune"),
            ]
            for name, found in inspection.formats.items()
        ],
        worded=["format", "for"],
    )
    _show_lengths(output, inspection)
    if inspection.labels:
        output.table(
            "Labels",
            ["label", "rows", "share"],
            [
                [label, f"{count:,}", f"{count / inspection.labels.total():.1%}"]
                for label, count in inspection.labels.most_common(30)
            ],
        )
    for found in inspection.formats.values():
        for sample in found.samples:
            _show_sample(output, sample)
    if note := inspection.unknown.note():
        output.warn(note)
    _show_duplicates(output, inspection)
    _show_problems(output, inspection)
    trained = [name for name in inspection.formats if name != "judged answer"]
    stops = inspection.problems and project.config.finetune.on_error == "stop"
    if trained and not stops:
        command = "prefer" if trained == ["preference"] else "finetune"
        if configured and command == "finetune":
            output.next_step(f"Next: chatgpt {same_run(command)}")
        else:
            output.next_step(
                f"Name the files under {command}.data and run chatgpt {same_run(command)}"
            )


def _show_lengths(output: Output, inspection: RowInspection) -> None:
    found = inspection.lengths
    if found is None:
        return
    output.line(
        f"Length in {found.unit}: median {found.median:,}, 95% have at most "
        f"{found.percentile_95:,}, longest {found.longest:,} ({found.longest_place})"
    )
    if found.limit is None:
        output.line(
            f"There is no tokenizer yet (chatgpt {same_run('preprocess')} makes it), so lengths "
            "are in characters and nothing is said about truncation."
        )
    else:
        output.line(
            f"{found.truncated:,} of {inspection.rows:,} rows are longer than a sequence "
            f"({found.limit:,} tokens) and would be cut"
        )


def _show_sample(output: Output, sample: Sample) -> None:
    """The text of a row; what is learnt is coloured on a terminal, and in ⟦⟧ where it is not."""
    named = output.words(sample.format)
    output.console.print(Text(f"\n{sample.place} · {named}", style="bold"))
    coloured = output.console.is_terminal and output.console.color_system is not None
    for view in sample.views:
        title = located(output.words(view.title), "") if view.title else ""
        text = Text(title, style="dim")
        room = _SHOWN_CHARACTERS
        for span in view.spans:
            shown = span.text if len(span.text) <= room else span.text[: max(room, 0)] + " …"
            if span.learnt and not coloured:
                shown = f"⟦{shown}⟧"
            text.append(shown, style="green" if span.learnt else "default")
            room -= len(span.text)
            if room <= 0:
                break
        output.console.print(text)


def _show_duplicates(output: Output, inspection: RowInspection) -> None:
    if inspection.duplicates:
        place, first = inspection.duplicates[0]
        output.warn(
            f"{len(inspection.duplicates):,} rows were there before, such as {place} (as {first})"
        )


def _show_problems(output: Output, inspection: RowInspection) -> None:
    from chatgpt_cli.data.problems import alike

    if not inspection.problems:
        output.success(f"All {inspection.rows:,} rows can be used.")
        return
    for kind, count in inspection.reasons.most_common():
        output.line(f"\n{count:,} × {kind}")
        found = alike(problem for problem in inspection.problems if problem.kind == kind)
        for problem, others in found[:_SHOWN_PROBLEMS]:
            where = f" [{problem.field}]" if problem.field else ""
            output.line(located(f"  {problem.place}{where}", problem.reason))
            if others:
                output.line(f"  … the same in {others:,} more rows of this file")
        more = sum(1 + others for _, others in found[_SHOWN_PROBLEMS:])
        if more:
            output.line(f"  … and {more:,} more (--json lists them all)")
    reasons = ", ".join(f"{count:,} {kind}" for kind, count in inspection.reasons.most_common())
    output.warn(
        f"{len(inspection.problems):,} rows cannot be used ({reasons}); {inspection.rows:,} can. "
        "With finetune.on_error: skip they are left out, else training does not start."
    )


def _as_json(inspection: RowInspection) -> dict[str, Any]:
    lengths = inspection.lengths
    return {
        "rows": inspection.rows,
        "formats": {
            name: {
                "rows": found.rows,
                "fields": [list(fields) for fields, _ in found.fields.most_common()],
                "samples": [
                    {
                        "place": sample.place,
                        "views": [
                            {
                                "title": view.title,
                                "length": view.length,
                                "spans": [[span.text, span.learnt] for span in view.spans],
                            }
                            for view in sample.views
                        ],
                    }
                    for sample in found.samples
                ],
            }
            for name, found in inspection.formats.items()
        },
        "lengths": None if lengths is None else vars(lengths),
        "unknown_characters": {
            "share": inspection.unknown.share,
            "characters": [one for one, _ in inspection.unknown.characters.most_common(100)],
        },
        "labels": dict(inspection.labels.most_common()),
        "duplicates": [{"place": place, "first": first} for place, first in inspection.duplicates],
        "problems": [vars(problem) for problem in inspection.problems],
        "reasons": dict(inspection.reasons.most_common()),
    }
