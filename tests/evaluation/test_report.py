"""Verdicts on curves of known shape, and a page that holds whatever the log holds."""

import json
import math
from pathlib import Path

import pytest

from chatgpt_cli.config.paths import StagePaths
from chatgpt_cli.evaluation.training_report import write_training_report
from chatgpt_cli.evaluation.verdict import verdict


def _records(train: list[float], held_out: list[float]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = [{"type": "start", "step": 0, "settings": {}}]
    for number, loss in enumerate(train, start=1):
        rows.append({"type": "train", "step": 10 * number, "loss": loss, "learning_rate": 0.01,
                     "tokens_per_second": 1e4, "tokens": number, "elapsed": number})  # fmt: skip
    for number, loss in enumerate(held_out, start=1):
        step = 10 * number * len(train) // max(len(held_out), 1)
        rows.append({"type": "validation", "step": step, "loss": loss, "bits_per_byte": loss})
    return rows


FALLING = [4 / math.sqrt(n) for n in range(1, 101)]
CASES = [
    ("improving", FALLING, [4 / math.sqrt(5 * n) for n in range(1, 21)]),
    ("converged", [2.0] * 100, [5.0, 3.0, *[2.1] * 18]),
    ("overfitting", FALLING, [3 - 0.1 * min(n, 8) + 0.05 * max(0, n - 8) for n in range(20)]),
    ("short", [4.0, 3.9], [4.0]),
    ("diverged", [*FALLING[:50], *[math.nan] * 50], [2.0] * 5),
]


@pytest.mark.parametrize(("kind", "train", "held_out"), CASES)
def test_known_shapes(kind: str, train: list[float], held_out: list[float]) -> None:
    found = verdict(_records(train, held_out))
    assert found.kind == kind, found.text
    assert found.text and any("\u4e00" <= c <= "\u9fff" for c in found.chinese)


@pytest.mark.parametrize(
    "lines",
    [
        "",
        '{"type": "train", "step": 1, "loss": NaN}\n',
        "".join(json.dumps(row) + "\n" for row in _records(FALLING, [2.0, 1.9, 1e30])) + '{"typ',
        '{"type": "sample", "step": 3, "prompt": "<b>", "text": "</style><script>alert(1)"}\n',
    ],
)
def test_the_page_holds_whatever_the_log_holds(lines: str, tmp_path: Path) -> None:
    stage = StagePaths(tmp_path)
    stage.metrics.write_text(lines, encoding="utf-8")
    write_training_report(stage, title="<run>", facts={"model": "a & b"})
    page = stage.report.read_text(encoding="utf-8")
    assert "<script" not in page and "&lt;run&gt;" in page and "a &amp; b" in page
    assert "src=" not in page and "href=" not in page
