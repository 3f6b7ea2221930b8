"""`chatgpt reproduce`: the same run once more, and whether it comes out the same."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chatgpt_cli.cli.output import Output
from chatgpt_cli.cli.project import JsonOption
from chatgpt_cli.command_line import quoted

if TYPE_CHECKING:
    from chatgpt_cli.reproduction.repeat import Original, StageComparison


def reproduce(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run directory.", show_default=False)
    ],
    to: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The new run directory. Left out: RUN-again."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only say whether data and environment are the same.")
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """Repeat a run from what it recorded, and compare losses and weights.

    Its data must have the same hashes. Exit code 0: the same to the bit; 1: not.
    Interrupted, the same command goes on.
    """
    output = Output(json_output=json_output)
    from chatgpt_cli.reproduction.repeat import read_original

    original = read_original(run)
    recorded = [one for one in (original.text, *original.stages.values()) if one]
    files = {name for one in recorded for name in one.files}
    output.line(f"{run}: {', '.join(original.stages)}. {len(files)} data files, all as they were.")
    for line in original.differs:
        output.warn(f"Not as it was: {line}")
    if check:
        if json_output:
            output.json({"run": str(run), "differs": original.differs, "files": sorted(files)})
        if not original.differs:
            output.success("The environment is the same, too.")
        place = [] if to is None else ["--to", to]
        output.next_step(f"Next: chatgpt {quoted('reproduce', run, *place)}")
        return
    target = to or run.with_name(f"{run.resolve().name}-again")
    if not _repeat(output, original, target):
        output.warn("Stopped; everything is saved.")
        output.next_step("The same command goes on.")
        raise typer.Exit(130)
    _show(output, original, target, json_output=json_output)


def _repeat(output: Output, original: Original, target: Path) -> bool:
    """Make the run again, shown as training is; False if it was interrupted."""
    from chatgpt_cli.cli.training_view import TrainingView
    from chatgpt_cli.lock import run_lock
    from chatgpt_cli.reproduction.repeat import repeat

    with run_lock(target, "reproduce"), output.progress("reproduce", 1.0) as display:

        def observe(name: Any) -> TrainingView:
            output.line(f"Repeating {name}")
            return TrainingView(output, display)

        return repeat(original, target, observe=observe, tell=output.line)


def _show(output: Output, original: Original, target: Path, *, json_output: bool) -> None:
    """The comparison; ends with exit code 1 if it is not the same run."""
    from dataclasses import asdict

    from chatgpt_cli.reproduction.repeat import compare

    found = compare(original, target)
    same = all(one.same_weights and not one.largest for one in found)
    if json_output:
        output.json(
            {
                "run": str(original.paths.root),
                "again": str(target),
                "same": same,
                "differs": original.differs,
                "stages": [asdict(one) for one in found],
            }
        )
    output.table(
        f"{target} beside {original.paths.root}",
        ["stage", "losses compared", "largest difference", "from step", "weights"],
        [_row(one) for one in found],
        worded=["weights"],
    )
    for one in found:
        for line in one.differs:
            output.warn(f"{one.stage} was trained on something else: {line}")
    if same:
        output.success("The same to the bit: all losses, and the weights of the model to use.")
        return
    output.warn(
        "Not the same to the bit. Other processors, numbers of threads and versions of PyTorch "
        "round otherwise; the largest difference says whether that is all."
    )
    raise typer.Exit(1)


def _row(one: StageComparison) -> list[object]:
    return [
        one.stage,
        f"{one.losses:,}",
        f"{one.largest:.2g}",
        "–" if one.first_step is None else f"{one.first_step:,}",
        "the same" if one.same_weights else "others",
    ]
