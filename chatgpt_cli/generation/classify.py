"""Which class a text belongs to, by a model that was finetuned to tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from chatgpt_cli.data.labelled import encode_texts
from chatgpt_cli.model.transformer import Transformer, inference
from chatgpt_cli.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class Classified:
    """The most probable label of a text, and the probabilities of all."""

    label: str
    probability: float
    probabilities: dict[str, float]
    # Whether the text was longer than the model reads.
    cut: bool


def classify(
    model: Transformer,
    tokenizer: Tokenizer,
    texts: Sequence[tuple[str, ...]],
    *,
    batch_size: int = 64,
    on_progress: Callable[[int], None] | None = None,
) -> list[Classified]:
    """Label texts, or pairs of texts, as in training.

    Args:
        model: one with labels.
        tokenizer: its own.
        texts: each one text or two.
        batch_size: texts at a time; those of like length go together.
        on_progress: called with the number of texts done.
    """
    config = model.config
    encoded = [
        encode_texts(text, tokenizer, causal=config.causal, length=config.context_length)
        for text in texts
    ]
    order = sorted(range(len(texts)), key=lambda index: len(encoded[index][0]))
    found: dict[int, Classified] = {}
    for first in range(0, len(order), batch_size):
        members = order[first : first + batch_size]
        rows = _probabilities(model, [encoded[index][0] for index in members], tokenizer.pad_id)
        for index, row in zip(members, rows, strict=True):
            best = max(range(len(row)), key=row.__getitem__)
            named = dict(zip(config.labels, row, strict=True))
            found[index] = Classified(config.labels[best], row[best], named, encoded[index][1])
        if on_progress is not None:
            on_progress(len(found))
    return [found[index] for index in range(len(texts))]


def _probabilities(model: Transformer, rows: list[list[int]], pad_id: int) -> list[list[float]]:
    """(texts, labels), from texts of different lengths padded at the right."""
    device = model.output_weight.device
    lengths = torch.tensor([len(ids) for ids in rows], device=device)
    longest = int(lengths.max())
    ids = torch.tensor([ids + [pad_id] * (longest - len(ids)) for ids in rows], device=device)
    segments = (torch.arange(longest, device=device) < lengths[:, None]).long()
    with inference(model):
        hidden = model(ids, segment_ids=segments)  # (texts, time, hidden)
        scored = lengths - 1 if model.config.causal else torch.zeros_like(lengths)
        pooled = hidden[torch.arange(len(rows), device=device), scored]
        probabilities: list[list[float]] = model.logits(pooled).softmax(-1).tolist()
    return probabilities
