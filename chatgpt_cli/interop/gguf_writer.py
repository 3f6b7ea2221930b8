"""Models as .gguf files, for llama.cpp and the programs built on it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from chatgpt_cli.config.model import ModelConfig
from chatgpt_cli.errors import ModelError
from chatgpt_cli.files import atomic_path
from chatgpt_cli.interop.architectures import has_counterpart
from chatgpt_cli.interop.gguf_names import (
    BYTE,
    CONTROL,
    NORMAL,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    gguf_name,
    interleave,
    is_rotated,
    long_context_factors,
    pre_tokenizer_name,
)
from chatgpt_cli.interop.huggingface import LoadedModel
from chatgpt_cli.model.positions import rotary_frequencies
from chatgpt_cli.model.transformer import Transformer
from chatgpt_cli.tokenizer.foreign import ForeignTokenizer
from chatgpt_cli.tokenizer.huggingface import CHAT_TEMPLATE, tokenizer_files
from chatgpt_cli.tokenizer.own import OwnTokenizer
from chatgpt_cli.tokenizer.special import UNK
from chatgpt_cli.tokenizer.tokenizer import Tokenizer

Quantization = Literal["f32", "f16", "bf16", "q8_0", "q4_0"]
# Numbers that share a scale in the quantized formats.
_BLOCK = 32


def write_gguf(loaded: LoadedModel, path: Path, *, quantization: Quantization, name: str) -> None:
    """Write model, tokenizer and chat template into one file, all of it or nothing.

    Norms and biases stay float32. With q4_0 the token tables are q8_0, since errors
    there reach every token.

    Raises:
        ModelError: if llama.cpp has no such architecture or tokenizer, or the `gguf`
            package is missing.
    """
    try:
        import gguf
    except ImportError as error:
        raise ModelError(
            "writing .gguf files needs the `gguf` package",
            remedy="pip install 'chatgpt-cli[models]'",
        ) from error
    architecture = _architecture(loaded.config)
    vocabulary = _vocabulary(loaded.tokenizer, loaded.config.vocab_size)
    with atomic_path(path) as temporary:
        writer = gguf.GGUFWriter(temporary, architecture)
        try:
            _describe(writer, loaded.config, architecture, name)
            writer.add_file_type(gguf.LlamaFileType[_FILE_TYPE[quantization]])
            if quantization.startswith("q"):
                writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
            _add_vocabulary(writer, vocabulary, loaded.tokenizer)
            for tensor_name, tensor in _tensors(loaded.model, architecture):
                kind = gguf.GGMLQuantizationType[_kind(tensor_name, tensor, quantization)]
                values = tensor.detach().float().cpu().contiguous().numpy()
                writer.add_tensor(tensor_name, gguf.quants.quantize(values, kind), raw_dtype=kind)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        finally:
            writer.close()


_FILE_TYPE = {
    "f32": "ALL_F32",
    "f16": "MOSTLY_F16",
    "bf16": "MOSTLY_BF16",
    "q8_0": "MOSTLY_Q8_0",
    "q4_0": "MOSTLY_Q4_0",
}


def _architecture(config: ModelConfig) -> str:
    """Raises ModelError if llama.cpp has none for the model."""
    if config.labels:
        raise ModelError(
            "a classifier cannot be written as .gguf",
            remedy="Its folder opens in transformers as AutoModelForSequenceClassification.",
        )
    found = has_counterpart(config) if config.causal else None
    if found is None or (found == "qwen3" and config.bias):
        raise ModelError(
            "llama.cpp has no architecture for this combination of norm, positions, MLP, "
            "qk_norm, bias and causal",
            remedy="The presets nano to large, llama, gpt2 and article have one.",
        )
    return found


def _describe(writer: Any, config: ModelConfig, architecture: str, name: str) -> None:
    """The shape, as metadata."""
    import gguf

    writer.add_name(name)
    writer.add_context_length(config.context_length)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_heads)
    writer.add_vocab_size(config.vocab_size)
    if architecture == "gpt2":
        writer.add_layer_norm_eps(config.norm_eps)
        return
    writer.add_head_count_kv(config.num_kv_heads)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_theta)
    scaling = config.rope_scaling
    if scaling is not None and scaling.kind != "llama3":
        kinds = {"linear": gguf.RopeScalingType.LINEAR, "yarn": gguf.RopeScalingType.YARN}
        writer.add_rope_scaling_type(kinds[scaling.kind])
        writer.add_rope_scaling_factor(scaling.factor)
        if scaling.kind == "yarn":
            writer.add_rope_scaling_orig_ctx_len(scaling.original_context)


def _kind(name: str, tensor: Tensor, quantization: Quantization) -> str:
    """The number format of one tensor."""
    if tensor.ndim < 2 or name.startswith("position_embd"):
        return "F32"
    if quantization.startswith("q") and tensor.shape[-1] % _BLOCK:
        return "F16"
    if quantization == "q4_0" and name.startswith(("token_embd", "output.")):
        return "Q8_0"
    return quantization.upper()


def _tensors(model: Transformer, architecture: str) -> Iterator[tuple[str, Tensor]]:
    """Every tensor under GGUF's name and in its layout."""
    config = model.config
    waiting: dict[str, list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        tensor: Tensor = parameter.detach()
        if architecture == "gpt2" and name.split(".")[-2] in ("q_proj", "k_proj", "v_proj"):
            index, kind = name.split(".")[2], name.rpartition(".")[2]
            fused = f"blk.{index}.attn_qkv.{kind}"
            waiting.setdefault(fused, []).append(tensor)
            if len(waiting[fused]) == 3:
                yield fused, torch.cat(waiting.pop(fused))
            continue
        if architecture == "llama" and is_rotated(name):
            heads = config.num_heads if ".q_proj." in name else config.num_kv_heads
            tensor = interleave(tensor, heads)
        yield gguf_name(name), tensor
    if config.positions == "sinusoidal":
        yield "position_embd.weight", model.model.sinusoids
    scaling = config.rope_scaling
    if scaling is not None and scaling.kind == "llama3":
        plain = rotary_frequencies(config.head_dim, config.rope_theta, None)
        stretched = rotary_frequencies(config.head_dim, config.rope_theta, scaling)
        yield "rope_freqs.weight", long_context_factors(plain, stretched)


# ------------------------------------------------------------------------- tokenizer


@dataclass(frozen=True)
class _Vocabulary:
    """A tokenizer in GGUF's terms."""

    model: Literal["llama", "t5", "gpt2"]
    pre: str
    tokens: list[str]
    kinds: list[int]
    scores: list[float] | None = None
    merges: list[str] | None = None
    space_before: bool = False


def _vocabulary(tokenizer: Tokenizer, size: int) -> _Vocabulary:
    if isinstance(tokenizer, OwnTokenizer):
        layout = tokenizer_files(tokenizer.model)["tokenizer.json"]
    elif isinstance(tokenizer, ForeignTokenizer):
        layout = json.loads(tokenizer.files["tokenizer.json"])
    else:
        raise ModelError("this tokenizer has no form in GGUF")
    algorithm = layout["model"]
    unused = [f"[UNUSED{id}]" for id in range(size)]
    tokens = [tokenizer.token(id) or unused[id] for id in range(tokenizer.vocab_size)]
    tokens += unused[len(tokens) :]
    kinds = _kinds(tokenizer, layout, tokens)
    byte_level = '"ByteLevel"' in json.dumps(layout.get("decoder"))
    merges = [" ".join(m) if isinstance(m, list) else m for m in algorithm.get("merges", [])]
    if byte_level:
        name = pre_tokenizer_name(layout)
        if name is None:
            raise ModelError("llama.cpp has no name for the way this tokenizer divides text")
        return _Vocabulary("gpt2", name, tokens, kinds, merges=merges)
    steps = json.dumps([layout.get("normalizer"), layout.get("pre_tokenizer")])
    space_before = '"Prepend"' in steps or '"first"' in steps or '"always"' in steps
    if algorithm["type"] == "Unigram":
        scores = [float(score) for _, score in algorithm["vocab"]]
        scores += [0.0] * (size - len(scores))
        return _Vocabulary("t5", "default", tokens, kinds, scores, space_before=space_before)
    rank: dict[str, int] = {}
    for merge in merges:
        rank.setdefault(merge.replace(" ", ""), len(rank))
    scores = [-float(rank.get(token, 0)) for token in tokens]
    return _Vocabulary("llama", "default", tokens, kinds, scores, space_before=space_before)


def _kinds(tokenizer: Tokenizer, layout: dict[str, Any], tokens: list[str]) -> list[int]:
    added = {token["id"]: token["special"] for token in layout["added_tokens"]}
    unknown = UNK if isinstance(tokenizer, OwnTokenizer) else tokenizer.unk_id
    kinds = []
    for id, token in enumerate(tokens):
        if (id == unknown and layout["model"]["type"] != "BPE") or id == unknown == UNK:
            kinds.append(UNKNOWN)
        elif id in added:
            kinds.append(CONTROL if added[id] else USER_DEFINED)
        elif token.startswith("[UNUSED"):
            kinds.append(UNUSED)
        elif len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
            kinds.append(BYTE)
        else:
            kinds.append(NORMAL)
    return kinds


def _add_vocabulary(writer: Any, vocabulary: _Vocabulary, tokenizer: Tokenizer) -> None:
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.kinds)
    if vocabulary.scores is not None:
        writer.add_token_scores(vocabulary.scores)
    if vocabulary.merges is not None:
        writer.add_token_merges(vocabulary.merges)
    writer.add_bos_token_id(tokenizer.bos_id)
    writer.add_eos_token_id(tokenizer.eos_id)
    writer.add_pad_token_id(tokenizer.pad_id)
    if tokenizer.unk_id is not None:
        writer.add_unk_token_id(tokenizer.unk_id)
    turn_end = next((id for id in sorted(tokenizer.stop_ids) if id != tokenizer.eos_id), None)
    if turn_end is not None:
        writer.add_eot_token_id(turn_end)
    writer.add_add_bos_token(bool(tokenizer.start_ids))
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(vocabulary.space_before)
    if vocabulary.model == "t5":
        writer.add_remove_extra_whitespaces(False)
    template = tokenizer.chat_template
    writer.add_chat_template(CHAT_TEMPLATE if template is None else template.source)
