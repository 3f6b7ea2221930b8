"""The tokenizer that came with a model from elsewhere, run by the `tokenizers` library."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sentencepiece

from chatgpt_cli.errors import ModelError
from chatgpt_cli.tokenizer.pieces import added_token, bpe_model, sentencepiece_json
from chatgpt_cli.tokenizer.tokenizer import Tokenizer, whole_characters

if TYPE_CHECKING:
    import tokenizers

    from chatgpt_cli.tokenizer.template import ChatTemplate

_JSON, _MODEL, _CONFIG = "tokenizer.json", "tokenizer.model", "tokenizer_config.json"
_TEMPLATE = "chat_template.jinja"
# Written back as they came when the model is saved.
_KEPT = (_JSON, _MODEL, _CONFIG, _TEMPLATE, "special_tokens_map.json")
_NAMES = ("bos", "eos", "pad", "unk")
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
# Ends of a turn that models are trained to write, whether or not their files say so.
_TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<|end|>", "<|endoftext|>", "<|end_of_text|>")


class ForeignTokenizer(Tokenizer):
    """A tokenizer.json with what the files beside it say: special tokens, chat template.

    Attributes:
        has_own_template: whether the model came with a chat template; a plain one,
            "User: … Assistant: …", stands in for a missing one.
    """

    def __init__(
        self, files: Mapping[str, bytes], *, end_ids: Sequence[int] = (), place: str = ""
    ) -> None:
        """Args:
            files: contents of tokenizer.json and, where there are, tokenizer_config.json,
                chat_template.jinja, special_tokens_map.json and tokenizer.model.
            end_ids: ids that end a text according to the model's own files.
            place: what an error names.

        Raises:
            ModelError: if the files are damaged or of a kind that is not supported.
        """
        self.files = dict(files)
        self._place = place
        self._given_ends = tuple(end_ids)
        self._tokenizer = self._read()
        self._plain = self._read()
        self._plain.encode_special_tokens = True
        try:
            self._settings: dict[str, Any] = json.loads(self.files.get(_CONFIG, b"{}"))
            self._layout: dict[str, Any] = json.loads(self.files[_JSON])
        except ValueError as error:
            raise self._unusable(f"not readable JSON ({error})") from error
        self._added = {
            int(id): token for id, token in self._tokenizer.get_added_tokens_decoder().items()
        }
        self.special_ids = frozenset(id for id, token in self._added.items() if token.special)
        self._find_special(end_ids)
        self.chat_template = self._template()

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (self.files, self._given_ends, self._place)

    def _read(self) -> tokenizers.Tokenizer:
        try:
            import tokenizers
        except ImportError as error:
            raise ModelError(
                "this model's tokenizer needs the `tokenizers` library",
                place=self._place,
                remedy="pip install 'chatgpt-cli[models]'",
            ) from error
        try:
            read = tokenizers.Tokenizer.from_buffer(self.files[_JSON])
        except Exception as error:  # the library raises nothing more specific
            raise self._unusable(f"the tokenizer cannot be read ({error})") from error
        read.no_truncation()
        read.no_padding()
        return read

    def _unusable(self, fact: str) -> ModelError:
        return ModelError(
            fact, place=self._place, remedy="Copy the whole model folder again, or choose another."
        )

    @classmethod
    def in_folder(cls, folder: Path) -> ForeignTokenizer | None:
        """The tokenizer of a model folder, None if there is none.

        Raises:
            ModelError: if there is one that cannot be used.
        """
        files = {name: (folder / name).read_bytes() for name in _KEPT if (folder / name).is_file()}
        if _JSON not in files and _MODEL not in files:
            return None
        if _JSON not in files:
            files[_JSON] = _from_sentencepiece(files[_MODEL], files.get(_CONFIG, b"{}"))
        return cls(files, end_ids=_end_ids(folder), place=str(folder))

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self.files.items():
            (folder / name).write_bytes(content)
        if not self.has_own_template and self.chat_template is not None:
            (folder / _TEMPLATE).write_text(self.chat_template.source, encoding="utf-8")

    # ------------------------------------------------------------- special tokens

    def _find_special(self, end_ids: Sequence[int]) -> None:
        named = {name: self._named(name) for name in _NAMES}
        ids = {name: None if token is None else self.id(token) for name, token in named.items()}
        self._special_names = {f"{k}_token": token for k, token in named.items() if token}
        known = [id for id in (ids["eos"], *end_ids) if id is not None]
        # A stop id, if any, keeps a model without a named end from writing for ever.
        ends = [*known, *(id for token in _TURN_ENDS if (id := self.id(token)) is not None)]
        if not ends:
            raise self._unusable("the tokenizer names no token that ends a text (eos_token)")
        self.eos_id = self.turn_end_id = ends[0]
        self.bos_id = self.eos_id if ids["bos"] is None else ids["bos"]
        self.pad_id = self.eos_id if ids["pad"] is None else ids["pad"]
        self.unk_id = ids["unk"]
        self.stop_ids = frozenset(ends)
        with_start = self._tokenizer.encode("a").ids
        bare = self._tokenizer.encode("a", add_special_tokens=False).ids
        self.start_ids = tuple(with_start[: next(
            (n for n in range(len(with_start)) if with_start[n : n + len(bare)] == bare), 0
        )])  # fmt: skip

    def _named(self, name: str) -> str | None:
        """The text of the bos, eos, pad or unk token."""
        for source in (_CONFIG, "special_tokens_map.json"):
            try:
                token = json.loads(self.files.get(source, b"{}")).get(f"{name}_token")
            except (ValueError, AttributeError):
                continue
            if isinstance(token, dict):
                token = token.get("content")
            if token is not None:
                return str(token)
        return None

    def _template(self) -> ChatTemplate:
        # Here, because a tokenizer of our own has no use for Jinja, which takes a while to load.
        from chatgpt_cli.tokenizer.template import PLAIN_TEMPLATE, ChatTemplate

        source: Any = self._settings.get("chat_template")
        if _TEMPLATE in self.files:
            source = self.files[_TEMPLATE].decode("utf-8")
        if isinstance(source, list):  # several, by name
            named = {one["name"]: one["template"] for one in source}
            source = named.get("default")
        self.has_own_template = isinstance(source, str)
        tokens = {"bos_token": "", "eos_token": "", **self._special_names}
        if not tokens["eos_token"]:
            tokens["eos_token"] = self.token(self.eos_id)
        return ChatTemplate(source if isinstance(source, str) else PLAIN_TEMPLATE, tokens)

    # ---------------------------------------------------------------- both ways

    @property
    def size_on_disk(self) -> int:
        return sum(len(content) for content in self.files.values())

    @cached_property
    def vocab_size(self) -> int:
        return max(self._tokenizer.get_vocab(with_added_tokens=True).values()) + 1

    @cached_property
    def hash(self) -> str:
        return hashlib.sha256(self.files[_JSON]).hexdigest()

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self._plain.encode(whole_characters(text), add_special_tokens=False).ids
        return ids

    def encode_with_special(self, text: str) -> list[int]:
        ids, _ = self.encode_with_offsets(text)
        return ids

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """As `encode_with_special`, with the characters [start, end) behind each token."""
        encoded = self._tokenizer.encode(whole_characters(text), add_special_tokens=False)
        return encoded.ids, encoded.offsets

    def special_tokens_in(self, text: str) -> list[str]:
        """The special tokens that occur in a text."""
        # There may be hundreds, and hardly a text has one.
        if self._any_special.search(text) is None:
            return []
        return [token for token in self._special_tokens if token in text]

    @cached_property
    def _special_tokens(self) -> list[str]:
        return [one.content for id, one in self._added.items() if id in self.special_ids]

    @cached_property
    def _any_special(self) -> re.Pattern[str]:
        # Of no token at all, what nothing matches.
        return re.compile("|".join(map(re.escape, self._special_tokens)) or r"(?!)")

    def token(self, id: int) -> str:
        return str(self._tokenizer.id_to_token(int(id)) or "")

    def id(self, token: str) -> int | None:
        found: int | None = self._tokenizer.token_to_id(token)
        return found

    @cached_property
    def byte_ids(self) -> list[int]:
        if self._is_byte_level:
            return []
        common = ("<0x0A>", "<0x09>")
        return [
            i
            for i in range(self.vocab_size)
            if _BYTE.fullmatch(self.token(i)) and self.token(i) not in common
        ]

    @cached_property
    def _is_byte_level(self) -> bool:
        """Whether every character of a token stands for a byte (GPT-2's way)."""
        return '"ByteLevel"' in json.dumps(self._layout.get("decoder"))

    def _pieces(self) -> list[bytes]:
        if not self._is_byte_level and "▁" not in json.dumps(
            self._layout.get("decoder"), ensure_ascii=False
        ):
            raise self._unusable("the tokenizer is neither byte-level nor SentencePiece's")
        alphabet = _byte_alphabet()
        pieces = []
        for id in range(self.vocab_size):
            token = self.token(id)
            if id in self._added:
                pieces.append(b"" if id in self.special_ids else token.encode())
            elif self._is_byte_level:
                pieces.append(b"".join(alphabet.get(c, c.encode()) for c in token))
            elif match := _BYTE.fullmatch(token):
                pieces.append(bytes([int(match[1], 16)]))
            else:
                pieces.append(token.replace("▁", " ").encode())
        return pieces


def _rebuilt(files: dict[str, bytes], end_ids: tuple[int, ...], place: str) -> ForeignTokenizer:
    """Another process's copy."""
    return ForeignTokenizer(files, end_ids=end_ids, place=place)


def _byte_alphabet() -> dict[str, bytes]:
    """The character that stands for each byte in a byte-level vocabulary.

    Printable Latin-1 characters stand for themselves, the other bytes, in order, for
    the characters from U+0100 on (Radford et al. 2019).
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    names = {chr(byte): bytes([byte]) for byte in printable}
    return names | {chr(256 + index): bytes([byte]) for index, byte in enumerate(others)}


def _end_ids(folder: Path) -> list[int]:
    """Ids that end a text by generation_config.json, else by config.json."""
    for name in ("generation_config.json", "config.json"):
        try:
            value = json.loads((folder / name).read_text(encoding="utf-8"))["eos_token_id"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        ids = value if isinstance(value, list) else [value]
        if found := [id for id in ids if isinstance(id, int)]:
            return found
    return []


def _from_sentencepiece(model: bytes, config: bytes) -> bytes:
    """tokenizer.json for a folder that has tokenizer.model only (Llama 2, Mistral).

    Raises:
        ModelError: if the model is damaged or not BPE.
    """
    try:
        processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        settings = json.loads(config)
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"tokenizer.model or {_CONFIG} cannot be read ({error})") from error
    size = range(processor.vocab_size())
    special = [processor.is_control(i) or processor.is_unknown(i) for i in size]
    pieces = [processor.id_to_piece(i) for i in size]
    mergeable = [not special[i] and not processor.is_byte(i) for i in size]
    algorithm = bpe_model(
        pieces,
        [-processor.get_score(i) for i in size],
        mergeable,
        unk_token=processor.id_to_piece(processor.unk_id()),
        byte_fallback=any(processor.is_byte(i) for i in size),
    )
    added = [added_token(i, pieces[i]) for i in size if special[i]]
    known = {token["content"] for token in added}
    for id, token in settings.get("added_tokens_decoder", {}).items():
        if token["content"] not in known:
            special_one = bool(token.get("special"))
            added.append(added_token(int(id), token["content"], special=special_one))
    bos = processor.bos_id()
    begins = settings.get("add_bos_token", True) and bos >= 0
    content = sentencepiece_json(
        algorithm,
        added,
        space_before=settings.get("add_prefix_space") is not False,
        start=(pieces[bos], bos) if begins else None,
    )
    return json.dumps(content, ensure_ascii=False).encode()
