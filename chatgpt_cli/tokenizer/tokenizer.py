"""Text to token ids and back: what every tokenizer here can do."""

from __future__ import annotations

import codecs
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from chatgpt_cli.command_line import same_run
from chatgpt_cli.errors import ModelError

if TYPE_CHECKING:
    from chatgpt_cli.tokenizer.template import ChatTemplate


_SURROGATE = re.compile("[\ud800-\udfff]")


def whole_characters(text: str) -> str:
    """The text with U+FFFD for each half of a character (lone surrogate), as JSON may hold."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


class Tokenizer(ABC):
    """Ids for text, and which of them are special.

    There are two kinds: `OwnTokenizer`, trained by this program, and
    `ForeignTokenizer`, which came with a model from elsewhere.

    Attributes:
        bos_id: begins a document. Where a foreign tokenizer has no such token, the one
            that ends documents stands between them (GPT-2's way).
        eos_id: ends a document; the same as bos_id where there is one token for both.
        pad_id: fills what has no token.
        unk_id: stands for characters without a token; None where there are none.
        turn_end_id: what the model is to write after an answer.
        stop_ids: tokens that end an answer.
        special_ids: tokens that stand for no text.
        start_ids: what stands before a text that is to be continued; may be empty.
        chat_template: how conversations are written; None is this program's own way.
    """

    bos_id: int
    eos_id: int
    pad_id: int
    unk_id: int | None
    turn_end_id: int
    stop_ids: frozenset[int]
    special_ids: frozenset[int]
    start_ids: tuple[int, ...]
    chat_template: ChatTemplate | None = None

    @staticmethod
    def load(folder: Path) -> Tokenizer:
        """Read the tokenizer of a run or a model folder.

        Raises:
            ModelError: if it is missing or damaged.
        """
        from chatgpt_cli.tokenizer.foreign import ForeignTokenizer
        from chatgpt_cli.tokenizer.own import OwnTokenizer

        own = OwnTokenizer.in_folder(folder)
        if own is not None:
            return own
        foreign = ForeignTokenizer.in_folder(folder)
        if foreign is not None:
            return foreign
        raise ModelError(
            "there is no tokenizer (neither tokenizer.model nor tokenizer.json)",
            place=str(folder),
            remedy=f"Run `chatgpt {same_run('preprocess')}` first, or copy the whole "
            "model folder again.",
        )

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write all tokenizer files of a Hugging Face model folder."""

    @property
    @abstractmethod
    def size_on_disk(self) -> int:
        """About how many bytes `save` writes."""

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """One more than the largest id."""

    @property
    @abstractmethod
    def hash(self) -> str:
        """SHA-256 of what decides about the ids."""

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Plain text to ids; never to a special token, whatever the text says.

        Halves of characters count as U+FFFD.
        """

    @abstractmethod
    def encode_with_special(self, text: str) -> list[int]:
        """As `encode`, but special tokens written in the text become their ids."""

    @abstractmethod
    def token(self, id: int) -> str:
        """The token with this id, as the tokenizer writes it."""

    @abstractmethod
    def id(self, token: str) -> int | None:
        """The id of a token, None if there is no such one."""

    @abstractmethod
    def _pieces(self) -> list[bytes]:
        """What each id stands for in UTF-8; nothing for special tokens."""

    @property
    @abstractmethod
    def byte_ids(self) -> list[int]:
        """Ids that stand for single bytes of rare characters; not those of line end and tab."""

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """Ids to text; bytes that do not form UTF-8 become U+FFFD."""
        return b"".join(
            self.token(i).encode()
            if i in self.special_ids and not skip_special
            else self.bytes_of(i)
            for i in ids
        ).decode("utf-8", errors="replace")

    def document(self, ids: Sequence[int]) -> list[int]:
        """A whole document for pretraining: its tokens between those that divide documents."""
        if self.bos_id == self.eos_id:
            return [self.bos_id, *ids]
        return [self.bos_id, *ids, self.eos_id]

    def beginning(self, text: str) -> list[int]:
        """A text for the model to continue; at least one token."""
        return [*self.start_ids, *self.encode(text)] or [self.bos_id]

    def bytes_of(self, id: int) -> bytes:
        """The UTF-8 bytes that a token stands for; none for special and unused ones."""
        return self._bytes[id] if id < len(self._bytes) else b""

    @cached_property
    def _bytes(self) -> list[bytes]:
        return self._pieces()

    @cached_property
    def token_bytes(self) -> np.ndarray:
        """(vocab,) int64: the UTF-8 bytes that each token stands for, 0 if special."""
        return np.array([len(piece) for piece in self._bytes], dtype=np.int64)


class StreamDecoder:
    """Text from ids that come one by one; gives out complete characters only."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, id: int) -> str:
        """The text that this id completes."""
        return self._decoder.decode(self._tokenizer.bytes_of(id))

    def flush(self) -> str:
        """What is left, incomplete characters as U+FFFD."""
        return self._decoder.decode(b"", final=True)
