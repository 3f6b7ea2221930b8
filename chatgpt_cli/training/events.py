"""What the training loop tells whoever watches it; it prints nothing itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class StepDone:
    """An optimizer step; `loss` is in nats per target token."""

    step: int
    progress: float
    loss: float
    tokens_per_second: float
    learning_rate: float
    seconds_left: float
    epoch: float
    log: bool


@dataclass(frozen=True)
class Evaluated:
    """An evaluation on the validation data."""

    step: int
    loss: float
    bits_per_byte: float | None
    best: bool
    seconds: float


@dataclass(frozen=True)
class Sampled:
    """A prompt and its continuation by the model as it now is."""

    step: int
    prompt: str
    text: str


@dataclass(frozen=True)
class Note:
    """Something the user should know."""

    text: str
    kind: Literal["info", "warning"] = "info"


Event = StepDone | Evaluated | Sampled | Note
Observer = Callable[[Event], None]
