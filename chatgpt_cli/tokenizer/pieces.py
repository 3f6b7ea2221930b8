"""SentencePiece vocabularies in the terms of the `tokenizers` library (tokenizer.json)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def bpe_model(
    pieces: Sequence[str], ranks: Sequence[float], mergeable: Sequence[bool], **options: Any
) -> dict[str, Any]:
    """A BPE model whose merges are rebuilt from the pieces.

    SentencePiece joins the neighbours whose joint piece was learnt first, however it is
    divided; so all divisions of a piece get its rank.

    Args:
        pieces: every token's text, at its id.
        ranks: which pieces were learnt first: smaller is earlier.
        mergeable: whether a piece is made by merging (no special token, no byte).
        options: other fields of the model, such as byte_fallback.
    """
    ids = {piece: index for index, piece in enumerate(pieces)}
    found: list[tuple[float, int, int, tuple[str, str]]] = []
    for index, piece in enumerate(pieces):
        if not mergeable[index] or len(piece) < 2:
            continue
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in ids and right in ids:
                found.append((ranks[index], ids[left], ids[right], (left, right)))
    found.sort()
    return {
        "type": "BPE",
        "dropout": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "ignore_merges": False,
        "vocab": ids,
        "merges": [list(pair) for *_, pair in found],
        **options,
    }


def added_token(id: int, content: str, *, special: bool = True) -> dict[str, Any]:
    """An entry of tokenizer.json's added_tokens."""
    return {
        "id": id,
        "content": content,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": special,
    }


def sentencepiece_json(
    algorithm: dict[str, Any],
    added: list[dict[str, Any]],
    *,
    space_before: bool,
    start: tuple[str, int] | None = None,
) -> dict[str, Any]:
    """tokenizer.json of a SentencePiece-like vocabulary.

    Args:
        algorithm: the BPE or Unigram model.
        added: special and other added tokens.
        space_before: whether a text is encoded as if a space stood before it.
        start: a special token that begins every text, and its id.
    """
    decoders: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if space_before:
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    processor = None
    if start is not None:
        token, id = start
        begin = {"SpecialToken": {"id": token, "type_id": 0}}
        processor = {
            "type": "TemplateProcessing",
            "single": [begin, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [
                begin,
                {"Sequence": {"id": "A", "type_id": 0}},
                {"Sequence": {"id": "B", "type_id": 1}},
            ],
            "special_tokens": {token: {"id": token, "ids": [id], "tokens": [token]}},
        }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Metaspace",
            "replacement": "▁",
            "prepend_scheme": "first" if space_before else "never",
            "split": False,
        },
        "post_processor": processor,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": algorithm,
    }
