"""Choosing the next token: temperature, filters, penalty, and the draw itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from chatgpt_cli.config.schema import GenerateSection

# So many of the most probable tokens nearly always reach top_p; finding more takes longer,
# and sorting all much longer.
_SHORT_LISTS = (64, 512)
# Below it the most probable token is drawn anyway, or numbers overflow.
_COLDEST = 1e-4


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn, and when to stop."""

    max_tokens: int = 200
    # 0 takes the most probable token each time.
    temperature: float = 0.8
    # Keep only the k most probable tokens; 0 keeps all.
    top_k: int = 0
    # Keep the fewest tokens whose probabilities add up to top_p (Holtzman et al. 2020).
    top_p: float = 1.0
    # Keep tokens at least min_p times as probable as the most probable one.
    min_p: float = 0.0
    # Above 1: tokens that occurred become less probable (Keskar et al. 2019).
    repetition_penalty: float = 1.0
    # Strings that end the text; they are not part of it.
    stop: tuple[str, ...] = ()
    # None: different each time.
    seed: int | None = None

    @classmethod
    def from_section(cls, section: GenerateSection, **overrides: Any) -> Self:
        """The configured values; overrides that are not None take precedence."""
        values: dict[str, Any] = {
            name: getattr(section, name) for name in cls.__dataclass_fields__
        } | {name: value for name, value in overrides.items() if value is not None}
        values["stop"] = tuple(text for text in values["stop"] if text)
        return cls(**values)


def sample(
    logits: Tensor, sampling: Sampling, uniforms: Tensor, seen: Tensor | None = None
) -> Tensor:
    """Draw one token for each row: (batch,) int64.

    Args:
        logits: (batch, vocab) float32.
        sampling: how.
        uniforms: (batch,) numbers in [0, 1), one for each row: a row's draw depends on
            its own number alone, not on the batch it is in.
        seen: (batch, vocab) bool, the tokens to penalise, if there is a penalty.
    """
    if seen is not None and sampling.repetition_penalty != 1.0:
        logits = penalise(logits, seen, sampling.repetition_penalty)
    if sampling.temperature < _COLDEST:
        return logits.argmax(-1)
    probabilities, ids = candidates(logits, sampling)
    cumulative = probabilities.cumsum(-1)
    total = cumulative[:, -1:]
    # Rounding must not carry the target to the total: removed tokens may lie there.
    target = (uniforms[:, None] * total).minimum(total.nextafter(torch.zeros_like(total)))
    drawn = torch.searchsorted(cumulative, target, right=True)
    # Where nothing can be drawn, as from logits that are no numbers: still one of the tokens.
    return ids.gather(1, drawn.clamp(max=ids.shape[1] - 1)).squeeze(1)


def penalise(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Divide the positive logits of seen tokens by the penalty, multiply the negative ones."""
    changed = torch.where(logits > 0, logits / penalty, logits * penalty)
    return torch.where(seen, changed, logits)


def candidates(logits: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """The tokens left by the filters: probabilities and ids, each (batch, n).

    Filters work one after the other, as in Hugging Face: temperature, top_k, top_p,
    min_p. Removed tokens have probability 0; the others need not add up to 1.
    """
    probabilities = (logits / sampling.temperature).softmax(-1)
    size = logits.shape[-1]
    if not (sampling.top_k or sampling.top_p < 1 or sampling.min_p > 0):
        return probabilities, torch.arange(size, device=logits.device).expand_as(probabilities)
    if sampling.top_k:
        probabilities, ids = probabilities.topk(min(sampling.top_k, size))
        probabilities = probabilities / probabilities.sum(-1, keepdim=True)
    else:
        probabilities, ids = _enough(probabilities, sampling)
    if sampling.top_p < 1:
        # A token stays while those before it have not reached top_p: the first always.
        before = probabilities.cumsum(-1) - probabilities
        probabilities = probabilities.masked_fill(before >= sampling.top_p, 0.0)
    if sampling.min_p > 0:
        least = sampling.min_p * probabilities[:, :1]
        probabilities = probabilities.masked_fill(probabilities < least, 0.0)
    return probabilities, ids


def _enough(probabilities: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """The most probable tokens, sorted: as few as top_p and min_p are sure not to need more."""
    size = probabilities.shape[-1]
    for length in _SHORT_LISTS:
        if length >= size:
            break
        short, ids = probabilities.topk(length)
        full = short.sum(-1) >= sampling.top_p
        if sampling.min_p > 0:
            full |= short[:, -1] < sampling.min_p * short[:, 0]
        if bool(full.all()):
            return short, ids
    return probabilities.sort(-1, descending=True)
