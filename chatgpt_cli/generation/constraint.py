"""Text of a given form: one of some choices, a regular expression, a JSON schema.

The grammars are llguidance's, an optional package.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from chatgpt_cli.errors import ConfigError
from chatgpt_cli.tokenizer.tokenizer import Tokenizer


class Constraint:
    """What may come next in one text."""

    def __init__(self, matcher: Any) -> None:
        self._matcher = matcher

    @property
    def complete(self) -> bool:
        """Whether nothing can be added."""
        return bool(self._matcher.is_stopped())

    def forbid(self, logits: Tensor, stop_ids: frozenset[int]) -> None:
        """Set the logits, (vocab,), of what may not come next to -inf.

        The end may come where the text is of the wanted form.
        """
        if self.complete:  # also after an error: then nothing but the end is left
            allowed = np.zeros(0, dtype=bool)
        else:
            mask = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
            allowed = np.unpackbits(mask, bitorder="little").astype(bool)
        forbidden = torch.ones(logits.shape[0], dtype=torch.bool)
        size = min(len(allowed), logits.shape[0])
        forbidden[:size] = torch.from_numpy(~allowed[:size])
        ends = [token for token in stop_ids if token < logits.shape[0]]
        if self.complete or self._matcher.is_accepting():
            forbidden[ends] = False
        logits.masked_fill_(forbidden.to(logits.device), -torch.inf)

    def advance(self, token: int) -> None:
        """Take the token that was drawn."""
        self._matcher.consume_token(token)


class ConstraintMaker:
    """Constraints for texts of one tokenizer; made once, since it reads the vocabulary.

    Raises:
        ConfigError: if llguidance is not installed.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        try:
            import llguidance
        except ImportError:
            raise ConfigError(
                "constrained text needs the package llguidance",
                remedy="Install it with `pip install 'chatgpt-cli[serve]'`.",
            ) from None
        self._library = llguidance
        wrapped = llguidance.TokenizerWrapper(_Vocabulary(tokenizer))
        self._tokenizer = llguidance.LLTokenizer(wrapped)

    def regex(self, pattern: str) -> Constraint:
        """Text that the whole pattern matches. Raises ConfigError for a wrong pattern."""
        return self._constraint(self._library.LLMatcher.grammar_from_regex(pattern), "regex")

    def choices(self, texts: Sequence[str]) -> Constraint:
        """One of these texts. Raises ConfigError if there is none."""
        if not texts or not all(texts):
            raise ConfigError(
                "choices need at least one text, and no empty one",
                remedy="Give each choice a text.",
            )
        grammar = self._library.grammar_from("choice", json.dumps(list(texts)))
        return self._constraint(grammar, "choices")

    def json_schema(self, schema: dict[str, Any]) -> Constraint:
        """JSON of this schema, without needless spaces. Raises ConfigError for a wrong one."""
        try:
            grammar = self._library.LLMatcher.grammar_from_json_schema(
                schema, overrides={"whitespace_flexible": False}
            )
        except ValueError as error:
            raise ConfigError(
                f"the JSON schema cannot be used: {error}",
                remedy="Leave out what it names; docs/serving.md says what is understood.",
            ) from None
        return self._constraint(grammar, "JSON schema")

    def _constraint(self, grammar: str, kind: str) -> Constraint:
        matcher = self._library.LLMatcher(self._tokenizer, grammar, log_level=0)
        if matcher.is_error():
            raise ConfigError(
                f"the {kind} cannot be used: {matcher.get_error().strip()}",
                remedy=f"Correct the {kind} at the place that is marked.",
            )
        return Constraint(matcher)


class _Vocabulary:
    """What llguidance asks of a tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.eos_token_id = tokenizer.turn_end_id
        self.bos_token_id = tokenizer.bos_id
        self.special_token_ids = sorted(tokenizer.special_ids)
        # Special tokens are marked by a byte that UTF-8 does not have.
        self.tokens = [
            b"\xff" + tokenizer.token(id).encode()
            if id in tokenizer.special_ids
            else tokenizer.bytes_of(id)
            for id in range(tokenizer.vocab_size)
        ]

    def __call__(self, text: bytes | str) -> list[int]:
        return self._tokenizer.encode(text if isinstance(text, str) else text.decode())
