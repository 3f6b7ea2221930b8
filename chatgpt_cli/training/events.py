"""What the training loop tells whoever watches it; it prints nothing itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class StepDone:
    """A step of training; `loss` is in nats per target token, or what the objective says."""

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
    # What else the objective measures, by name.
    details: Mapping[str, float] = field(default_factory=dict)


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


@dataclass(frozen=True)
class Chosen:
    """What was found automatically before the first step: see `Progress.chosen`."""

    values: Mapping[str, str | int]


Event = StepDone | Evaluated | Sampled | Note | Chosen
Observer = Callable[[Event], None]
