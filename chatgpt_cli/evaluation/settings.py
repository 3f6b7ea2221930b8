"""With which settings a run was made, as it recorded them, and which runs differ in the seed."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from chatgpt_cli.checkpoints import UNREADABLE, read_progress
from chatgpt_cli.config.paths import STAGES, RunPaths, StageName, StagePaths
from chatgpt_cli.config.schema import ModelSection
from chatgpt_cli.errors import ChatGPTError
from chatgpt_cli.provenance import Session, read_record
from chatgpt_cli.training.metrics_log import read_metrics

Settings = dict[str, Any]

# What decides nothing about the model.
_ELSEWHERE = {"run_dir", "trackers", "evaluate", "generate", "serve"}
_OF_TEXT = ("tokenizer", "data")
# What may differ between runs of one group: the seed, and what only changes how sums are
# rounded, as another seed does and more.
_CHANCE = {"seed", "hardware.threads"}


def run_settings(folder: Path, last: str) -> Settings:
    """A run's settings by their full names, such as pretrain.learning_rate; none if unknown.

    Of each part those that it was made with (its provenance.json, else config.yaml and what
    metrics.jsonl began with), and what a preset or the model decides in the place of null.
    Threads, precision and training in 8 bits are those that were used.

    Args:
        folder: the run directory.
        last: the stage that was measured; later ones do not count.
    """
    paths = RunPaths(folder)
    base = _read_config(paths.config)
    upto = STAGES.index(last) + 1 if last in STAGES else len(STAGES)
    stages = {name: paths.stage(name) for name in STAGES[:upto]}
    stages = {name: one for name, one in stages.items() if one.metrics.is_file()}
    text = _session(paths.data)
    found: Settings = {}
    for name in _OF_TEXT:
        found |= _flat((text.config if text else base).get(name) or {}, f"{name}.")
    found |= _files(text, "data")
    # What all stages share, by stage: usually the same.
    common: dict[str, dict[str, Any]] = {}
    for name, stage in stages.items():
        session = _session(stage.root)
        config = resolved(_with_start(base, name, stage) if session is None else session.config)
        found |= _flat(config.pop(name, None) or {}, f"{name}.") | _files(session, name)
        for key, value in (_shared(config) | _used(session, stage)).items():
            common.setdefault(key, {})[name] = value
    if not stages:
        common = {key: {"": value} for key, value in _shared(resolved(base)).items()}
    return {key: _joined(values) for key, values in common.items()} | found


def differing(settings: Sequence[Settings]) -> dict[str, list[Any]]:
    """The settings that are not the same in all runs, with each run's value."""
    keys = dict.fromkeys(key for one in settings for key in one)
    found = {key: [one.get(key) for one in settings] for key in keys}
    return {key: row for key, row in found.items() if any(value != row[0] for value in row)}


def seed_groups(settings: Sequence[Settings]) -> list[list[int]]:
    """The places of runs that differ in nothing but the seed, in the order of the first ones.

    Runs of the same seed are no group: they are the same run twice.
    """
    groups: list[list[int]] = []
    for index, one in enumerate(settings):
        for group in groups:
            seeds = [settings[other].get("seed") for other in group]
            alike = differing([settings[group[0]], one]).keys() <= _CHANCE
            if one.get("seed") is not None and alike and one["seed"] not in seeds:
                group.append(index)
                break
        else:
            groups.append([index])
    return groups


def resolved(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration with what the preset, or the model, decides in the place of null."""
    config = copy.deepcopy(config)
    try:
        section = ModelSection.model_validate(config["model"])
    except (KeyError, ValidationError):
        return config
    if section.from_ is not None:
        return config
    shape = section.build(vocab_size=1).model_dump(mode="json")
    model = config["model"]
    config["model"] = model | {key: shape[key] for key in shape if model.get(key, 0) is None}
    for name in STAGES:
        stage = config.get(name)
        if isinstance(stage, dict):
            for key, of_model in (("dropout", "dropout"), ("sequence_length", "context_length")):
                if stage.get(key, 0) is None:
                    stage[key] = shape[of_model]
    return config


def _read_config(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


def _session(folder: Path) -> Session | None:
    """With what a part of a run was made, at last."""
    try:
        sessions = read_record(folder)
    except ChatGPTError:
        return None
    return sessions[-1] if sessions else None


def _with_start(base: dict[str, Any], name: StageName, stage: StagePaths) -> dict[str, Any]:
    """The configuration with what a stage began with, for runs without a record."""
    starts = [
        record["settings"]
        for record in read_metrics(stage.metrics)
        if record["type"] == "start" and isinstance(record.get("settings"), dict)
    ]
    return base | {name: (base.get(name) or {}) | starts[-1]} if starts else base


def _shared(config: dict[str, Any]) -> Settings:
    """What belongs to no stage and not to the text."""
    own = {*STAGES, *_OF_TEXT, *_ELSEWHERE}
    return _flat({key: value for key, value in config.items() if key not in own}, "")


def _used(session: Session | None, stage: StagePaths) -> Settings:
    """What the program and the machine were, where it can change a number."""
    found: Settings = {}
    if session is not None:
        environment = session.environment
        found = {"hardware.threads": environment.get("threads"), "gpu": environment.get("gpu")}
        found["program"] = str(environment.get("code"))[:8]
    latest = stage.pointed(stage.latest)
    try:
        progress = None if latest is None else read_progress(latest)
    except (*UNREADABLE, ChatGPTError):
        progress = None
    if progress is not None and "precision" in progress.chosen:
        found["hardware.precision"] = progress.chosen["precision"]
        found["hardware.int8_training"] = bool(progress.chosen.get("int8_training", False))
    return found


def _files(session: Session | None, part: str) -> Settings:
    files = {} if session is None else session.files
    return {f"{part} file {name}": value[:8] for name, value in files.items()}


def _joined(values: dict[str, Any]) -> Any:
    """The value of all stages, or each one's."""
    first, *others = values.values()
    if all(one == first for one in others):
        return first
    return ", ".join(f"{stage} {value}" for stage, value in values.items())


def _flat(values: dict[str, Any], prefix: str) -> Settings:
    found: Settings = {}
    for key, value in values.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found
