"""English sentences in what should be Chinese."""

from __future__ import annotations

import re

# Code, quotations, paths, settings, options, commands, addresses and types of values.
_CODE = re.compile(
    r"`[^`]*`|'[^']*'|\"[^\"]*\"|<[^>]*>|\[[\w.|]*\]"
    r"|\S*[/\\_=~@{}|#$]\S*|--?[\w-]+|\w+\.\w[\w.]*|\w+:\w+"
    r"|\b(?:chatgpt|pip|apt|make|xcode-select|ray|trackio|wandb)(?: [a-z-]+)?(?: -\S+)*"
    r"|\b[A-Z0-9]{2,}\w*|\w*\d\w*|\.\w+"
)
# Names, and words that stand for settings, values and formats in a message.
_NAMES = re.compile(
    r"\b(?:Python|PyTorch|Hugging Face(?: Hub)?|OpenAI|Parquet|Ray|SentencePiece|Alpaca|ShareGPT"
    r"|Weights & Biases|Trackio|Llama|Qwen|Muon|Click|Ctrl|Alt|Enter|Debian|Ubuntu|macOS|Apple|Hub"
    r"|transformers|llama|gguf|huggingface|Schema|API|GFLOP/s|FLOPs|Holm|bash|zsh|fish|shell"
    r"|txt md jsonl json csv tsv parquet|accuracy|bleu|chrf|ter|perplexity|classification"
    r"|language_modeling|nano tiny small medium base large|chosen|rejected|prompt)\b"
)
_SENTENCE = re.compile(r"[A-Za-z]{2,}(?:[ ,]+[A-Za-z']{2,}){2,}")


def english_in(text: str) -> str | None:
    """An English sentence in `text`, or a text that is nothing but English words."""
    rest = _NAMES.sub("·", _CODE.sub("·", text))
    found = _SENTENCE.search(rest)
    if found is not None:
        return found[0]
    words = re.findall(r"[A-Za-z]{2,}", rest)
    is_chinese = re.search(r"[\u4e00-\u9fff]", text) is not None
    return " ".join(words) if words and not is_chinese else None
