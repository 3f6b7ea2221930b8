"""The report of a run: all that is known of it, on one page."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from chatgpt_cli.config.paths import STAGES, RunPaths
from chatgpt_cli.data.shards import read_manifest
from chatgpt_cli.errors import DataError
from chatgpt_cli.evaluation.advice import next_steps, steps_from_scores
from chatgpt_cli.evaluation.inspection import Inspection
from chatgpt_cli.evaluation.report.curves import counted, samples, stage_charts
from chatgpt_cli.evaluation.report.inside import attention_view, token_view
from chatgpt_cli.evaluation.report.page import folded, page, pairs, section, table, tiles
from chatgpt_cli.evaluation.report.predictions import prediction_lists
from chatgpt_cli.evaluation.report.scores import class_figures, score_table, signatures
from chatgpt_cli.evaluation.results import Evaluation, read_evaluation
from chatgpt_cli.evaluation.verdict import Record, series
from chatgpt_cli.evaluation.words import STAGE_NAMES, Words, message
from chatgpt_cli.files import write_text
from chatgpt_cli.runs import outdated
from chatgpt_cli.training.metrics_log import read_metrics


@dataclass(frozen=True)
class RunReport:
    """What of a run the page shows; what is not there (yet) is left out."""

    title: str
    stages: dict[str, list[Record]]
    evaluation: Evaluation | None
    manifest: dict[str, Any] | None
    # What each part recorded: the steps at which it began or went on, with its settings as YAML.
    settings: dict[str, list[tuple[int, str]]]
    inspection: Inspection | None = None
    # What is wrong with the scores, if they are not of the model of today.
    outdated: str | None = None


def read_run(paths: RunPaths, *, settings: dict[str, list[tuple[int, str]]]) -> RunReport:
    """Collect what a run directory holds.

    Args:
        paths: the run.
        settings: what its parts recorded (`recorded_settings`).

    Raises:
        DataError: if its evaluation is damaged.
    """
    stages: dict[str, list[Record]] = {
        name: read_metrics(paths.stage(name).metrics) for name in STAGES
    }
    there = (paths.evaluate / "results.json").is_file()
    try:
        manifest = read_manifest(paths.data)
    except DataError:
        manifest = None
    return RunReport(
        str(paths.root),
        stages,
        read_evaluation(paths.evaluate) if there else None,
        manifest,
        settings,
        outdated=outdated(paths.root),
    )


def write_run_page(path: Path, run: RunReport) -> None:
    """Write the page: what to do next first, then results, training, data, settings."""
    results = None if run.evaluation is None else run.evaluation.content
    sections = [
        tiles(_headline(run)),
        section(Words("What to do next", "下一步"), _steps(next_steps(run.stages, results))),
        *_evaluated(run.evaluation, run.outdated),
        section(Words("A look inside", "模型内部"), _inside(run.inspection)),
        *(
            section(STAGE_NAMES[name], stage_charts(records), _ended(records))
            for name, records in run.stages.items()
            if records
        ),
        section(Words("Data", "数据"), _data(run.manifest)),
        section(Words("Configuration, as run", "运行时的配置"), _settings(run.settings)),
    ]
    write_text(path, page(run.title, sections))


def write_evaluation_page(folder: Path) -> Path:
    """Write report.html of an evaluation beside its results: scores and answers only.

    Raises:
        DataError: if there is no evaluation.
    """
    evaluation = read_evaluation(folder)
    path = evaluation.folder / "report.html"
    sections = [
        section(Words("What to do next", "下一步"), _steps(steps_from_scores(evaluation.content))),
        *_evaluated(evaluation),
    ]
    write_text(path, page(str(evaluation.content["model"]), sections))
    return path


def _headline(run: RunReport) -> list[tuple[Words, str]]:
    found = []
    if run.evaluation is not None:
        content = run.evaluation.content
        found.append((Words("parameters", "参数"), f"{content['parameters']:,}"))
        for task, entry in list(content["tasks"].items())[:4]:
            name, metric = next(iter(entry["metrics"].items()), ("", None))
            if metric is not None:
                words = f"{task} {name}".replace("_", " ")
                found.append((Words(words, words), f"{metric['value']:.{metric['digits']}f}"))
    for name, records in run.stages.items():
        losses = series(records, "validation", "loss")
        if losses:
            best = min(loss for _, loss in losses)
            title = Words(f"{name}: best validation loss", f"{STAGE_NAMES[name].zh}：最佳验证损失")
            found.append((title, f"{best:.4f}"))
    return found


def _steps(steps: list[Words]) -> str:
    if not steps:
        return ""
    items = "".join(f"<li>{one.html()}</li>" for one in steps)
    return f'<div class="card next"><ul>{items}</ul></div>'


def _settings(settings: dict[str, list[tuple[int, str]]]) -> str:
    """What each part recorded when it began, and when it went on with something else."""
    names = {
        "data": Words("Data", "数据"),
        "evaluate": Words("Evaluation", "评估"),
        **STAGE_NAMES,
    }
    shown = []
    for part, sessions in settings.items():
        for step, content in sessions:
            title = names[part]
            if step and part != "evaluate":
                title = Words(f"{title.en}, from step {step:,}", f"{title.zh}，自第 {step:,} 步")
            shown.append(folded(title, f'<pre class="settings">{escape(content)}</pre>'))
    return "".join(shown)


def _evaluated(evaluation: Evaluation | None, outdated: str | None = None) -> list[str]:
    if evaluation is None:
        return []
    content = evaluation.content
    said = [*content["notes"], *([outdated] if outdated else [])]
    notes = "".join(f'<p class="soft">{message(note).html()}</p>' for note in said)
    scores = score_table(content)
    card = f'<div class="card">{scores}{signatures(content)}{notes}</div>' if scores else notes
    return [
        section(Words("Scores on held-out data", "在未见数据上的得分"), card),
        section(Words("Classes", "分类"), class_figures(content)),
        section(Words("Seen in training?", "训练中见过吗？"), _contamination(content)),
        section(Words("Answers", "回答"), prediction_lists(content, evaluation.predictions)),
    ]


def _contamination(content: dict[str, Any]) -> str:
    """For each task the rows that training data hold too, and the scores without them."""
    rows = []
    for task, entry in content["tasks"].items():
        found = entry.get("contamination")
        if found is None:
            continue
        clean = [
            f"{name.replace('_', ' ')} {value:.{entry['metrics'][name]['digits']}f}"
            for name, value in found["clean_values"].items()
            if value is not None
        ]
        rows.append(
            [
                escape(task),
                f"{found['rows']:,} / {entry['rows']:,}",
                escape(", ".join(clean) if found["rows"] else "–"),
            ]
        )
    if not rows:
        return ""
    columns = [
        Words("task", "任务"),
        Words("questions seen in training", "训练中见过的问题"),
        Words("scores without them", "去除后的得分"),
    ]
    about = Words(
        "A question counts as seen if it stands word for word in the training text or rows.",
        "若一个问题逐字出现在训练文本或训练数据中，则视为见过。",
    )
    return f'<div class="card"><p class="soft">{about.html()}</p>{table(columns, rows, {1})}</div>'


def _inside(inspection: Inspection | None) -> str:
    if inspection is None:
        return ""
    return token_view(inspection.tokens) + attention_view(inspection)


def _ended(records: list[Record]) -> str:
    """Where a stage ended, and what it wrote on the way."""
    shown = samples(records)
    more = folded(Words("samples", "样例"), shown) if shown else ""
    return f'<div class="card">{pairs(counted(records))}{more}</div>'


def _data(manifest: dict[str, Any] | None) -> str:
    if manifest is None:
        return ""
    columns = [
        Words("part", "部分"),
        Words("documents", "文档"),
        Words("tokens", "词元"),
        Words("bytes", "字节"),
    ]
    names = {"train": Words("training", "训练"), "validation": Words("validation", "验证")}
    rows = [
        [names.get(name, Words(name, name)).html()]
        + [f"{split[key]:,}" for key in ("documents", "tokens", "bytes")]
        for name, split in manifest["splits"].items()
    ]
    for name, one in (manifest.get("report", {}).get("languages") or {}).items():
        rows.append(
            [f"{Words('language', '语言').html()} {escape(str(name))}"]
            + [f"{one.get(key, 0):,}" for key in ("documents", "tokens", "bytes")]
        )
    return f'<div class="card">{table(columns, rows, {1, 2, 3})}</div>'
