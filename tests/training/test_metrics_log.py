"""metrics.jsonl is cut where the checkpoint was, to the byte."""

import json
from pathlib import Path

import pytest

from chatgpt_cli.training.metrics_log import MetricsLog, read_metrics


def _steps(path: Path) -> list[int]:
    return [record["step"] for record in read_metrics(path)]


def _written(path: Path, steps: range) -> MetricsLog:
    log = MetricsLog(path)
    for step in steps:
        log.write({"type": "train", "step": step, "loss": 1.0 / (step + 1)})
    return log


def test_a_continued_run_has_every_step_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = _written(path, range(5))
    mark = log.mark()
    for step in range(5, 8):
        log.write({"type": "train", "step": step, "loss": 1.0})
    log.close()
    path.write_bytes(path.read_bytes()[:-7])
    log = MetricsLog(path, resume=mark, step=4)
    log.write({"type": "train", "step": 5, "loss": 1.0})
    log.close()
    assert _steps(path) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("damage", ["flip", "shorter", "missing", "garbage"])
def test_a_damaged_file_is_told_and_saved_as_far_as_possible(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = _written(path, range(5))
    mark = log.mark()
    log.close()
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[30] ^= 0x80
        path.write_bytes(data)
    elif damage == "shorter":
        path.write_bytes(data[:-60])
    elif damage == "garbage":
        path.write_bytes(b"\xff\x00" * 100)
    else:
        path.unlink()
    told: list[str] = []
    MetricsLog(path, resume=mark, step=4, warn=told.append).close()
    assert len(told) == 1 and "not as training left it" in told[0]
    kept = {"flip": 4, "shorter": 3, "garbage": 0, "missing": 0}[damage]
    assert len(_steps(path)) == kept


def test_numbers_that_are_none_become_null(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    log.write({"type": "train", "step": 1, "loss": float("nan"), "grad_norm": float("inf")})
    log.close()
    line = json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda _: pytest.fail())
    assert line["loss"] is None and line["grad_norm"] is None
