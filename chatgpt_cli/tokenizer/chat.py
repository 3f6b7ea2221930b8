"""Conversations as tokens: one rendering for training, evaluation, chat and other programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from chatgpt_cli.errors import ModelError
from chatgpt_cli.tokenizer.foreign import ForeignTokenizer
from chatgpt_cli.tokenizer.special import ASSISTANT, BOS, END, SYSTEM, TOOL, USER
from chatgpt_cli.tokenizer.tokenizer import Tokenizer

if TYPE_CHECKING:
    from chatgpt_cli.tokenizer.template import ChatTemplate

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
    """The conversation in the model's own way: see `_own`, or its chat template.

    Special tokens written in a message stay text.

    Args:
        messages: the conversation so far.
        tokenizer: encodes the text.
        add_generation_prompt: end with what begins an answer, for the model to go on.

    Raises:
        ModelError: if the model's template does not accept the conversation.
    """
    if isinstance(tokenizer, ForeignTokenizer) and tokenizer.chat_template is not None:
        return _by_template(messages, tokenizer, tokenizer.chat_template, add_generation_prompt)
    return _own(messages, tokenizer, add_generation_prompt)


def _own(
    messages: Sequence[Message], tokenizer: Tokenizer, add_generation_prompt: bool
) -> Rendered:
    """[BOS], then each turn as its role's token, its text and <|end|>.

    Targets are the assistant's text and the <|end|> that closes it, so that a model
    learns to stop.
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


def _by_template(
    messages: Sequence[Message],
    tokenizer: ForeignTokenizer,
    template: ChatTemplate,
    add_generation_prompt: bool,
) -> Rendered:
    """As a foreign model's template writes it; targets are what the assistant adds.

    A prompt has none: some templates leave out of it what earlier answers thought.
    """
    turns = [
        {"role": message.role, "content": _harmless(message.content, tokenizer)}
        for message in messages
    ]
    text = template.text(turns, add_generation_prompt=add_generation_prompt)
    spans: list[tuple[int, int]] = []
    for number, message in enumerate(messages):
        if message.role == "assistant" and message.weight > 0 and not add_generation_prompt:
            spans.append(_span(template, turns, number, text))
    ids, offsets = tokenizer.encode_with_offsets(text)
    return Rendered(ids, _touched(offsets, spans))


def _touched(offsets: Sequence[tuple[int, int]], spans: Sequence[tuple[int, int]]) -> list[bool]:
    """Whether each token, from character to character, has a part in one of the spans.

    Both are in the order of the text.
    """
    found = []
    at = 0
    for begin, end in offsets:
        while at < len(spans) and spans[at][1] <= begin:
            at += 1
        found.append(at < len(spans) and (spans[at][0] <= begin or spans[at][0] < end))
    return found


# Never seen, takes no room: divides the name of a special token that a message contains.
_DIVIDER = "\u200b"


def _harmless(content: str, tokenizer: ForeignTokenizer) -> str:
    """A message in which no special token can be read, so that no one can forge a turn."""
    for token in tokenizer.special_tokens_in(content):
        content = content.replace(token, token[:1] + _DIVIDER + token[1:])
    return content


# In the private use area: no template and no message means anything by it.
_MARK = "\ue0f3\ue0f4\ue0f5"


def _span(
    template: ChatTemplate, turns: list[dict[str, str]], number: int, text: str
) -> tuple[int, int]:
    """The characters of the text that the assistant writes in turn `number`.

    What the template adds between the start of an answer and its end; where it writes
    earlier turns otherwise than the last one, the message itself to its line's end.

    Raises:
        ModelError: if the message is not in the text.
    """
    before = template.text(turns[:number], add_generation_prompt=True)
    whole = template.text(turns[: number + 1], add_generation_prompt=False).rstrip()
    if text.startswith(whole) and whole.startswith(before):
        return len(before), len(whole)
    content = turns[number]["content"].strip()
    # Where it stands is told by another in its place: the words may occur before, too.
    others = [*turns[:number], turns[number] | {"content": _MARK}, *turns[number + 1 :]]
    marked = template.text(others, add_generation_prompt=False)
    start = max(0, marked.find(_MARK))
    if marked[:start] != text[:start] or not text.startswith(content, start):
        raise ModelError(
            "the model's chat template leaves out an answer, so it cannot be learnt from",
            remedy="Use conversations of one question and one answer.",
        )
    stop = text.find("\n", start + len(content))
    return start, len(text) if stop < 0 else stop
