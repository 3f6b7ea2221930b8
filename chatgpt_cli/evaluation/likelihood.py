"""How likely a model finds given continuations: multiple choice without writing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from chatgpt_cli.model.inference import InferenceModel
from chatgpt_cli.model.kv_cache import KVCache
from chatgpt_cli.model.transformer import Transformer

# Positions whose logits exist at one time: of a large vocabulary they are what takes memory.
_POSITIONS = 512


def continuation_likelihoods(
    model: Transformer,
    prompts: Sequence[list[int]],
    continuations: Sequence[Sequence[list[int]]],
    *,
    bos_id: int,
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
        bos_id: the token that begins documents.
        batch_size: continuations computed together, about.
        on_progress: called with the number of prompts done.

    Raises:
        ValueError: if a continuation alone is longer than the context.
    """
    writer = InferenceModel(model)
    results: dict[int, list[float]] = {}
    cut = 0
    rows = []
    for prompt, choices in zip(prompts, continuations, strict=True):
        room = model.config.context_length - max(len(choice) for choice in choices) + 1
        if room < 1:
            raise ValueError("a continuation is longer than the context")
        cut += len(prompt) > room
        rows.append(_cut(prompt, room, bos_id))
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
        with torch.inference_mode():
            scores = _batch(writer, [rows[i] for i in chosen], [continuations[i] for i in chosen])
        results |= dict(zip(chosen, scores, strict=True))
        if on_progress is not None:
            on_progress(len(results))
    return [results[index] for index in range(len(rows))], cut


def _cut(prompt: list[int], room: int, bos_id: int) -> list[int]:
    """The last `room` tokens, the one that begins documents kept in front."""
    if len(prompt) <= room:
        return prompt
    head = prompt[: int(prompt[0] == bos_id and room > 1)]
    return head + prompt[len(prompt) - room + len(head) :]


def _batch(
    model: InferenceModel, prompts: list[list[int]], continuations: list[Sequence[list[int]]]
) -> list[list[float]]:
    flat = [choice for choices in continuations for choice in choices]
    owner = [index for index, choices in enumerate(continuations) for _ in choices]
    cache = _begin(model, len(prompts), max(len(prompt) for prompt in prompts))
    hidden = model.read(cache, 0, prompts)
    last = torch.stack([hidden[index, len(prompt) - 1] for index, prompt in enumerate(prompts)])
    scores = _log_probabilities(model, last[owner], [choice[0] for choice in flat])  # (choices,)
    # Token t of a choice is read to predict its token t + 1.
    longer = [index for index, choice in enumerate(flat) if len(choice) > 1]
    if longer:
        cache = _for_each(model, cache, [owner[index] for index in longer], max(map(len, flat)) - 1)
        hidden = model.read(cache, 0, [flat[index][:-1] for index in longer])
        places = [
            (row, at) for row, index in enumerate(longer) for at in range(len(flat[index]) - 1)
        ]
        rows, ats = (list(part) for part in zip(*places, strict=True))
        following = [flat[longer[row]][at + 1] for row, at in places]
        later = _log_probabilities(model, hidden[rows, ats], following)
        target = torch.tensor([longer[row] for row in rows], device=scores.device)
        scores = scores.index_add(0, target, later)
    values = iter(scores.tolist())
    return [[next(values) for _ in choices] for choices in continuations]


def _begin(model: InferenceModel, rows: int, slots: int) -> KVCache:
    cache = model.new_cache()
    cache.reserve(rows, slots)
    cache.lengths = [0] * rows
    return cache


def _for_each(model: InferenceModel, cache: KVCache, owners: list[int], more: int) -> KVCache:
    """A cache with a row for each choice, beginning with its prompt, and room for `more`."""
    saved = [cache.save(row, length) for row, length in enumerate(cache.lengths)]
    grown = _begin(model, len(owners), max(cache.lengths) + more)
    for row, owner in enumerate(owners):
        grown.restore(row, saved[owner], cache.lengths[owner])
    return grown


def _log_probabilities(model: InferenceModel, hidden: Tensor, tokens: list[int]) -> Tensor:
    """The log-probability of a token at each of (positions, hidden), in float64."""
    parts = []
    wanted = torch.tensor(tokens, device=hidden.device)
    for states, token in zip(
        torch.split(hidden, _POSITIONS), torch.split(wanted, _POSITIONS), strict=True
    ):
        logits = model.logits(states)  # (positions, vocab)
        parts.append(logits.gather(1, token[:, None])[:, 0] - logits.logsumexp(-1))
    return torch.cat(parts).double()
