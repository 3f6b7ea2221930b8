"""Which Hugging Face architecture a model is, and how parameters are named there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from chatgpt_cli.config.model import ModelConfig
from chatgpt_cli.tokenizer.special import CLS, MASK, SEP

Architecture = Literal["qwen3", "qwen2", "llama", "gpt2", "modernbert"]

_CLASS: dict[Architecture, str] = {
    "qwen3": "Qwen3ForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "llama": "LlamaForCausalLM",
    "gpt2": "GPT2LMHeadModel",
    "modernbert": "ModernBertForMaskedLM",
}

# The same with a score for each label in the place of tokens.
_CLASSIFIER: dict[Architecture, str] = {
    "qwen3": "Qwen3ForSequenceClassification",
    "qwen2": "Qwen2ForSequenceClassification",
    "llama": "LlamaForSequenceClassification",
    "gpt2": "GPT2ForSequenceClassification",
    "modernbert": "ModernBertForSequenceClassification",
}

# The model_type of folders that only this package reads.
OWN = "chatgpt_cli"


def has_counterpart(config: ModelConfig) -> Architecture | None:
    """The architecture as which `transformers` loads such a model; None if there is none."""
    c = config
    whole_heads = c.num_heads * c.head_dim == c.hidden_size and c.num_kv_heads == c.num_heads
    if c.causal and (c.norm, c.positions, c.mlp) == ("rmsnorm", "rope", "swiglu"):
        if c.qk_norm:
            return "qwen3" if c.bias in (False, "attention") else None
        # Their configurations refuse other sizes, although their code would compute them.
        if c.hidden_size % c.num_heads:
            return None
        return "qwen2" if c.bias == "qkv" else "llama"
    if c.qk_norm or c.norm != "layernorm" or not whole_heads or not isinstance(c.bias, bool):
        return None
    if c.causal and c.positions != "rope" and c.mlp == "gelu" and c.bias:
        return "gpt2"
    if not c.causal and c.positions == "rope" and c.mlp == "geglu" and c.rope_scaling is None:
        return "modernbert"
    return None


@dataclass(frozen=True)
class TextIds:
    """The ids of a tokenizer that config.json names."""

    pad: int
    bos: int
    eos: int


def describe(config: ModelConfig, dtype: str, ids: TextIds) -> dict[str, Any]:
    """The contents of config.json; the complete ModelConfig stands under "chatgpt_cli"."""
    architecture = has_counterpart(config)
    classes = _CLASSIFIER if config.labels else _CLASS
    common: dict[str, Any] = {
        "architectures": [classes[architecture] if architecture else "Transformer"],
        "model_type": architecture or OWN,
        "dtype": dtype,
        "vocab_size": config.vocab_size,
        "pad_token_id": ids.pad,
        "bos_token_id": ids.bos,
        "eos_token_id": ids.eos,
        "tie_word_embeddings": config.tie_embeddings,
    }
    if config.labels:
        common |= _labels(config)
    own = {OWN: config.model_dump(mode="json")}
    if architecture is None:
        return common | own
    shape = {"gpt2": _gpt2, "modernbert": _modernbert}.get(architecture, _llama)
    return common | shape(config) | own


def _labels(config: ModelConfig) -> dict[str, Any]:
    return {
        "id2label": {str(index): label for index, label in enumerate(config.labels)},
        "label2id": {label: index for index, label in enumerate(config.labels)},
        "problem_type": "single_label_classification",
    }


def _rope(config: ModelConfig) -> dict[str, Any]:
    scaling = config.rope_scaling
    if scaling is None:
        return {"rope_type": "default", "rope_theta": config.rope_theta}
    values: dict[str, Any] = {
        "rope_type": scaling.kind,
        "rope_theta": config.rope_theta,
        "factor": scaling.factor,
    }
    if scaling.kind != "linear":
        values["original_max_position_embeddings"] = scaling.original_context
    if scaling.kind == "llama3":
        values["low_freq_factor"] = scaling.low_frequency_factor
        values["high_freq_factor"] = scaling.high_frequency_factor
    if scaling.kind == "yarn":
        values["beta_fast"], values["beta_slow"] = scaling.beta_fast, scaling.beta_slow
        values["attention_factor"] = scaling.attention_factor
        values["truncate"] = scaling.truncate
    return values


def _llama(config: ModelConfig) -> dict[str, Any]:
    """Qwen and Llama; transformers before version 5 reads rope_theta at the top."""
    values: dict[str, Any] = {
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": config.context_length,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "rope_parameters": _rope(config),
        "attention_bias": config.qkv_bias,
        "attention_dropout": 0.0,
        "use_cache": True,
    }
    if config.rope_scaling is not None:
        values["rope_scaling"] = _rope(config)
    if not config.qk_norm:
        values["mlp_bias"] = config.mlp_bias
    return values


def _gpt2(config: ModelConfig) -> dict[str, Any]:
    return {
        "n_positions": config.context_length,
        "n_embd": config.hidden_size,
        "n_layer": config.num_layers,
        "n_head": config.num_heads,
        "n_inner": config.intermediate_size,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": config.norm_eps,
        "resid_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "attn_pdrop": 0.0,
        "use_cache": True,
    }


def _modernbert(config: ModelConfig) -> dict[str, Any]:
    """Every layer sees everything: no sliding windows."""
    return {
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "hidden_activation": "gelu",
        "classifier_activation": "gelu",
        "max_position_embeddings": config.context_length,
        "norm_eps": config.norm_eps,
        "norm_bias": config.bias,
        "attention_bias": config.bias,
        "mlp_bias": config.bias,
        "classifier_bias": config.bias,
        "classifier_pooling": "cls",
        "decoder_bias": False,
        "global_attn_every_n_layers": 1,
        "layer_types": ["full_attention"] * config.num_layers,
        "global_rope_theta": config.rope_theta,
        "local_rope_theta": config.rope_theta,
        "rope_parameters": {"full_attention": _rope(config), "sliding_attention": _rope(config)},
        "attention_dropout": 0.0,
        "mlp_dropout": 0.0,
        "embedding_dropout": config.dropout,
        "cls_token_id": CLS,
        "sep_token_id": SEP,
        "mask_token_id": MASK,
    }


@dataclass(frozen=True)
class Rename:
    """One tensor there and the tensors here that it is made of, joined along their rows."""

    theirs: str
    ours: tuple[str, ...]
    # GPT-2 keeps its matrices as (in, out).
    transposed: bool = False


_GPT2_LAYER = (
    Rename("ln_1", ("input_layernorm",)),
    Rename("attn.c_attn", tuple(f"self_attn.{p}_proj" for p in "qkv"), transposed=True),
    Rename("attn.c_proj", ("self_attn.o_proj",), transposed=True),
    Rename("ln_2", ("post_attention_layernorm",)),
    Rename("mlp.c_fc", ("mlp.up_proj",), transposed=True),
    Rename("mlp.c_proj", ("mlp.down_proj",), transposed=True),
)
_MODERNBERT_LAYER = (
    Rename("attn_norm", ("input_layernorm",)),
    Rename("attn.Wqkv", tuple(f"self_attn.{p}_proj" for p in "qkv")),
    Rename("attn.Wo", ("self_attn.o_proj",)),
    Rename("mlp_norm", ("post_attention_layernorm",)),
    Rename("mlp.Wi", ("mlp.gate_proj", "mlp.up_proj")),
    Rename("mlp.Wo", ("mlp.down_proj",)),
)


def renames(config: ModelConfig) -> list[Rename]:
    """How the modules are named in the saved folder, without ".weight" and ".bias".

    Names may occur that the model does not have (the lm_head of a tied model).
    """
    architecture = has_counterpart(config)
    if architecture == "gpt2":
        outer, layer, prefix = _GPT2_LAYER, "transformer.h", "transformer"
        names = [
            Rename(f"{prefix}.wte", ("model.embed_tokens",)),
            Rename(f"{prefix}.wpe", ("model.embed_positions",)),
            Rename(f"{prefix}.ln_f", ("model.norm",)),
            Rename("lm_head", ("lm_head",)),
            Rename("score", ("score",)),
        ]
    elif architecture == "modernbert":
        outer, layer = _MODERNBERT_LAYER, "model.layers"
        names = [
            Rename("model.embeddings.tok_embeddings", ("model.embed_tokens",)),
            Rename("model.embeddings.norm", ("model.embed_norm",)),
            Rename("model.final_norm", ("model.norm",)),
            Rename("head.dense", ("head.dense",)),
            Rename("head.norm", ("head.norm",)),
            Rename("decoder", ("lm_head",)),
            Rename("classifier", ("score",)),
        ]
    else:
        return []
    for index in range(config.num_layers):
        for rename in outer:
            ours = tuple(f"model.layers.{index}.{name}" for name in rename.ours)
            names.append(Rename(f"{layer}.{index}.{rename.theirs}", ours, rename.transposed))
    return names
