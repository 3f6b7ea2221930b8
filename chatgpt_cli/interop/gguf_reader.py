"""Models from .gguf files: weights dequantized, tokenizer and chat template taken over."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from chatgpt_cli.config.model import Biases, ModelConfig, RopeScaling
from chatgpt_cli.errors import ModelError
from chatgpt_cli.interop.gguf_names import (
    BYTE,
    CONTROL,
    PRE_ALIASES,
    PRE_TOKENIZERS,
    UNKNOWN,
    USER_DEFINED,
    gguf_name,
    is_rotated,
    long_context_factors,
    separate,
)
from chatgpt_cli.model.positions import rotary_frequencies
from chatgpt_cli.tokenizer.foreign import ForeignTokenizer
from chatgpt_cli.tokenizer.pieces import added_token, bpe_model, sentencepiece_json

_ARCHITECTURES = ("llama", "qwen2", "qwen3", "gpt2")


@dataclass(frozen=True)
class GGUFModel:
    """A .gguf file, opened: what it says of itself, and its tensors where they lie."""

    path: Path
    fields: Mapping[str, Any]
    tensors: Mapping[str, Any]

    @property
    def architecture(self) -> str:
        """The family of models, such as "llama"."""
        return str(self.fields["general.architecture"])

    def value(self, name: str, default: Any = None) -> Any:
        """A value of the architecture, such as "block_count"."""
        return self.fields.get(f"{self.architecture}.{name}", default)

    @cached_property
    def config(self) -> ModelConfig:
        """The model's shape.

        Raises:
            ModelError: if something is missing or not supported.
        """
        try:
            return ModelConfig.model_validate(self._shape())
        except KeyError as error:
            raise self._unusable(f"{error.args[0]} is missing") from None
        except ValidationError as error:
            first = error.errors()[0]
            raise self._unusable(f"{first['loc'][0]}: {first['msg']}") from None

    def _unusable(self, fact: str) -> ModelError:
        return ModelError(fact, place=str(self.path))

    def _number(self, name: str) -> int:
        value = self.value(name)
        if not isinstance(value, int):
            raise KeyError(f"{self.architecture}.{name}")
        return value

    def _shape(self) -> dict[str, Any]:
        hidden, heads = self._number("embedding_length"), self._number("attention.head_count")
        gpt2 = self.architecture == "gpt2"
        epsilon = "layer_norm_epsilon" if gpt2 else "layer_norm_rms_epsilon"
        shape: dict[str, Any] = {
            "vocab_size": self._rows("token_embd.weight"),
            "hidden_size": hidden,
            "num_layers": self._number("block_count"),
            "num_heads": heads,
            "num_kv_heads": int(self.value("attention.head_count_kv") or heads),
            "head_dim": int(self.value("attention.key_length") or hidden // heads),
            "intermediate_size": self._number("feed_forward_length"),
            "context_length": self._number("context_length"),
            "norm_eps": float(self.value(f"attention.{epsilon}", 1e-5)),
            "tie_embeddings": "output.weight" not in self.tensors,
            "qk_norm": "blk.0.attn_q_norm.weight" in self.tensors,
            "bias": self._biases(),
        }
        if gpt2:
            return shape | {"norm": "layernorm", "positions": "learned", "mlp": "gelu"}
        shape["rope_theta"] = float(self.value("rope.freq_base", 10_000.0))
        shape["rope_scaling"] = self._scaling(shape["rope_theta"], shape["head_dim"])
        return shape

    def _rows(self, name: str) -> int:
        if name not in self.tensors:
            raise KeyError(name)
        return int(self.tensors[name].shape[-1])

    def _biases(self) -> Biases:
        if self.architecture == "gpt2":
            return True
        queries = "blk.0.attn_q.bias" in self.tensors
        output = "blk.0.attn_output.bias" in self.tensors
        mlp = "blk.0.ffn_up.bias" in self.tensors
        if output and mlp:
            return True
        if mlp:
            return "mlp"
        return ("attention" if output else "qkv") if queries else False

    def _scaling(self, theta: float, head_dim: int) -> RopeScaling | None:
        kind = self.value("rope.scaling.type", "none")
        factor = float(self.value("rope.scaling.factor", 1.0))
        original = self.value("rope.scaling.original_context_length")
        if "rope_freqs.weight" in self.tensors:
            return self._llama3(theta, head_dim)
        if kind == "none" or factor == 1.0:
            return None
        if kind == "linear":
            return RopeScaling(kind="linear", factor=factor)
        if kind != "yarn" or original is None:
            raise self._unusable(f"rotary positions scaled by {kind!r} are not supported")
        return RopeScaling(
            kind="yarn",
            factor=factor,
            original_context=int(original),
            attention_factor=1 + 0.1 * float(torch.log(torch.tensor(factor))),
        )

    def _llama3(self, theta: float, head_dim: int) -> RopeScaling:
        """The scaling whose factors the file holds: Llama 3.1's own, the only ones in use."""
        wanted = self.tensor("rope_freqs.weight")
        scaling = RopeScaling(kind="llama3", factor=float(wanted.max()))
        plain = rotary_frequencies(head_dim, theta, None)
        found = long_context_factors(plain, rotary_frequencies(head_dim, theta, scaling))
        if found.shape != wanted.shape or not torch.allclose(found, wanted, rtol=1e-3):
            raise self._unusable("its scaling of rotary positions is not Llama 3.1's")
        return scaling

    # ------------------------------------------------------------------- weights

    def tensor(self, name: str) -> Tensor:
        """A tensor in float32.

        Raises:
            ModelError: if it is missing or of a number format that cannot be read.
        """
        from gguf import quants

        if name not in self.tensors:
            raise self._unusable(f"the tensor {name} is missing")
        stored = self.tensors[name]
        try:
            values = quants.dequantize(stored.data, stored.tensor_type)
        except (NotImplementedError, ValueError) as error:
            kind = stored.tensor_type.name
            raise self._unusable(f"{name} is {kind}, which cannot be read ({error})") from error
        return torch.from_numpy(values.copy()).float()

    def weight(self, name: str) -> Tensor:
        """A parameter by our name, in our layout."""
        if self.architecture == "gpt2" and ".self_attn." in name and "o_proj" not in name:
            return self._from_fused(name)
        tensor = self.tensor(gguf_name(name))
        if self.architecture == "llama" and is_rotated(name):
            config = self.config
            heads = config.num_heads if ".q_proj." in name else config.num_kv_heads
            tensor = separate(tensor, heads)
        return tensor

    def _from_fused(self, name: str) -> Tensor:
        prefix, _, rest = name.partition(".self_attn.")
        part, _, kind = rest.partition(".")
        index = prefix.rpartition(".")[2]
        fused = self.tensor(f"blk.{index}.attn_qkv.{kind}")
        return fused.chunk(3)["qkv".index(part[0])]

    # ----------------------------------------------------------------- tokenizer

    def tokenizer(self) -> ForeignTokenizer:
        """The tokenizer that the file holds, as that of a model folder.

        Raises:
            ModelError: if it is of a kind that is not supported.
        """
        tokens = [str(token) for token in self.fields["tokenizer.ggml.tokens"]]
        kinds = list(self.fields.get("tokenizer.ggml.token_type") or [1] * len(tokens))
        added = [
            added_token(id, tokens[id], special=kind in (CONTROL, UNKNOWN))
            for id, kind in enumerate(kinds)
            if kind in (CONTROL, UNKNOWN, USER_DEFINED)
        ]
        model = self.fields.get("tokenizer.ggml.model")
        if model == "gpt2":
            content = self._byte_level(tokens, added)
        elif model in ("llama", "t5"):
            content = self._pieces(tokens, kinds, added, unigram=model == "t5")
        else:
            raise self._unusable(f"its tokenizer is of the kind {model!r}, which is not supported")
        named = {
            f"{ours}_token": tokens[id]
            for ours, theirs in _IDS.items()
            if isinstance(id := self.fields.get(f"tokenizer.ggml.{theirs}_token_id"), int)
            and id < len(tokens)
        }
        settings = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            "model_input_names": ["input_ids", "attention_mask"],
            **named,
        }
        if isinstance(template := self.fields.get("tokenizer.chat_template"), str):
            settings["chat_template"] = template
        ends = [self.fields.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot")]
        return ForeignTokenizer(
            {
                "tokenizer.json": json.dumps(content, ensure_ascii=False).encode(),
                "tokenizer_config.json": json.dumps(settings, ensure_ascii=False).encode(),
            },
            end_ids=[id for id in ends if isinstance(id, int)],
            place=str(self.path),
        )

    def _start(self, tokens: list[str]) -> tuple[str, int] | None:
        """The token before every text, if there is one."""
        default = self.fields.get("tokenizer.ggml.model") == "llama"
        bos = self.fields.get("tokenizer.ggml.bos_token_id")
        wanted = self.fields.get("tokenizer.ggml.add_bos_token", default)
        return (tokens[bos], bos) if wanted and isinstance(bos, int) else None

    def _pieces(
        self, tokens: list[str], kinds: list[int], added: list[dict[str, Any]], *, unigram: bool
    ) -> dict[str, Any]:
        """A SentencePiece vocabulary."""
        scores = [float(score) for score in self.fields["tokenizer.ggml.scores"]]
        unknown = int(self.fields.get("tokenizer.ggml.unknown_token_id", 0))
        has_bytes = BYTE in kinds
        if unigram:
            algorithm: dict[str, Any] = {
                "type": "Unigram",
                "unk_id": unknown,
                "vocab": [[token, score] for token, score in zip(tokens, scores, strict=True)],
                "byte_fallback": has_bytes,
            }
        else:
            algorithm = bpe_model(
                tokens,
                [-score for score in scores],
                [kind == 1 for kind in kinds],
                unk_token=tokens[unknown],
                byte_fallback=has_bytes,
            )
        return sentencepiece_json(
            algorithm,
            added,
            space_before=bool(self.fields.get("tokenizer.ggml.add_space_prefix", True)),
            start=self._start(tokens),
        )

    def _byte_level(self, tokens: list[str], added: list[dict[str, Any]]) -> dict[str, Any]:
        """A byte-level BPE vocabulary; the file names the way in which it divides text."""
        name = str(self.fields.get("tokenizer.ggml.pre", "default"))
        steps = PRE_TOKENIZERS.get(PRE_ALIASES.get(name, name))
        if steps is None:
            raise self._unusable(
                f"its tokenizer divides text in the way {name!r}, which is not supported "
                f"({', '.join(PRE_TOKENIZERS)} are)"
            )
        content = sentencepiece_json({}, added, space_before=False, start=self._start(tokens))
        merges = [str(merge).split(" ", 1) for merge in self.fields["tokenizer.ggml.merges"]]
        return content | {
            "normalizer": {"type": "NFC"} if name == "qwen2" else None,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps},
            "decoder": {
                "type": "ByteLevel",
                "add_prefix_space": True,
                "trim_offsets": True,
                "use_regex": True,
            },
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": None,
                "continuing_subword_prefix": "",
                "end_of_word_suffix": "",
                "fuse_unk": False,
                "byte_fallback": False,
                "ignore_merges": PRE_ALIASES.get(name, name) == "llama-bpe",
                "vocab": {token: id for id, token in enumerate(tokens)},
                "merges": merges,
            },
        }


_IDS = {"bos": "bos", "eos": "eos", "pad": "padding", "unk": "unknown"}


def open_gguf(path: Path) -> GGUFModel:
    """Open a .gguf file; its tensors are read when asked for.

    Raises:
        ModelError: if it is damaged or of an architecture that is not supported.
    """
    about = path.stat()
    return _opened(path, about.st_mtime_ns, about.st_size)


# Commands ask for the shape before they load the model, and reading a large vocabulary
# takes seconds.
@lru_cache(maxsize=1)
def _opened(path: Path, _modified: int, _size: int) -> GGUFModel:
    try:
        import gguf
    except ImportError as error:
        raise ModelError(
            "reading .gguf files needs the `gguf` package",
            place=str(path),
            remedy="pip install 'chatgpt-cli[models]'",
        ) from error
    try:
        reader = gguf.GGUFReader(path)
        fields = {name: field.contents() for name, field in reader.fields.items()}
        tensors = {tensor.name: tensor for tensor in reader.tensors}
    except (OSError, ValueError, IndexError, KeyError, TypeError) as error:
        raise ModelError(
            f"not a readable GGUF file ({error})",
            place=str(path),
            remedy="The file is damaged or incomplete: copy it again.",
        ) from error
    kind = fields.get("general.architecture")
    if kind not in _ARCHITECTURES:
        raise ModelError(
            f"the architecture {kind!r} of this file is not supported",
            place=str(path),
            remedy=f"Supported are {', '.join(_ARCHITECTURES)}.",
        )
    return GGUFModel(path, fields, tensors)
