"""Learning a vocabulary from text."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import sentencepiece

from chatgpt_cli.config.schema import TokenizerSection
from chatgpt_cli.errors import ChatGPTError, ConfigError
from chatgpt_cli.tokenizer.own import OwnTokenizer
from chatgpt_cli.tokenizer.special import BOS, EOS, PAD, SPECIAL_TOKENS, UNK

_BYTE_PIECES = 256
# SentencePiece takes sentences; longer lines are cut so that no text is left out.
_LONGEST = 4000
# That are tried where there is little text.
_SIZES = (280, 300, 320, 350, 400, 450, 512, 640, 768, *range(1024, 4097, 256))


def train_tokenizer(texts: Iterable[str], section: TokenizerSection) -> OwnTokenizer:
    """Train SentencePiece on `texts`, which are read once.

    Nothing is normalised and no space added, so that decoding gives back the text.

    Raises:
        ConfigError: if the vocabulary is too small for the special tokens and the
            characters, or larger than the text can support.
    """
    fixed = len(SPECIAL_TOKENS) + (_BYTE_PIECES if section.byte_fallback else 0)
    if section.type != "char" and section.vocab_size <= fixed:
        raise ConfigError(
            f"tokenizer.vocab_size ({section.vocab_size}) leaves no room for text: special tokens "
            f"and bytes take {fixed} of it",
            remedy=f"Set it to at least {2 * fixed}; 4096 suits small models.",
        )
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_sentences(texts), model_writer=model, **_options(section)
        )
    except (RuntimeError, OSError) as error:
        raise _explained(str(error), section) from error
    return OwnTokenizer(model.getvalue())


def _options(section: TokenizerSection) -> dict[str, Any]:
    char = section.type == "char"
    return {
        "model_type": section.type,
        "vocab_size": section.vocab_size,
        # A character vocabulary takes every character there is.
        "character_coverage": 1.0 if char else section.character_coverage,
        "hard_vocab_limit": not char,
        "byte_fallback": section.byte_fallback and not char,
        "split_digits": section.split_digits,
        # Digits are tokens of their own even where the sample has none of them.
        "required_chars": "" if char else "0123456789",
        # Without bytes to fall back on, a line end needs a token of its own.
        "user_defined_symbols": ["\n"] if char or not section.byte_fallback else [],
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "add_dummy_prefix": False,
        "allow_whitespace_only_pieces": True,
        "max_sentence_length": 16 * _LONGEST,
        "pad_id": PAD,
        "unk_id": UNK,
        "bos_id": BOS,
        "eos_id": EOS,
        "pad_piece": SPECIAL_TOKENS[PAD],
        "unk_piece": SPECIAL_TOKENS[UNK],
        "bos_piece": SPECIAL_TOKENS[BOS],
        "eos_piece": SPECIAL_TOKENS[EOS],
        "control_symbols": list(SPECIAL_TOKENS[EOS + 1 :]),
        # More threads would make the result depend on their number.
        "num_threads": 1,
        "minloglevel": 3,
    }


def fitting_vocab_size(texts: Sequence[str], wanted: int) -> int:
    """The size nearest to `wanted` that a tokenizer with default settings can have.

    Tried on the texts' different lines, and on four fifths of them, because cleaning,
    deduplication and held-out documents will take some away. `wanted` if none fits.
    """
    lines = list(dict.fromkeys(line for text in texts for line in text.splitlines(keepends=True)))
    fewer = [line for number, line in enumerate(lines) if number % 5]
    sizes = sorted({*_SIZES, wanted}, key=lambda size: abs(size - wanted))
    return next((s for s in sizes if _is_possible(lines, s) and _is_possible(fewer, s)), wanted)


def _is_possible(lines: list[str], size: int) -> bool:
    try:
        train_tokenizer(lines, TokenizerSection(vocab_size=size))
    except ChatGPTError:
        return False
    return True


def _sentences(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        for line in text.splitlines(keepends=True):
            for start in range(0, len(line), _LONGEST):
                # SentencePiece reserves NUL.
                yield line[start : start + _LONGEST].replace("\0", " ")


def _explained(message: str, section: TokenizerSection) -> ConfigError:
    too_large = re.search(r"value <= (\d+)", message)
    if too_large:
        return ConfigError(
            f"tokenizer.vocab_size ({section.vocab_size}) is larger than this text can support "
            f"({too_large[1]} at most)",
            remedy=f"Set tokenizer.vocab_size to {too_large[1]} or less, or add text.",
        )
    too_small = re.search(r"smaller than required_chars\. (\d+) vs (\d+)", message)
    if too_small:
        return ConfigError(
            f"tokenizer.vocab_size ({section.vocab_size}) is smaller than the characters of this "
            f"text need ({too_small[2]} with special tokens and bytes)",
            remedy=f"Set tokenizer.vocab_size to {too_small[2]} or more, or lower "
            "tokenizer.character_coverage.",
        )
    return ConfigError(f"the tokenizer could not be trained: {message.strip()}")
