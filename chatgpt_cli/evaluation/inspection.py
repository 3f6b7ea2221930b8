"""A look inside: how probable each token of a text was, and who attended to whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from chatgpt_cli.model.positions import rotate
from chatgpt_cli.model.transformer import Attention, Transformer, inference
from chatgpt_cli.tokenizer.special import MASK
from chatgpt_cli.tokenizer.tokenizer import Tokenizer

_ALTERNATIVES = 5


@dataclass(frozen=True)
class SeenToken:
    """A token, the probability it had (None for the first), and the likeliest in its place."""

    text: str
    special: bool
    probability: float | None
    alternatives: list[tuple[str, float]]


@dataclass(frozen=True)
class Inspection:
    """The tokens of a text, and attention (layers, heads, tokens, tokens): rows sum to 1."""

    tokens: list[SeenToken]
    attention: np.ndarray


def inspect(model: Transformer, tokenizer: Tokenizer, ids: Sequence[int]) -> Inspection:
    """Let the model read some tokens, at most a context of them (the first are left out).

    A causal model's probabilities are of each token after those before it; a masked
    model's of each token with only itself hidden.
    """
    ids = list(ids)[-model.config.context_length :]
    device = model.output_weight.device
    rows = torch.tensor([ids], device=device)
    maps: list[np.ndarray] = []
    hooks = [
        block.self_attn.register_forward_hook(
            lambda module, inputs, _output: maps.append(_weights(module, inputs))
        )
        for block in model.model.blocks()
    ]
    try:
        with inference(model):
            hidden = model(rows)
    finally:
        for hook in hooks:
            hook.remove()
    with inference(model):
        if model.config.causal:
            logits, first = model.logits(hidden[0, :-1]), 1
        else:
            hidden_each = rows.repeat(len(ids), 1).fill_diagonal_(MASK)
            places = torch.arange(len(ids), device=device)
            logits, first = model.logits(model(hidden_each)[places, places]), 0
        probabilities = logits.softmax(-1).cpu()
    tokens = [_token(tokenizer, ids[0], None)] if first else []
    tokens += [
        _token(tokenizer, token, row) for token, row in zip(ids[first:], probabilities, strict=True)
    ]
    return Inspection(tokens, np.stack(maps))


def _weights(module: Attention, inputs: Sequence[Any]) -> np.ndarray:
    """The attention weights of a layer without a cache, (heads, time, time).

    Kernels do not give them out, so they are computed again from the layer's input.
    """
    x, rotary, *_ = inputs
    split = (*x.shape[:2], -1, module.head_dim)
    q, k = module.q_proj(x).view(split), module.k_proj(x).view(split)
    if module.qk_norm:
        q, k = module.q_norm(q), module.k_norm(k)
    q, k = q.transpose(1, 2), k.transpose(1, 2)
    if rotary is not None:
        q, k = rotate(q, *rotary), rotate(k, *rotary)
    k = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
    scores = (q.float() @ k.float().transpose(2, 3)) * module.head_dim**-0.5
    if module.causal:
        hidden = torch.ones_like(scores, dtype=torch.bool).triu(1)
        scores = scores.masked_fill(hidden, -torch.inf)
    weights: np.ndarray = scores.softmax(-1)[0].cpu().numpy()
    return weights


def _token(tokenizer: Tokenizer, token: int, row: torch.Tensor | None) -> SeenToken:
    special = token in tokenizer.special_ids
    if row is None:
        return SeenToken(_text(tokenizer, token), special, None, [])
    best, ids = row.topk(min(_ALTERNATIVES, len(row)))
    alternatives = [
        (_text(tokenizer, i), p) for i, p in zip(ids.tolist(), best.tolist(), strict=True)
    ]
    return SeenToken(_text(tokenizer, token), special, float(row[token]), alternatives)


def _text(tokenizer: Tokenizer, token: int) -> str:
    if token in tokenizer.special_ids:
        return tokenizer.token(token)
    return tokenizer.bytes_of(token).decode("utf-8", errors="replace")
