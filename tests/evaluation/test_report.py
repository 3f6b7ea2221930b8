"""Verdicts on curves of known shape, and pages that hold whatever the files hold."""

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatgpt_cli.cli.report import sparkline
from chatgpt_cli.config.paths import StagePaths
from chatgpt_cli.evaluation.inspection import inspect
from chatgpt_cli.evaluation.report.predictions import marked
from chatgpt_cli.evaluation.report.run_page import RunReport, write_run_page
from chatgpt_cli.evaluation.report.scores import calibration_curve, confusion_matrix
from chatgpt_cli.evaluation.report.stage_page import write_stage_page
from chatgpt_cli.evaluation.verdict import verdict
from chatgpt_cli.tokenizer.tokenizer import Tokenizer
from tests.evaluation.conftest import make_model


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


def test_a_few_steps_are_no_trend() -> None:
    """A loss that falls at each of four steps has not settled, however often it was measured."""
    losses = [4.0, 3.99, 3.985, 3.984]
    rows: list[dict[str, object]] = [
        {"type": kind, "step": step, "loss": loss}
        for step, loss in enumerate(losses, start=1)
        for kind in ("train", "validation")
    ]
    found = verdict([{"type": "start", "step": 0, "settings": {"batch_size": 4}}, *rows])
    assert found.kind == "short" and "4 steps" in found.text and "(now 4)" in found.text
    longer = [{**row, "step": 10 * int(str(row["step"]))} for row in rows]
    assert verdict(longer).kind == "converged"


@pytest.mark.parametrize(("kind", "train", "held_out"), CASES)
def test_known_shapes(kind: str, train: list[float], held_out: list[float]) -> None:
    found = verdict(_records(train, held_out))
    assert found.kind == kind, found.text
    assert found.text and any("\u4e00" <= c <= "\u9fff" for c in found.chinese)


class _Checker(HTMLParser):
    """Counts open elements; void ones need no end."""

    VOID = ("meta", "input", "br", "line", "rect", "circle", "path")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def _checked(page: str) -> str:
    """The page, if it is well-formed and needs nothing from elsewhere."""
    checker = _Checker()
    checker.feed(page)
    assert not checker.open and len(set(checker.ids)) == len(checker.ids)
    assert "<script" not in page and not re.search(r"(src|href)=", page)
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    assert page.count('class="en"') == page.count('class="zh"')
    return page


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
    write_stage_page(stage, title="<run>", facts={"model": "a & b"})
    page = _checked(stage.report.read_text(encoding="utf-8"))
    assert "&lt;run&gt;" in page and "a &amp; b" in page


def test_the_run_page_with_a_look_inside(tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = make_model(tokenizer.vocab_size)
    seen = inspect(model, tokenizer, tokenizer.encode("the <b> cat &\nsaw 小明 </span>")[:40])
    stages = {"pretrain": _records(FALLING, FALLING[::5])}
    run = RunReport("runs/x", stages, None, None, {"pretrain": [(0, "a: <b>")]}, seen)
    write_run_page(tmp_path / "report.html", run)
    page = _checked((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert 'id="layer-1"' in page and page.count('class="token') >= 10
    assert "chatgpt finetune" in page and "a: &lt;b&gt;" in page


@given(said=st.text(max_size=30), wanted=st.text(max_size=30))
def test_marks_change_nothing_of_the_texts(said: str, wanted: str) -> None:
    import html

    left, right = marked(said, wanted)
    strip = re.compile(r"</?mark[^>]*>")
    assert html.unescape(strip.sub("", left)) == said
    assert html.unescape(strip.sub("", right)) == wanted
    if said == wanted:
        assert "<mark" not in left + right


def test_what_is_marked() -> None:
    assert marked("a red cat", "a big cat")[0] == 'a <mark class="wrong">red</mark> cat'
    assert marked("我爱猫", "我爱狗")[1] == '我爱<mark class="missing">狗</mark>'


def test_small_pictures() -> None:
    drawn = confusion_matrix(["yes", "no"], [[3, 1, 0], [0, 2, 1]])
    assert drawn.count("<rect") == 6 and "other" in drawn
    assert confusion_matrix(["yes", "no"], [[3, 1, 0], [0, 2, 0]]).count("<rect") == 4
    assert "NaN" not in calibration_curve([{"rows": 3, "confidence": 0.5, "accuracy": 0.2}])


def test_sparklines() -> None:
    assert sparkline([3.0, 2.0, 1.0]) == "█▅▁"
    assert sparkline([1.0] * 3) == "▁▁▁" and sparkline([math.nan]) == ""
    assert len(sparkline([float(n) for n in range(1000)])) == 40
