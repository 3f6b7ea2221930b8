"""Characters of rows that the tokenizer has no token for, and writes byte by byte."""

from __future__ import annotations

from collections import Counter

import numpy as np

from chatgpt_cli.tokenizer.own import OwnTokenizer
from chatgpt_cli.tokenizer.tokenizer import Tokenizer

# Of all tokens. Below it a few rare characters are what byte pieces are there for.
_TOLD_ABOVE = 0.01
_NAMED = 8
# Byte pieces that are looked at for characters to name.
_LOOKED_AT = 100_000


class UnknownCharacters:
    """How many of the tokens given to it are bytes, and of which characters.

    Only of a tokenizer that this program trained: another vocabulary is not the user's to
    choose, and byte-level BPE has whole characters in pieces everywhere.
    """

    def __init__(self, tokenizer: Tokenizer | None) -> None:
        self.tokens = 0
        self.bytes = 0
        self.characters: Counter[str] = Counter()
        self._tokenizer = tokenizer if isinstance(tokenizer, OwnTokenizer) else None
        self._is_byte = np.zeros(0, np.bool_)
        if self._tokenizer is not None:
            self._is_byte = np.zeros(self._tokenizer.vocab_size, np.bool_)
            self._is_byte[self._tokenizer.byte_ids] = True

    def count(self, ids: np.ndarray | list[int]) -> None:
        """Add the tokens of some text, shape (tokens,)."""
        if self._tokenizer is None:
            return
        array = np.asarray(ids, dtype=np.int64)
        where = np.flatnonzero(self._is_byte[array])
        known = self.bytes
        self.tokens += len(array)
        self.bytes += len(where)
        if known >= _LOOKED_AT or not len(where):
            return
        where = where[:_LOOKED_AT]
        for run in np.split(where, np.flatnonzero(np.diff(where) > 1) + 1):
            text = self._tokenizer.decode(array[run].tolist())
            self.characters.update(one for one in text if one != "\ufffd")

    @property
    def share(self) -> float:
        """Of the tokens, how many are bytes."""
        return self.bytes / self.tokens if self.tokens else 0.0

    def note(self) -> str | None:
        """What the user should know, if it is much."""
        if self.share <= _TOLD_ABOVE or not self.characters:
            return None
        named = " ".join(character for character, _ in self.characters.most_common(_NAMED))
        return (
            f"{self.share:.1%} of the rows' tokens are single bytes, because the tokenizer does "
            f"not know characters such as {named}; the model may write \ufffd for them. Add the "
            "rows' text to data.sources, then preprocess and pretrain anew."
        )
