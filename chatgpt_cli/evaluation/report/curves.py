"""The curves of a training stage, and what they say."""

from __future__ import annotations

from collections.abc import Sequence

from chatgpt_cli.evaluation.report.page import figure, pairs
from chatgpt_cli.evaluation.svg import Line, Mark, Point, line_chart
from chatgpt_cli.evaluation.verdict import Record, Verdict, series, smooth
from chatgpt_cli.evaluation.words import Words, message

STEP = Words("step", "步")
_TRAIN, _HELD_OUT = Words("training", "训练"), Words("validation", "验证")
# The colours of several runs in one chart.
COLOURS = ("a", "b", "c", "d", "e")


def verdict_card(judged: Verdict) -> str:
    """The verdict in a frame."""
    return f'<div class="card next"><p>{Words(judged.text, judged.chinese).html()}</p></div>'


def stage_charts(records: Sequence[Record]) -> str:
    """Loss with both curves, generalisation gap, bits per byte, learning rate, speed."""
    train, held_out = series(records, "train", "loss"), series(records, "validation", "loss")
    smoothed = smooth(train)
    best = min(held_out, key=lambda point: point[1], default=None)
    marks = [Mark(best[0], Words("best", "最佳"))] if best else []
    loss = [
        Line(Words("each step", "每步"), train, "a raw", scales=False),
        Line(_TRAIN, smoothed, "a"),
        Line(_HELD_OUT, held_out, "b", dots=True),
    ]
    gap = Words("validation minus training", "验证减训练")
    bits = series(records, "validation", "bits_per_byte")
    accuracy = series(records, "validation", "accuracy")
    rate = series(records, "train", "learning_rate")
    speed = series(records, "train", "tokens_per_second")
    charts = [
        chart(Words("Loss, nats per token", "损失（每词元奈特）"), loss, marks),
        chart(
            Words("Generalisation gap", "泛化差距"),
            [Line(gap, gap_between(smoothed, held_out), "c", dots=True)],
        ),
        chart(
            Words("Bits per byte of validation text", "验证文本每字节比特数"),
            [Line(_HELD_OUT, bits, "b", dots=True)],
        ),
        chart(
            Words("Share of validation tokens guessed right", "验证词元预测正确率"),
            [Line(_HELD_OUT, accuracy, "b", dots=True)],
        ),
        chart(
            Words("Learning rate", "学习率"), [Line(Words("learning rate", "学习率"), rate, "a")]
        ),
        chart(
            Words("Tokens per second", "每秒词元数"),
            [Line(Words("tokens/s", "词元/秒"), speed, "c")],
        ),
    ]
    return f'<div class="charts">{"".join(charts)}</div>'


def chart(title: Words, lines: list[Line], marks: Sequence[Mark] = ()) -> str:
    """A chart over steps with its caption."""
    return figure(title, line_chart(title, lines, x_label=STEP, marks=marks))


def gap_between(train: list[Point], held_out: list[Point]) -> list[Point]:
    """Validation loss minus the smoothed training loss at the nearest step."""
    if not train:
        return []
    return [
        (step, loss - min(train, key=lambda point: abs(point[0] - step))[1])
        for step, loss in held_out
    ]


def counted(records: Sequence[Record]) -> list[tuple[Words, Words | str]]:
    """Where training ended, from the last records of each kind."""
    last = {record["type"]: record for record in records}
    rows: list[tuple[Words, Words | str]] = []
    if "train" in last:
        rows += [
            (Words("steps", "步数"), f"{last['train']['step']:,}"),
            (Words("tokens", "词元"), f"{last['train'].get('tokens', 0):,}"),
            (Words("seconds", "秒"), f"{last['train'].get('elapsed', 0):,.0f}"),
        ]
    if "validation" in last:
        best = min(series(records, "validation", "loss"), key=lambda point: point[1])
        rows.append((Words("best validation loss", "最佳验证损失"), f"{best[1]:.4f}"))
    if "end" in last:
        rows.append((Words("ended by", "结束原因"), message(str(last["end"].get("reason")))))
    return rows


def samples(records: Sequence[Record]) -> str:
    """What the model wrote at the first and at the last evaluation."""
    found = [record for record in records if record["type"] == "sample"]
    if not found:
        return ""
    steps = sorted({record["step"] for record in found})
    shown = [record for record in found if record["step"] in (steps[0], steps[-1])]
    return pairs(
        (
            Words(f"step {r['step']:,}: {r['prompt']}", f"第 {r['step']:,} 步：{r['prompt']}"),
            str(r["text"]),
        )
        for r in shown
    )
