"""The tokenizer as Hugging Face's libraries read it: the same ids from other code."""

from __future__ import annotations

from typing import Any

import sentencepiece

from chatgpt_cli.tokenizer.own import is_bpe
from chatgpt_cli.tokenizer.pieces import added_token, bpe_model, sentencepiece_json
from chatgpt_cli.tokenizer.special import BOS, CLS, EOS, MASK, PAD, SEP, SPECIAL_TOKENS, UNK

# Kept here, away from `chat`, which needs the tokenizer; a test holds this template and
# `chat.render` together token for token.
CHAT_TEMPLATE = (
    "{{- bos_token }}"
    "{%- for message in messages %}"
    "{{- '<|' + message['role'] + '|>' }}{{- message['content'] | trim }}{{- '<|end|>' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|assistant|>' }}{%- endif %}"
)

_NAMES = {
    "pad_token": PAD,
    "unk_token": UNK,
    "bos_token": BOS,
    "eos_token": EOS,
    "cls_token": CLS,
    "sep_token": SEP,
    "mask_token": MASK,
}


def tokenizer_files(model: bytes) -> dict[str, dict[str, Any]]:
    """File name → content of what `transformers` reads beside tokenizer.model."""
    names = {name: SPECIAL_TOKENS[index] for name, index in _NAMES.items()}
    return {
        "tokenizer.json": _tokenizer_json(sentencepiece.SentencePieceProcessor(model_proto=model)),
        "special_tokens_map.json": names,
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "chat_template": CHAT_TEMPLATE,
            "clean_up_tokenization_spaces": False,
            "model_input_names": ["input_ids", "attention_mask"],
            "additional_special_tokens": list(SPECIAL_TOKENS[MASK + 1 :]),
            **names,
        },
    }


def _tokenizer_json(processor: Any) -> dict[str, Any]:
    """tokenizer.json: SentencePiece's pieces in the `tokenizers` library's terms."""
    count = processor.vocab_size()
    pieces = [processor.id_to_piece(i) for i in range(count)]
    scores = [processor.get_score(i) for i in range(count)]
    is_special = [i < len(SPECIAL_TOKENS) for i in range(count)]
    has_bytes = any(processor.is_byte(i) for i in range(count))
    if is_bpe(processor):
        algorithm = bpe_model(
            pieces,
            range(count),
            [not (is_special[i] or processor.is_byte(i)) for i in range(count)],
            unk_token=SPECIAL_TOKENS[UNK],
            byte_fallback=has_bytes,
        )
    else:
        algorithm = {
            "type": "Unigram",
            "unk_id": UNK,
            "vocab": [[piece, score] for piece, score in zip(pieces, scores, strict=True)],
            "byte_fallback": has_bytes,
        }
    added = [added_token(index, token) for index, token in enumerate(SPECIAL_TOKENS)]
    return sentencepiece_json(algorithm, added, space_before=False)


def surround(content: dict[str, Any], *, causal: bool) -> dict[str, Any]:
    """tokenizer.json with a post-processor: [BOS] text [EOS], or [CLS] text [SEP] and
    [CLS] text [SEP] second text [SEP]."""
    first, last = (BOS, EOS) if causal else (CLS, SEP)
    begin, end = (
        {"SpecialToken": {"id": SPECIAL_TOKENS[index], "type_id": 0}} for index in (first, last)
    )
    one = [begin, {"Sequence": {"id": "A", "type_id": 0}}, end]
    names = {
        SPECIAL_TOKENS[index]: {
            "id": SPECIAL_TOKENS[index],
            "ids": [index],
            "tokens": [SPECIAL_TOKENS[index]],
        }
        for index in (first, last)
    }
    processor = {
        "type": "TemplateProcessing",
        "single": one,
        "pair": [*one, {"Sequence": {"id": "B", "type_id": 0}}, end],
        "special_tokens": names,
    }
    return {**content, "post_processor": processor}
