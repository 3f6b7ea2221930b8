"""A model of ours as a GGUF file for llama.cpp, with a made-up vocabulary."""

from __future__ import annotations

from pathlib import Path

import gguf
from gguf import quants

from chatgpt_cli.model.transformer import Transformer

_BLOCK = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}  # fmt: skip
_OTHERS = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}


def write_gguf(model: Transformer, path: Path, kind: str) -> None:
    """Write a model of the default architecture; `kind` is BF16, Q8_0 or Q4_0."""
    config = model.config
    writer = gguf.GGUFWriter(path, "qwen3")
    writer.add_context_length(config.context_length)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_heads)
    writer.add_head_count_kv(config.num_kv_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_vocab_size(config.vocab_size)
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    tokens = ["<unk>", "<s>", "</s>", *bytes_]
    tokens += [f"t{id}" for id in range(len(tokens), config.vocab_size)]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types([2, 3, 3, *[6] * 256, *[1] * (len(tokens) - 259)])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    wanted = gguf.GGMLQuantizationType[kind]
    for name, parameter in model.named_parameters():
        values = parameter.detach().float().numpy()
        form = wanted if values.ndim == 2 else gguf.GGMLQuantizationType.F32
        writer.add_tensor(_name(name), quants.quantize(values, form), raw_dtype=form)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _name(ours: str) -> str:
    if ours in _OTHERS:
        return _OTHERS[ours]
    _, _, layer, rest = ours.split(".", 3)
    part, _, kind = rest.rpartition(".")
    return f"blk.{layer}.{_BLOCK[part]}.{kind}"
