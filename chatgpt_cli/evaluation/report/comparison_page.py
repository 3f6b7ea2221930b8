"""The report of a comparison: differences with intervals, curves of all runs, settings."""

from __future__ import annotations

from html import escape
from pathlib import Path

from chatgpt_cli.config.paths import STAGES, RunPaths
from chatgpt_cli.evaluation.comparison import Against, ComparedMetric, Comparison
from chatgpt_cli.evaluation.report.curves import COLOURS, chart
from chatgpt_cli.evaluation.report.page import page, section, table
from chatgpt_cli.evaluation.report.predictions import marked
from chatgpt_cli.evaluation.svg import Axis, Line
from chatgpt_cli.evaluation.verdict import series, smooth
from chatgpt_cli.evaluation.words import STAGE_NAMES, Words, message, same
from chatgpt_cli.files import write_text
from chatgpt_cli.training.metrics_log import read_metrics

_VERDICTS = {
    "better": Words("better", "更好"),
    "worse": Words("worse", "更差"),
    "no clear difference": Words("no clear difference", "无明显差异"),
}
_SHOWN = 4


def write_comparison_page(path: Path, found: Comparison) -> None:
    """Write the page of a comparison."""
    sections = [
        section(Words("Did it help?", "有帮助吗？"), _verdict(found), _differences(found)),
        section(Words("What was changed", "改动了什么"), _settings(found)),
        section(Words("Training", "训练"), _curves(found)),
        section(Words("Answers that differ", "不同的回答"), _answers(found)),
    ]
    write_text(path, page(" · ".join(found.runs), sections))


def _verdict(found: Comparison) -> str:
    lines = []
    for index, run in enumerate(found.runs[1:]):
        verdicts = [one.against[index].verdict for one in found.metrics]
        better, worse = verdicts.count("better"), verdicts.count("worse")
        none = len(verdicts) - better - worse
        lines.append(
            Words(
                f"{run} against {found.runs[0]}: better in {better} of {len(verdicts)} scores, "
                f"worse in {worse}, no clear difference in {none}.",
                f"{run} 与 {found.runs[0]} 相比：{len(verdicts)} 项得分中 {better} 项更好，"
                f"{worse} 项更差，{none} 项无明显差异。",
            )
        )
    about = Words(
        "Same questions, answers paired. Intervals: paired bootstrap, 95%. p: approximate "
        "randomisation with 10,000 trials, corrected for the number of scores (Holm); a verdict "
        "needs p below 0.05.",
        "问题相同，回答逐一配对。区间：配对自助法，95%。p：1 万次近似随机化检验，并按得分数量校正"
        "（Holm）；p 小于 0.05 才下结论。",
    )
    shown = "".join(f"<p><b>{line.html()}</b></p>" for line in lines)
    notes = "".join(f'<p class="soft">{message(note).html()}</p>' for note in found.notes)
    return f'<div class="card next">{shown}<p class="soft">{about.html()}</p>{notes}</div>'


def _differences(found: Comparison) -> str:
    parts = []
    for index, run in enumerate(found.runs[1:]):
        columns = [
            Words("task and metric", "任务与指标"),
            Words("difference and 95% interval", "差异与 95% 区间"),
            same(""),
            Words("verdict", "结论"),
            same(found.runs[0]),
            same(run),
            same("p"),
        ]
        rows = [_row(one, one.against[index], index + 1) for one in found.metrics]
        parts.append(f'<div class="card">{table(columns, rows, {4, 5, 6})}</div>')
    return "".join(parts)


def _row(one: ComparedMetric, against: Against, index: int) -> list[str]:
    digits, gap = one.digits, against.difference
    style = {"better": "better", "worse": "worse"}.get(against.verdict, "soft")
    interval = f"{gap.low:+.{digits}f} … {gap.high:+.{digits}f}"
    return [
        f'<span class="first">{escape(one.task)}</span> {escape(one.metric.replace("_", " "))}',
        f'<b>{gap.value:+.{digits}f}</b> <span class="range">{interval}</span>',
        f'<span class="wide">{_bar(against, one.better)}</span>',
        f'<span class="{style}">{_VERDICTS[against.verdict].html()}</span>',
        f"{one.values[0]:.{digits}f}",
        f"{one.values[index]:.{digits}f}",
        f"{against.adjusted:.4f}",
    ]


def _bar(against: Against, better: str) -> str:
    """The interval of the difference around zero; to the right is better."""
    gap = against.difference
    values = [gap.low, gap.value, gap.high]
    if better == "lower":
        values = [-gap.high, -gap.value, -gap.low]
    reach = max(map(abs, values)) or 1.0
    axis = Axis(-reach, reach, 6, 134)
    low, middle, high = map(axis.place, values)
    return (
        '<svg class="bar" width="140" height="16" viewBox="0 0 140 16" aria-hidden="true">'
        '<line class="mark" x1="70" x2="70" y1="0" y2="16"/>'
        f'<line class="line a" x1="{low:.1f}" x2="{max(high, low + 0.5):.1f}" y1="8" y2="8"/>'
        f'<circle class="dot a" cx="{middle:.1f}" cy="8" r="3.5"/></svg>'
    )


def _settings(found: Comparison) -> str:
    if not found.settings:
        text = Words("No setting differs.", "没有不同的设置。")
        return f'<p class="soft">{text.html()}</p>'
    columns = [Words("setting", "设置"), *(same(run) for run in found.runs)]
    rows = [
        [escape(key), *(escape("–" if value is None else str(value)) for value in values)]
        for key, values in found.settings.items()
    ]
    return f'<div class="card">{table(columns, rows, set())}</div>'


def _curves(found: Comparison) -> str:
    charts = []
    for stage in STAGES:
        title = STAGE_NAMES[stage]
        losses, training = [], []
        for run, folder, colour in zip(found.runs, found.folders, COLOURS, strict=False):
            paths = RunPaths(folder)
            records = read_metrics(paths.stage(stage).metrics)
            held_out = series(records, "validation", "loss")
            losses.append(Line(same(run), held_out, colour, dots=True))
            training.append(Line(same(run), smooth(series(records, "train", "loss")), colour))
        if any(line.points for line in losses):
            name = Words(f"{title.en}: validation loss", f"{title.zh}：验证损失")
            charts.append(chart(name, losses))
        if any(line.points for line in training):
            name = Words(f"{title.en}: training loss", f"{title.zh}：训练损失")
            charts.append(chart(name, training))
    return f'<div class="charts">{"".join(charts)}</div>' if charts else ""


def _answers(found: Comparison) -> str:
    """Where the last run changed most against the first: gains and losses."""
    parts = []
    first, last = found.evaluations[0], found.evaluations[-1]
    for task in dict.fromkeys(one.task for one in found.metrics):
        if task not in first.predictions or task not in last.predictions:
            continue
        name = next(one.metric for one in found.metrics if one.task == task)
        sign = 1 if next(o.better for o in found.metrics if o.task == task) == "higher" else -1
        others = {(row["prompt"], tuple(row["references"])): row for row in last.predictions[task]}
        changed = []
        for row in first.predictions[task]:
            other = others.get((row["prompt"], tuple(row["references"])))
            if other is not None and other["prediction"] != row["prediction"]:
                gain = sign * (float(other["scores"][name]) - float(row["scores"][name]))
                changed.append((gain, row, other))
        changed.sort(key=lambda one: one[0])
        lost = [one for one in changed[:_SHOWN] if one[0] < 0]
        won = [one for one in changed[::-1][:_SHOWN] if one[0] > 0]
        if not changed:
            continue
        title = Words(
            f"{task}: {len(changed):,} of {len(first.predictions[task]):,} answers differ",
            f"{task}：{len(first.predictions[task]):,} 个回答中有 {len(changed):,} 个不同",
        )
        body = "".join(_pair(found, row, other) for _, row, other in [*won, *lost])
        parts.append(f'<div class="card"><h3>{title.html()}</h3>{body}</div>')
    return "".join(parts)


def _pair(found: Comparison, row: dict[str, object], other: dict[str, object]) -> str:
    wanted = str(row["references"][0])  # type: ignore[index]
    one, _ = marked(str(row["prediction"]), wanted)
    two, _ = marked(str(other["prediction"]), wanted)
    return (
        '<div class="answer"><dl>'
        f"<dt>{Words('asked', '问题').html()}</dt><dd>{escape(str(row['prompt']))}</dd>"
        f"<dt>{Words('expected', '应为').html()}</dt><dd>{escape(wanted)}</dd>"
        f"<dt>{escape(found.runs[0])}</dt><dd>{one or '∅'}</dd>"
        f"<dt>{escape(found.runs[-1])}</dt><dd>{two or '∅'}</dd></dl></div>"
    )
