"""Text to token ids and back."""

from __future__ import annotations

import codecs
import hashlib
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import sentencepiece

from chatgpt_cli.errors import ModelError
from chatgpt_cli.files import write_json
from chatgpt_cli.tokenizer.special import SPECIAL_TOKENS

_MODEL = "tokenizer.model"
_SPACE = "\u2581"
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_SPECIAL = re.compile("(" + "|".join(re.escape(token) for token in SPECIAL_TOKENS) + ")")


class Tokenizer:
    """A SentencePiece model (its bytes in `model`) with this project's special tokens.

    Text is taken as it is: nothing is normalised, no space is added or lost, so that
    `decode(encode(text)) == text`. One exception: SentencePiece writes a space as U+2581
    inside its pieces, so a literal U+2581 comes back as a space.
    """

    def __init__(self, model: bytes) -> None:
        """Raises ModelError if `model` is not a SentencePiece model of this project."""
        self.model = model
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"this is not a SentencePiece model ({error})") from error
        count = min(len(SPECIAL_TOKENS), self._processor.vocab_size())
        first = tuple(self._processor.id_to_piece(i) for i in range(count))
        if first != SPECIAL_TOKENS:
            raise ModelError(
                "the tokenizer was not made by this program: its first tokens are "
                f"{' '.join(first)}",
                remedy="Train one with `chatgpt preprocess`.",
            )

    @classmethod
    def load(cls, folder: Path) -> Tokenizer:
        """Read the tokenizer of a run or a model folder.

        Raises:
            ModelError: if it is missing or damaged.
        """
        path = folder / _MODEL
        try:
            return cls(path.read_bytes())
        except OSError as error:
            raise ModelError(
                f"there is no tokenizer ({error.strerror})",
                place=str(path),
                remedy="Run `chatgpt preprocess` first.",
            ) from error
        except ModelError as error:
            raise ModelError(error.fact, place=str(path), remedy=error.remedy) from error

    def save(self, folder: Path) -> None:
        """Write all tokenizer files of a Hugging Face model folder."""
        from chatgpt_cli.tokenizer.huggingface import tokenizer_files

        folder.mkdir(parents=True, exist_ok=True)
        (folder / _MODEL).write_bytes(self.model)
        for name, content in tokenizer_files(self.model).items():
            write_json(folder / name, content)

    @property
    def vocab_size(self) -> int:
        return int(self._processor.vocab_size())

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the SentencePiece model."""
        return hashlib.sha256(self.model).hexdigest()

    def encode(self, text: str) -> list[int]:
        """Plain text to ids; never to a special token, whatever the text says."""
        ids: list[int] = self._processor.encode(text)
        return ids

    def encode_batch(self, texts: Sequence[str], threads: int = 1) -> list[list[int]]:
        """`encode` for many texts."""
        ids: list[list[int]] = self._processor.encode(list(texts), num_threads=threads)
        return ids

    def encode_with_special(self, text: str) -> list[int]:
        """As `encode`, but special tokens written in the text become their ids."""
        ids: list[int] = []
        for part in _SPECIAL.split(text):
            special = self.id(part) if part in SPECIAL_TOKENS else None
            ids += self.encode(part) if special is None else [special]
        return ids

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """Ids to text; bytes that do not form UTF-8 become U+FFFD."""
        return b"".join(
            self._bytes[i]
            if i >= len(SPECIAL_TOKENS) or skip_special
            else SPECIAL_TOKENS[i].encode()
            for i in ids
        ).decode("utf-8", errors="replace")

    def token(self, id: int) -> str:
        """The piece with this id, as SentencePiece writes it."""
        return str(self._processor.id_to_piece(int(id)))

    def id(self, token: str) -> int | None:
        """The id of a piece or special token, None if there is no such one."""
        if token in SPECIAL_TOKENS:
            return SPECIAL_TOKENS.index(token)
        found = int(self._processor.piece_to_id(token))
        return found if self.token(found) == token else None

    @cached_property
    def byte_ids(self) -> list[int]:
        """Ids that stand for single bytes of rare characters; not those of line end and tab."""
        common = {self.id("<0x0A>"), self.id("<0x09>")}
        size = range(self.vocab_size)
        return [i for i in size if self._processor.is_byte(i) and i not in common]

    def bytes_of(self, id: int) -> bytes:
        """The UTF-8 bytes that a token stands for; none for special tokens."""
        return self._bytes[id]

    @cached_property
    def _bytes(self) -> list[bytes]:
        """What each id stands for in UTF-8; nothing for special tokens."""
        pieces = [b""] * len(SPECIAL_TOKENS)
        for i in range(len(SPECIAL_TOKENS), self.vocab_size):
            piece = self.token(i)
            if self._processor.is_byte(i):
                match = _BYTE.fullmatch(piece)
                pieces.append(bytes([int(match[1], 16)]) if match else b"")
            else:
                pieces.append(piece.replace(_SPACE, " ").encode())
        return pieces

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
