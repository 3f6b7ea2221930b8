"""What a masked model puts in the place of [MASK]."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from chatgpt_cli.errors import ModelError
from chatgpt_cli.model.transformer import Transformer, inference
from chatgpt_cli.tokenizer.special import CLS, MASK, SEP, SPECIAL_TOKENS
from chatgpt_cli.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class Candidate:
    """A token for the place of a mask."""

    id: int
    text: str
    probability: float


def fill_masks(
    model: Transformer, tokenizer: Tokenizer, text: str, top: int = 5
) -> list[list[Candidate]]:
    """The most probable tokens for each [MASK] in `text`, the most probable first.

    Each mask is filled independently of the others. Special tokens are not offered,
    so the probabilities are those of the model and need not add up to 1.

    Raises:
        ModelError: if the model is causal, the text has no [MASK], or is too long.
    """
    if model.config.causal:
        raise ModelError(
            "this model continues text, it does not fill masks",
            remedy="Train one with pretrain.objective: masked and model.preset: bert.",
        )
    ids = [CLS, *tokenizer.encode_with_special(text), SEP]
    masks = [position for position, token in enumerate(ids) if token == MASK]
    if not masks:
        raise ModelError(
            "the text has no [MASK] to fill",
            remedy='Put [MASK] where a word is to be found, as in "The [MASK] is blue."',
        )
    if len(ids) > model.config.context_length:
        raise ModelError(
            f"the text has {len(ids)} tokens, the model reads {model.config.context_length}",
            remedy="Shorten it.",
        )
    with inference(model):
        hidden = model(torch.tensor([ids], device=model.output_weight.device))
        probabilities = model.logits(hidden[0, masks]).softmax(-1)  # (masks, vocab)
        probabilities[:, : len(SPECIAL_TOKENS)] = 0.0
        best = probabilities.topk(min(top, probabilities.shape[-1] - len(SPECIAL_TOKENS)))
    return [
        [
            Candidate(token, tokenizer.decode([token]), value)
            for token, value in zip(tokens, values, strict=True)
        ]
        for tokens, values in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]
