"""The learning rate over the course of training."""

from __future__ import annotations

import math

from chatgpt_cli.config.schema import TrainingSection


def learning_rate_factor(section: TrainingSection, progress: float) -> float:
    """What the highest learning rate is multiplied by at `progress` (0 to 1) of the budget.

    Warm-up rises linearly over `warmup_fraction`. Then: `linear` and `cosine` fall to
    `min_lr_ratio` at the end; `wsd` (warm-up, stable, decay; Hu et al. 2024) stays high
    and falls linearly over the last `decay_fraction`; `constant` stays.
    """
    progress = min(max(progress, 0.0), 1.0)
    warmup = section.warmup_fraction
    if progress < warmup:
        return progress / warmup
    after = (progress - warmup) / (1 - warmup) if warmup < 1 else 1.0
    if section.schedule == "constant":
        share = 1.0
    elif section.schedule == "cosine":
        share = (1 + math.cos(math.pi * after)) / 2
    elif section.schedule == "linear":
        share = 1 - after
    else:
        decay = section.decay_fraction
        share = min(1.0, (1 - progress) / decay) if decay > 0 else 1.0
    return section.min_lr_ratio + (1 - section.min_lr_ratio) * share
