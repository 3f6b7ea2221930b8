"""How likely a model finds given continuations: multiple choice without writing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from chatgpt_cli.model.transformer import Transformer, inference

# Tokens computed together: enough for matrix products at full speed, few enough that what
# lies between two of them stays in a processor's cache (256 wide: 374 rows a second with
# 256 tokens, 470 with 1,024, 366 with 4,096).
_TOKENS = 1024
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

    A prompt and all its continuations are one row, computed in one pass: a text that
    branches, where a continuation sees the prompt and itself. A prompt is read again only
    for continuations that do not fit the context beside the others. Rows of similar length
    are computed together. A prompt too long for the context loses its first tokens.

    Args:
        model: a causal model.
        prompts: token ids, at least one each.
        continuations: of each prompt one or more, of at least one token.
        bos_id: the token that begins documents.
        batch_size: continuations computed together, at most, but for those of one row.
        on_progress: called with the number of prompts done.

    Raises:
        ValueError: if a continuation alone is longer than the context.
    """
    context = model.config.context_length
    rows: list[_Row] = []
    cut = 0
    for owner, (prompt, choices) in enumerate(zip(prompts, continuations, strict=True)):
        room = context - max(len(choice) for choice in choices) + 1
        if room < 1:
            raise ValueError("a continuation is longer than the context")
        cut += len(prompt) > room
        rows += _rows(owner, _cut(prompt, room, bos_id), choices, context)
    rows.sort(key=lambda row: -row.length)
    results = [[0.0] * len(choices) for choices in continuations]
    waiting = [len(choices) for choices in continuations]
    with inference(model):
        for batch in _batches(rows, batch_size):
            for row, scores in zip(batch, _scores(model, batch), strict=True):
                results[row.owner][row.first : row.first + len(scores)] = scores
                waiting[row.owner] -= len(scores)
            if on_progress is not None:
                on_progress(waiting.count(0))
    return results, cut


@dataclass(frozen=True)
class _Row:
    """A prompt and continuations of it; `first` counts those that other rows have before."""

    owner: int
    first: int
    prompt: list[int]
    choices: list[list[int]]

    @property
    def length(self) -> int:
        """Tokens to read: the last one of a continuation predicts nothing that is asked."""
        return len(self.prompt) + sum(len(choice) - 1 for choice in self.choices)


def _cut(prompt: list[int], room: int, bos_id: int) -> list[int]:
    """The last `room` tokens, the one that begins documents kept in front."""
    if len(prompt) <= room:
        return prompt
    head = prompt[: int(prompt[0] == bos_id and room > 1)]
    return head + prompt[len(prompt) - room + len(head) :]


def _rows(
    owner: int, prompt: list[int], choices: Sequence[list[int]], context: int
) -> Iterator[_Row]:
    """One row of all choices, or as many as are needed for each to fit the context."""
    first, held, length = 0, [choices[0]], len(prompt) + len(choices[0]) - 1
    for index, choice in enumerate(choices[1:], start=1):
        length += len(choice) - 1
        if length > context:
            yield _Row(owner, first, prompt, held)
            first, held, length = index, [], len(prompt) + len(choice) - 1
        held.append(choice)
    yield _Row(owner, first, prompt, held)


def _batches(rows: list[_Row], most: int) -> Iterator[list[_Row]]:
    """Rows, the longest first, in groups of some _TOKENS and at most `most` choices."""
    batch: list[_Row] = []
    for row in rows:
        choices = sum(len(one.choices) for one in [*batch, row])
        if batch and ((len(batch) + 1) * batch[0].length > _TOKENS or choices > most):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _scores(model: Transformer, batch: list[_Row]) -> list[list[float]]:
    """The log-likelihood of each row's choices."""
    ids, positions, branches = _branching(batch)
    device = model.output_weight.device
    hidden = model(
        ids.to(device), position_ids=positions.to(device), branch_ids=branches.to(device)
    )  # (rows, time, hidden)
    places, tokens = [], []
    for index, row in enumerate(batch):
        last = index * ids.shape[1] + len(row.prompt) - 1
        at = last + 1
        for choice in row.choices:
            places += [last, *range(at, at + len(choice) - 1)]
            tokens += choice
            at += len(choice) - 1
    found = iter(_log_probabilities(model, hidden.flatten(0, 1)[places], tokens).tolist())
    return [[sum(next(found) for _ in choice) for choice in row.choices] for row in batch]


def _branching(batch: list[_Row]) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, positions and branches, each (rows, time) int64.

    A row is its prompt and then each choice but for its last token. A choice begins where
    the prompt ends and sees nothing of the others.
    """
    shape = len(batch), batch[0].length
    ids, positions = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    branches = torch.zeros(shape, dtype=torch.long)  # 0 is the prompt
    for index, row in enumerate(batch):
        start = len(row.prompt)
        read, place = list(row.prompt), list(range(start))
        for number, choice in enumerate(row.choices, start=1):
            branches[index, len(read) : len(read) + len(choice) - 1] = number
            read += choice[:-1]
            place += range(start, start + len(choice) - 1)
        ids[index, : len(read)] = torch.tensor(read)
        positions[index, : len(read)] = torch.tensor(place)
    return ids, positions, branches


def _log_probabilities(model: Transformer, hidden: Tensor, tokens: list[int]) -> Tensor:
    """The log-probability of a token at each of (positions, hidden), in float64."""
    parts = []
    wanted = torch.tensor(tokens, device=hidden.device)
    for states, token in zip(
        torch.split(hidden, _POSITIONS), torch.split(wanted, _POSITIONS), strict=True
    ):
        logits = model.logits(states)  # (positions, vocab)
        parts.append(logits.gather(1, token[:, None])[:, 0] - logits.logsumexp(-1))
    return torch.cat(parts).cpu().double()
