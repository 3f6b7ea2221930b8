"""A causal Transformer rearranged for writing: the same function, fewer and larger steps.

Query, key and value share one matrix, as do an MLP's gate and input. The two halves of
a rotary pair lie side by side, so that a rotation is one complex product; query and key
are permuted alike, which leaves their products as they are. The attention scale is part
of the query's gain. Between the matrices all is float32.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chatgpt_cli.model.kv_cache import KVCache
from chatgpt_cli.model.lora import AdaptedLinear
from chatgpt_cli.model.native.decoder import NativeDecoder
from chatgpt_cli.model.native.linear import NativeLinear
from chatgpt_cli.model.norm import RMSNorm
from chatgpt_cli.model.packed_linear import Linear, Quantization, pack_linear
from chatgpt_cli.model.quantized import QuantizedLinear, QuantizedWeight, quantized_weights
from chatgpt_cli.model.scores import NextScores
from chatgpt_cli.model.transformer import Attention, Block, Transformer, matmul_attention

# Tokens of a prompt computed at one time: enough for full speed, and the scores stay small.
_CHUNK = 512


class InferenceModel:
    """Weights of a trained model, packed. The model itself is not changed or needed later.

    Attributes:
        config: the shape.
        device: where it computes.
    """

    @torch.inference_mode()
    def __init__(
        self,
        model: Transformer,
        quantization: Quantization = "none",
        *,
        library: ctypes.CDLL | None = None,
    ) -> None:
        """Pack the weights.

        Args:
            model: any causal one.
            quantization: how the matrices are stored.
            library: compiled code for the processor, see `load_library`; not used where
                it does not suit the model.

        Raises:
            ValueError: for a bidirectional model.
        """
        config = model.config
        if not config.causal:
            raise ValueError("only a causal model writes")
        self.config = config
        backbone = model.model
        weight = backbone.embed_tokens.weight.detach()
        self.device = weight.device
        # A model that was quantized before stays as it is.
        rounded = quantized_weights(model)
        if rounded:
            quantization = "int8" if next(iter(rounded.values())).bits == 8 else "int4"
        self.dtype = weight.dtype if quantization == "none" else torch.bfloat16
        if not _suits(model):
            library = None
        if library is not None:
            # The compiled products round what they multiply themselves.
            self.dtype = torch.float32
        self.embedding = weight.clone()
        self.positions: Tensor | None = None
        if config.positions == "learned":
            self.positions = backbone.embed_positions.weight.detach().float().clone()
        elif config.positions == "sinusoidal":
            self.positions = backbone.sinusoids
        self.rotations: Tensor | None = None  # (context, head_dim / 2) complex
        if config.positions == "rope":
            self.rotations = torch.complex(backbone.cos, backbone.sin)
        rope = config.positions == "rope"
        self.layers = [
            LayerWeights(block, quantization, library, rope=rope) for block in backbone.blocks()
        ]
        self.norm = NormWeights(backbone.norm)
        # The output matrix decides between close tokens: never in 4 bits.
        head: Quantization = "none" if quantization == "none" else "int8"
        self.head = _pack([(model.output_weight.detach().clone(), None)], head, library)
        self.native = None if library is None else NativeDecoder(library, self)
        # PyTorch's products of 16-bit vectors are slow on a CPU, where keys are read once a
        # token; the compiled code has half as much to read.
        slow = self.device.type == "cpu" and self.native is None
        self.cache_dtype = torch.float32 if slow else weight.dtype

    def new_cache(self) -> KVCache:
        """An empty cache for this model."""
        return KVCache(self.config, device=self.device, dtype=self.cache_dtype)

    def read(self, cache: KVCache, first: int, texts: Sequence[Sequence[int]]) -> Tensor:
        """As `prefill`, but the hidden state after every token: (texts, longest, hidden).

        What stands behind the end of a shorter text means nothing.
        """
        return torch.cat(list(self._read(cache, first, texts)), 1)

    def prefill(self, cache: KVCache, first: int, texts: Sequence[Sequence[int]]) -> Tensor:
        """Read new tokens into rows of the cache: the logits after each one's last, float32.

        Args:
            cache: rows `first` .. `first + len(texts) - 1` have begun; the tokens go
                behind what is there. There must be room for them.
            texts: one token at least for each row.

        Returns:
            (len(texts), vocab)
        """
        last = torch.empty(len(texts), self.config.hidden_size, device=self.device)
        for piece, hidden in enumerate(self._read(cache, first, texts)):
            for row, text in enumerate(texts):
                at = len(text) - 1 - piece * _CHUNK
                if 0 <= at < hidden.shape[1]:
                    last[row] = hidden[row, at]
        return self.logits(last)

    def _read(self, cache: KVCache, first: int, texts: Sequence[Sequence[int]]) -> Iterator[Tensor]:
        """The hidden states of one piece of the texts after another."""
        width = max(len(text) for text in texts)
        starts = cache.lengths[first : first + len(texts)]
        # Padding is written behind a row's tokens, where later ones will replace it.
        padded = torch.tensor([[*text, *[0] * (width - len(text))] for text in texts])
        padded = padded.to(self.device)
        for begin in range(0, width, _CHUNK):
            piece = padded[:, begin : begin + _CHUNK]
            yield self._forward(piece, cache, first, [start + begin for start in starts])
        for row, text in enumerate(texts):
            cache.lengths[first + row] = starts[row] + len(text)

    def decode(self, cache: KVCache, ids: Sequence[int]) -> NextScores:
        """One token more in every row of the cache: what comes after it."""
        lengths = list(cache.lengths)
        if self.native is not None:
            scores = self.native(cache, ids, range(len(ids)), lengths)
        else:
            column = torch.tensor(ids).to(self.device)[:, None]
            scores = NextScores.of(self.logits(self._forward(column, cache, 0, lengths)[:, 0]))
        cache.lengths = [length + 1 for length in lengths]
        return scores

    def extend(self, cache: KVCache, row: int, ids: Sequence[int]) -> NextScores:
        """A few tokens more in one row: what comes after each of them."""
        if self.native is None:
            return NextScores.of(self.logits(self.read(cache, row, [ids])[0]))
        first = cache.lengths[row]
        scores = self.native(cache, ids, [row] * len(ids), range(first, first + len(ids)))
        cache.lengths[row] = first + len(ids)
        return scores

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of every token, (..., vocab) float32."""
        return self.head(hidden.to(self.dtype)).float()

    def _forward(self, ids: Tensor, cache: KVCache, first: int, starts: list[int]) -> Tensor:
        """Hidden states (rows, time, hidden) of tokens (rows, time) behind `starts` others."""
        time = ids.shape[1]
        longest = min(max(starts) + time, cache.slots)
        even = min(starts) == max(starts)
        positions = torch.tensor(starts, device=self.device)[:, None]  # (rows, 1)
        if time > 1:
            # Padding may reach beyond the end: it is written to the last slot, unread.
            positions = positions + torch.arange(time, device=self.device)
            positions = positions.clamp_max(cache.slots - 1)
        mask = None
        if time > 1 or not even:
            hidden_keys = torch.arange(longest, device=self.device) > positions[..., None]
            mask = torch.zeros(hidden_keys.shape, device=self.device)
            mask = mask.masked_fill_(hidden_keys, -torch.inf)[:, None]  # (rows, 1, time, keys)
        fits = even and starts[0] + time <= cache.slots
        where = starts[0] if fits else positions
        x = F.embedding(ids, self.embedding).float()
        if self.positions is not None:
            x = x + self.positions[positions]
        turn = None
        if self.rotations is not None:
            turn = self.rotations[positions][:, :, None]  # (rows, time, 1, head_dim / 2)
        for index, layer in enumerate(self.layers):
            qkv = layer.project(x.shape, layer.norm(x).to(self.dtype), turn)
            cache.write(index, first, qkv[:, :, layer.heads :], where)
            keys, values = cache.read(index, first, ids.shape[0], longest)
            attended = layer.attend(qkv[:, :, : layer.heads], keys, values, mask)
            x = x + layer.out(attended.to(self.dtype))
            x = x + layer.mlp(layer.mlp_norm(x).to(self.dtype))
        return self.norm(x)


class LayerWeights:
    """One block's packed weights."""

    def __init__(
        self, block: Block, quantization: Quantization, library: ctypes.CDLL | None, *, rope: bool
    ) -> None:
        attention, mlp = block.self_attn, block.mlp
        self.head_dim = attention.head_dim
        self.heads = attention.q_proj.out_features // self.head_dim
        self.kv_heads = attention.k_proj.out_features // self.head_dim
        self.norm, self.mlp_norm = (
            NormWeights(block.input_layernorm),
            NormWeights(block.post_attention_layernorm),
        )
        self.eps = attention.q_norm.eps if attention.qk_norm else None
        self.gain = self._gain(attention, rope=rope)
        pairs = [_parts(one) for one in (attention.q_proj, attention.k_proj)]
        if rope:
            pairs = [_side_by_side(*pair, self.head_dim) for pair in pairs]
        self.qkv = _pack([*pairs, _parts(attention.v_proj)], quantization, library)
        self.out = _pack([_parts(attention.o_proj)], quantization, library)
        self.kind = mlp.kind
        ups = [mlp.up_proj] if mlp.kind == "gelu" else [mlp.gate_proj, mlp.up_proj]
        self.up = _pack([_parts(one) for one in ups], quantization, library)
        self.down = _pack([_parts(mlp.down_proj)], quantization, library)

    def _gain(self, attention: Attention, *, rope: bool) -> Tensor:
        """(heads + kv_heads, head_dim): q-norm and k-norm, and the attention scale."""
        weight = attention.q_proj.weight
        gain = torch.ones(self.heads + self.kv_heads, self.head_dim, device=weight.device)
        if attention.qk_norm:
            norms = [one.weight.detach().float() for one in (attention.q_norm, attention.k_norm)]
            q_gain, k_gain = [_interleaved(one) for one in norms] if rope else norms
            gain[: self.heads], gain[self.heads :] = q_gain, k_gain
        gain[: self.heads] *= self.head_dim**-0.5
        return gain

    def project(self, shape: torch.Size, normed: Tensor, turn: Tensor | None) -> Tensor:
        """Queries, keys and values: (rows, time, heads + 2 kv_heads, head_dim) float32."""
        qkv = self.qkv(normed).float().view(*shape[:2], -1, self.head_dim)
        qk = qkv[:, :, : self.heads + self.kv_heads]
        if self.eps is not None:
            qk.mul_(_inverse_rms(qk, self.eps))
        qk.mul_(self.gain)
        if turn is not None:
            pairs = qk.view(*qk.shape[:-1], self.head_dim // 2, 2)
            torch.view_as_complex(pairs).mul_(turn)
        return qkv

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """(rows, time, heads, head_dim) queries to (rows, time, heads * head_dim)."""
        rows, time = queries.shape[:2]
        if keys.device.type == "cpu":
            # Else what is read together would change a text by more than a few bits.
            keys, values = keys.float(), values.float()
        if time == 1:
            # Queries that share a key head are multiplied together.
            q = queries.to(keys.dtype).view(rows, self.kv_heads, -1, self.head_dim)
            scores = q @ keys.transpose(2, 3)
            if mask is not None:
                scores += mask
            return (scores.softmax(-1) @ values).view(rows, 1, -1)
        q = queries.transpose(1, 2).to(keys.dtype)
        if keys.device.type == "cpu":
            mixed = matmul_attention(q, keys, values, mask, causal=True, scale=1.0)
        else:
            mixed = F.scaled_dot_product_attention(
                q, keys, values, attn_mask=mask, scale=1.0, enable_gqa=True
            )
        return mixed.transpose(1, 2).reshape(rows, time, -1)

    def mlp(self, normed: Tensor) -> Tensor:
        """As the model's MLP."""
        up = self.up(normed)
        if self.kind == "gelu":
            return self.down(F.gelu(up, approximate="tanh"))
        gate, up = up.chunk(2, -1)
        return self.down((F.silu(gate) if self.kind == "swiglu" else F.gelu(gate)).mul_(up))


class NormWeights:
    """RMSNorm or LayerNorm of float32."""

    def __init__(self, norm: nn.Module) -> None:
        assert isinstance(norm, RMSNorm | nn.LayerNorm)
        self.rms = isinstance(norm, RMSNorm)
        self.eps = norm.eps
        self.weight = norm.weight.detach().float()
        bias = getattr(norm, "bias", None)
        self.bias = None if bias is None else bias.detach().float()

    def __call__(self, x: Tensor) -> Tensor:
        """Normalise the last axis of (..., hidden)."""
        if self.rms:
            return (x * _inverse_rms(x, self.eps)).mul_(self.weight)
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


def _inverse_rms(x: Tensor, eps: float) -> Tensor:
    """1 / sqrt(mean(x^2) + eps) over the last dimension, which is kept."""
    norm: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return norm.square_().mul_(1 / x.shape[-1]).add_(eps).rsqrt_()


def _parts(linear: nn.Module) -> tuple[Tensor | QuantizedWeight, Tensor | None]:
    """Weight and bias, with an adapter's share if the map has one."""
    if isinstance(linear, AdaptedLinear):
        linear = linear.merged()
    if isinstance(linear, QuantizedLinear):
        return linear.quantized, None if linear.bias is None else linear.bias.detach()
    assert isinstance(linear, nn.Linear)
    return linear.weight.detach(), None if linear.bias is None else linear.bias.detach()


def _side_by_side(
    weight: Tensor | QuantizedWeight, bias: Tensor | None, head_dim: int
) -> tuple[Tensor | QuantizedWeight, Tensor | None]:
    """A query's or key's map whose outputs are ordered as `_interleaved` says."""

    def order(rows: Tensor) -> Tensor:
        split = rows.view(-1, head_dim, rows.shape[1])
        return _interleaved(split.transpose(1, 2)).transpose(1, 2).reshape(rows.shape)

    weight = order(weight) if isinstance(weight, Tensor) else weight.rows(order)
    return weight, None if bias is None else _interleaved(bias.view(-1, head_dim)).reshape(-1)


def _interleaved(heads: Tensor) -> Tensor:
    """Elements i and i + head_dim / 2 of the last dimension side by side."""
    return torch.stack(heads.chunk(2, -1), -1).flatten(-2)


def _suits(model: Transformer) -> bool:
    """Whether the compiled code can compute this model."""
    weight = model.model.embed_tokens.weight
    return (
        weight.device.type == "cpu"
        and weight.dtype in (torch.float32, torch.bfloat16)
        and model.config.intermediate_size % 16 == 0
    )


def _pack(
    parts: list[tuple[Tensor | QuantizedWeight, Tensor | None]],
    quantization: Quantization,
    library: ctypes.CDLL | None,
) -> Linear:
    rounded = [weight for weight, _ in parts if isinstance(weight, QuantizedWeight)]
    biases = [bias for _, bias in parts if bias is not None]
    bias = torch.cat(biases) if biases else None
    weight: Tensor | QuantizedWeight
    if len(rounded) == len(parts):
        weight = QuantizedWeight.joined(rounded)
    else:
        wide = (w if isinstance(w, Tensor) else w.expanded() for w, _ in parts)
        weight = torch.cat(list(wide))
    if library is not None:
        return NativeLinear(library, weight, bias, quantization)
    return pack_linear(weight, bias, quantization)
