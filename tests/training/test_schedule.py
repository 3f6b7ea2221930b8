"""The learning rate's shape."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatgpt_cli.config.schema import TrainingSection
from chatgpt_cli.training.schedule import learning_rate_factor


def _section(**values: object) -> TrainingSection:
    return TrainingSection.model_validate({"warmup_fraction": 0.1, **values})


@pytest.mark.parametrize(
    ("schedule", "progress", "factor"),
    [
        ("linear", 0.0, 0.0),
        ("linear", 0.05, 0.5),
        ("linear", 0.1, 1.0),
        ("linear", 0.55, 0.5),
        ("linear", 1.0, 0.0),
        ("cosine", 0.1, 1.0),
        ("cosine", 0.55, 0.5),
        ("cosine", 1.0, 0.0),
        ("wsd", 0.3, 1.0),
        ("wsd", 0.6, 1.0),
        ("wsd", 0.8, 0.5),
        ("wsd", 1.0, 0.0),
        ("constant", 0.9, 1.0),
    ],
)
def test_known_points(schedule: str, progress: float, factor: float) -> None:
    assert learning_rate_factor(_section(schedule=schedule), progress) == pytest.approx(factor)


@given(
    progress=st.floats(-1, 2),
    schedule=st.sampled_from(["linear", "cosine", "wsd", "constant"]),
    warmup=st.floats(0, 0.5),
    floor=st.floats(0, 1),
)
def test_stays_between_zero_and_one(
    progress: float, schedule: str, warmup: float, floor: float
) -> None:
    section = _section(schedule=schedule, warmup_fraction=warmup, min_lr_ratio=floor)
    assert 0 <= learning_rate_factor(section, progress) <= 1 + 1e-9
    assert learning_rate_factor(section, 1.0) >= floor - 1e-9


def test_no_warmup_starts_high() -> None:
    assert learning_rate_factor(_section(warmup_fraction=0.0), 0.0) == 1.0
