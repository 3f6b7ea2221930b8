"""Scores with their intervals, confusion matrices, calibration."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from itertools import pairwise
from typing import Any

from chatgpt_cli.evaluation.report.page import figure, folded, table
from chatgpt_cli.evaluation.svg import Axis
from chatgpt_cli.evaluation.words import Words, same

# What held-out text is: it chose the checkpoint, and is no test.
VALIDATION_TEXT = "held-out text (validation split)"
_UNIT = {1: 100.0, 3: 1.0}
SCORE_COLUMNS = [
    Words("task", "任务"),
    Words("metric", "指标"),
    Words("score and 95% interval", "得分与 95% 区间"),
    same(""),
    Words("rows", "行数"),
]


def score_table(content: dict[str, Any]) -> str:
    """All scores of a results.json, each with its interval drawn to scale."""
    rows = []
    held_out = [one] if (one := content.get("held_out")) is not None else []
    for entry in (*held_out, *content.get("texts", {}).values()):
        for name, ends in entry["intervals"].items():
            digits = 2 if name == "perplexity" else 3
            value, size = entry[name], f"{entry['documents']:,}"
            data = VALIDATION_TEXT if entry["data"] == "held-out text" else entry["data"]
            rows.append(_row(data, name, value, ends, digits, size, None))
    for task, entry in content["tasks"].items():
        for name, metric in entry["metrics"].items():
            whole = _whole(metric["better"], metric["digits"], metric["value"])
            size = f"{entry['rows']:,}"
            rows.append(
                _row(task, name, metric["value"], metric["interval"], metric["digits"], size, whole)
            )
    for above, row in reversed(list(pairwise([[""], *rows]))):
        row[0] = "" if row[0] == above[0] else row[0]
    return table(SCORE_COLUMNS, rows, {4}) if rows else ""


def _row(
    task: str,
    name: str,
    value: float,
    ends: list[float] | None,
    digits: int,
    size: str,
    whole: float | None,
) -> list[str]:
    drawn = interval = ""
    if ends is not None:
        low, high = ends
        drawn = "" if whole is None else _bar(value, low, high, whole)
        interval = f"{low:.{digits}f} … {high:.{digits}f}"
    return [
        escape(task),
        escape(name.replace("_", " ")),
        f'<b>{value:.{digits}f}</b> <span class="range">{interval}</span>',
        f'<span class="wide">{drawn}</span>',
        f'<span class="wide">{size}</span>',
    ]


def _whole(better: str, digits: int, value: float) -> float | None:
    """The top of a metric's scale: 1 for shares, 100 for points; none where it has none."""
    top = _UNIT.get(digits)
    if top is None or (better == "lower" and value > top):
        return None
    return top


def _bar(value: float, low: float, high: float, top: float) -> str:
    """The score as a dot and its interval as a line, on the metric's whole scale."""
    axis = Axis(0.0, top, 4, 136)
    start, end = axis.place(max(0.0, low)), axis.place(min(top, high))
    return (
        '<svg class="bar" width="140" height="16" viewBox="0 0 140 16" aria-hidden="true">'
        '<line class="grid" x1="4" x2="136" y1="8" y2="8"/>'
        f'<line class="line a" x1="{start:.1f}" x2="{max(end, start + 0.5):.1f}" y1="8" y2="8"/>'
        f'<circle class="dot a" cx="{axis.place(min(value, top)):.1f}" cy="8" r="3.5"/></svg>'
    )


def signatures(content: dict[str, Any]) -> str:
    """How the scores were computed, so that others can compare."""
    lines = dict.fromkeys(
        f"{name} ({task}): {metric['signature']}"
        for task, entry in content["tasks"].items()
        for name, metric in entry["metrics"].items()
        if metric["signature"]
    )
    if not lines:
        return ""
    text = "\n".join(lines)
    return folded(Words("Signatures", "签名"), f"<pre>{escape(text)}</pre>")


def class_figures(content: dict[str, Any]) -> str:
    """For each classification its confusion matrix, and its calibration if measured."""
    found = []
    for task, entry in content["tasks"].items():
        confusion = _first(entry["metrics"].values(), "confusion")
        if confusion is not None:
            caption = Words(f"{task}: confusion matrix", f"{task}：混淆矩阵")
            found.append(
                figure(caption, confusion_matrix(confusion["labels"], confusion["counts"]))
            )
        classes = _first(entry["metrics"].values(), "classes")
        if classes is not None:
            caption = Words(f"{task}: classes", f"{task}：各类别")
            found.append(figure(caption, _class_table(classes)))
        bins = _first(entry["metrics"].values(), "bins")
        if bins is not None:
            caption = Words(f"{task}: is its confidence justified?", f"{task}：置信度是否可信？")
            found.append(figure(caption, calibration_curve(bins)))
    return f'<div class="charts">{"".join(found)}</div>' if found else ""


def _first(metrics: Iterable[dict[str, Any]], key: str) -> Any:
    return next((metric[key] for metric in metrics if key in metric), None)


def confusion_matrix(labels: list[str], counts: list[list[int]]) -> str:
    """Rows are the truth, columns the answers; the last column is answers of no class."""
    columns = [*labels, "other"] if any(row[-1] for row in counts) else list(labels)
    left, top, cell = 96, 34, max(34, min(64, 250 // len(columns)))
    width, height = left + cell * len(columns) + 4, top + cell * len(labels) + 6
    parts = [
        f'<svg width="{width}" viewBox="0 0 {width} {height}" role="img" '
        'aria-label="confusion matrix">'
    ]
    for j, name in enumerate(columns):
        x = left + cell * (j + 0.5)
        parts.append(f'<text class="mid" x="{x}" y="{top - 8}">{escape(_short(name, cell))}</text>')
    for i, (name, row) in enumerate(zip(labels, counts, strict=True)):
        y = top + cell * i
        total = max(1, sum(row))
        parts.append(
            f'<text class="end" x="{left - 8}" y="{y + cell / 2 + 4}">'
            f"{escape(_short(name, 90))}</text>"
        )
        for j, count in enumerate(row[: len(columns)]):
            x = left + cell * j
            share = count / total
            style = "strong" if share > 0.5 else "plain"
            parts.append(
                f'<rect class="cell" x="{x + 1}" y="{y + 1}" width="{cell - 2}" '
                f'height="{cell - 2}" rx="4" fill-opacity="{0.04 + 0.96 * share:.2f}"/>'
                f'<text class="mid {style}" x="{x + cell / 2}" y="{y + cell / 2 + 4}">'
                f"{count}</text>"
            )
    return "".join(parts) + "</svg>"


def _short(text: str, pixels: float) -> str:
    """As many characters as fit."""
    used = 0.0
    for index, character in enumerate(text):
        used += 12 if ord(character) > 0x2E80 else 6.3
        if used > pixels:
            return text[: max(1, index - 1)] + "…"
    return text


def _class_table(classes: dict[str, dict[str, float]]) -> str:
    columns = [
        Words("class", "类别"),
        Words("precision", "精确率"),
        Words("recall", "召回率"),
        Words("F1", "F1"),
        Words("rows", "行数"),
    ]
    rows = [
        [
            escape(name),
            f"{one['precision']:.3f}",
            f"{one['recall']:.3f}",
            f"{one['f1']:.3f}",
            f"{one['support']:,.0f}",
        ]
        for name, one in classes.items()
    ]
    return table(columns, rows, {1, 2, 3, 4})


def calibration_curve(bins: list[dict[str, float]]) -> str:
    """Accuracy over confidence; on the diagonal the model is as sure as it is right."""
    x, y = Axis(0.0, 1.0, 44, 348), Axis(0.0, 1.0, 206, 12)
    most = max(one["rows"] for one in bins)
    parts = ['<svg class="chart" viewBox="0 0 360 250" role="img" aria-label="calibration">']
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(
            f'<line class="grid" x1="44" x2="348" y1="{y.place(tick):.1f}" '
            f'y2="{y.place(tick):.1f}"/>'
            f'<text class="ytick" x="36" y="{y.place(tick) + 4:.1f}">{tick:g}</text>'
            f'<text class="xtick" x="{x.place(tick):.1f}" y="224">{tick:g}</text>'
        )
    parts.append(f'<line class="mark" x1="44" y1="206" x2="348" y2="{y.end}"/>')
    for one in bins:
        radius = 3 + 7 * (one["rows"] / most) ** 0.5
        parts.append(
            f'<circle class="dot a" fill-opacity=".75" cx="{x.place(one["confidence"]):.1f}" '
            f'cy="{y.place(one["accuracy"]):.1f}" r="{radius:.1f}"><title>{one["rows"]:,.0f}: '
            f"{one['confidence']:.3f} → {one['accuracy']:.3f}</title></circle>"
        )
    for language, text in zip(
        ("en", "zh"), ("the model's probability", "模型给出的概率"), strict=True
    ):
        parts.append(f'<text class="label {language}" x="196" y="244">{text}</text>')
    for language, text in zip(("en", "zh"), ("share right", "正确比例"), strict=True):
        parts.append(f'<text class="{language}" x="50" y="22">{text}</text>')
    return "".join(parts) + "</svg>"
