"""report.html of a training stage: curves and a verdict in one self-contained page."""

from __future__ import annotations

from html import escape

from chatgpt_cli.config.paths import StagePaths
from chatgpt_cli.evaluation.svg import Line, Mark, line_chart
from chatgpt_cli.evaluation.verdict import Point, Record, series, smooth, verdict
from chatgpt_cli.files import write_text
from chatgpt_cli.training.metrics_log import read_metrics

_STYLE = """
:root { color-scheme: light dark; --ink: #1c1e21; --paper: #fff; --soft: #6b7280; --line: #e2e5e9;
  --a: #2563eb; --b: #d97706; --c: #059669; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --paper: #16181c; --soft: #9aa3af;
  --line: #31353b; --a: #7aa7ff; --b: #fbbf5a; --c: #5ed6a4; } }
body { font: 16px/1.5 system-ui, "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", sans-serif;
  color: var(--ink); background: var(--paper); margin: 0 auto; max-width: 1120px; padding: 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.verdict { border-left: 4px solid var(--a); padding: .2rem 1rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 480px), 1fr));
  gap: 1rem; }
figure { margin: 0; } figcaption { color: var(--soft); }
svg.chart { width: 100%; height: auto; } svg text { fill: var(--soft); font-size: 12px; }
svg .grid { stroke: var(--line); } svg .axis, svg .tick { stroke: var(--soft); }
svg .mark { stroke: var(--soft); stroke-dasharray: 3 3; }
svg .line { fill: none; stroke-width: 2; }
svg .train { stroke: var(--a); } svg .raw { stroke: var(--a); opacity: .25; stroke-width: 1; }
svg .validation { stroke: var(--b); } svg .third { stroke: var(--c); }
svg .dot.validation { fill: var(--b); } svg .dot.third { fill: var(--c); }
svg .label, svg .xtick, svg .empty { text-anchor: middle; } svg .ytick { text-anchor: end; }
table { border-collapse: collapse; } td, th { text-align: left; padding: .2rem 1rem .2rem 0;
  vertical-align: top; border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
"""


def write_training_report(stage: StagePaths, *, title: str, facts: dict[str, str]) -> None:
    """Read metrics.jsonl and write report.html beside it.

    Args:
        stage: where the files lie.
        title: the page's heading, such as the run's folder.
        facts: rows of the table about the run.
    """
    records = read_metrics(stage.metrics)
    judged = verdict(records)
    name = f"{stage.root.name} · {title}"
    body = [
        f"<h1>{escape(name)}</h1>",
        f'<div class="verdict"><p>{escape(judged.text)}</p>'
        f'<p lang="zh">{escape(judged.chinese)}</p></div>',
        "<h2>Curves · 曲线</h2>",
        f'<div class="charts">{"".join(_charts(records))}</div>',
        "<h2>The run · 设置</h2>",
        _table([*facts.items(), *_counted(records)]),
        *_samples(records),
    ]
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(name)}</title><style>{_STYLE}</style></head>"
        f"<body>{''.join(body)}</body></html>\n"
    )
    write_text(stage.report, page)


def _charts(records: list[Record]) -> list[str]:
    train, held_out = series(records, "train", "loss"), series(records, "validation", "loss")
    smoothed = smooth(train)
    best = min(held_out, key=lambda point: point[1], default=None)
    marks = [Mark(best[0], "best")] if best else []
    return [
        _chart(
            "Loss in nats per token · 损失",
            [
                Line("train, each", train, "raw", scales=False),
                Line("train", smoothed, "train"),
                Line("validation", held_out, "validation", dots=True),
            ],
            marks,
        ),
        _chart(
            "Generalisation gap: validation minus train · 泛化差距",
            [Line("gap", _gap(smoothed, held_out), "third", dots=True)],
        ),
        _chart(
            "Bits per byte of validation text · 每字节比特数",
            [
                Line(
                    "validation",
                    series(records, "validation", "bits_per_byte"),
                    "validation",
                    dots=True,
                )
            ],
        ),
        _chart(
            "Learning rate · 学习率",
            [Line("learning rate", series(records, "train", "learning_rate"), "train")],
        ),
        _chart(
            "Tokens per second · 每秒词元数",
            [Line("tokens/s", series(records, "train", "tokens_per_second"), "third")],
        ),
    ]


def _chart(title: str, lines: list[Line], marks: list[Mark] | None = None) -> str:
    picture = line_chart(title, lines, x_label="step · 步", marks=marks or [])
    return f"<figure><figcaption>{escape(title)}</figcaption>{picture}</figure>"


def _gap(train: list[Point], held_out: list[Point]) -> list[Point]:
    """Validation loss minus the smoothed training loss at the nearest step."""
    if not train:
        return []
    return [
        (step, loss - min(train, key=lambda point: abs(point[0] - step))[1])
        for step, loss in held_out
    ]


def _counted(records: list[Record]) -> list[tuple[str, str]]:
    """Where training ended, from the last records of each kind."""
    last = {record["type"]: record for record in records}
    rows = []
    if "train" in last:
        rows += [
            ("steps", f"{last['train']['step']:,}"),
            ("tokens", f"{last['train'].get('tokens', 0):,}"),
            ("seconds", f"{last['train'].get('elapsed', 0):,.0f}"),
        ]
    if "validation" in last:
        rows.append(("last validation loss", f"{last['validation']['loss']:.4f}"))
    if "end" in last:
        rows.append(("ended by", str(last["end"].get("reason"))))
    return rows


def _samples(records: list[Record]) -> list[str]:
    """The samples of the first and of the last evaluation."""
    samples = [record for record in records if record["type"] == "sample"]
    if not samples:
        return []
    steps = sorted({record["step"] for record in samples})
    shown = [record for record in samples if record["step"] in (steps[0], steps[-1])]
    rows = [(f"step {r['step']:,}: {r['prompt']}", str(r["text"])) for r in shown]
    return ["<h2>Samples · 样例</h2>", _table(rows)]


def _table(rows: list[tuple[str, str]]) -> str:
    cells = "".join(f"<tr><th>{escape(a)}</th><td>{escape(b)}</td></tr>" for a, b in rows)
    return f"<table>{cells}</table>"
