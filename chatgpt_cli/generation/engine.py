"""From prompts to texts: one pass over the prompts, then token by token with a cache."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from chatgpt_cli.generation.sampling import Sampling, sample
from chatgpt_cli.generation.text import StoppingText
from chatgpt_cli.model.kv_cache import KVCache
from chatgpt_cli.model.transformer import Transformer
from chatgpt_cli.tokenizer.tokenizer import Tokenizer

# The share of the context kept free for the answer when a prompt would fill it.
_ANSWER_SHARE = 4


@dataclass(frozen=True)
class Completion:
    """What a model wrote after a prompt."""

    # Generated tokens, without the one that ended the turn.
    ids: list[int]
    # Their text, without the stop string that ended it.
    text: str
    # stop: a stop token or string came; length: max_tokens or the context was reached.
    finish_reason: Literal["stop", "length"]
    # Mean log-probability (nats) of the drawn tokens, the ending one included, by the
    # model itself: before temperature, filters and penalty.
    logprob: float
    prompt_tokens: int
    # The prompt was longer than the context: its first tokens were left out.
    truncated_prompt: bool


def complete(
    model: Transformer,
    tokenizer: Tokenizer,
    prompts: list[list[int]],
    sampling: Sampling,
    *,
    stop_ids: frozenset[int],
    batch_size: int = 64,
    on_progress: Callable[[int], None] | None = None,
) -> list[Completion]:
    """Continue every prompt; results in the order given.

    Prompts of similar length are computed together, and those that have ended leave
    the batch. A result does not depend on the batch it was computed in: with a seed,
    prompt i draws from a generator seeded with seed + i.

    Args:
        prompts: token ids, at least one each. A prompt that leaves no room in the
            context loses its first tokens (not [BOS]); `truncated_prompt` tells.
        stop_ids: tokens that end a text.
        on_progress: called with the number of prompts finished so far.
    """
    seed = secrets.randbits(31) if sampling.seed is None else sampling.seed
    results: dict[int, Completion] = {}
    order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        rows = [
            _Row.begin(model, tokenizer, prompts[index], sampling, stop_ids) for index in chosen
        ]
        with inference(model):
            batch = _Batch(model, rows, sampling, [seed + index for index in chosen])
            while batch.rows:
                for row, token, logprob in batch.step():
                    row.push(token, logprob)
                left = len(batch.rows)
                batch.drop_finished()
                if on_progress is not None and len(batch.rows) < left:
                    on_progress(len(results) + len(rows) - len(batch.rows))
        results |= {index: row.completion() for index, row in zip(chosen, rows, strict=True)}
    return [results[index] for index in range(len(prompts))]


def answer_room(model: Transformer, sampling: Sampling) -> int:
    """Tokens of the context that a long prompt must leave free."""
    return min(sampling.max_tokens, max(1, model.config.context_length // _ANSWER_SHARE))


class Stream:
    """The text of one completion, piece by piece; `completion` is there at the end.

    Pieces are whole characters, and none is part of a stop string.
    """

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        prompt: list[int],
        sampling: Sampling,
        stop_ids: frozenset[int],
    ) -> None:
        self._model = model
        self._sampling = sampling
        self._row = _Row.begin(model, tokenizer, prompt, sampling, stop_ids, streaming=True)

    def __iter__(self) -> Iterator[str]:
        row = self._row
        seed = secrets.randbits(31) if self._sampling.seed is None else self._sampling.seed
        with inference(self._model):
            batch = _Batch(self._model, [row], self._sampling, [seed])
        while row.finish_reason is None:
            with inference(self._model):
                ((_, token, logprob),) = batch.step()
            piece = row.push(token, logprob)
            if piece:
                yield piece

    @property
    def completion(self) -> Completion:
        """What was written so far; all of it once the iteration has ended."""
        return self._row.completion()


def stream(
    model: Transformer,
    tokenizer: Tokenizer,
    prompt: list[int],
    sampling: Sampling,
    *,
    stop_ids: frozenset[int],
) -> Stream:
    """Continue one prompt; iterate over the result for its text as it is written."""
    return Stream(model, tokenizer, prompt, sampling, stop_ids)


@contextmanager
def inference(model: Transformer) -> Iterator[None]:
    """No gradients, no dropout; afterwards the model is as it was."""
    training = model.training
    if training:
        model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        if training:
            model.train()


@dataclass
class _Row:
    """One prompt and what has been written after it."""

    prompt: list[int]
    limit: int
    truncated: bool
    tokenizer: Tokenizer
    stop_ids: frozenset[int]
    # Follows the text as it grows; only where someone looks at it before the end.
    text: StoppingText | None
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish_reason: Literal["stop", "length"] | None = None

    @classmethod
    def begin(
        cls,
        model: Transformer,
        tokenizer: Tokenizer,
        prompt: list[int],
        sampling: Sampling,
        stop_ids: frozenset[int],
        *,
        streaming: bool = False,
    ) -> _Row:
        if not prompt:
            raise ValueError("a prompt needs at least one token, such as [BOS]")
        context = model.config.context_length
        longest = context - answer_room(model, sampling)
        truncated = len(prompt) > longest
        if truncated:
            head = prompt[: int(prompt[0] == tokenizer.bos_id and longest > 1)]
            prompt = head + prompt[len(prompt) - longest + len(head) :]
        limit = min(sampling.max_tokens, context - len(prompt))
        follow = streaming or bool(sampling.stop)
        text = StoppingText(tokenizer, sampling.stop) if follow else None
        return cls(prompt, limit, truncated, tokenizer, stop_ids, text)

    def push(self, token: int, logprob: float) -> str:
        """Take the next token; returns text that is now certain."""
        self.logprobs.append(logprob)
        piece = ""
        if token in self.stop_ids:
            self.finish_reason = "stop"
        else:
            self.ids.append(token)
            if self.text is not None:
                piece = self.text.push(token)
                if self.text.stopped:
                    self.finish_reason = "stop"
        if self.finish_reason is None and len(self.ids) >= self.limit:
            self.finish_reason = "length"
        if self.finish_reason is not None and self.text is not None:
            piece += self.text.flush()
        return piece

    def completion(self) -> Completion:
        text = self.text.value if self.text is not None else self.tokenizer.decode(self.ids)
        return Completion(
            ids=self.ids,
            text=text,
            finish_reason=self.finish_reason or "length",
            logprob=sum(self.logprobs) / max(1, len(self.logprobs)),
            prompt_tokens=len(self.prompt),
            truncated_prompt=self.truncated,
        )


class _Batch:
    """Rows computed together: the cache, the next logits, and who is still writing."""

    def __init__(
        self, model: Transformer, rows: list[_Row], sampling: Sampling, seeds: list[int]
    ) -> None:
        self.model = model
        self.rows = rows
        self.sampling = sampling
        weight = model.output_weight
        self.device = weight.device
        longest = max(row.limit for row in rows)
        # All random numbers at once, on the CPU: the same on every device.
        draws = [
            torch.rand(longest, generator=torch.Generator().manual_seed(seed)) for seed in seeds
        ]
        self.uniforms = torch.stack(draws).to(self.device)  # (batch, longest)
        self.steps = 0
        self.special = sorted(rows[0].tokenizer.special_ids)
        self.seen = self._seen(model.config.vocab_size)
        size = max(len(row.prompt) + row.limit for row in rows)
        self.cache = KVCache(model.config, len(rows), size, device=self.device, dtype=weight.dtype)
        self.next_ids: Tensor | None = None

    def _seen(self, vocab_size: int) -> Tensor | None:
        """Tokens of the prompts, (batch, vocab); special ones are never penalised.

        They must not be: a turn that cannot be ended again would go on for ever.
        """
        if self.sampling.repetition_penalty == 1.0:
            return None
        seen = torch.zeros(len(self.rows), vocab_size, dtype=torch.bool)
        for index, row in enumerate(self.rows):
            seen[index, torch.tensor(row.prompt)] = True
        seen[:, self.special] = False
        return seen.to(self.device)

    def step(self) -> list[tuple[_Row, int, float]]:
        """Draw the next token of every row: (row, id, log-probability)."""
        logits = self._prefill() if self.next_ids is None else self._advance(self.next_ids)
        ids = sample(logits, self.sampling, self.uniforms[:, self.steps], self.seen)
        chosen = logits.gather(1, ids[:, None]).squeeze(1) - logits.logsumexp(-1)
        if self.seen is not None:
            self.seen.scatter_(1, ids[:, None], True)
            self.seen[:, self.special] = False
        self.next_ids = ids
        self.steps += 1
        return list(zip(self.rows, ids.tolist(), chosen.tolist(), strict=True))

    def _prefill(self) -> Tensor:
        """All prompts in one pass; the logits after each one's last token, (batch, vocab)."""
        lengths = [len(row.prompt) for row in self.rows]
        width = max(lengths)
        padded = [row.prompt + [0] * (width - len(row.prompt)) for row in self.rows]
        hidden = self.model(torch.tensor(padded, device=self.device), cache=self.cache)
        self.cache.set_lengths(lengths)
        last = torch.tensor(lengths, device=self.device) - 1
        return self.model.logits(hidden[torch.arange(len(lengths), device=self.device), last])

    def _advance(self, ids: Tensor) -> Tensor:
        """The logits after one token more, (batch, vocab)."""
        return self.model.logits(self.model(ids[:, None], cache=self.cache)[:, -1])

    def drop_finished(self) -> None:
        """Go on without the rows that have ended; rows from the end take their places."""
        going = [index for index, row in enumerate(self.rows) if row.finish_reason is None]
        if len(going) in (0, len(self.rows)):
            self.rows = [self.rows[index] for index in going]
            return
        spare = [index for index in going if index >= len(going)]
        staying = set(going)
        order = [i if i in staying else spare.pop() for i in range(len(going))]
        self.rows = [self.rows[index] for index in order]
        picked = torch.tensor(order, device=self.device)
        self.uniforms = self.uniforms[picked]
        if self.seen is not None:
            self.seen = self.seen[picked]
        if self.next_ids is not None:
            self.next_ids = self.next_ids[picked]
        # The last token drawn is not in the cache yet.
        self.cache.keep_rows(order, [len(row.prompt) + len(row.ids) - 1 for row in self.rows])
