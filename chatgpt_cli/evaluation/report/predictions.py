"""Answers worth reading: the best, the worst, and where they differ from what was right."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from html import escape
from typing import Any

from chatgpt_cli.evaluation.report.page import folded
from chatgpt_cli.evaluation.words import Words

_UNITS = re.compile(r"[^\W_\u2e80-\U0003ffff]+|\s+|.", re.DOTALL)
_WORST, _MORE, _BEST = 3, 12, 3


def prediction_lists(content: dict[str, Any], predictions: dict[str, list[dict[str, Any]]]) -> str:
    """For each task its worst and best answers; of bad ones the surest first."""
    parts = []
    for task, rows in predictions.items():
        metrics = content["tasks"][task]["metrics"]
        if not rows or not metrics:
            continue
        name = next(iter(metrics))
        sign = 1 if metrics[name]["better"] == "higher" else -1
        ranked = sorted(
            rows, key=lambda row: (sign * float(row["scores"][name]), -row.get("confidence", 0.0))
        )
        perfect = float(ranked[-1]["scores"][name])
        worst = [row for row in ranked[:_MORE] if float(row["scores"][name]) != perfect]
        best = ranked[::-1][:_BEST]
        bad = sum(float(row["scores"][name]) != perfect for row in rows)
        title = Words(
            f"{task}: {bad:,} of {len(rows):,} below the best {name.replace('_', ' ')}",
            f"{task}：{len(rows):,} 条中 {bad:,} 条未达最佳 {name}",
        )
        shown = "".join(_answer(row, name) for row in worst[:_WORST])
        more = folded(Words("the best", "最好的"), "".join(_answer(row, name) for row in best))
        if worst[_WORST:]:
            rest = "".join(_answer(row, name) for row in worst[_WORST:])
            more = folded(Words("more of the worst", "更多最差的"), rest) + more
        parts.append(f'<div class="card"><h3>{title.html()}</h3>{shown}{more}</div>')
    return "".join(parts)


def _answer(row: dict[str, Any], metric: str) -> str:
    references = row["references"]
    said, wanted = marked(row["prediction"], references[0])
    others = "".join(f" <small>| {escape(one)}</small>" for one in references[1:])
    score = f"{metric.replace('_', ' ')} {float(row['scores'][metric]):.3g}"
    if "confidence" in row:
        score += f" · p {float(row['confidence']):.2f}"
    if row.get("seen"):
        score += " · seen in training"
    return (
        '<div class="answer"><dl>'
        f"<dt>{Words('asked', '问题').html()}</dt><dd>{escape(row['prompt'])}</dd>"
        f"<dt>{Words('answered', '回答').html()}</dt><dd>{said or '∅'}</dd>"
        f"<dt>{Words('expected', '应为').html()}</dt><dd>{wanted}{others}</dd>"
        f'<dt></dt><dd class="soft"><small>{escape(score)} · {escape(_place(row))}</small></dd>'
        "</dl></div>"
    )


def _place(row: dict[str, Any]) -> str:
    """The file's name and line, without its folders."""
    return str(row["place"]).replace("\\", "/").rsplit("/", 1)[-1]


def marked(said: str, wanted: str) -> tuple[str, str]:
    """Both texts as HTML: what is wrong in the first and what is missing from it marked.

    Compared are words, and single characters of scripts without spaces.
    """
    one, other = _UNITS.findall(said), _UNITS.findall(wanted)
    left, right = [], []
    matcher = SequenceMatcher(None, one, other, autojunk=False)
    for kind, i, j, k, m in matcher.get_opcodes():
        a, b = escape("".join(one[i:j])), escape("".join(other[k:m]))
        if kind == "equal":
            left.append(a)
            right.append(b)
            continue
        if a:
            left.append(f'<mark class="wrong">{a}</mark>')
        if b:
            right.append(f'<mark class="missing">{b}</mark>')
    return "".join(left), "".join(right)
