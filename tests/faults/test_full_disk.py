"""A disk of a few megabytes that fills: nothing that was saved is lost."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from chatgpt_cli.checkpoints import damage, list_checkpoints
from chatgpt_cli.config.paths import RunPaths
from tests.faults.commands import chatgpt, copy, end, final_state, start, succeed


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of four megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None or not sys.platform.startswith("linux"):
        pytest.skip("needs Linux's tmpfs")
    command = [mount, "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system is not permitted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _fill(folder: Path, room: int) -> Path:
    """Take up all of the disk but `room` bytes."""
    filler = folder / "filler"
    size = max(0, shutil.disk_usage(folder).free - room)
    # A command that writes meanwhile may have taken some of it.
    with suppress(OSError), filler.open("wb") as stream:
        stream.write(b"\1" * size)
    return filler


@pytest.mark.parametrize("trials", [2, pytest.param(10, marks=pytest.mark.faults)])
def test_no_checkpoint_is_lost(
    trials: int, prepared: Path, small_disk: Path, tmp_path: Path
) -> None:
    r = random.Random(trials)
    begin = copy(prepared, tmp_path / "begin")
    shutil.rmtree(begin / "run" / "pretrain")
    whole = copy(begin, tmp_path / "whole")
    succeed(whole, "pretrain")
    expected = final_state(whole, "pretrain")
    checkpoint = list_checkpoints(RunPaths(whole / "run").pretrain)[0]
    one = sum(path.stat().st_size for path in checkpoint.rglob("*"))
    stopped = 0
    for trial in range(trials):
        folder = copy(begin, small_disk / "project")
        stage = RunPaths(folder / "run").pretrain
        if trial % 2:
            # Full from the beginning, but for a few checkpoints.
            filler = _fill(small_disk, r.randrange(int(2.2 * one)))
            outcome = chatgpt(folder, "pretrain")
        else:
            # Filled by somebody else while training runs.
            process = start(folder, "pretrain")
            wanted = r.randrange(1, 5)
            while process.exitcode is None and len(list_checkpoints(stage)) < min(wanted, 2):
                process.join(0.001)
            filler = _fill(small_disk, r.randrange(one // 2))
            outcome = end(process, folder)
        assert outcome.is_clear, outcome.text
        if outcome.code:
            stopped += 1
            assert "free" in outcome.text or "space" in outcome.text, outcome.text
        for checkpoint in list_checkpoints(stage):
            assert damage(checkpoint) is None
        if trial % 2 == 0:
            assert list_checkpoints(stage)
        filler.unlink()
        succeed(folder, "pretrain", "--resume")
        assert final_state(folder, "pretrain") == expected
    print(f"full disk: {trials} trials, {stopped} stopped, 0 checkpoints lost")
    assert stopped >= trials // 2


@pytest.mark.parametrize("room", [0, 3_000, 30_000, 120_000])
def test_preprocessing_leaves_what_was_there(room: int, prepared: Path, small_disk: Path) -> None:
    folder = copy(prepared, small_disk / "project")
    shutil.rmtree(folder / "run" / "pretrain")
    before = {p: p.read_bytes() for p in (folder / "run" / "data").iterdir()}
    filler = _fill(small_disk, room)
    outcome = chatgpt(folder, "preprocess", "--force")
    assert outcome.is_clear, outcome.text
    if outcome.code:
        assert {p: p.read_bytes() for p in (folder / "run" / "data").iterdir()} == before
    filler.unlink()
    succeed(folder, "preprocess", "--force")
    assert [path.name for path in (folder / "run").rglob(".*")] == []
