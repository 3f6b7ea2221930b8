"""kill -9 at any moment, then --resume: the same weights to the bit."""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from pathlib import Path

import pytest

from chatgpt_cli.files import sha256
from chatgpt_cli.lock import run_lock
from tests.faults.commands import (
    chatgpt,
    copy,
    final_state,
    kill_when,
    processor_seconds,
    start,
    succeed,
)

MASKED = (
    "--set", "model.preset=bert", "--set", "model.causal=false",
    "--set", "pretrain.objective=masked",
)  # fmt: skip
COMPILED = ("--set", "hardware.compile=true")


def _slow(*values: object) -> object:
    return pytest.param(*values, marks=pytest.mark.faults)


def _kill_somewhere(
    folder: Path, command: tuple[str, ...], seconds: float, r: random.Random
) -> str:
    """Start a command and kill it: at a random moment of its work, or while it saves.

    Returns:
        When it died: "before a save", "during a save", "after a save", or "too late".
    """
    checkpoints = folder / "run" / command[0] / "checkpoints"
    process = start(folder, *command)
    if r.random() < 0.5:
        moment = r.uniform(0, seconds)
        killed = kill_when(process, lambda: processor_seconds(process) >= moment)
    else:
        # Some polls after a save has begun: in the middle of its files, or just after.
        patience = r.randrange(12)
        wanted = r.randrange(1, 8)
        seen: set[str] = set()

        def saving() -> bool:
            nonlocal patience
            seen.update(path.name for path in checkpoints.glob(".step-*.tmp"))
            if len(seen) >= wanted:
                patience -= 1
            return len(seen) >= wanted and patience < 0

        killed = kill_when(process, saving)
    if not killed:
        return "too late"
    if any(checkpoints.glob(".step-*")):
        return "during a save"
    return "after a save" if any(checkpoints.glob("step-*")) else "before a save"


@pytest.mark.parametrize(
    ("stage", "options", "kills"),
    [
        ("pretrain", (), 2),
        ("finetune", (), 2),
        _slow("pretrain", (), 50),
        _slow("finetune", (), 50),
        _slow("pretrain", MASKED, 10),
        _slow("pretrain", COMPILED, 5),
    ],
)
def test_killed_training_ends_as_if_undisturbed(
    stage: str, options: tuple[str, ...], kills: int, prepared: Path, tmp_path: Path
) -> None:
    r = random.Random(f"{stage} {options} {kills}")
    begin = copy(prepared, tmp_path / "begin")
    if stage == "pretrain":
        shutil.rmtree(begin / "run" / "pretrain")
    whole = copy(begin, tmp_path / "whole")
    process = start(whole, stage, *options)
    seconds = 0.0
    while process.exitcode is None:
        seconds = max(seconds, processor_seconds(process))
        process.join(0.005)
    assert process.exitcode == 0, (whole / "output.txt").read_text(encoding="utf-8")
    expected = final_state(whole, stage)

    moments: Counter[str] = Counter()
    while moments.total() - moments["too late"] < kills:
        folder = copy(begin, tmp_path / "killed")
        moments[_kill_somewhere(folder, (stage, *options), seconds, r)] += 1
        while r.random() < 0.3:
            moments[_kill_somewhere(folder, (stage, *options, "--resume"), seconds, r)] += 1
        succeed(folder, stage, *options, "--resume")
        assert final_state(folder, stage) == expected, moments
        leftovers = [path.name for path in (folder / "run").rglob(".*")]
        assert leftovers == [], leftovers
    print(f"{stage} {' '.join(options)}: {dict(moments)}")


def _contents(folder: Path) -> dict[str, object]:
    """Hashes of what preprocessing wrote; request and provenance name the folder it was made in."""
    files = [p for name in ("data", "tokenizer") for p in (folder / "run" / name).iterdir()]
    contents: dict[str, object] = {
        path.name: "is there" if path.name == "provenance.json" else sha256(path) for path in files
    }
    manifest = json.loads((folder / "run/data/manifest.json").read_text(encoding="utf-8"))
    own = ("request", "checksum")
    contents["manifest.json"] = {k: v for k, v in manifest.items() if k not in own}
    return contents


@pytest.mark.parametrize("kills", [2, _slow(50)])
def test_killed_preprocessing_begins_again(kills: int, prepared: Path, tmp_path: Path) -> None:
    r = random.Random(kills)
    expected = _contents(prepared)
    begin = copy(prepared, tmp_path / "begin")
    shutil.rmtree(begin / "run")
    done = 0
    while done < kills:
        folder = copy(begin if done % 2 else prepared, tmp_path / "killed")
        process = start(folder, "preprocess", "--force")
        moment = r.uniform(0, 0.6)
        half = r.random() < 0.5

        def reached(
            process: object = process, moment: float = moment, half: bool = half, at: Path = folder
        ) -> bool:
            if half:
                return any((at / "run").glob(".*.tmp")) and r.random() < 0.2
            return processor_seconds(process) >= moment  # type: ignore[arg-type]

        done += kill_when(process, reached)
        succeed(folder, "preprocess")
        assert _contents(folder) == expected


@pytest.mark.parametrize("kills", [3, _slow(50)])
def test_killed_preprocessing_in_parts_goes_on(kills: int, prepared: Path, tmp_path: Path) -> None:
    """Each run goes on from what the ones before it had finished when they were killed."""
    r = random.Random(kills)
    begin = copy(prepared, tmp_path / "begin")
    shutil.rmtree(begin / "run")
    texts = (begin / "text.txt").read_text(encoding="utf-8").split("\n\n")
    names = [f"text{number}.txt" for number in range(8)]
    for number, name in enumerate(names):
        (begin / name).write_text("\n\n".join(texts[number::8]), encoding="utf-8")
    sources = ", ".join(f'{{path: {name}, separator: "\\n\\n"}}' for name in names)
    command = (
        "preprocess",
        "--set", f"data.sources=[{sources}]",
        "--set", "data.workers=1",
        "--set", "data.near_duplicates={threshold: 0.7, shingle: 2}",
    )  # fmt: skip
    whole = copy(begin, tmp_path / "whole")
    succeed(whole, *command, "--set", "data.in_parts=false")
    done, went_on = 0, 0
    folder = copy(begin, tmp_path / "killed")
    while done < kills:
        process = start(folder, *command, "--set", "data.in_parts=true")
        moment = r.uniform(0, 0.4)

        def reached(process: object = process, moment: float = moment) -> bool:
            return processor_seconds(process) >= moment  # type: ignore[arg-type]

        if kill_when(process, reached):
            done += 1
            continue
        text = (folder / "output.txt").read_text(encoding="utf-8")
        went_on += "Going on" in text
        assert _contents(folder) == _contents(whole)
        folder = copy(begin, tmp_path / "killed")
    succeed(folder, *command, "--set", "data.in_parts=true")
    assert _contents(folder) == _contents(whole)
    assert not (folder / "run" / "parts").exists()
    print(f"{went_on} of the runs that ended went on from finished parts")


@pytest.mark.parametrize("kills", [2, _slow(30)])
def test_killed_evaluation_is_made_up_for(kills: int, prepared: Path, tmp_path: Path) -> None:
    """It holds nobody up and leaves nothing; one that is alive cannot be written over."""
    r = random.Random(kills)
    whole, folder = copy(prepared, tmp_path / "whole"), copy(prepared, tmp_path / "killed")
    succeed(whole, "evaluate")
    written = folder / "run" / "evaluate"
    with run_lock(written, "evaluate"):
        refused = chatgpt(folder, "evaluate")
    assert refused.code == 1 and "already working here" in refused.text, refused.text
    moments: Counter[str] = Counter()
    while moments.total() - moments["too late"] < kills:
        process = start(folder, "evaluate")
        moment = r.uniform(0, 1) if r.random() < 0.3 else None

        def reached(process: object = process, moment: float | None = moment) -> bool:
            if moment is None:
                return any(written.glob(".*.tmp"))
            return processor_seconds(process) >= moment  # type: ignore[arg-type]

        killed = kill_when(process, reached)
        half = killed and any(written.glob(".*.tmp"))
        moments["too late" if not killed else "half-written" if half else "elsewhere"] += 1
    succeed(folder, "evaluate")
    assert [path.name for path in (folder / "run").rglob(".*")] == []
    assert _answers(folder) == _answers(whole)
    print(f"evaluate: {dict(moments)}")


def _answers(folder: Path) -> tuple[object, str]:
    """The scores, and all that the model answered."""
    written = folder / "run" / "evaluate"
    results = json.loads((written / "results.json").read_text(encoding="utf-8"))
    answers = (written / "predictions.jsonl").read_text(encoding="utf-8")
    return [task["scores"] for task in results["tasks"]], answers
