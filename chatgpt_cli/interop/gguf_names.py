"""What GGUF calls the parts of a model and of a tokenizer (llama.cpp's conventions)."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor

# Ours → GGUF's, without ".weight" and ".bias".
OUTER = {
    "model.embed_tokens": "token_embd",
    "model.embed_positions": "position_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}
LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}

# Kinds of tokens.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)


def gguf_name(name: str) -> str:
    """model.layers.3.mlp.up_proj.weight → blk.3.ffn_up.weight."""
    module, _, kind = name.rpartition(".")
    if module.startswith("model.layers."):
        index, _, part = module.removeprefix("model.layers.").partition(".")
        return f"blk.{index}.{LAYER[part]}.{kind}"
    return f"{OUTER[module]}.{kind}"


def interleave(tensor: Tensor, heads: int) -> Tensor:
    """Rows of a head from two halves to neighbouring pairs, which rotate together.

    GGUF files of the architecture "llama" pair neighbours, all else pairs halves.
    """
    halves = tensor.reshape(heads, 2, -1, *tensor.shape[1:])
    return halves.transpose(1, 2).reshape(tensor.shape)


def separate(tensor: Tensor, heads: int) -> Tensor:
    """What `interleave` did, undone."""
    pairs = tensor.reshape(heads, -1, 2, *tensor.shape[1:])
    return pairs.transpose(1, 2).reshape(tensor.shape)


def is_rotated(name: str) -> bool:
    """Whether a parameter (ours) makes queries or keys, whose rows have an order."""
    return name.endswith((".q_proj.weight", ".q_proj.bias", ".k_proj.weight", ".k_proj.bias"))


def long_context_factors(frequencies: Tensor, stretched: Tensor) -> Tensor:
    """What llama.cpp divides each frequency by (Llama 3.1's scaling): rope_freqs.weight."""
    return (frequencies / stretched).to(torch.float32)


# How byte-level vocabularies divide text before merging: llama.cpp's name → the
# pre-tokenizers of tokenizer.json before the bytes are made characters.
_DIGITS = {"type": "Digits", "individual_digits": True}
_TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_HEAD = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"


def _split(pattern: str) -> dict[str, Any]:
    return {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": "Isolated",
        "invert": False,
    }


def _bytes(use_regex: bool) -> dict[str, Any]:
    return {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": use_regex,
    }


PRE_TOKENIZERS: dict[str, list[dict[str, Any]]] = {
    "gpt-2": [_bytes(True)],
    "smollm": [_DIGITS, _bytes(True)],
    "qwen2": [_split(_HEAD + _TAIL), _bytes(False)],
    "llama-bpe": [_split(_HEAD + "{1,3}" + _TAIL), _bytes(False)],
}
# Other names of the same.
PRE_ALIASES = {
    "gpt2": "gpt-2",
    "default": "gpt-2",
    "llama3": "llama-bpe",
    "llama-v3": "llama-bpe",
    "deepseek-r1-qwen": "qwen2",
}


def pre_tokenizer_name(layout: dict[str, Any]) -> str | None:
    """llama.cpp's name for the way a tokenizer.json divides text; None if it has none."""
    steps = layout.get("pre_tokenizer") or {}
    found = steps.get("pretokenizers", [steps])
    signature = [_signature(step) for step in found]
    for name, known in PRE_TOKENIZERS.items():
        if signature == [_signature(step) for step in known]:
            return name
    return None


def _signature(step: dict[str, Any]) -> str:
    """What decides about a step's result."""
    kind = step.get("type")
    if kind == "ByteLevel":
        return json.dumps([kind, bool(step.get("add_prefix_space")), step.get("use_regex", True)])
    if kind == "Digits":
        return json.dumps([kind, bool(step.get("individual_digits"))])
    return json.dumps([kind, step.get("pattern"), step.get("behavior"), bool(step.get("invert"))])
