"""How much work a run is, before it begins: what its length decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

import torch

from chatgpt_cli.config.schema import HardwareSection, TrainingSection

# Steps below which a budget of epochs is probably not what was meant.
FEW_STEPS = 20
# Seconds of training that compiling must be able to win back; it takes about 20.
_LONG_RUN_SECONDS = 120
# Roughly what training reaches without compiling, to tell a long run from a short one.
_ASSUMED_FLOPS = {"cpu": 2e11, "mps": 2e12, "cuda": 5e13}
# Twenty evaluations of this share of the training tokens each read a tenth of them; the
# forward pass is a third of a step, so they cost about 4% of the run.
_EVALUATED_SHARE = 0.005
_EVALUATED_TOKENS = (20_000, 200_000)


class _Stream(Protocol):
    """What must be known of the data: its batches, and how many make an epoch."""

    @property
    def batch_size(self) -> int: ...
    @property
    def sequence_length(self) -> int: ...
    @property
    def batches_per_epoch(self) -> float: ...


@dataclass(frozen=True)
class Effort:
    """The tokens that a budget will read, and the seconds that this may take.

    For a budget of minutes the tokens are an assumption, for any other the seconds are.
    """

    tokens: float
    seconds: float

    @classmethod
    def of(
        cls,
        section: TrainingSection,
        train: _Stream,
        flops_per_token: int,
        hardware: HardwareSection,
    ) -> Self:
        """The effort of a stage whose model needs `flops_per_token` for training."""
        device = hardware.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        rate = _ASSUMED_FLOPS[device] / flops_per_token
        amount, unit = section.budget
        if unit == "minutes":
            return cls(amount * 60 * rate, amount * 60)
        per_step = train.batch_size * train.sequence_length
        tokens = {
            "steps": amount * per_step,
            "tokens": amount,
            "epochs": amount * train.batches_per_epoch * per_step,
        }[unit]
        return cls(tokens, tokens / rate)

    @property
    def is_long(self) -> bool:
        """Whether the run takes minutes, so that compiling pays."""
        return self.seconds >= _LONG_RUN_SECONDS

    def evaluated_tokens(self, section: TrainingSection) -> int:
        """Validation tokens of one evaluation: `eval_tokens`, or what costs little enough."""
        if section.eval_tokens != "auto":
            return section.eval_tokens
        least, most = _EVALUATED_TOKENS
        return int(min(most, max(least, _EVALUATED_SHARE * self.tokens)))
