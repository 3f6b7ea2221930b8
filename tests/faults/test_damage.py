"""Every file of a run directory, damaged in every way: named, or without effect."""

from __future__ import annotations

import contextlib
import random
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from chatgpt_cli.config.loader import load_config
from chatgpt_cli.config.paths import RunPaths
from chatgpt_cli.evaluation.report.stage_page import write_stage_page
from chatgpt_cli.training.events import Event, StepDone
from chatgpt_cli.training.finetune import finetune
from chatgpt_cli.training.pretrain import pretrain
from tests.faults.commands import Outcome, chatgpt, copy, final_state, succeed

Damage = Callable[[Path, Path, random.Random], None]


def _flip(path: Path, _run: Path, r: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[r.randrange(len(data))] ^= 1 << r.randrange(8)
    path.write_bytes(data)


def _flip_in_header(path: Path, _run: Path, r: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[r.randrange(min(len(data), 64))] ^= 1 << r.randrange(8)
    path.write_bytes(data)


def _truncate(path: Path, _run: Path, r: random.Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: r.randrange(len(data))])


def _empty(path: Path, _run: Path, _r: random.Random) -> None:
    path.write_bytes(b"")


def _delete(path: Path, _run: Path, _r: random.Random) -> None:
    path.unlink()


def _garbage(path: Path, _run: Path, r: random.Random) -> None:
    path.write_bytes(r.randbytes(path.stat().st_size))


def _swap(path: Path, run: Path, r: random.Random) -> None:
    """Another file's contents: the file of its name elsewhere, if there is one."""
    others = sorted(p for p in run.rglob("*") if p.is_file() and p != path)
    alike = [p for p in others if p.name == path.name and p.read_bytes() != path.read_bytes()]
    chosen = r.choice(alike or others)
    mine, theirs = path.read_bytes(), chosen.read_bytes()
    path.write_bytes(theirs)
    chosen.write_bytes(mine)


def _grow(path: Path, _run: Path, r: random.Random) -> None:
    with path.open("ab") as stream:
        stream.write(r.randbytes(100))


WAYS: dict[str, Damage] = {
    "flip": _flip,
    "flip in header": _flip_in_header,
    "truncate": _truncate,
    "empty": _empty,
    "delete": _delete,
    "garbage": _garbage,
    "swap": _swap,
    "grow": _grow,
}


class _Stop(Exception):
    """Stands for a process that is killed."""


def _unfinished(folder: Path, stage: str) -> None:
    """Train until just after a checkpoint, and leave it there."""

    def observe(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == 43:
            raise _Stop

    with contextlib.chdir(folder):
        config = load_config(Path("chatgpt.yaml"), []).config
        paths = RunPaths(config.run_dir)
        run = pretrain if stage == "pretrain" else finetune
        with pytest.raises(_Stop):
            run(config, paths, mode="restart", observe=observe)
        files = paths.pretrain if stage == "pretrain" else paths.finetune
        write_stage_page(files, title="test", facts={})


SPEAK = ("generate", "Say cat 1", "--temperature", "0", "--max-tokens", "4")


def _judge(before: Outcome, after: Outcome, what: str) -> list[str]:
    """A command that does not train: the same answer, or a refusal."""
    if not after.is_clear:
        return [f"{what}: not clear: {after.code} {after.text[-600:]}"]
    if after.code == 0 and _answer(after) != _answer(before):
        return [f"{what}: another answer: {after.text[-300:]}"]
    return []


def _answer(outcome: Outcome) -> str:
    """What was said, without the time it took."""
    return re.sub(r"[\d.,]+ (tokens/s|tokens per second|s)\b.*", "", outcome.text)


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
@pytest.mark.parametrize("cases", [6, pytest.param(10_000, marks=pytest.mark.faults)])
def test_every_damage_is_named_or_harmless(
    stage: str, cases: int, prepared: Path, tmp_path: Path
) -> None:
    """The commands that read the files speak first, and then training goes on."""
    sound = copy(prepared, tmp_path / "sound")
    _unfinished(sound, stage)
    speak = (*SPEAK, "--stage", stage)
    whole = copy(sound, tmp_path / "whole")
    spoken = succeed(whole, *speak)
    measured = succeed(whole, "evaluate", "--stage", stage)
    succeed(whole, stage, "--resume")
    expected = final_state(whole, stage)

    files = sorted(p.relative_to(sound) for p in (sound / "run").rglob("*") if p.is_file())
    if stage == "finetune":
        # What lies in data/ and tokenizer/ has had its turn with pretrain.
        files = [p for p in files if p.parts[1] in ("finetune", "pretrain", "evaluate")]
    chosen = [(path, way) for path in files for way in WAYS]
    if cases < len(chosen):
        chosen = random.Random(stage).sample(chosen, cases)
    faults: list[str] = []
    counts: Counter[str] = Counter()
    for number, (path, way) in enumerate(chosen, start=1):
        print(
            f"\r{stage} {number}/{len(chosen)}, {len(faults)} faults {faults[-1:]}",
            end="",
            flush=True,
        )
        what = f"{path} {way}"
        folder = copy(sound, tmp_path / "damaged")
        WAYS[way](folder / path, folder / "run", random.Random(what))
        faults += _judge(spoken, chatgpt(folder, *speak), f"generate, {what}")
        if path.parts[1] == "data":
            after = chatgpt(folder, "evaluate", "--stage", stage)
            if "No perplexity" not in after.text:
                faults += _judge(measured, after, f"evaluate, {what}")
        after = chatgpt(folder, stage, "--resume")
        counts["done" if after.code == 0 else "refused"] += 1
        counts["set aside"] += "was set aside" in after.text
        if not after.is_clear:
            faults.append(f"{stage} --resume, {what}: {after.code} {after.text[-600:]}")
        elif after.code == 0:
            found = final_state(folder, stage)
            if "not as training left it" in after.text:
                found["losses"] = expected["losses"]
            if found != expected:
                faults.append(f"{stage} --resume, {what}: another result: {after.text[-300:]}")
    print(f"{stage}: {len(chosen)} cases of {len(files)} files: {dict(counts)}")
    assert faults == [], "\n".join(faults)
