"""The tokenizer that this program trains."""

from __future__ import annotations

import hashlib
import re
from functools import cached_property
from itertools import chain, pairwise
from pathlib import Path

import sentencepiece

from chatgpt_cli.command_line import same_run
from chatgpt_cli.errors import ModelError
from chatgpt_cli.files import write_json
from chatgpt_cli.tokenizer.special import BOS, END, EOS, PAD, SPECIAL_TOKENS, UNK
from chatgpt_cli.tokenizer.tokenizer import Tokenizer, whole_characters

_MODEL = "tokenizer.model"
# Characters that are encoded at a time: SentencePiece's BPE is half as fast again with
# lines as with whole books.
_PART = 300
_SPACE = "\u2581"
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_SPECIAL = re.compile("(" + "|".join(re.escape(token) for token in SPECIAL_TOKENS) + ")")


class OwnTokenizer(Tokenizer):
    """A SentencePiece model (its bytes in `model`) with this project's special tokens.

    Text is taken as it is: nothing is normalised, no space is added or lost, so that
    `decode(encode(text)) == text`. One exception: SentencePiece writes a space as U+2581
    inside its pieces, so a literal U+2581 comes back as a space.
    """

    bos_id, eos_id, pad_id, unk_id = BOS, EOS, PAD, UNK
    turn_end_id = END
    stop_ids = frozenset({END, EOS})
    special_ids = frozenset(range(len(SPECIAL_TOKENS)))
    start_ids = (BOS,)

    def __init__(self, model: bytes) -> None:
        """Raises ModelError if `model` is not a SentencePiece model of this project."""
        self.model = model
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"this is not a SentencePiece model ({error})") from error
        if not _is_own(self._processor):
            count = min(len(SPECIAL_TOKENS), self._processor.vocab_size())
            first = " ".join(self._processor.id_to_piece(i) for i in range(count))
            raise ModelError(
                f"the tokenizer was not made by this program: its first tokens are {first}",
                remedy=f"Train one with `chatgpt {same_run('preprocess')}`.",
            )

    def __reduce__(self) -> tuple[type[OwnTokenizer], tuple[bytes]]:
        return OwnTokenizer, (self.model,)

    @classmethod
    def in_folder(cls, folder: Path) -> OwnTokenizer | None:
        """The tokenizer of a folder, None if there is none or it is not of this program.

        Raises:
            ModelError: if there is one that cannot be read.
        """
        path = folder / _MODEL
        try:
            model = path.read_bytes()
            if not _is_own(sentencepiece.SentencePieceProcessor(model_proto=model)):
                return None
        except FileNotFoundError:
            return None
        except (OSError, RuntimeError, ValueError) as error:
            raise ModelError(
                f"this is not a SentencePiece model ({error})",
                place=str(path),
                remedy="The file is damaged: copy it again, or run "
                f"`chatgpt {same_run('preprocess')}`.",
            ) from error
        return cls(model)

    def save(self, folder: Path) -> None:
        from chatgpt_cli.tokenizer.huggingface import tokenizer_files

        folder.mkdir(parents=True, exist_ok=True)
        (folder / _MODEL).write_bytes(self.model)
        for name, content in tokenizer_files(self.model).items():
            write_json(folder / name, content)

    def save_for_texts(self, folder: Path, *, causal: bool) -> None:
        """As `save`, but programs that read tokenizer.json put the special tokens around a
        text with which a classifier was trained."""
        from chatgpt_cli.tokenizer.huggingface import surround, tokenizer_files

        self.save(folder)
        content = tokenizer_files(self.model)["tokenizer.json"]
        write_json(folder / "tokenizer.json", surround(content, causal=causal))

    @property
    def size_on_disk(self) -> int:
        # tokenizer.json and the others are made from the SentencePiece model.
        return 8 * len(self.model)

    @property
    def vocab_size(self) -> int:
        return int(self._processor.vocab_size())

    @cached_property
    def hash(self) -> str:
        return hashlib.sha256(self.model).hexdigest()

    def encode(self, text: str) -> list[int]:
        try:
            return self._encode(text)
        except (RuntimeError, TypeError):  # the latter if it is one of several parts
            return self._encode(whole_characters(text))

    def _encode(self, text: str) -> list[int]:
        if len(text) < 2 * _PART or not self._lines_are_apart:
            ids: list[int] = self._processor.encode(text)
            return ids
        parts = self._processor.encode(_parts(text), num_threads=1)
        return list(chain.from_iterable(parts))

    @cached_property
    def _lines_are_apart(self) -> bool:
        """Whether a text's tokens are those of its lines, one after the other.

        So it is with BPE, whose merges end at a line's end. (Unigram's sums of scores are
        rounded otherwise in a shorter text, and it gains nothing.)
        """
        pieces = (self.token(i) for i in range(self.vocab_size))
        return is_bpe(self._processor) and all(p == "\n" or "\n" not in p for p in pieces)

    def encode_with_special(self, text: str) -> list[int]:
        ids: list[int] = []
        for part in _SPECIAL.split(text):
            special = self.id(part) if part in SPECIAL_TOKENS else None
            ids += self.encode(part) if special is None else [special]
        return ids

    def token(self, id: int) -> str:
        return str(self._processor.id_to_piece(int(id)))

    def id(self, token: str) -> int | None:
        if token in SPECIAL_TOKENS:
            return SPECIAL_TOKENS.index(token)
        found = int(self._processor.piece_to_id(token))
        return found if self.token(found) == token else None

    @cached_property
    def byte_ids(self) -> list[int]:
        common = {self.id("<0x0A>"), self.id("<0x09>")}
        size = range(self.vocab_size)
        return [i for i in size if self._processor.is_byte(i) and i not in common]

    def _pieces(self) -> list[bytes]:
        pieces = [b""] * len(SPECIAL_TOKENS)
        for i in range(len(SPECIAL_TOKENS), self.vocab_size):
            piece = self.token(i)
            if self._processor.is_byte(i):
                match = _BYTE.fullmatch(piece)
                pieces.append(bytes([int(match[1], 16)]) if match else b"")
            else:
                pieces.append(piece.replace(_SPACE, " ").encode())
        return pieces


def is_bpe(processor: sentencepiece.SentencePieceProcessor) -> bool:
    """BPE's scores are minus the order of merging: whole numbers, falling one by one."""
    scores = [
        processor.get_score(i)
        for i in range(len(SPECIAL_TOKENS), processor.vocab_size())
        if not processor.is_byte(i) and processor.id_to_piece(i) != "\n"
    ]
    return len(scores) > 1 and all(a - b == 1 for a, b in pairwise(scores))


def _parts(text: str) -> list[str]:
    """The text divided after line ends, into parts of at least `_PART` characters but the last."""
    parts, start = [], 0
    while (end := text.find("\n", start + _PART)) >= 0:
        parts.append(text[start : end + 1])
        start = end + 1
    return [*parts, text[start:]]


def _is_own(processor: sentencepiece.SentencePieceProcessor) -> bool:
    count = min(len(SPECIAL_TOKENS), processor.vocab_size())
    return tuple(processor.id_to_piece(i) for i in range(count)) == SPECIAL_TOKENS
