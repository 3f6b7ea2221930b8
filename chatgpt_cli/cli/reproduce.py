"""`chatgpt reproduce`: the same run once more, and whether it comes out the same."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chatgpt_cli.cli.output import Output
from chatgpt_cli.cli.project import JsonOption
from chatgpt_cli.command_line import quoted

if TYPE_CHECKING:
    from chatgpt_cli.reproduction.evaluated import ScoreComparison
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
    With --check 0: the data are the same, whatever the environment; 1: not.
    Interrupted, the same command goes on.
    """
    output = Output(json_output=json_output)
    from chatgpt_cli.reproduction.repeat import read_original

    original = read_original(run)
    parts = (original.text, *original.stages.values(), original.evaluation)
    files = {name for one in parts if one for name in one.files}
    output.line(f"{run}: {', '.join(original.stages)}. Data files, all as they were: {len(files)}.")
    for line in original.differs:
        output.warn(f"Not as it was: {line}")
    for stage, (then, here) in original.threads.items():
        output.line(f"{stage} ran on {then} threads, here are {here}: a repetition takes {then}.")
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
    scores = _evaluate(output, original, target)
    _show(output, original, target, scores, json_output=json_output)


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


def _evaluate(output: Output, original: Original, target: Path) -> list[ScoreComparison]:
    """Score the repetition as the run was scored; nothing if it was not, or of another model."""
    from chatgpt_cli.checkpoints import best_checkpoint, step_of
    from chatgpt_cli.cli.evaluate import score
    from chatgpt_cli.cli.project import Project
    from chatgpt_cli.config.paths import RunPaths
    from chatgpt_cli.reproduction.evaluated import asked, compare_scores
    from chatgpt_cli.reproduction.repeat import scored_as_then

    if original.evaluation is None:
        return []
    what = asked(original.scores)
    best = None if what is None else best_checkpoint(original.paths.stage(what.stage))
    if what is None or best is None or step_of(best) != original.evaluation.step:
        output.warn("The scores are not repeated: they are not of a model that the run has now.")
        return []
    output.line("Repeating evaluate")
    project = Project(
        scored_as_then(original.evaluation, target),
        RunPaths(target),
        "",
        output,
        [],
        lambda key: ".".join(map(str, key)),
    )
    measured = score(project, what.metrics, what.tasks, model=None, stage=what.stage)
    return [] if measured is None else compare_scores(original.scores, measured[0])


def _show(
    output: Output,
    original: Original,
    target: Path,
    scores: list[ScoreComparison],
    *,
    json_output: bool,
) -> None:
    """The comparison; ends with exit code 1 if it is not the same run."""
    from dataclasses import asdict

    from chatgpt_cli.reproduction.repeat import compare

    found = compare(original, target, scores)
    same = all(one.same_weights and not one.largest for one in found)
    same = same and all(one.same for one in scores)
    if json_output:
        output.json(
            {
                "run": str(original.paths.root),
                "again": str(target),
                "same": same,
                "differs": original.differs,
                "stages": [asdict(one) for one in found],
                "scores": [asdict(one) for one in scores],
            }
        )
    output.table(
        f"{target} beside {original.paths.root}",
        ["stage", "losses compared", "largest difference", "from step", "weights"],
        [_row(one) for one in found],
        worded=["weights"],
    )
    if scores:
        rows: list[list[object]] = [
            [one.task, one.metric, one.value, "–" if one.again is None else one.again]
            for one in scores
        ]
        output.table("Scores", ["task", "metric", "then", "again"], rows)
    for one in found:
        for line in one.differs:
            output.warn(f"{one.stage} was trained on something else: {line}")
    if same:
        output.success("The same to the bit: all losses, and the weights of the model to use.")
        if scores:
            output.success("The scores are the same, too.")
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
