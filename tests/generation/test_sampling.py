"""The filters against their definitions, and the draw against its probabilities."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chatgpt_cli.config.schema import GenerateSection
from chatgpt_cli.generation.sampling import Sampling, candidates, penalise, sample


def reference(logits: list[float], s: Sampling) -> dict[int, float]:
    """Token -> probability of being drawn, by the definitions."""
    scaled = [x / s.temperature for x in logits]
    weights = [math.exp(x - max(scaled)) for x in scaled]
    left = {i: w / sum(weights) for i, w in enumerate(weights)}

    def renormalised() -> dict[int, float]:
        return {i: p / sum(left.values()) for i, p in left.items()}

    if s.top_k:
        ranked = sorted(left, key=lambda i: -left[i])
        left = {i: left[i] for i in ranked[: s.top_k]}
        left = renormalised()
    if s.top_p < 1:
        kept, total = {}, 0.0
        for i in sorted(left, key=lambda i: -left[i]):
            if total < s.top_p:
                kept[i] = left[i]
            total += left[i]
        left = kept
        left = renormalised()
    left = {i: p for i, p in left.items() if p >= s.min_p * max(left.values())}
    return renormalised()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1000),
    size=st.sampled_from([5, 40, 600]),
    temperature=st.floats(0.2, 3),
    top_k=st.sampled_from([0, 1, 3, 1000]),
    top_p=st.sampled_from([1.0, 0.9, 0.5, 1e-6]),
    min_p=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
)
def test_filters_keep_what_their_definitions_keep(
    seed: int, size: int, temperature: float, top_k: int, top_p: float, min_p: float
) -> None:
    logits = torch.randn(size, generator=torch.Generator().manual_seed(seed)) * 2
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    expected = reference(logits.tolist(), sampling)
    probabilities, ids = candidates(logits[None], sampling)
    total = probabilities.sum().item()
    result = {
        i: p / total for i, p in zip(ids[0].tolist(), probabilities[0].tolist(), strict=True) if p
    }
    # A token exactly at a threshold may fall on either side by rounding.
    for token in expected.keys() ^ result.keys():
        assert max(expected.get(token, 0), result.get(token, 0)) < 0.02
    if expected.keys() == result.keys():
        assert result == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_draws_follow_the_probabilities() -> None:
    logits = torch.tensor([[0.3, 0.05, 0.4, 0.25]]).log()
    uniforms = (torch.arange(1000) + 0.5) / 1000
    drawn = sample(logits.expand(1000, -1), Sampling(temperature=1.0), uniforms)
    assert (drawn.bincount(minlength=4) / 1000).tolist() == pytest.approx([0.3, 0.05, 0.4, 0.25])
    filtered = sample(logits.expand(1000, -1), Sampling(temperature=1.0, top_k=2), uniforms)
    shares = (filtered.bincount(minlength=4) / 1000).tolist()
    assert shares == pytest.approx([3 / 7, 0, 4 / 7, 0], abs=2e-3)


def test_the_last_number_below_one_never_draws_a_removed_token() -> None:
    logits = torch.full((1, 50), -200.0)
    logits[0, :3] = 0.0
    edge = torch.tensor([1.0]).nextafter(torch.tensor([0.0]))
    for sampling in (Sampling(temperature=1.0), Sampling(temperature=1.0, top_p=0.9)):
        assert sample(logits, sampling, edge).item() in (0, 1, 2)


def test_temperature_zero_takes_the_most_probable() -> None:
    logits = torch.randn(5, 30)
    drawn = sample(logits, Sampling(temperature=0), torch.rand(5))
    assert torch.equal(drawn, logits.argmax(-1))


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=1e-40),
        Sampling(temperature=1.0, top_p=1e-46),
        Sampling(temperature=1.0),
    ],
)
def test_a_token_is_drawn_whatever_the_numbers(sampling: Sampling) -> None:
    nothing = torch.full((2, 30), float("nan"))
    for logits in (torch.randn(2, 30), nothing):
        drawn = sample(logits, sampling, torch.rand(2))
        assert drawn.shape == (2,) and bool((drawn < 30).all())


def test_repetition_penalty() -> None:
    logits = torch.tensor([[2.0, -2.0, 1.0]])
    seen = torch.tensor([[True, True, False]])
    assert penalise(logits, seen, 2.0).tolist() == [[1.0, -4.0, 1.0]]
    greedy = Sampling(temperature=0, repetition_penalty=2.5)
    assert sample(logits, greedy, torch.zeros(1), seen).item() == 2


def test_overrides_of_the_configured_values() -> None:
    section = GenerateSection(max_tokens=7, stop=["a", ""], seed=3)
    sampling = Sampling.from_section(section, temperature=0.0, top_k=None)
    assert sampling == Sampling(
        max_tokens=7, temperature=0.0, top_k=0, top_p=0.95, stop=("a",), seed=3
    )
