"""provenance.json of an evaluation: settings, environment, model, and the rows and text scored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chatgpt_cli.checkpoints import name_of, step_of
from chatgpt_cli.config.paths import STAGES, RunPaths, StageName
from chatgpt_cli.config.schema import Config
from chatgpt_cli.data.shards import read_manifest
from chatgpt_cli.errors import DataError
from chatgpt_cli.evaluation.classification import HELD_OUT
from chatgpt_cli.files import sha256
from chatgpt_cli.interop.huggingface import weights_hash
from chatgpt_cli.provenance import write_record
from chatgpt_cli.reproduction.record import (
    environment,
    hashes,
    row_files,
    session_of,
    write_settings,
)


def record_evaluation(
    paths: RunPaths, config: Config, content: dict[str, Any], chosen: dict[str, str | int]
) -> None:
    """Write evaluate/provenance.json, and the settings into the run's config.yaml.

    Args:
        paths: the run.
        config: the project as it was evaluated.
        content: what results.json holds.
        chosen: device and precision; see `Hardware.chosen`.

    Raises:
        DataError: if a file that was scored has gone meanwhile.
    """
    folder = Path(content["model"])
    is_checkpoint = folder.name == name_of(step := _step(folder))
    model = {
        "folder": str(folder),
        "stage": content["stage"],
        "step": step if is_checkpoint else None,
        "sha256": weights_hash(folder),
    }
    files = scored_files(config, paths, content)
    session = session_of(config, files, environment() | chosen, step, model)
    write_record(paths.evaluate, [session])
    write_settings(paths, config)


def _step(folder: Path) -> int:
    try:
        return step_of(folder)
    except ValueError:
        return 0


def scored_files(config: Config, paths: RunPaths, content: dict[str, Any]) -> dict[str, str]:
    """The files of the tasks, texts and held-out data that were scored, with their hashes.

    Raises:
        DataError: if one is missing.
    """
    tasks, texts, held_out = content["tasks"], content.get("texts", {}), content["held_out"]
    files = hashes(task.data for task in config.evaluate.tasks if task.name in tasks)
    files |= hashes(
        source.path for text in config.evaluate.texts if text.name in texts for source in text.data
    )
    if held_out is not None and held_out["data"] == "held-out text":
        files |= _shards(paths.data)
    elif held_out is not None or HELD_OUT in tasks:
        files |= row_files(config, "finetune")
    return files


@dataclass(frozen=True)
class ScoreComparison:
    """A score of both runs."""

    task: str
    metric: str
    value: float
    # None where it was not measured again.
    again: float | None

    @property
    def same(self) -> bool:
        """Whether it is the same to the bit."""
        return self.value == self.again


@dataclass(frozen=True)
class Asked:
    """What `chatgpt evaluate` was asked for: of which stage, which metrics of which tasks."""

    stage: StageName
    metrics: list[str]
    tasks: list[str]


def asked(content: dict[str, Any]) -> Asked | None:
    """What an evaluation was asked for; None if the model was not one of a stage of the run.

    Args:
        content: what results.json holds.
    """
    stage = next((name for name in STAGES if name == content["stage"]), None)
    if stage is None:
        return None
    tasks, texts = content["tasks"], content.get("texts", {})
    metrics = dict.fromkeys(name for entry in tasks.values() for name in entry["metrics"])
    # Beside metrics that are named, texts are measured where perplexity is one of them.
    if content["held_out"] is not None or HELD_OUT in tasks or (texts and metrics):
        metrics["perplexity"] = None
    return Asked(stage, list(metrics), [name for name in (*tasks, *texts) if name != HELD_OUT])


def compare_scores(content: dict[str, Any], again: dict[str, Any]) -> list[ScoreComparison]:
    """Every score of an evaluation beside that of its repetition, given both results.json."""
    now = {(task, metric): value for task, metric, value in _values(again)}
    return [
        ScoreComparison(task, metric, value, now.get((task, metric)))
        for task, metric, value in _values(content)
    ]


def _values(content: dict[str, Any]) -> Iterator[tuple[str, str, float]]:
    for one in filter(None, (content["held_out"], *content.get("texts", {}).values())):
        for metric in ("perplexity", "bits_per_byte"):
            if one[metric] is not None:
                yield one["data"], metric, one[metric]
    for task, entry in content["tasks"].items():
        for metric, measured in entry["metrics"].items():
            yield task, metric, measured["value"]


def _shards(folder: Path) -> dict[str, str]:
    shards = read_manifest(folder)["splits"]["validation"]["shards"]
    found = {}
    for shard in shards:
        path = folder / Path(str(shard["file"])).name
        try:
            found[f"{folder.name}/{path.name}"] = sha256(path)
        except OSError as error:
            raise DataError(
                f"the file cannot be read ({error.strerror})", place=str(path)
            ) from error
    return found
