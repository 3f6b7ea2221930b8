"""How likely a model finds given continuations: multiple choice without writing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from chatgpt_cli.generation.engine import inference
from chatgpt_cli.model.kv_cache import KVCache
from chatgpt_cli.model.transformer import Transformer
from chatgpt_cli.tokenizer.special import BOS

# Positions whose logits exist at one time: of a large vocabulary they are what takes memory.
_POSITIONS = 512


def continuation_likelihoods(
    model: Transformer,
    prompts: Sequence[list[int]],
    continuations: Sequence[Sequence[list[int]]],
    *,
    batch_size: int = 64,
    on_progress: Callable[[int], None] | None = None,
) -> tuple[list[list[float]], int]:
    """The log-likelihood (nats) of each prompt's continuations, and how many prompts were cut.

    A prompt is computed once, whatever the number of its continuations, and prompts of
    similar length together. A prompt too long for the context loses its first tokens.

    Args:
        model: a causal model.
        prompts: token ids, at least one each.
        continuations: of each prompt one or more, of at least one token.
        batch_size: continuations computed together, about.
        on_progress: called with the number of prompts done.

    Raises:
        ValueError: if a continuation alone is longer than the context.
    """
    results: dict[int, list[float]] = {}
    cut = 0
    rows = []
    for prompt, choices in zip(prompts, continuations, strict=True):
        room = model.config.context_length - max(len(choice) for choice in choices) + 1
        if room < 1:
            raise ValueError("a continuation is longer than the context")
        cut += len(prompt) > room
        rows.append(_cut(prompt, room))
    order = sorted(range(len(rows)), key=lambda index: -len(rows[index]))
    start = 0
    while start < len(order):
        chosen = [order[start]]
        held = len(continuations[order[start]])
        for index in order[start + 1 :]:
            held += len(continuations[index])
            if held > batch_size:
                break
            chosen.append(index)
        start += len(chosen)
        with inference(model):
            scores = _batch(model, [rows[i] for i in chosen], [continuations[i] for i in chosen])
        results |= dict(zip(chosen, scores, strict=True))
        if on_progress is not None:
            on_progress(len(results))
    return [results[index] for index in range(len(rows))], cut


def _cut(prompt: list[int], room: int) -> list[int]:
    """The last `room` tokens, [BOS] kept in front."""
    if len(prompt) <= room:
        return prompt
    head = prompt[: int(prompt[0] == BOS and room > 1)]
    return head + prompt[len(prompt) - room + len(head) :]


def _batch(
    model: Transformer, prompts: list[list[int]], continuations: list[Sequence[list[int]]]
) -> list[list[float]]:
    device = model.output_weight.device
    flat = [choice for choices in continuations for choice in choices]
    owner = [index for index, choices in enumerate(continuations) for _ in choices]
    lengths = [len(prompt) for prompt in prompts]
    longest = max(len(choice) for choice in flat)
    cache = KVCache(
        model.config,
        len(prompts),
        max(lengths),
        device=device,
        dtype=model.output_weight.dtype,
    )
    hidden = model(_padded(prompts, device), cache=cache)
    last = hidden[torch.arange(len(prompts), device=device), torch.tensor(lengths) - 1]
    first = torch.tensor([choice[0] for choice in flat], device=device)
    owners = torch.tensor(owner, device=device)
    scores = _log_probabilities(model, last[owners], first)  # (choices,)
    if longest > 1:
        cache = _for_each(model, cache, owners, [lengths[index] for index in owner], longest - 1)
        hidden = model(_padded([choice[:-1] for choice in flat], device), cache=cache)
        # Hidden state t of a choice predicts its token t + 1.
        row, at = zip(
            *((i, t) for i, choice in enumerate(flat) for t in range(len(choice) - 1)), strict=True
        )
        rows = torch.tensor(row, device=device)
        following = torch.tensor([flat[i][t + 1] for i, t in zip(row, at, strict=True)])
        later = _log_probabilities(
            model, hidden[rows, torch.tensor(at, device=device)], following.to(device)
        )
        scores = scores.index_add(0, rows, later)
    values = iter(scores.tolist())
    return [[next(values) for _ in choices] for choices in continuations]


def _padded(rows: list[list[int]], device: torch.device) -> Tensor:
    width = max(1, *(len(row) for row in rows))
    return torch.tensor([row + [0] * (width - len(row)) for row in rows], device=device)


def _log_probabilities(model: Transformer, hidden: Tensor, tokens: Tensor) -> Tensor:
    """The log-probability of a token at each of (positions, hidden), in float64."""
    parts = []
    for states, wanted in zip(
        torch.split(hidden, _POSITIONS), torch.split(tokens, _POSITIONS), strict=True
    ):
        logits = model.logits(states)  # (positions, vocab)
        parts.append(logits.gather(1, wanted[:, None])[:, 0] - logits.logsumexp(-1))
    return torch.cat(parts).double()


def _for_each(
    model: Transformer, cache: KVCache, owners: Tensor, lengths: list[int], more: int
) -> KVCache:
    """A cache with one row for every choice, beginning with its prompt."""
    width = cache.length
    grown = KVCache(
        model.config,
        len(owners),
        width + more,
        device=cache.keys.device,
        dtype=cache.keys.dtype,
    )
    grown.keys[:, :, :, :width] = cache.keys[:, owners, :, :width]
    grown.values[:, :, :, :width] = cache.values[:, owners, :, :width]
    grown.length = width
    grown.set_lengths(lengths)
    return grown
