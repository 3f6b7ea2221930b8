"""From prompts to texts: rows of one batch that come and go while others are writing."""

from __future__ import annotations

import ctypes
import secrets
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from chatgpt_cli.generation.constraint import Constraint
from chatgpt_cli.generation.draft import Draft
from chatgpt_cli.generation.prefix_cache import PrefixCache
from chatgpt_cli.generation.sampling import Sampling, sample
from chatgpt_cli.generation.text import StoppingText
from chatgpt_cli.model.inference import InferenceModel
from chatgpt_cli.model.packed_linear import Quantization
from chatgpt_cli.model.scores import NextScores
from chatgpt_cli.model.transformer import Transformer
from chatgpt_cli.tokenizer.tokenizer import Tokenizer

# The share of the context kept free for the answer when a prompt would fill it.
_ANSWER_SHARE = 4
# Tokens of prompts, padding included, that are read in one step: others wait meanwhile.
_PREFILL_TOKENS = 4096


@dataclass(frozen=True)
class TokenChoice:
    """A token that was drawn, or could have been."""

    id: int
    # Log-probability (nats) by the model itself: before temperature, filters, penalty.
    logprob: float
    # The most probable tokens in its place, if they were asked for.
    top: tuple[tuple[int, float], ...] = ()


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


@dataclass(frozen=True)
class Drawn:
    """A token that a text got, and what came of it."""

    generation: Generation
    choice: TokenChoice
    # Text that has become certain by it.
    text: str
    finish_reason: Literal["stop", "length"] | None


class Generation:
    """One prompt and what has been written after it."""

    def __init__(
        self,
        engine: Engine,
        prompt: list[int],
        sampling: Sampling,
        stop_ids: frozenset[int],
        *,
        follow: bool,
        top_logprobs: int,
        constraint: Constraint | None,
    ) -> None:
        if not prompt:
            raise ValueError("a prompt needs at least one token, such as [BOS]")
        context = engine.model.config.context_length
        longest = context - answer_room(context, sampling)
        self.truncated = len(prompt) > longest
        if self.truncated:
            head = prompt[: int(prompt[0] == engine.tokenizer.bos_id and longest > 1)]
            prompt = head + prompt[len(prompt) - longest + len(head) :]
        self.prompt = prompt
        self.limit = min(sampling.max_tokens, context - len(prompt))
        self.sampling = sampling
        self.stop_ids = stop_ids
        self.top_logprobs = top_logprobs
        self.constraint = constraint
        self.ids: list[int] = []
        self.drawn: list[TokenChoice] = []
        # How many of the prompt's tokens were known from an earlier one.
        self.cached_tokens = 0
        self.finish_reason: Literal["stop", "length"] | None = None
        # Rows of the same settings draw together.
        self.group = replace(sampling, seed=None, max_tokens=1, stop=())
        # Nothing to draw, forbid or penalise.
        self.takes_the_best = (
            sampling.temperature == 0 and sampling.repetition_penalty == 1.0 and constraint is None
        )
        self._tokenizer = engine.tokenizer
        # Follows the text as it grows; only where someone looks at it before the end.
        look = follow or bool(sampling.stop)
        self._text = StoppingText(engine.tokenizer, sampling.stop) if look else None
        seed = secrets.randbits(31) if sampling.seed is None else sampling.seed
        # All random numbers at once, on the CPU: the same on every device, and the
        # draws of a row do not depend on the batch it is in.
        self.uniforms = torch.rand(self.limit, generator=torch.Generator().manual_seed(seed))
        self.seen = self._seen(engine.model.config.vocab_size)

    def _seen(self, vocab_size: int) -> Tensor | None:
        """Tokens of the prompt, (vocab,); special ones are never penalised.

        They must not be: a turn that cannot be ended again would go on for ever.
        """
        if self.sampling.repetition_penalty == 1.0:
            return None
        seen = torch.zeros(vocab_size, dtype=torch.bool)
        seen[torch.tensor(self.prompt)] = True
        seen[sorted(self._tokenizer.special_ids)] = False
        return seen

    def seen_on(self, device: torch.device) -> Tensor | None:
        """Tokens to penalise, (1, vocab), if there is a penalty."""
        return None if self.seen is None else self.seen[None].to(device)

    def push(self, choice: TokenChoice) -> str:
        """Take the next token; returns text that is now certain."""
        token = choice.id
        self.drawn.append(choice)
        piece = ""
        if token in self.stop_ids:
            self.finish_reason = "stop"
        else:
            self.ids.append(token)
            if self._text is not None:
                piece = self._text.push(token)
                if self._text.stopped:
                    self.finish_reason = "stop"
        if self.seen is not None and token not in self._tokenizer.special_ids:
            self.seen[token] = True
        if self.constraint is not None and self.finish_reason is None:
            self.constraint.advance(token)
            if self.constraint.complete:
                self.finish_reason = "stop"
        if self.finish_reason is None and len(self.ids) >= self.limit:
            self.finish_reason = "length"
        if self.finish_reason is not None and self._text is not None:
            piece += self._text.flush()
        return piece

    def completion(self) -> Completion:
        """What was written so far."""
        text = self._text.value if self._text is not None else self._tokenizer.decode(self.ids)
        logprobs = [choice.logprob for choice in self.drawn]
        return Completion(
            ids=self.ids,
            text=text,
            finish_reason=self.finish_reason or "length",
            logprob=sum(logprobs) / max(1, len(logprobs)),
            prompt_tokens=len(self.prompt),
            truncated_prompt=self.truncated,
        )


class Engine:
    """A model that writes several texts at a time, each with settings of its own.

    Not for several threads at once. `submit`, then `step` until nothing is left.
    """

    def __init__(
        self,
        model: InferenceModel,
        tokenizer: Tokenizer,
        *,
        max_rows: int = 64,
        prefix_cache_mb: float = 0,
        draft: InferenceModel | None = None,
    ) -> None:
        """Args:
        model: what writes.
        tokenizer: the model's.
        max_rows: texts written at a time.
        prefix_cache_mb: memory for what was read before.
        draft: a smaller model with the same tokenizer, asked while one text is alone.
        """
        self.model = model
        self.tokenizer = tokenizer
        self.max_rows = max_rows
        self._cache = model.new_cache()
        self._prefixes = PrefixCache(prefix_cache_mb)
        self._draft = None if draft is None else Draft(draft)
        self._waiting: deque[Generation] = deque()
        # Row i of the cache belongs to _rows[i].
        self._rows: list[Generation] = []

    @classmethod
    def of(
        cls,
        model: Transformer,
        tokenizer: Tokenizer,
        quantization: Quantization = "none",
        *,
        library: ctypes.CDLL | None = None,
        draft: InferenceModel | None = None,
    ) -> Engine:
        """For one user: a conversation's next turn finds the earlier ones already read."""
        packed = InferenceModel(model, quantization, library=library)
        return cls(packed, tokenizer, prefix_cache_mb=64, draft=draft)

    @property
    def writing(self) -> int:
        """Texts being written."""
        return len(self._rows)

    @property
    def waiting(self) -> int:
        """Texts that wait for a row."""
        return len(self._waiting)

    def submit(
        self,
        prompt: list[int],
        sampling: Sampling,
        *,
        stop_ids: frozenset[int],
        follow: bool = True,
        top_logprobs: int = 0,
        constraint: Constraint | None = None,
    ) -> Generation:
        """Line up a prompt.

        Args:
            prompt: token ids, at least one. A prompt that leaves no room in the context
                loses its first tokens (not [BOS]); `truncated` tells.
            sampling: how tokens are drawn, and how many at most.
            stop_ids: tokens that end the text.
            follow: give out text piece by piece.
            top_logprobs: note so many alternatives of each token.
            constraint: what the text must look like.
        """
        generation = Generation(
            self, prompt, sampling, stop_ids,
            follow=follow, top_logprobs=top_logprobs, constraint=constraint,
        )  # fmt: skip
        self._waiting.append(generation)
        return generation

    def cancel(self, generation: Generation) -> None:
        """Stop writing a text; what it has stays."""
        if generation in self._waiting:
            self._waiting.remove(generation)
        elif generation in self._rows:
            self._leave(self._rows.index(generation))

    def clear(self) -> None:
        """Forget everything, after an error."""
        self._cache = self.model.new_cache()
        self._waiting.clear()
        self._rows.clear()

    def step(self) -> list[Drawn]:
        """The next token of every text, or the first one of those that were waiting.

        A text that is alone may get several, where there is a draft model.
        """
        with torch.inference_mode():
            if self._waiting and len(self._rows) < self.max_rows:
                rows, scores = self._admit()
                drawn = self._take(rows, scores)
            elif len(self._rows) == 1 and self._draft is not None:
                drawn = self._guess_and_check(self._draft, self._rows[0])
            elif self._rows:
                rows = list(self._rows)
                scores = self.model.decode(self._cache, [row.drawn[-1].id for row in rows])
                drawn = self._take(rows, scores)
            else:
                return []
        for index in reversed(range(len(self._rows))):
            if self._rows[index].finish_reason is not None:
                self._leave(index)
        return drawn

    def _take(self, rows: list[Generation], scores: NextScores) -> list[Drawn]:
        """Draw a token for each row and add it to the row's text."""
        choices = self._draw(rows, scores)
        pieces = [row.push(choice) for row, choice in zip(rows, choices, strict=True)]
        return [
            Drawn(row, choice, piece, row.finish_reason)
            for row, choice, piece in zip(rows, choices, pieces, strict=True)
        ]

    def _guess_and_check(self, draft: Draft, row: Generation) -> list[Drawn]:
        """Tokens up to the first that was not guessed, of the only text there is."""
        done = len(row.drawn)

        def draw(logits: Tensor, number: int) -> int:
            uniform = row.uniforms[done + number : done + number + 1].to(logits.device)
            return int(sample(logits, row.group, uniform, row.seen_on(logits.device)))

        text = row.prompt + [choice.id for choice in row.drawn]
        guesses = draft.guess(text, row.limit - done - 1, draw)
        scores = self.model.extend(self._cache, 0, [text[-1], *guesses])
        drawn: list[Drawn] = []
        for number, guess in enumerate([*guesses, None]):
            drawn += self._take([row], scores.rows(number, 1))
            if row.finish_reason is not None or drawn[-1].choice.id != guess:
                break
        draft.learn(right=number, of=len(guesses))
        # What follows a wrong guess was never written.
        self._cache.lengths[0] -= len(guesses) - number
        return drawn

    def _admit(self) -> tuple[list[Generation], NextScores]:
        """Read the prompts that have waited longest, as many as one step may take."""
        first = len(self._rows)
        texts: list[list[int]] = []
        rows: list[Generation] = []
        width = 0
        while self._waiting and first + len(rows) < self.max_rows:
            row = self._waiting[0]
            known, saved = self._prefixes.find(row.prompt)
            wider = max(width, len(row.prompt) - known)
            if rows and wider * (len(rows) + 1) > _PREFILL_TOKENS:
                break
            self._waiting.popleft()
            index = first + len(rows)
            self._cache.reserve(index + 1, len(row.prompt) + row.limit)
            self._cache.lengths.append(0)
            if saved is not None:
                self._cache.restore(index, saved, known)
            row.cached_tokens = known
            rows.append(row)
            texts.append(row.prompt[known:])
            width = wider
        self._rows += rows
        return rows, NextScores.of(self.model.prefill(self._cache, first, texts))

    @torch.inference_mode()
    def _leave(self, index: int) -> None:
        row = self._rows[index]
        # The last token drawn is not in the cache.
        self._prefixes.add((row.prompt + row.ids)[: self._cache.lengths[index]], self._cache, index)
        self._cache.remove(index)
        self._rows[index] = self._rows[-1]
        self._rows.pop()

    def _draw(self, rows: list[Generation], scores: NextScores) -> list[TokenChoice]:
        """Tokens for rows, together where the settings are the same."""
        if all(row.takes_the_best for row in rows):
            ids = scores.best
        else:
            ids = self._sample(rows, scores.logits)
        logits, total = scores.logits, scores.total
        chosen = (logits.gather(1, ids[:, None]).squeeze(1) - total).tolist()
        choices = [TokenChoice(*pair) for pair in zip(ids.tolist(), chosen, strict=True)]
        for index, row in enumerate(rows):
            if row.top_logprobs:
                best = logits[index].topk(min(row.top_logprobs, logits.shape[1]))
                values = (best.values - total[index]).tolist()
                top = tuple(zip(best.indices.tolist(), values, strict=True))
                choices[index] = replace(choices[index], top=top)
        return choices

    def _sample(self, rows: list[Generation], logits: Tensor) -> Tensor:
        """(rows,) tokens by each row's settings, with its next random number."""
        allowed = logits
        if any(row.constraint is not None for row in rows):
            allowed = logits.clone()
            for index, row in enumerate(rows):
                if row.constraint is not None:
                    row.constraint.forbid(allowed[index], row.stop_ids)
        groups: dict[Sampling, list[int]] = {}
        for index, row in enumerate(rows):
            groups.setdefault(row.group, []).append(index)
        ids = torch.empty(len(rows), dtype=torch.int64, device=logits.device)
        for sampling, members in groups.items():
            together = [rows[index] for index in members]
            uniforms = torch.stack([row.uniforms[len(row.drawn)] for row in together])
            masks = [mask for row in together if (mask := row.seen_on(logits.device)) is not None]
            seen = torch.cat(masks) if masks else None
            if len(groups) == 1:
                return sample(allowed, sampling, uniforms.to(logits.device), seen)
            where = torch.tensor(members, device=logits.device)
            ids[where] = sample(allowed[where], sampling, uniforms.to(logits.device), seen)
        return ids

    def complete(
        self,
        prompts: Sequence[list[int]],
        sampling: Sampling,
        *,
        stop_ids: frozenset[int],
        constraint: Callable[[], Constraint] | None = None,
        on_progress: Callable[[int], None] | None = None,
        numbers: Sequence[int] | None = None,
    ) -> list[Completion]:
        """Continue every prompt; results in the order given.

        With a seed, prompt i draws from a generator seeded with seed + i, or with
        seed + numbers[i] if the prompts are some of many.

        Args:
            prompts: token ids, see `submit`.
            sampling: how tokens are drawn.
            stop_ids: tokens that end a text.
            constraint: makes what each text must look like.
            on_progress: called with the number of prompts finished so far.
        """
        seed = secrets.randbits(31) if sampling.seed is None else sampling.seed
        results: dict[int, Generation] = {}
        # Long ones first: they are read together, and the last to end are short.
        for index in sorted(range(len(prompts)), key=lambda index: -len(prompts[index])):
            results[index] = self.submit(
                prompts[index],
                replace(sampling, seed=(seed + (numbers or range(len(prompts)))[index]) % 2**63),
                stop_ids=stop_ids,
                follow=False,
                constraint=None if constraint is None else constraint(),
            )
        left = len(prompts)
        while self._waiting or self._rows:
            self.step()
            now = self.writing + self.waiting
            if on_progress is not None and now < left:
                on_progress(len(prompts) - now)
            left = now
        return [results[index].completion() for index in range(len(prompts))]

    def stream(
        self,
        prompt: list[int],
        sampling: Sampling,
        *,
        stop_ids: frozenset[int],
        constraint: Constraint | None = None,
    ) -> Stream:
        """Continue one prompt; iterate over the result for its text as it is written."""
        return Stream(self, prompt, sampling, stop_ids, constraint)


class Stream:
    """The text of one completion, piece by piece; `completion` is there at the end.

    Pieces are whole characters, and none is part of a stop string.
    """

    def __init__(
        self,
        engine: Engine,
        prompt: list[int],
        sampling: Sampling,
        stop_ids: frozenset[int],
        constraint: Constraint | None,
    ) -> None:
        self._engine = engine
        self._generation = engine.submit(prompt, sampling, stop_ids=stop_ids, constraint=constraint)

    def __iter__(self) -> Iterator[str]:
        try:
            while self._generation.finish_reason is None:
                for drawn in self._engine.step():
                    if drawn.generation is self._generation and drawn.text:
                        yield drawn.text
        finally:
            self._engine.cancel(self._generation)

    @property
    def completion(self) -> Completion:
        """What was written so far; all of it once the iteration has ended."""
        return self._generation.completion()


def complete(
    model: Transformer,
    tokenizer: Tokenizer,
    prompts: list[list[int]],
    sampling: Sampling,
    *,
    stop_ids: frozenset[int],
    batch_size: int = 64,
    on_progress: Callable[[int], None] | None = None,
    library: ctypes.CDLL | None = None,
    numbers: Sequence[int] | None = None,
) -> list[Completion]:
    """Continue every prompt with a model as it is now, see `Engine.complete`."""
    if not prompts:
        return []
    engine = Engine(InferenceModel(model, library=library), tokenizer, max_rows=batch_size)
    return engine.complete(
        prompts, sampling, stop_ids=stop_ids, on_progress=on_progress, numbers=numbers
    )


def answer_room(context: int, sampling: Sampling) -> int:
    """Tokens of the context that a long prompt must leave free."""
    return min(sampling.max_tokens, max(1, context // _ANSWER_SHARE))
