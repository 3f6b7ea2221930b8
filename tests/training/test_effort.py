"""What a budget's length decides: compiling, and how much is evaluated."""

from dataclasses import dataclass

import pytest

from chatgpt_cli.config.schema import HardwareSection, PretrainSection
from chatgpt_cli.training.effort import Effort

_CPU = HardwareSection(device="cpu")


@dataclass
class _Stream:
    batch_size: int = 10
    sequence_length: int = 100
    batches_per_epoch: float = 50.0


def _effort(budget: str, flops: int = 1_000_000) -> Effort:
    section = PretrainSection.model_validate({"budget": budget})
    return Effort.of(section, _Stream(), flops, _CPU)


@pytest.mark.parametrize(
    ("budget", "tokens"),
    [("3 steps", 3_000), ("5000 tokens", 5_000), ("2 epochs", 100_000)],
)
def test_tokens_of_a_budget(budget: str, tokens: int) -> None:
    assert _effort(budget).tokens == tokens


def test_a_budget_of_minutes_is_long_from_two_minutes_on() -> None:
    assert not _effort("1 minutes").is_long
    assert _effort("2 minutes").is_long
    assert _effort("2 minutes").tokens == _effort("1 minutes").tokens * 2


def test_a_larger_model_makes_the_same_budget_long() -> None:
    assert not _effort("1M tokens").is_long
    assert _effort("1M tokens", flops=100_000_000).is_long


def test_evaluations_read_a_small_share_of_what_training_reads() -> None:
    section = PretrainSection()
    assert _effort("10M tokens").evaluated_tokens(section) == 50_000
    assert _effort("1000 tokens").evaluated_tokens(section) == 20_000
    assert _effort("10000M tokens").evaluated_tokens(section) == 200_000
    assert _effort("10M tokens").evaluated_tokens(PretrainSection(eval_tokens=7)) == 7
