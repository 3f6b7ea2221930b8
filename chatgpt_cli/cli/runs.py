"""`chatgpt runs`: what lies in a folder of runs, and what of it is no longer needed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chatgpt_cli.cli.output import Output
from chatgpt_cli.cli.project import JsonOption
from chatgpt_cli.command_line import quoted
from chatgpt_cli.errors import ConfigError

if TYPE_CHECKING:
    from chatgpt_cli.runs import RunSummary, StageSummary

# Scores that a line of the table has room for.
_SHOWN = 3
_DEFAULT = Path("runs")


def runs(
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="Where the runs lie, or one run."),
    ] = _DEFAULT,
    clean: Annotated[
        bool,
        typer.Option(
            "--clean",
            help="List the checkpoints that are neither the newest nor the best of their stage.",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --clean: remove what it lists.")] = False,
    json_output: JsonOption = False,
) -> None:
    """List runs: stages, steps, losses, scores, sizes, dates; clean up old checkpoints."""
    from chatgpt_cli.runs import find_runs

    if yes and not clean:
        raise ConfigError(
            "--yes has nothing to agree to",
            remedy="Use it with --clean, after a look at what --clean lists.",
        )
    output = Output(json_output=json_output)
    found = find_runs(folder)
    if clean:
        _clean(output, folder, found, remove_them=yes, json_output=json_output)
        return
    if json_output:
        output.json({"runs": [_as_json(run) for run in found]})
    if not found:
        output.line(f"There is no run in {folder}.")
        output.next_step("Next: chatgpt preprocess")
        return
    rows = [row for run in found for row in _rows(run)]
    columns = [
        "run",
        "stage",
        "step",
        "state",
        "best (validation loss)",
        "scores",
        "size",
        "changed",
    ]
    worded = ["stage", "state", "best (validation loss)"]
    output.table(f"Runs in {folder}", columns, rows, worded=worded)
    for run in found:
        if run.outdated:
            output.warn(f"* {run.folder}: {run.outdated}")


def _rows(run: RunSummary) -> list[list[object]]:
    """A line for each stage; what is of the whole run stands in the first."""
    from datetime import datetime

    mark = "*" if run.outdated else ""
    scores = [f"{name} {one.value:.{one.digits}f}{mark}" for name, one in run.scores.items()]
    more = f" (+{len(scores) - _SHOWN})" if len(scores) > _SHOWN else ""
    changed = datetime.fromtimestamp(run.changed).strftime("%Y-%m-%d %H:%M")
    of_run: list[object] = [", ".join(scores[:_SHOWN]) + more, _size(run.bytes), changed]
    lines = [_stage(one) for one in run.stages] or [["preprocessed", "", "", ""]]
    return [
        [str(run.folder) if not at else "", *line, *(of_run if not at else ["", "", ""])]
        for at, line in enumerate(lines)
    ]


def _stage(one: StageSummary) -> list[object]:
    now = one.progress
    if now is None and one.running:
        return [one.name, "", "running", ""]
    if now is None:
        return [one.name, "", "damaged", ""]
    best = now.best_loss
    # Scores that should be high are ranked by their negative.
    kind = "score " if best is not None and best < 0 else ""
    state = f"finished ({now.finished})" if now.finished else "stopped"
    if one.running:
        state = "running"
    loss = "" if best is None else f"{kind}{abs(best):.4f} at step {now.best_step:,}"
    return [
        one.name,
        f"{now.step:,}",
        state,
        loss,
    ]


def _as_json(run: RunSummary) -> dict[str, Any]:
    return {
        "run": str(run.folder),
        "stages": {
            one.name: {"running": one.running}
            if one.progress is None
            else {
                "running": one.running,
                "step": one.progress.step,
                "finished": one.progress.finished,
                "best_step": one.progress.best_step,
                "best_loss": one.progress.best_loss,
            }
            for one in run.stages
        },
        "scores": {
            name: {"value": one.value, "interval": one.interval} for name, one in run.scores.items()
        },
        "outdated": run.outdated,
        "bytes": run.bytes,
        "changed": run.changed,
    }


def _clean(
    output: Output, folder: Path, found: list[RunSummary], *, remove_them: bool, json_output: bool
) -> None:
    """Say what is not needed any more, and remove it if that is wanted."""
    from chatgpt_cli.lock import run_lock
    from chatgpt_cli.runs import removable, remove, size_of

    listed: list[dict[str, Any]] = []
    for run in found:
        folders = removable(run.folder)
        if remove_them:
            # Asked again under the lock: training may have gone on since.
            with run_lock(run.folder, "runs --clean"):
                folders = removable(run.folder)
                listed += [{"path": str(one), "bytes": size_of(one)} for one in folders]
                remove(folders, output.line)
        else:
            listed += [{"path": str(one), "bytes": size_of(one)} for one in removable(run.folder)]
    total = sum(one["bytes"] for one in listed)
    if json_output:
        output.json({"removed": remove_them, "checkpoints": listed, "bytes": total})
    if not listed:
        output.success("There is nothing to remove: only newest and best checkpoints.")
    elif remove_them:
        output.success(f"{len(listed)} checkpoints removed, {_size(total)}")
    else:
        rows = [[one["path"], _size(one["bytes"])] for one in listed]
        output.table("Neither the newest nor the best of their stage", ["checkpoint", "size"], rows)
        named = [] if folder == _DEFAULT else [folder]
        line = quoted("runs", *named, "--clean", "--yes")
        output.next_step(f"To remove these {_size(total)}: chatgpt {line}")


def _size(count: int) -> str:
    return f"{count / 1e9:,.2f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"
