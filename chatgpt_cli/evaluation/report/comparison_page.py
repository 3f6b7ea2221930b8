"""The report of a comparison: differences with intervals, curves of all runs, settings."""

from __future__ import annotations

from html import escape
from pathlib import Path

from chatgpt_cli.config.paths import STAGES, RunPaths
from chatgpt_cli.evaluation.comparison import (
    Against,
    ComparedMetric,
    Comparison,
    GroupAgainst,
    Verdict,
)
from chatgpt_cli.evaluation.report.curves import COLOURS, chart
from chatgpt_cli.evaluation.report.page import page, section, table
from chatgpt_cli.evaluation.report.predictions import marked
from chatgpt_cli.evaluation.seeds import Spread
from chatgpt_cli.evaluation.svg import Axis, Line
from chatgpt_cli.evaluation.verdict import series, smooth
from chatgpt_cli.evaluation.words import STAGE_NAMES, Words, message, same
from chatgpt_cli.files import write_text
from chatgpt_cli.training.metrics_log import read_metrics

_VERDICTS = {
    "better": Words("better", "更好"),
    "worse": Words("worse", "更差"),
    "no clear difference": Words("no clear difference", "无明显差异"),
    "not tested": Words("not tested", "未检验"),
}
_CORRECTED = Words(
    "p is corrected for the number of scores (Holm), and a verdict needs p below 0.05; an interval "
    "is of its score alone, so it may leave out 0 where there is no verdict. Perplexity and bits "
    "per byte are one measurement and count once.",
    "p 按得分数量校正（Holm），小于 0.05 才下结论；区间只针对单个得分，所以没有结论时也可能不含 0。"
    "困惑度与每字节比特数是同一次测量，只计一次。",
)
_QUESTIONS = Words(
    "Same questions, answers paired. Intervals: paired bootstrap, 95%. p: approximate "
    "randomisation with 10,000 trials.",
    "问题相同，回答逐一配对。区间：配对自助法，95%。p：1 万次近似随机化检验。",
)
_ONE_SEED = Words(
    "This says whether other questions would give the same order. Another seed alone may move the "
    "scores as much: docs/research.md, “Is the difference real?”.",
    "这只说明换一批题是否还是这个顺序。仅换随机种子，得分的变动可能同样大：docs/zh/research.md“差异真实吗？”。",
)
_SEEDS = Words(
    "Runs that differ in the seed alone are one group, and a seed is the unit: Welch's t-test of "
    "the groups' means, with its 95% interval. It speaks of other seeds, on these very questions. "
    "Not tested: a test needs two seeds in each group, better three to five, and scores that are "
    "not all the same.",
    "只有种子不同的运行是一组，以种子为单位：对各组均值做 Welch t 检验，附 95% 区间。"
    "它说的是换种子，题目还是这些。“未检验”：每组至少要两个种子，最好三到五个，而且得分不能全都相同。",
)
_CHANCE = Words(
    "These runs differ in nothing but the seed: the differences between them are chance, and none "
    "is better. So much the seed alone moves these scores.",
    "这些运行只有随机种子不同：它们之间的差异是偶然，没有哪个更好。仅换种子，这些得分就会变动这么多。",
)
_COLUMNS = (
    Words("task and metric", "任务与指标"),
    Words("difference and 95% interval", "差异与 95% 区间"),
    same(""),
    Words("verdict", "结论"),
)
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
    names = [group.name for group in found.groups] or found.runs
    lines = []
    for index, name in enumerate(names[1:]):
        verdicts = [
            (one.groups_against if found.groups else one.against)[index].verdict
            for one in found.metrics
        ]
        better, worse = verdicts.count("better"), verdicts.count("worse")
        untested = verdicts.count("not tested")
        none = len(verdicts) - better - worse - untested
        not_tested = Words(f", not tested in {untested}", f"，{untested} 项未检验")
        more = not_tested if untested else same("")
        lines.append(
            Words(
                f"{name} against {names[0]}: better in {better} of {len(verdicts)} scores, "
                f"worse in {worse}, no clear difference in {none}{more.en}.",
                f"{name} 与 {names[0]} 相比：{len(verdicts)} 项得分中 {better} 项更好，"
                f"{worse} 项更差，{none} 项无明显差异{more.zh}。",
            )
        )
    if found.seeds_alone:
        lines, about = [_CHANCE], []
    elif found.groups:
        about = [_SEEDS, _CORRECTED]
    else:
        about = [_QUESTIONS, _CORRECTED, _ONE_SEED]
    shown = "".join(f"<p><b>{line.html()}</b></p>" for line in lines)
    about += [message(note) for note in found.notes]
    soft = "".join(f'<p class="soft">{one.html()}</p>' for one in about)
    return f'<div class="card next">{shown}{soft}</div>'


def _differences(found: Comparison) -> str:
    if found.groups:
        return _groups(found)
    parts = []
    for index, run in enumerate(found.runs[1:]):
        columns = [*_COLUMNS, same(found.runs[0]), same(run), same("p")]
        rows = [_row(one, one.against[index], index + 1) for one in found.metrics]
        parts.append(f'<div class="card">{table(columns, rows, {4, 5, 6})}</div>')
    return "".join(parts)


def _groups(found: Comparison) -> str:
    """The spread of each group; and the differences of their means, if there are several."""
    names = [group.name for group in found.groups]
    columns = [Words("task and metric", "任务与指标"), *map(same, names)]
    rows = [
        [_name(one), *(_spread(each, one.digits) for each in one.spreads)] for one in found.metrics
    ]
    parts = [f'<div class="card">{table(columns, rows, set())}</div>']
    for index, name in enumerate(names[1:]):
        columns = [*_COLUMNS, same("p")]
        rows = [_group_row(one, one.groups_against[index]) for one in found.metrics]
        title = f"<h3>{escape(name)} − {escape(names[0])}</h3>"
        parts.append(f'<div class="card">{title}{table(columns, rows, {4})}</div>')
    return "".join(parts)


def _spread(one: Spread, digits: int) -> str:
    seeds = Words(f"{one.seeds} seeds", f"{one.seeds} 个种子")
    if one.seeds == 1:
        seeds = Words("1 seed", "1 个种子")
    found = f"{one.lowest:.{digits}f} … {one.highest:.{digits}f}"
    return f'<b>{one.mean:.{digits}f}</b> <span class="range">{found}, {seeds.html()}</span>'


def _group_row(one: ComparedMetric, against: GroupAgainst) -> list[str]:
    gap, digits = against.difference, one.digits
    if gap.low is None or gap.high is None:
        interval = bar = ""
    else:
        interval = f"{gap.low:+.{digits}f} … {gap.high:+.{digits}f}"
        bar = _bar(gap.low, gap.value, gap.high, one.better)
    return [
        _name(one),
        f'<b>{gap.value:+.{digits}f}</b> <span class="range">{interval}</span>',
        f'<span class="wide">{bar}</span>',
        _judged(against.verdict),
        "" if against.adjusted is None else f"{against.adjusted:.4f}",
    ]


def _name(one: ComparedMetric) -> str:
    return f'<span class="first">{escape(one.task)}</span> {escape(one.metric.replace("_", " "))}'


def _judged(verdict: Verdict) -> str:
    style = {"better": "better", "worse": "worse"}.get(verdict, "soft")
    return f'<span class="{style}">{_VERDICTS[verdict].html()}</span>'


def _row(one: ComparedMetric, against: Against, index: int) -> list[str]:
    digits, gap = one.digits, against.difference
    interval = f"{gap.low:+.{digits}f} … {gap.high:+.{digits}f}"
    return [
        _name(one),
        f'<b>{gap.value:+.{digits}f}</b> <span class="range">{interval}</span>',
        f'<span class="wide">{_bar(gap.low, gap.value, gap.high, one.better)}</span>',
        _judged(against.verdict),
        f"{one.values[0]:.{digits}f}",
        f"{one.values[index]:.{digits}f}",
        f"{against.adjusted:.4f}",
    ]


def _bar(low: float, value: float, high: float, better: str) -> str:
    """The interval of the difference around zero; to the right is better."""
    values = [low, value, high] if better == "higher" else [-high, -value, -low]
    reach = max(map(abs, values)) or 1.0
    axis = Axis(-reach, reach, 6, 134)
    left, middle, right = map(axis.place, values)
    return (
        '<svg class="bar" width="140" height="16" viewBox="0 0 140 16" aria-hidden="true">'
        '<line class="mark" x1="70" x2="70" y1="0" y2="16"/>'
        f'<line class="line a" x1="{left:.1f}" x2="{max(right, left + 0.5):.1f}" y1="8" y2="8"/>'
        f'<circle class="dot a" cx="{middle:.1f}" cy="8" r="3.5"/></svg>'
    )


def _settings(found: Comparison) -> str:
    if found.settings is None:
        return ""
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
        for run, folder, colour in zip(found.runs, found.folders, _colours(found), strict=True):
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


def _colours(found: Comparison) -> list[str]:
    """One for each run; runs of a group have the same."""
    owners = {run: place for place, group in enumerate(found.groups) for run in group.runs}
    return [COLOURS[owners.get(run, run) % len(COLOURS)] for run in range(len(found.runs))]


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
