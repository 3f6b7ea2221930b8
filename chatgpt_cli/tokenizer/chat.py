"""Conversations as tokens: one rendering for training, evaluation, chat and other programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from chatgpt_cli.tokenizer.special import ASSISTANT, BOS, END, SYSTEM, TOOL, USER
from chatgpt_cli.tokenizer.tokenizer import Tokenizer

Role = Literal["system", "user", "assistant", "tool"]

_TURN = {"system": SYSTEM, "user": USER, "assistant": ASSISTANT, "tool": TOOL}


@dataclass(frozen=True)
class Message:
    """One turn. An assistant's message with weight 0 is read but not learnt."""

    role: Role
    content: str
    weight: float = 1.0


@dataclass(frozen=True)
class Rendered:
    """Token ids, and which of them the model should learn to say."""

    ids: list[int]
    targets: list[bool]


def render(
    messages: Sequence[Message], tokenizer: Tokenizer, *, add_generation_prompt: bool = False
) -> Rendered:
    """[BOS], then each turn as its role's token, its text and <|end|>.

    Targets are the assistant's text and the <|end|> that closes it, so that a model
    learns to stop. Special tokens written in the text stay text.

    Args:
        messages: the conversation so far.
        tokenizer: encodes the text.
        add_generation_prompt: end with <|assistant|>, for the model to go on.
    """
    ids, targets = [BOS], [False]
    for message in messages:
        body = [*tokenizer.encode(message.content.strip()), END]
        ids += [_TURN[message.role], *body]
        learnt = message.role == "assistant" and message.weight > 0
        targets += [False, *[learnt] * len(body)]
    if add_generation_prompt:
        ids.append(ASSISTANT)
        targets.append(False)
    return Rendered(ids, targets)
