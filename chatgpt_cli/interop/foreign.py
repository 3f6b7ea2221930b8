"""The shape of other people's models, from their config.json."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from pydantic import ValidationError

from chatgpt_cli.config.model import Biases, ModelConfig, RopeScaling
from chatgpt_cli.errors import ModelError

# Buffers that older folders keep among the weights.
BUFFERS = re.compile(r"rotary_emb\.inv_freq$|(^|\.)h\.\d+\.attn\.(bias|masked_bias)$")


class _Unsupported(ValueError):
    """A choice of a supported architecture that this program does not compute."""


def foreign_config(contents: dict[str, Any], place: str) -> ModelConfig:
    """The shape of a Llama, Mistral, Qwen2, Qwen3 or GPT-2 model.

    Attention that sees a limited window is taken as a limited context: within it,
    both compute the same.

    Raises:
        ModelError: for another architecture, naming it and those that are supported,
            or a choice that is not supported.
    """
    kind = str(contents.get("model_type", "unknown"))
    read = _FAMILIES.get(kind)
    if read is None:
        raise ModelError(
            f"the architecture {kind!r} of this folder is not supported",
            place=place,
            remedy=f"Supported are {', '.join(_FAMILIES)}, and models trained with chatgpt.",
        )
    try:
        return ModelConfig.model_validate(read(contents))
    except _Unsupported as error:
        raise ModelError(
            f"this {kind} model has {error}, which is not supported", place=place
        ) from None
    except KeyError as error:
        raise ModelError(f"{error.args[0]} is missing", place=place) from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ModelError(f"{key}: {first['msg']}", place=place) from None


def _llama(c: dict[str, Any]) -> dict[str, Any]:
    """Llama, Mistral and what is built like them (SmolLM, TinyLlama, Yi)."""
    attention, mlp = bool(c.get("attention_bias")), bool(c.get("mlp_bias"))
    biases: Biases = attention
    if attention != mlp:
        biases = "attention" if attention else "mlp"
    return _rotary(c, bias=biases)


def _qwen2(c: dict[str, Any]) -> dict[str, Any]:
    return _rotary(c, bias="qkv")


def _qwen3(c: dict[str, Any]) -> dict[str, Any]:
    return _rotary(c, bias="attention" if c.get("attention_bias") else False, qk_norm=True)


def _rotary(c: dict[str, Any], *, bias: Biases, qk_norm: bool = False) -> dict[str, Any]:
    activation = c.get("hidden_act", "silu")
    if activation not in ("silu", "swish"):
        raise _Unsupported(f"the activation {activation}")
    hidden, heads = c["hidden_size"], c["num_attention_heads"]
    theta, scaling = _rope(c)
    return {
        "vocab_size": c["vocab_size"],
        "hidden_size": hidden,
        "num_layers": c["num_hidden_layers"],
        "num_heads": heads,
        "num_kv_heads": c.get("num_key_value_heads") or heads,
        "head_dim": c.get("head_dim") or hidden // heads,
        "intermediate_size": c["intermediate_size"],
        "context_length": _context(c),
        "qk_norm": qk_norm,
        "bias": bias,
        "tie_embeddings": bool(c.get("tie_word_embeddings", False)),
        "rope_theta": theta,
        "rope_scaling": scaling,
        "norm_eps": c.get("rms_norm_eps", 1e-6),
    }


def _context(c: dict[str, Any]) -> int:
    """The context, or the window if attention is limited to one."""
    context = int(c.get("max_position_embeddings", 2048))
    window = c.get("sliding_window")
    limited = c.get("use_sliding_window", c.get("model_type") == "mistral")
    return min(context, int(window)) if limited and window else context


def _rope(c: dict[str, Any]) -> tuple[float, RopeScaling | None]:
    """Base and scaling; transformers 5 writes both into rope_parameters, earlier ones apart."""
    parameters: dict[str, Any] = {
        **(c.get("rope_scaling") or {}),
        **(c.get("rope_parameters") or {}),
    }
    theta = float(parameters.get("rope_theta", c.get("rope_theta", 10_000.0)))
    kind = parameters.get("rope_type", parameters.get("type", "default"))
    if parameters.get("partial_rotary_factor", c.get("partial_rotary_factor", 1.0)) != 1.0:
        raise _Unsupported("rotary positions in a part of each head")
    if kind == "default":
        return theta, None
    if kind not in ("linear", "llama3", "yarn"):
        raise _Unsupported(f"rotary positions scaled by {kind!r} (linear, llama3 and yarn are)")
    values: dict[str, Any] = {"kind": kind, "factor": parameters["factor"]}
    if kind != "linear":
        original = parameters.get("original_max_position_embeddings")
        values["original_context"] = original or c["max_position_embeddings"]
    if kind == "llama3":
        values["low_frequency_factor"] = parameters["low_freq_factor"]
        values["high_frequency_factor"] = parameters["high_freq_factor"]
    if kind == "yarn":
        values["beta_fast"] = parameters.get("beta_fast") or 32.0
        values["beta_slow"] = parameters.get("beta_slow") or 1.0
        values["truncate"] = parameters.get("truncate", True)
        values["attention_factor"] = _yarn_attention(parameters)
    return theta, RopeScaling.model_validate(values)


def _yarn_attention(parameters: dict[str, Any]) -> float:
    """What cosines and sines are multiplied by (Peng et al. 2023, section 3.4)."""
    from math import log

    given = parameters.get("attention_factor")
    if given is not None:
        return float(given)
    factor = float(parameters["factor"])

    def scale(by: float) -> float:
        return 0.1 * by * log(factor) + 1.0 if factor > 1 else 1.0

    one, all_dimensions = parameters.get("mscale"), parameters.get("mscale_all_dim")
    return scale(one) / scale(all_dimensions) if one and all_dimensions else scale(1.0)


def _gpt2(c: dict[str, Any]) -> dict[str, Any]:
    activation = c.get("activation_function", "gelu_new")
    if activation not in ("gelu_new", "gelu_pytorch_tanh"):
        raise _Unsupported(f"the activation {activation}")
    if not c.get("scale_attn_weights", True) or c.get("scale_attn_by_inverse_layer_idx"):
        raise _Unsupported("attention scaled in another way")
    hidden, heads = c["n_embd"], c["n_head"]
    return {
        "vocab_size": c["vocab_size"],
        "hidden_size": hidden,
        "num_layers": c["n_layer"],
        "num_heads": heads,
        "num_kv_heads": heads,
        "head_dim": hidden // heads,
        "intermediate_size": c.get("n_inner") or 4 * hidden,
        "context_length": c.get("n_positions", 1024),
        "norm": "layernorm",
        "positions": "learned",
        "mlp": "gelu",
        "qk_norm": False,
        "bias": True,
        "tie_embeddings": bool(c.get("tie_word_embeddings", True)),
        "norm_eps": c.get("layer_norm_epsilon", 1e-5),
        "dropout": c.get("resid_pdrop", 0.0),
    }


_FAMILIES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "llama": _llama,
    "mistral": _llama,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "gpt2": _gpt2,
}


def own_names(names: list[str]) -> dict[str, str]:
    """Names in a folder → names as `transformers` writes them today, buffers left out.

    GPT-2's own files, and those of models saved without an output matrix, lack the
    first part of each name.
    """
    kept = [name for name in names if not BUFFERS.search(name)]
    if any(name.startswith("h.0.") for name in kept):
        return {name: f"transformer.{name}" for name in kept if name != "lm_head.weight"}
    if any(name.startswith("layers.0.") for name in kept):
        return {name: name if name.startswith("lm_head") else f"model.{name}" for name in kept}
    return {name: name for name in kept}
