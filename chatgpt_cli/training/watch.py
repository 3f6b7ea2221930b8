"""Watching the loss: is it suddenly much higher than it was?"""

from __future__ import annotations

import math
from dataclasses import dataclass

from chatgpt_cli.checkpoints import Progress

# How much a new loss counts in the mean and the deviation: they follow some 50 steps.
_WEIGHT = 0.04
# Steps before anything is called unusual, and steps between two reports.
_QUIET = 50
# A spike lies so many mean absolute deviations, and so much of the mean, above the mean.
_DEVIATIONS = 8.0
_SHARE = 0.1


@dataclass(frozen=True)
class Spike:
    """A loss, and what it usually was before."""

    loss: float
    usual: float


def watch_loss(progress: Progress, loss: float) -> Spike | None:
    """Take one more loss into account; tell if it is a spike.

    The state lies in `progress`, so that a continued run says the same.
    """
    if not math.isfinite(loss):
        return None
    usual = progress.usual_loss
    if usual is None:
        progress.usual_loss = loss
        return None
    distance = loss - usual
    limit = max(_DEVIATIONS * progress.usual_deviation, _SHARE * abs(usual))
    since = progress.step - (progress.last_spike or 0)
    found = distance > limit and since > _QUIET
    if found:
        progress.last_spike = progress.step
    # A spike is not what is usual, but a new level becomes it.
    counted = min(distance, limit) if progress.step > _QUIET else distance
    progress.usual_loss = usual + _WEIGHT * counted
    progress.usual_deviation += _WEIGHT * (abs(counted) - progress.usual_deviation)
    return Spike(loss, usual) if found else None
