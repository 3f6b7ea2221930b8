"""A small model that guesses ahead, so that a large one reads several tokens in one step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from chatgpt_cli.model.inference import InferenceModel

# Tokens guessed at a time, at first and at most.
_FIRST, _MOST = 4, 8


class Draft:
    """Guesses what a large model will write (speculative decoding; Leviathan et al. 2023).

    Here the large model itself draws every token, from its own probabilities and the random
    number that the token has anyway; a guess that turns out to be that token has saved a
    step. So the text is the one that would be written without guesses, and not only one of
    the same distribution. The guess is drawn with the same random number, which makes the
    two agree wherever the two models do.
    """

    def __init__(self, model: InferenceModel) -> None:
        self._model = model
        self._cache = model.new_cache()
        # What the cache holds.
        self._known: list[int] = []
        self._count = _FIRST

    def guess(
        self, tokens: Sequence[int], room: int, draw: Callable[[Tensor, int], int]
    ) -> list[int]:
        """The next tokens of a text.

        Args:
            tokens: all of it so far.
            room: how many may come at most.
            draw: takes logits (1, vocab) and how many guesses came before; draws a token.
        """
        count = min(self._count, room, self._model.config.context_length - len(tokens))
        if count <= 0:
            return []
        logits = self._catch_up(tokens, count)
        guesses = [draw(logits, 0)]
        for number in range(1, count):
            logits = self._model.decode(self._cache, guesses[-1:]).logits
            guesses.append(draw(logits, number))
        self._known = [*tokens, *guesses[:-1]]
        return guesses

    def learn(self, *, right: int, of: int) -> None:
        """How many of the last guesses were right, to guess about as many next time."""
        self._count = min(_MOST, self._count + 1) if right == of else right + 1

    def _catch_up(self, tokens: Sequence[int], room: int) -> Tensor:
        """Read what is new; another text is another matter. Logits (1, vocab) after it."""
        pairs = enumerate(zip(tokens, self._known, strict=False))
        same = next((at for at, (a, b) in pairs if a != b), min(len(tokens), len(self._known)))
        # The last one is read in any case: its logits are wanted.
        same = min(same, len(tokens) - 1)
        self._cache.reserve(1, len(tokens) + room)
        self._cache.lengths = [same]
        new = tokens[same:]
        if len(new) > _MOST:
            return self._model.prefill(self._cache, 0, [new])
        return self._model.extend(self._cache, 0, new).logits[-1:]
