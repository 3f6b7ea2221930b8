"""`chatgpt compare`: did the change help?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chatgpt_cli.cli.output import Output
from chatgpt_cli.cli.project import JsonOption

if TYPE_CHECKING:
    from chatgpt_cli.evaluation.comparison import Comparison

# So many settings that differ are named here; the page has all.
_NAMED = 6
_LONGEST = 40


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN_A RUN_B ...",
            help="Run directories with an evaluation; the first is what others are compared with. "
            "Those that differ in the seed alone are compared as a group.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Where the report goes.")
    ] = Path("comparison.html"),
    json_output: JsonOption = False,
) -> None:
    """Compare evaluated runs on the same questions, with significance."""
    from dataclasses import replace

    from chatgpt_cli.evaluation.comparison import compare as measure
    from chatgpt_cli.evaluation.report.comparison_page import write_comparison_page
    from chatgpt_cli.runs import outdated

    show = Output(json_output=json_output)
    found = measure(runs)
    old = [f"{run}: {said}" for run in found.folders if (said := outdated(run))]
    found = replace(found, notes=[*found.notes, *old])
    if json_output:
        show.json(found.summary())
    if found.groups:
        _show_groups(show, found)
    else:
        _show_runs(show, found)
    _show_settings(show, found)
    for note in found.notes:
        show.warn(note)
    write_comparison_page(output, found)
    show.success(f"Report: {output}")


def _show_runs(show: Output, found: Comparison) -> None:
    """Each run against the first, by questions."""
    from chatgpt_cli.cli.evaluate import data_name

    rows = []
    for one in found.metrics:
        for index, against in enumerate(one.against, start=1):
            gap = against.difference
            rows.append(
                [
                    data_name(show, one.task),
                    one.metric,
                    f"{one.values[0]:.{one.digits}f}",
                    f"{one.values[index]:.{one.digits}f}",
                    f"{gap.value:+.{one.digits}f}",
                    f"{gap.low:+.{one.digits}f} … {gap.high:+.{one.digits}f}",
                    f"{against.adjusted:.4f}",
                    against.verdict,
                ]
            )
            if len(found.runs) > 2:
                rows[-1].insert(0, found.runs[index])
    columns = ["task", "metric", found.runs[0], "other", "difference", "95%", "p", "verdict"]
    if len(found.runs) > 2:
        columns.insert(0, "run")
    else:
        columns[3] = found.runs[1]
    show.table(f"Against {found.runs[0]}", columns, rows, worded=["verdict"], names=found.runs)
    _show_correction(show)
    show.line(
        "This says whether other questions would give the same order. Another seed alone may move "
        'the scores as much: docs/research.md, "Is the difference real?".'
    )


def _show_groups(show: Output, found: Comparison) -> None:
    """The spread of each group, and against the first one, by seeds."""
    from chatgpt_cli.cli.evaluate import data_name

    rows = []
    for one in found.metrics:
        digits = one.digits
        for index, (group, spread) in enumerate(zip(found.groups, one.spreads, strict=True)):
            gap = one.groups_against[index - 1].difference if index else None
            p = one.groups_against[index - 1].adjusted if index else None
            interval = ""
            if gap is not None and gap.low is not None and gap.high is not None:
                interval = f"{gap.low:+.{digits}f} … {gap.high:+.{digits}f}"
            rows.append(
                [
                    data_name(show, one.task),
                    one.metric,
                    group.name,
                    f"{spread.mean:.{digits}f}",
                    f"{spread.lowest:.{digits}f} … {spread.highest:.{digits}f}",
                    str(spread.seeds),
                    "" if gap is None else f"{gap.value:+.{digits}f}",
                    interval,
                    "" if p is None else f"{p:.4f}",
                    one.groups_against[index - 1].verdict if index else "",
                ]
            )
    columns = ["task", "metric", "runs", "mean", "range", "seeds"]
    tested = [*columns, "difference", "95%", "p", "verdict"]
    if found.seeds_alone:
        show.table("The seed alone", columns, [row[: len(columns)] for row in rows])
        show.warn(
            "These runs differ in nothing but the seed: the differences between them are chance, "
            "and none is better. So much the seed alone moves these scores."
        )
        return
    show.table(f"Against {found.groups[0].name}", tested, rows, worded=["verdict"])
    _show_correction(show)
    show.line(
        "Runs that differ in the seed alone are one group, and a seed is the unit: Welch's t-test "
        "of the groups' means. It speaks of other seeds, on these very questions."
    )
    if any(against.adjusted is None for one in found.metrics for against in one.groups_against):
        show.warn(
            "Not tested: a test needs two seeds in each group, better three to five, and scores "
            "that are not all the same."
        )


def _show_correction(show: Output) -> None:
    show.line(
        "p is corrected for the number of comparisons (Holm), and a verdict needs less than 5%; an "
        "interval is of its score alone, so it may leave out 0 where there is no verdict. "
        "Perplexity and bits per byte are one measurement and count once."
    )


def _show_settings(show: Output, found: Comparison) -> None:
    """What was changed, in a line."""
    if not found.settings:
        return
    between = " → " if len(found.groups or found.runs) == 2 else ", "
    changed = [
        f"{key} {between.join(map(_short, values))}" for key, values in found.changed().items()
    ]
    if found.groups and "seed" in found.settings:
        seeds = [str(found.settings["seed"][index]) for one in found.groups for index in one.runs]
        changed.append(f"seed {', '.join(dict.fromkeys(seeds))}")
    more = f" and {len(changed) - _NAMED} more in the report" if len(changed) > _NAMED else ""
    show.line(f"Settings that differ: {' · '.join(changed[:_NAMED])}{more}")


def _short(value: object) -> str:
    text = "–" if value is None else str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
