"""The model, to be read from top to bottom: one Transformer with orthogonal choices.

    tokens -> embedding (+ positions) -> [ norm, attention, +; norm, MLP, + ] x layers
           -> norm -> (bidirectional: prediction head) -> output matrix -> logits

Parameter names are those of Hugging Face's Qwen3 and Llama.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from chatgpt_cli.config.model import ModelConfig
from chatgpt_cli.model.linear import Linear
from chatgpt_cli.model.norm import RMSNorm
from chatgpt_cli.model.positions import rotary_tables, rotate, sinusoidal_table

if TYPE_CHECKING:
    from chatgpt_cli.model.lora import Adapter

AttentionKind = Literal["sdpa", "matmul"]


class Transformer(nn.Module):
    """A decoder (`config.causal`) or a bidirectional encoder with its output matrix.

    The weights are undefined until `initialize` or a checkpoint fills them.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        # Set by `lora.add_adapter`: only the adapter is trained then.
        self.adapter: Adapter | None = None
        self.model = Backbone(config)
        if not config.causal:
            self.head = PredictionHead(config)
        if config.labels:
            self.score = nn.Linear(config.hidden_size, len(config.labels), bias=False)
        elif not config.tie_embeddings:
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def forward(
        self,
        input_ids: Tensor,
        *,
        position_ids: Tensor | None = None,
        segment_ids: Tensor | None = None,
        branch_ids: Tensor | None = None,
    ) -> Tensor:
        """Hidden states after the final norm: (batch, time, hidden).

        Args:
            input_ids: (batch, time) int64.
            position_ids: (batch, time); 0, 1, 2, ... if left out.
            segment_ids: (batch, time); tokens attend only to tokens of the same value.
                Left out, all tokens of a row belong together and no mask is made.
            branch_ids: (batch, time); of texts that branch. All tokens of a text see its trunk,
                which is branch 0; those of another branch see only each other besides.

        Raises:
            ValueError: for more tokens than `config.context_length`.
        """
        hidden: Tensor = self.model(input_ids, position_ids, segment_ids, branch_ids)
        return hidden

    def features(self, hidden: Tensor) -> Tensor:
        """What the output matrix multiplies: `hidden`, or in an encoder its head's output."""
        if self.config.causal:
            return hidden
        features: Tensor = self.head(hidden)
        return features

    @property
    def output_weight(self) -> Tensor:
        """The output matrix, (vocab, hidden), the embedding itself when tied; of a classifier
        (labels, hidden)."""
        if self.config.labels:
            return self.score.weight
        return self.model.embed_tokens.weight if self.config.tie_embeddings else self.lm_head.weight

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of every token, (..., vocab), or of a classifier's labels, in float32."""
        return F.linear(self.features(hidden), self.output_weight).float()

    def set_attention(self, kind: AttentionKind) -> None:
        """Choose how attention is computed; the result is the same.

        "sdpa" is PyTorch's fused kernel. "matmul" writes out product, softmax and
        product, which compiles to faster code on CPU at short contexts.
        """
        self.model.attention_kind = kind
        for block in self.model.blocks():
            block.self_attn.kind = kind

    def set_int8_training(self, on: bool) -> None:
        """Multiply the blocks' matrices that are trained in 8 bits; see `linear`."""
        for module in self.model.layers.modules():
            if isinstance(module, Linear):
                module.int8 = on

    def set_gradient_checkpointing(self, on: bool) -> None:
        """Keep only each block's input for the backward pass and compute the rest again.

        A third more work for a fraction of the memory (Chen et al. 2016).
        """
        self.model.gradient_checkpointing = on

    def set_dropout(self, probability: float) -> None:
        """Dropout of embeddings and of each attention's and MLP's output while training."""
        self.model.dropout = probability
        for block in self.model.blocks():
            block.dropout = probability

    def freeze(self, layers: int, *, unseen_tokens: bool) -> None:
        """Leave the first blocks as they are, and the embedding if it is not the output too.

        A table that is both goes on learning as the output. As what is read it learns only
        with `unseen_tokens`, for a base that has not seen those of turns: the gradient has to
        go through the frozen blocks, which otherwise cost no more than in inference.
        """
        self.model.frozen = layers > 0 and not unseen_tokens
        for block in self.model.blocks()[:layers]:
            block.requires_grad_(False)
        if layers and (self.config.labels or not self.config.tie_embeddings):
            self.model.embed_tokens.requires_grad_(False)
        if self.model.frozen:
            # What is added to the embedding comes before the blocks too.
            for name in ("embed_positions", "embed_norm"):
                if (part := getattr(self.model, name, None)) is not None:
                    part.requires_grad_(False)

    def with_labels(self, labels: tuple[str, ...]) -> Transformer:
        """A classifier with these weights, and a score of zero for every label."""
        classifier = Transformer(self.config.model_copy(update={"labels": labels}))
        ours = dict(self.named_parameters())
        with torch.no_grad():
            for name, parameter in classifier.named_parameters():
                if name == "score.weight":
                    parameter.zero_()
                else:
                    parameter.copy_(ours[name])
        return classifier

    @torch.no_grad()
    def initialize(self, seed: int) -> None:
        """Fill all weights; the same on every device and in every precision.

        - Matrices that read the residual stream: normal with std hidden^-1/2, so that
          normalised input gives output of variance 1, at every width.
        - Matrices that write to it (o_proj, down_proj): zero. Each block starts as the
          identity, so depth does not disturb the first steps. A classifier's scores: zero.
        - Token and position tables and the output matrix: normal with std 0.02 (as input
          the scale does not matter, a norm comes next). A tied table smaller in wide
          models: before the blocks have learnt anything, a token's score for itself is
          std * hidden, and more than about 5 would make the first predictions sure and
          wrong.
        - Norm gains one, biases zero.
        """
        generator = torch.Generator().manual_seed(seed)
        width = self.config.hidden_size
        for name, parameter in self.named_parameters():
            if parameter.ndim < 2:
                parameter.fill_(0.0 if name.endswith("bias") else 1.0)
            elif name.endswith(("o_proj.weight", "down_proj.weight", "score.weight")):
                parameter.zero_()
            else:
                std = width**-0.5
                if "embed" in name or "lm_head" in name:
                    std = min(0.02, 5 / width) if self.config.tie_embeddings else 0.02
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)


@contextmanager
def inference(model: Transformer) -> Iterator[None]:
    """No gradients, no dropout; afterwards the model is as it was."""
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(training)


class Backbone(nn.Module):
    """Embedding, blocks and final norm."""

    cos: Tensor  # (context_length, head_dim / 2), with rotary positions
    sin: Tensor
    sinusoids: Tensor  # (context_length, hidden), with sinusoidal positions

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.dropout = config.dropout
        self.attention_kind: AttentionKind = "sdpa"
        self.gradient_checkpointing = False
        # Whether the first blocks, and with them the tokens' lookup, learn nothing.
        self.frozen = False
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        if config.positions == "learned":
            self.embed_positions = nn.Embedding(config.context_length, config.hidden_size)
        if not config.causal:
            self.embed_norm = make_norm(config)
        self.layers = nn.ModuleList(Block(config, index) for index in range(config.num_layers))
        self.norm = make_norm(config)
        self._make_tables(self.embed_tokens.weight.device)

    def blocks(self) -> list[Block]:
        """The layers, typed."""
        return [block for block in self.layers if isinstance(block, Block)]

    def _make_tables(self, device: torch.device) -> None:
        """Fixed position tables: not trained, not saved, always float32."""
        config = self.config
        if config.positions == "rope":
            cos, sin = rotary_tables(
                config.context_length, config.head_dim, config.rope_theta, config.rope_scaling
            )
            self.register_buffer("cos", cos.to(device), persistent=False)
            self.register_buffer("sin", sin.to(device), persistent=False)
        elif config.positions == "sinusoidal":
            # Vaswani et al. add the table to embeddings multiplied by sqrt(hidden)
            # (section 3.4). Here the table is divided instead: the first norm does not
            # see a common factor, and the token table stays fit to be the output matrix.
            table = sinusoidal_table(config.context_length, config.hidden_size)
            table = table * config.hidden_size**-0.5
            self.register_buffer("sinusoids", table.to(device), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # model.to(bfloat16) would round the tables: positions beyond 256 would blur.
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._make_tables(self.embed_tokens.weight.device)
        return self

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor | None,
        segment_ids: Tensor | None,
        branch_ids: Tensor | None = None,
    ) -> Tensor:
        """Arguments as `Transformer.forward`; hidden states (batch, time, hidden)."""
        time = input_ids.shape[1]
        if time > self.config.context_length:
            raise ValueError(
                f"{time} tokens are more than the context of {self.config.context_length}"
            )
        if position_ids is None:
            position_ids = torch.arange(time, device=input_ids.device)[None]

        x = self.embed(input_ids, position_ids)  # (batch, time, hidden)
        if self.frozen:
            x = x.detach()
        rotary = None
        if self.config.positions == "rope":
            # (batch or 1, 1, time, head_dim / 2): the same for all heads
            rotary = self.cos[position_ids][:, None], self.sin[position_ids][:, None]
        mask, is_causal = self.visibility(time, segment_ids, branch_ids, x)
        for block in self.layers:
            if self.gradient_checkpointing and self.training:
                x = checkpoint(block, x, rotary, mask, is_causal, use_reentrant=False)
            else:
                x = block(x, rotary, mask, is_causal)
        normed: Tensor = self.norm(x)
        return normed

    def embed(self, input_ids: Tensor, position_ids: Tensor) -> Tensor:
        """Tokens and absolute positions to (batch, time, hidden)."""
        x: Tensor = self.embed_tokens(input_ids)
        if self.config.positions == "learned":
            x = x + self.embed_positions(position_ids)
        elif self.config.positions == "sinusoidal":
            x = x + self.sinusoids[position_ids].to(x.dtype)
        if not self.config.causal:
            x = self.embed_norm(x)
        return F.dropout(x, self.dropout, self.training)

    def visibility(
        self, time: int, segment_ids: Tensor | None, branch_ids: Tensor | None, like: Tensor
    ) -> tuple[Tensor | None, bool]:
        """Who sees whom, as (mask, is_causal), once for all layers.

        The mask broadcasts to (batch, heads, time, keys): True where a query sees a
        key for "sdpa", a float32 summand of 0 and -inf for "matmul". None and False:
        all see all. None and True: the kernel itself hides what is to the right.
        """
        if segment_ids is None and branch_ids is None:
            if not self.config.causal or time == 1:
                return None, False
            if self.attention_kind == "sdpa":
                return None, True

        keys = torch.arange(time, device=like.device)
        queries = keys[:, None]
        visible = keys <= queries if self.config.causal else torch.ones_like(keys <= queries)
        visible = visible[None]  # (1, time, time)
        if segment_ids is not None:
            visible = visible & (segment_ids[:, :, None] == segment_ids[:, None])
        if branch_ids is not None:
            trunk = branch_ids[:, None] == 0
            visible = visible & (trunk | (branch_ids[:, :, None] == branch_ids[:, None]))
        visible = visible[:, None]
        if self.attention_kind == "sdpa":
            return visible, False
        # A sum has a cheaper gradient than a masked fill.
        zeros = torch.zeros_like(visible, dtype=torch.float32)
        return zeros.masked_fill(~visible, -torch.inf), False


class Block(nn.Module):
    """Attention, then an MLP, each reading a normalised copy of what it adds to."""

    def __init__(self, config: ModelConfig, index: int) -> None:
        super().__init__()
        self.dropout = config.dropout
        # An encoder's embedding is normalised already (ModernBERT).
        bare = index == 0 and not config.causal
        self.input_layernorm = nn.Identity() if bare else make_norm(config)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = make_norm(config)
        self.mlp = MLP(config)

    def forward(
        self,
        x: Tensor,
        rotary: tuple[Tensor, Tensor] | None,
        mask: Tensor | None,
        is_causal: bool,
    ) -> Tensor:
        """(batch, time, hidden) to the same shape; arguments as `Attention.forward`."""
        attended = self.self_attn(self.input_layernorm(x), rotary, mask, is_causal)
        x = x + F.dropout(attended, self.dropout, self.training)
        mapped = self.mlp(self.post_attention_layernorm(x))
        return x + F.dropout(mapped, self.dropout, self.training)


class Attention(nn.Module):
    """Multi-head attention; several query heads may share one key and value head."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        self.causal = config.causal
        self.kind: AttentionKind = "sdpa"
        self.grouped = config.num_heads != config.num_kv_heads
        query, shared = config.num_heads * self.head_dim, config.num_kv_heads * self.head_dim
        self.q_proj = Linear(config.hidden_size, query, bias=config.qkv_bias)
        self.k_proj = Linear(config.hidden_size, shared, bias=config.qkv_bias)
        self.v_proj = Linear(config.hidden_size, shared, bias=config.qkv_bias)
        self.o_proj = Linear(query, config.hidden_size, bias=config.output_bias)
        self.qk_norm = config.qk_norm
        if config.qk_norm:
            self.q_norm = RMSNorm(self.head_dim, config.norm_eps)
            self.k_norm = RMSNorm(self.head_dim, config.norm_eps)

    def forward(
        self,
        x: Tensor,
        rotary: tuple[Tensor, Tensor] | None,
        mask: Tensor | None,
        is_causal: bool,
    ) -> Tensor:
        """(batch, time, hidden) to the same shape.

        Args:
            rotary: cosines and sines, each (batch or 1, 1, time, head_dim / 2); None where
                positions are not rotary.
            mask: which keys a query sees, None for all or, if `is_causal`, those before it.
        """
        batch, time, _ = x.shape
        split = (batch, time, -1, self.head_dim)
        q = self.q_proj(x).view(split)  # (batch, time, heads, head_dim)
        k = self.k_proj(x).view(split)  # (batch, time, kv_heads, head_dim)
        v = self.v_proj(x).view(split).transpose(1, 2)  # (batch, kv_heads, time, head_dim)
        if self.qk_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = q.transpose(1, 2), k.transpose(1, 2)
        if rotary is not None:
            q, k = rotate(q, *rotary), rotate(k, *rotary)
        q, k = q.to(v.dtype), k.to(v.dtype)
        if self.kind == "sdpa":
            y = F.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, is_causal=is_causal, enable_gqa=self.grouped
            )
        else:
            y = matmul_attention(q, k, v, mask, causal=self.causal)
        # (batch, heads, time, head_dim) -> (batch, time, heads * head_dim)
        out: Tensor = self.o_proj(y.transpose(1, 2).reshape(batch, time, -1))
        return out


# Queries whose scores exist at one time: few enough that they stay in the processor's
# cache until they have been used, many enough for matrix kernels to run at speed.
_QUERIES = 128


def matmul_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    *,
    causal: bool,
    scale: float | None = None,
) -> Tensor:
    """softmax(scale q k^T + mask) v, written out, for some queries at a time.

    q is (batch, heads, time, head_dim), k and v are (batch, kv_heads, keys, head_dim);
    the queries are the last of the keys. A causal model's mask hides what is to the
    right of a query, so no scores are computed for the keys after a group's last query:
    on a CPU that is two to three times as fast as PyTorch's fused kernel, from 512 to
    2,048 tokens.
    The scale is 1 / sqrt(head_dim) if it is not given.
    """
    time, keys = q.shape[2], k.shape[2]
    q = q * (q.shape[-1] ** -0.5 if scale is None else scale)
    parts = []
    for start in range(0, time, _QUERIES):
        stop = min(start + _QUERIES, time)
        seen = keys - time + stop if causal else keys
        part = None if mask is None else mask[..., start:stop, :seen]
        parts.append(_attend(q[:, :, start:stop], k[:, :, :seen], v[:, :, :seen], part))
    return torch.cat(parts, 2)


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Attention of scaled queries to keys that all of them may see but for the mask.

    Scores stay in the dtype of the product, which rounded them already; softmax itself
    computes in float32. Half the memory traffic makes a compiled block 15% faster.
    Queries that share a key head are stacked along time, so that keys are not copied.
    """
    batch, heads, time, head_dim = q.shape
    shape = (batch, k.shape[1], -1, head_dim)
    if torch.is_grad_enabled():
        out: Tensor = _Attended.apply(q.reshape(shape), k, v, mask)  # type: ignore[no-untyped-call]
    else:
        out = _weights(q.reshape(shape), k, mask).to(v.dtype) @ v
    return out.view(batch, heads, time, head_dim)


def _weights(q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(q k^T + mask): (batch, kv_heads, queries, keys)."""
    scores = q @ k.transpose(2, 3)
    if mask is not None:
        apart = scores.view(q.shape[0], -1, mask.shape[-2], k.shape[2])
        scores = (apart + mask.to(scores.dtype)).view(scores.shape)
    return scores.softmax(-1)


class _Attended(torch.autograd.Function):
    """softmax(q k^T + mask) v with the gradient by k in the order in which k lies in memory.

    PyTorch's is that of k^T, and putting it right costs a compiled step 2%.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        weights = _weights(q, k, mask).to(v.dtype)
        ctx.save_for_backward(q, k, v, weights)
        return weights @ v

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, weights = ctx.saved_tensors
        (upstream,) = gradients
        by_weights = upstream @ v.transpose(2, 3)
        by_scores = torch._softmax_backward_data(by_weights, weights, -1, weights.dtype)
        return (
            by_scores @ k,
            by_scores.transpose(2, 3) @ q,
            weights.transpose(2, 3) @ upstream,
            None,
        )


class MLP(nn.Module):
    """Two linear maps with GELU between, or a gated version (Shazeer 2020)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.kind = config.mlp
        hidden, inner = config.hidden_size, config.intermediate_size
        if self.kind != "gelu":
            self.gate_proj = Linear(hidden, inner, bias=config.mlp_bias)
        self.up_proj = Linear(hidden, inner, bias=config.mlp_bias)
        self.down_proj = Linear(inner, hidden, bias=config.mlp_bias)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, time, hidden) to the same shape."""
        up = self.up_proj(x)  # (batch, time, intermediate)
        if self.kind == "swiglu":
            up = F.silu(self.gate_proj(x)) * up
        elif self.kind == "geglu":
            up = F.gelu(self.gate_proj(x)) * up
        else:
            up = F.gelu(up, approximate="tanh")  # GPT-2's
        down: Tensor = self.down_proj(up)
        return down


class PredictionHead(nn.Module):
    """An encoder's last step before the output matrix (BERT, ModernBERT)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size, bias=config.all_biases)
        self.norm = make_norm(config)

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., hidden) to the same shape, before the output matrix."""
        normed: Tensor = self.norm(F.gelu(self.dense(hidden)))
        return normed


def make_norm(config: ModelConfig) -> nn.Module:
    """The norm the configuration asks for, over the hidden dimension."""
    if config.norm == "rmsnorm":
        return RMSNorm(config.hidden_size, config.norm_eps)
    return nn.LayerNorm(config.hidden_size, config.norm_eps, bias=config.all_biases)
