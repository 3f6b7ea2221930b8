"""report.html of a training stage: curves and a verdict."""

from __future__ import annotations

from chatgpt_cli.config.paths import StagePaths
from chatgpt_cli.evaluation.report.curves import counted, samples, stage_charts, verdict_card
from chatgpt_cli.evaluation.report.page import page, pairs, section
from chatgpt_cli.evaluation.verdict import verdict
from chatgpt_cli.evaluation.words import Words, message
from chatgpt_cli.files import write_text
from chatgpt_cli.training.metrics_log import read_metrics


def write_stage_page(stage: StagePaths, *, title: str, facts: dict[str, str]) -> None:
    """Read metrics.jsonl and write report.html beside it.

    Args:
        stage: where the files lie.
        title: the page's heading, such as the run's folder.
        facts: rows of the table about the run.
    """
    records = read_metrics(stage.metrics)
    known = [(Words(name, _FACTS.get(name, name)), message(text)) for name, text in facts.items()]
    sections = [
        verdict_card(verdict(records)),
        section(Words("Curves", "曲线"), stage_charts(records)),
        section(Words("The run", "概况"), pairs([*known, *counted(records)])),
        section(Words("Samples", "样例"), samples(records)),
    ]
    write_text(stage.report, page(f"{title} · {stage.root.name}", sections))


_FACTS = {"configuration": "配置", "model": "模型", "shape": "结构", "seed": "随机种子"}
