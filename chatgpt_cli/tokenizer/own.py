"""The tokenizer that this program trains."""

from __future__ import annotations

import hashlib
import re
from functools import cached_property
from pathlib import Path

import sentencepiece

from chatgpt_cli.command_line import same_run
from chatgpt_cli.errors import ModelError
from chatgpt_cli.files import write_json
from chatgpt_cli.tokenizer.special import BOS, END, EOS, PAD, SPECIAL_TOKENS, UNK
from chatgpt_cli.tokenizer.tokenizer import Tokenizer, whole_characters

_MODEL = "tokenizer.model"
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
            ids: list[int] = self._processor.encode(text)
        except RuntimeError:
            ids = self._processor.encode(whole_characters(text))
        return ids

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


def _is_own(processor: sentencepiece.SentencePieceProcessor) -> bool:
    count = min(len(SPECIAL_TOKENS), processor.vocab_size())
    return tuple(processor.id_to_piece(i) for i in range(count)) == SPECIAL_TOKENS
