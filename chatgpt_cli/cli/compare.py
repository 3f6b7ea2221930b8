"""`chatgpt compare`: did the change help?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chatgpt_cli.cli.output import Output
from chatgpt_cli.cli.project import JsonOption


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN_A RUN_B ...",
            help="Run directories with an evaluation; the first is what others are compared with.",
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

    from chatgpt_cli.cli.evaluate import data_name
    from chatgpt_cli.evaluation.comparison import compare as measure
    from chatgpt_cli.evaluation.report.comparison_page import write_comparison_page
    from chatgpt_cli.runs import outdated

    show = Output(json_output=json_output)
    found = measure(runs)
    old = [f"{run}: {said}" for run in found.folders if (said := outdated(run))]
    found = replace(found, notes=[*found.notes, *old])
    if json_output:
        show.json(found.summary())
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
    show.line("p is corrected for the number of comparisons (Holm); a verdict needs less than 5%.")
    for note in found.notes:
        show.warn(note)
    write_comparison_page(output, found)
    show.success(f"Report: {output}")
