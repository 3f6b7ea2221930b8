"""Making a run again from what it recorded, and comparing the two."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from chatgpt_cli.checkpoints import Progress, best_checkpoint, list_checkpoints, read_progress
from chatgpt_cli.command_line import same_run
from chatgpt_cli.config.paths import STAGES, RunPaths, StageName, StagePaths
from chatgpt_cli.config.schema import Config
from chatgpt_cli.data.preprocess import preprocess
from chatgpt_cli.data.shards import read_manifest
from chatgpt_cli.errors import ConfigError, DataError
from chatgpt_cli.evaluation.results import read_evaluation
from chatgpt_cli.files import write_json
from chatgpt_cli.interop.huggingface import load_tokenizer, weights_hash
from chatgpt_cli.interop.locate import resolve_model
from chatgpt_cli.provenance import Session, read_record, write_record
from chatgpt_cli.reproduction.evaluated import ScoreComparison, scored_files
from chatgpt_cli.reproduction.record import (
    Recorder,
    environment,
    row_files,
    software,
    text_files,
    text_session,
    write_settings,
)
from chatgpt_cli.training.checkpoint import load_state
from chatgpt_cli.training.events import Observer
from chatgpt_cli.training.finetune import finetune
from chatgpt_cli.training.loop import Result
from chatgpt_cli.training.metrics_log import read_metrics
from chatgpt_cli.training.prefer import prefer
from chatgpt_cli.training.pretrain import pretrain
from chatgpt_cli.training.reinforce import reinforce
from chatgpt_cli.training.start import differences

_MARK = "reproduction.json"
_TRAIN = {"pretrain": pretrain, "finetune": finetune, "prefer": prefer, "reinforce": reinforce}


@dataclass(frozen=True)
class Original:
    """A run as it was recorded: its text, and its stages in their order."""

    paths: RunPaths
    text: Session | None
    stages: dict[StageName, Session]
    # What is not as it was, each in a line: environment, code, continued sessions.
    differs: list[str]
    # Threads then and now, where they differ; a repetition takes those of then.
    threads: dict[str, tuple[int, int]]
    evaluation: Session | None
    # results.json of the evaluation.
    scores: dict[str, Any]


@dataclass(frozen=True)
class StageComparison:
    """A stage of both runs: losses step by step, and the weights of the model to use."""

    stage: str
    losses: int
    # The largest distance of two losses of the same step, in nats, and where it begins.
    largest: float
    first_step: int | None
    same_weights: bool
    # What they were trained on, where that is not the same.
    differs: list[str]


def read_original(run: Path) -> Original:
    """What a run recorded, checked against what is here now.

    Raises:
        DataError: if the run or its record is missing, it has not ended, or its data are
            not the same any more.
    """
    paths = RunPaths(run)
    if not run.is_dir():
        raise DataError(
            "there is no such folder",
            place=str(run),
            remedy="Name a run directory; `chatgpt runs` lists those in runs/.",
        )
    differs: list[str] = []
    text = _last(read_record(paths.data), "the text", differs)
    stages: dict[StageName, Session] = {}
    for name in STAGES:
        if list_checkpoints(paths.stage(name)):
            _require_end(paths.stage(name))
            found = _last(read_record(paths.stage(name).root), name, differs)
            if found is None:
                raise DataError(
                    f"{name} recorded nothing of what it was made of",
                    place=str(paths.stage(name).root),
                    remedy="Runs of earlier versions cannot be repeated; train it again.",
                )
            stages[name] = found
    if not stages:
        raise DataError(
            "no stage was trained in this run",
            place=str(run),
            remedy="Give the folder that holds pretrain/ or finetune/.",
        )
    if text is None and "pretrain" in stages:
        raise DataError(
            "the preprocessed text recorded nothing of what it was made of",
            place=str(paths.data),
            remedy=f"Run `chatgpt {same_run('preprocess', '--force', run=run)}` "
            "on the same data, and train again.",
        )
    evaluation = _last(read_record(paths.evaluate), "evaluate", differs)
    scores = read_evaluation(paths.evaluate).content if evaluation is not None else {}
    _check_files(paths, text, stages, evaluation, scores)
    if text is not None:
        differs += differences(text.environment, software())
    threads: dict[str, tuple[int, int]] = {}
    now = environment()
    here = now.pop("threads")
    for part, one in (*stages.items(), ("evaluate", evaluation)):
        if one is None:
            continue
        # What was chosen at the start, such as the precision, is not known before a start.
        differs += differences({key: one.environment.get(key) for key in now}, now)
        if (then := one.environment.get("threads", here)) != here:
            threads[part] = then, here
    return Original(paths, text, stages, list(dict.fromkeys(differs)), threads, evaluation, scores)


def _last(sessions: list[Session], what: str, differs: list[str]) -> Session | None:
    """The last session, which a repetition begins with; said if there were others."""
    for before, after in pairwise(sessions):
        changes = differences(before.config, after.config)
        differs += [f"{what}, continued at step {after.step:,} with {line}" for line in changes]
    return sessions[-1] if sessions else None


def _require_end(stage: StagePaths) -> None:
    if not _newest_progress(stage).finished:
        raise DataError(
            f"{stage.root.name} was stopped before its end",
            place=str(stage.root),
            remedy=f"Let it end with `chatgpt {_resumed(stage)}` first.",
        )


def _resumed(stage: StagePaths) -> str:
    return same_run(stage.root.name, "--resume", run=stage.root.parent)


def _newest_progress(stage: StagePaths) -> Progress:
    folder = list_checkpoints(stage)[-1]
    try:
        return read_progress(folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"the state of training cannot be read ({error})",
            place=str(folder),
            remedy=f"`chatgpt {_resumed(stage)}` sets a damaged checkpoint aside.",
        ) from error


def _check_files(
    paths: RunPaths,
    text: Session | None,
    stages: dict[StageName, Session],
    evaluation: Session | None,
    scores: dict[str, Any],
) -> None:
    """Raises DataError naming the files that are missing or have other contents."""
    wrong: list[str] = []
    if text is not None:
        wrong += _changed(text, partial(text_files, _config(text)))
    for name, recorded in stages.items():
        wrong += _changed(recorded, partial(row_files, _config(recorded), name))
    if evaluation is not None:
        config = _config(evaluation)
        wrong += _changed(evaluation, partial(scored_files, config, paths, scores))
    if wrong:
        listed = "".join(f"\n  {line}" for line in sorted(set(wrong))[:10])
        raise DataError(
            f"the data are not those of the run:{listed}",
            remedy="Restore them; with other data it would be another run.",
        )


def _changed(recorded: Session, read: Callable[[], dict[str, str]]) -> list[str]:
    """A line for each file that is not as it was recorded."""
    try:
        now = read()
    except DataError as error:
        elsewhere = str(Path.cwd()) != recorded.folder
        raise DataError(
            f"the data of the run are not here: {error.fact}",
            place=error.place,
            remedy="Put them back"
            + (f", or run the command in {recorded.folder} as then." if elsewhere else "."),
        ) from error
    known = recorded.files
    return [f"{name} is new" for name in now.keys() - known.keys()] + [
        f"{name} is missing" if name not in now else f"{name} has other contents"
        for name in known
        if now.get(name) != known[name]
    ]


def _config(recorded: Session) -> Config:
    try:
        return Config.model_validate(recorded.config)
    except ValidationError as error:
        raise ConfigError(
            "the recorded configuration does not suit this version "
            f"({error.error_count()} settings)",
            remedy=f"Install chatgpt-cli {recorded.environment.get('chatgpt-cli')}.",
        ) from error


def repeat(
    original: Original,
    target: Path,
    *,
    observe: Callable[[StageName], Observer],
    tell: Callable[[str], None],
) -> bool:
    """Make the run again in `target`; goes on if it was interrupted there.

    Args:
        original: the run.
        target: a folder that is not there yet, or an earlier beginning of this.
        observe: gives whom a stage tells its events.
        tell: told about everything else.

    Returns:
        False if it was interrupted; the same call goes on.

    Raises:
        ConfigError: if there is something else in `target`.
        ChatGPTError: as the stages do.
    """
    _claim(target, original)
    paths = RunPaths(target)
    if original.text is not None:
        config = _moved(original.text, target)
        start = config.model.from_
        tokenizer = None if start is None else load_tokenizer(resolve_model(start))
        session = text_session(config, original.text.files)
        preprocess(
            config,
            paths,
            force=False,
            tell=tell,
            tokenizer=tokenizer,
            record=lambda folder: write_record(folder, [session]),
        )
        write_settings(paths, config)
    for name, recorded in original.stages.items():
        config = _as_chosen(
            _moved(recorded, target), name, recorded, _newest_progress(original.paths.stage(name))
        )
        recorder = Recorder(paths.stage(name).root, config, name, observe(name))
        result = _TRAIN[name](config, paths, mode="resume", observe=recorder)
        if isinstance(result, Result) and result.reason == "interrupted":
            return False
    return True


def _claim(target: Path, original: Original) -> None:
    """Mark the folder as the place of this repetition."""
    mark = target / _MARK
    of = str(original.paths.root.resolve())
    if mark.is_file():
        known = json.loads(mark.read_text(encoding="utf-8")).get("of")
        if known == of:
            return
    if any(path.name != ".lock" for path in target.glob("*")):
        raise ConfigError(
            "there is something else in this folder",
            place=str(target),
            remedy="Name another with --to.",
        )
    write_json(mark, {"of": of})


def _moved(recorded: Session, target: Path) -> Config:
    return _config(recorded).model_copy(update={"run_dir": target, "trackers": []})


def _as_chosen(config: Config, name: StageName, recorded: Session, progress: Progress) -> Config:
    """What was found automatically then, set as it was: other choices round otherwise."""
    chosen = progress.chosen
    hardware = config.hardware.model_copy(
        update={
            "device": chosen.get("device", config.hardware.device),
            "precision": chosen.get("precision", config.hardware.precision),
            "attention": chosen.get("attention", config.hardware.attention),
            "int8_training": bool(chosen.get("int8_training", False)),
            "threads": recorded.environment.get("threads", config.hardware.threads),
        }
    )
    section = getattr(config, name)
    at_once = chosen.get("micro_batch_size", section.micro_batch_size)
    section = section.model_copy(update={"micro_batch_size": at_once})
    return config.model_copy(update={"hardware": hardware, name: section})


def scored_as_then(evaluation: Session, target: Path) -> Config:
    """The configuration to evaluate a repetition with, on as many threads as then."""
    config = _moved(evaluation, target)
    threads = evaluation.environment.get("threads", config.hardware.threads)
    hardware = config.hardware.model_copy(update={"threads": threads})
    return config.model_copy(update={"hardware": hardware})


def compare(
    original: Original, target: Path, scores: list[ScoreComparison]
) -> list[StageComparison]:
    """Both runs, stage by stage; the result is kept in the new one.

    Args:
        original: the run.
        target: its repetition.
        scores: those of both, kept with the result.

    Raises:
        ChatGPTError: if a checkpoint cannot be read.
    """
    found = [
        _compare_stage(original.paths.stage(name), RunPaths(target).stage(name))
        for name in original.stages
    ]
    content = {
        "of": str(original.paths.root.resolve()),
        "same_text": _same_text(original.paths, RunPaths(target)),
        "environment": original.differs,
        "stages": [asdict(one) for one in found],
        "scores": [asdict(one) for one in scores],
    }
    write_json(target / _MARK, content)
    return found


def _same_text(one: RunPaths, other: RunPaths) -> bool | None:
    """Whether both have the same tokens; None where there is no text."""
    if not one.manifest.is_file():
        return None
    keys = ("tokenizer_sha256", "splits")
    first, second = read_manifest(one.data), read_manifest(other.data)
    return all(first[key] == second[key] for key in keys)


def _compare_stage(one: StagePaths, other: StagePaths) -> StageComparison:
    losses, again = _losses(one), _losses(other)
    distances = {
        key: abs(loss - again[key]) if key in again else float("inf")
        for key, loss in losses.items()
    }
    apart = [step for (_, step), distance in distances.items() if distance]
    before, now = (load_state(list_checkpoints(stage)[-1]).fingerprint for stage in (one, other))
    hashes = [weights_hash(folder) for stage in (one, other) if (folder := best_checkpoint(stage))]
    return StageComparison(
        stage=one.root.name,
        losses=len(losses),
        largest=max(distances.values(), default=0.0),
        first_step=min(apart, default=None),
        same_weights=len(set(hashes)) == 1,
        differs=differences(before, now),
    )


def _losses(stage: StagePaths) -> dict[tuple[str, int], float]:
    """Training and validation losses by kind and step."""
    records: list[dict[str, Any]] = read_metrics(stage.metrics)
    return {
        (record["type"], record["step"]): record["loss"]
        for record in records
        if record["type"] in ("train", "validation") and record.get("loss") is not None
    }
