"""The settings that runs recorded: resolved, of each part, and which runs differ in the seed."""

import json
from pathlib import Path
from typing import Any

import yaml

from chatgpt_cli.config.schema import Config
from chatgpt_cli.evaluation.settings import differing, run_settings, seed_groups
from chatgpt_cli.provenance import Session, write_record


def _config(settings: dict[str, Any]) -> dict[str, Any]:
    return Config.model_validate(settings).model_dump(mode="json", by_alias=True)


def _stage(
    run: Path, stage: str, settings: dict[str, Any], *, threads: int = 2, precision: str = "float32"
) -> None:
    folder = run / stage
    state = folder / "checkpoints" / "step-00000001" / "training_state" / "state.json"
    state.parent.mkdir(parents=True)
    progress = {"progress": {"step": 1, "chosen": {"precision": precision}}}
    state.write_text(json.dumps(progress), encoding="utf-8")
    (folder / "latest").write_text("step-00000001", encoding="utf-8")
    (folder / "metrics.jsonl").touch()
    environment = {"threads": threads, "gpu": None, "code": "abc"}
    write_record(folder, [Session(0, _config(settings), "", environment, {})])


def test_values_are_compared_as_they_apply(tmp_path: Path) -> None:
    _stage(tmp_path / "a", "pretrain", {})
    _stage(tmp_path / "b", "pretrain", {"model": {"dropout": 0.0}, "pretrain": {"dropout": 0.0}})
    _stage(tmp_path / "c", "pretrain", {"model": {"dropout": 0.1}})
    one, same, other = (run_settings(tmp_path / name, "pretrain") for name in "abc")
    assert differing([one, same]) == {}
    assert differing([one, other]) == {
        "model.dropout": [0.0, 0.1],
        "pretrain.dropout": [0.0, 0.1],
    }


def test_threads_and_precision_that_were_used(tmp_path: Path) -> None:
    _stage(tmp_path / "a", "pretrain", {})
    _stage(tmp_path / "b", "pretrain", {}, threads=1, precision="bfloat16")
    found = [run_settings(tmp_path / name, "pretrain") for name in "ab"]
    assert differing(found) == {
        "hardware.threads": [2, 1],
        "hardware.precision": ["float32", "bfloat16"],
    }


def test_each_part_has_its_own_settings(tmp_path: Path) -> None:
    """config.yaml is preprocessing's: what was set for training later does not stand there."""
    for name, seed in (("a", 3), ("b", 4)):
        _stage(tmp_path / name, "pretrain", {"seed": seed, "pretrain": {"learning_rate": 0.5}})
        _stage(tmp_path / name, "finetune", {"seed": 7})
        (tmp_path / name / "config.yaml").write_text(yaml.safe_dump(_config({})), encoding="utf-8")
    found = [run_settings(tmp_path / name, "finetune") for name in "ab"]
    assert differing(found) == {"seed": [f"pretrain {seed}, finetune 7" for seed in (3, 4)]}
    assert found[0]["pretrain.learning_rate"] == 0.5
    # What came after the stage that was measured does not count.
    assert run_settings(tmp_path / "a", "pretrain")["seed"] == 3


def test_runs_without_a_record(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(_config({"seed": 5})), encoding="utf-8")
    (tmp_path / "pretrain").mkdir()
    start = {"type": "start", "step": 0, "settings": {"learning_rate": 0.25}}
    (tmp_path / "pretrain" / "metrics.jsonl").write_text(json.dumps(start), encoding="utf-8")
    found = run_settings(tmp_path, "pretrain")
    assert found["seed"] == 5 and found["pretrain.learning_rate"] == 0.25
    assert run_settings(tmp_path / "nowhere", "pretrain") == {}


def test_groups() -> None:
    def run(seed: int | None, rate: float = 0.1, threads: int = 2) -> dict[str, Any]:
        return {"seed": seed, "rate": rate, "hardware.threads": threads}

    runs = [run(1), run(1, 0.2), run(2, threads=1), run(2, 0.2), run(3, 0.3)]
    assert seed_groups(runs) == [[0, 2], [1, 3], [4]]
    # The same run twice, and runs of which nothing is known.
    assert seed_groups([run(1), run(1)]) == [[0], [1]]
    assert seed_groups([{}, {}]) == [[0], [1]]
