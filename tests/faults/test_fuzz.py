"""Readers given damaged bytes: they return or raise a `ChatGPTError`, nothing else."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.faults.fuzz import TARGETS, attempt, mutate


@pytest.mark.parametrize("name", TARGETS)
def test_a_few_damaged_inputs(name: str) -> None:
    target = TARGETS[name]
    seeds = target.seeds()

    @settings(max_examples=60)
    @given(st.randoms(use_true_random=False), st.sampled_from(seeds))
    def damaged(r: random.Random, seed: bytes) -> None:
        attempt(target.read, mutate(seed, r))

    damaged()


@pytest.mark.parametrize("name", ["yaml", "jsonl", "json", "csv", "text"])
@settings(max_examples=100)
@given(data=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_arbitrary_text(name: str, data: bytes) -> None:
    attempt(TARGETS[name].read, data)


@pytest.mark.faults
@pytest.mark.parametrize("name", TARGETS)
def test_for_a_long_time(name: str) -> None:
    """FUZZ_SECONDS of each target, ten minutes unless it is set."""
    seconds = os.environ.get("FUZZ_SECONDS", "600")
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.fuzz", name, "--seconds", seconds],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    print(done.stdout.strip())
    assert done.returncode == 0, done.stderr[-3000:]
