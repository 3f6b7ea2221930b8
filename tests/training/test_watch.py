"""Spikes are told from noise, and from a loss that falls or stays high."""

import math
import random

from chatgpt_cli.checkpoints import Progress
from chatgpt_cli.training.watch import Spike, watch_loss


def _spikes(losses: list[float]) -> list[tuple[int, Spike]]:
    progress, found = Progress(), []
    for loss in losses:
        progress.step += 1
        spike = watch_loss(progress, loss)
        if spike:
            found.append((progress.step, spike))
    return found


def _run(steps: int, noise: float) -> list[float]:
    r = random.Random(1)
    return [2 + 6 * math.exp(-step / 50) + r.gauss(0, noise) for step in range(steps)]


def test_ordinary_training_has_no_spikes() -> None:
    for noise in (0.0, 0.02, 0.3):
        assert _spikes(_run(2000, noise)) == []


def test_a_jump_is_told_once_and_becomes_usual() -> None:
    losses = _run(1000, 0.05)
    losses[600] = 5.0
    [(step, spike)] = _spikes(losses)
    assert step == 601 and spike.loss == 5.0 and abs(spike.usual - 2) < 0.1
    higher = losses[:700] + [loss + 3 for loss in losses[700:]]
    assert [step for step, _ in _spikes(higher)] == [601, 701]


def test_what_is_no_number_is_left_out() -> None:
    assert _spikes([2.0] * 100 + [math.nan, math.inf] + [2.0] * 100) == []
