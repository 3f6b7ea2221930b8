"""The shape of a model: every choice there is, and what it costs."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class RopeScaling(BaseModel):
    """How rotary positions are stretched to a context longer than the first training's.

    linear: positions divided by `factor` (Chen et al. 2023). llama3: slow rotations
    divided, fast ones kept, those between blended (Llama 3.1). yarn: the same idea with
    other borders, and attention sharpened (Peng et al. 2023).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["linear", "llama3", "yarn"]
    factor: float = Field(gt=0)
    # llama3 and yarn: the context before stretching.
    original_context: int = Field(8192, gt=0)
    # llama3: wavelengths above original_context / low are stretched in full, those
    # below original_context / high not at all.
    low_frequency_factor: float = Field(1.0, gt=0)
    high_frequency_factor: float = Field(4.0, gt=0)
    # yarn: the same borders in turns over the original context; and what cosines and
    # sines are multiplied by.
    beta_fast: float = Field(32.0, gt=0)
    beta_slow: float = Field(1.0, gt=0)
    attention_factor: float = Field(1.0, gt=0)
    # yarn: whether the borders are rounded outwards to whole dimensions.
    truncate: bool = True


# Which of the matrices inside the blocks have biases: all (then norms too), none, only
# queries, keys and values (Qwen2), all of attention, or only the MLP.
Biases = bool | Literal["qkv", "attention", "mlp"]


class ModelConfig(BaseModel):
    """All choices that determine a Transformer's parameters and function.

    `causal=True` is a decoder (next-token prediction); `causal=False` is a
    bidirectional encoder (masked language modelling), which also has a norm after
    the embedding and a dense prediction head, as BERT and ModernBERT do.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    vocab_size: int = Field(gt=0)
    hidden_size: int = Field(256, gt=0)
    num_layers: int = Field(6, gt=0)
    num_heads: int = Field(4, gt=0)
    num_kv_heads: int = Field(4, gt=0)
    head_dim: int = Field(64, gt=0)
    intermediate_size: int = Field(768, gt=0)
    # Position tables are made for all of it.
    context_length: int = Field(256, gt=1, le=1 << 20)
    norm: Literal["rmsnorm", "layernorm"] = "rmsnorm"
    positions: Literal["rope", "learned", "sinusoidal"] = "rope"
    mlp: Literal["swiglu", "geglu", "gelu"] = "swiglu"
    qk_norm: bool = True
    bias: Biases = False
    tie_embeddings: bool = True
    causal: bool = True
    dropout: float = Field(0.0, ge=0.0, lt=1.0)
    rope_theta: float = Field(10_000.0, gt=0)
    rope_scaling: RopeScaling | None = None
    norm_eps: float = Field(1e-6, gt=0)
    # A classifier's classes: scores of these take the place of those of tokens.
    labels: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_heads ({self.num_heads}) must be a multiple of "
                f"num_kv_heads ({self.num_kv_heads})"
            )
        if self.positions == "rope" and self.head_dim % 2:
            raise ValueError(f"head_dim ({self.head_dim}) must be even for rotary positions")
        if self.positions == "sinusoidal" and self.hidden_size % 2:
            raise ValueError(
                f"hidden_size ({self.hidden_size}) must be even for sinusoidal positions"
            )
        return self

    @property
    def qkv_bias(self) -> bool:
        """Whether queries, keys and values have biases."""
        return self.bias in (True, "qkv", "attention")

    @property
    def output_bias(self) -> bool:
        """Whether attention's output matrix has a bias."""
        return self.bias in (True, "attention")

    @property
    def mlp_bias(self) -> bool:
        """Whether the MLP's matrices have biases."""
        return self.bias in (True, "mlp")

    @property
    def all_biases(self) -> bool:
        """Whether whatever can have a bias has one, norms included."""
        return self.bias is True

    def num_parameters(self, *, embeddings: bool = True) -> int:
        """Number of trained parameters; `embeddings=False` leaves out token and
        position tables and the output head, as scaling laws count."""
        h, q, kv = (
            self.hidden_size,
            self.num_heads * self.head_dim,
            self.num_kv_heads * self.head_dim,
        )
        norm = h * (2 if self.norm == "layernorm" and self.all_biases else 1)
        attention = h * (q + 2 * kv) + q * h
        attention += self.qkv_bias * (q + 2 * kv) + self.output_bias * h
        if self.qk_norm:
            attention += 2 * self.head_dim
        gates = 1 if self.mlp == "gelu" else 2
        mlp = (gates + 1) * h * self.intermediate_size
        mlp += self.mlp_bias * (gates * self.intermediate_size + h)
        total = self.num_layers * (attention + mlp + 2 * norm) + norm
        if not self.causal:
            # The embedding norm stands in for the first block's attention norm;
            # the prediction head is a dense layer and a norm.
            total += norm + h * h + self.all_biases * h
        if embeddings:
            total += self.vocab_size * h
            total += 0 if self.tie_embeddings or self.labels else self.vocab_size * h
            total += len(self.labels) * h
            if self.positions == "learned":
                total += self.context_length * h
        return total

    def flops_per_token(self) -> int:
        """Floating-point operations per token of training at full context.

        Two per multiply-add of every matrix the token meets, output head included,
        plus attention's scores and sums over the context (half of it when causal);
        three times that, since the backward pass takes two forward passes' work (Kaplan et
        al. 2020, section 2.1; the attention term as in Chowdhery et al. 2022, appendix B).
        """
        scores = len(self.labels) or self.vocab_size
        matrices = self.num_parameters(embeddings=False) + scores * self.hidden_size
        span = self.context_length / 2 if self.causal else self.context_length
        attention = 2 * 2 * self.num_layers * self.num_heads * self.head_dim * span
        return int(3 * (2 * matrices + attention))


PRESETS: dict[str, dict[str, object]] = {
    # Sizes of the default architecture (Qwen3's), for a laptop and upwards.
    "nano": {"hidden_size": 128, "num_layers": 4, "num_heads": 4},  # about 1M + embeddings
    "tiny": {"hidden_size": 256, "num_layers": 6, "num_heads": 4},  # about 5M + embeddings
    "small": {"hidden_size": 384, "num_layers": 6, "num_heads": 6},  # about 11M + embeddings
    "medium": {"hidden_size": 512, "num_layers": 8, "num_heads": 8, "context_length": 512},
    "base": {"hidden_size": 768, "num_layers": 12, "num_heads": 12, "context_length": 1024},
    "large": {
        "hidden_size": 1024,
        "num_layers": 24,
        "num_heads": 16,
        "num_kv_heads": 8,
        "context_length": 2048,
    },
    # Other architectures, at the size of "tiny".
    "llama": {"hidden_size": 256, "num_layers": 6, "num_heads": 4, "qk_norm": False},
    "gpt2": {
        "hidden_size": 256,
        "num_layers": 6,
        "num_heads": 4,
        "norm": "layernorm",
        "positions": "learned",
        "mlp": "gelu",
        "qk_norm": False,
        "bias": True,
        "norm_eps": 1e-5,
    },
    # The article's: sinusoidal positions, multi-head attention, LayerNorm, GELU.
    "article": {
        "hidden_size": 256,
        "num_layers": 6,
        "num_heads": 4,
        "norm": "layernorm",
        "positions": "sinusoidal",
        "mlp": "gelu",
        "qk_norm": False,
        "bias": True,
        "norm_eps": 1e-5,
    },
    # A bidirectional encoder for masked language modelling (ModernBERT's choices).
    "bert": {
        "hidden_size": 256,
        "num_layers": 6,
        "num_heads": 4,
        "norm": "layernorm",
        "mlp": "geglu",
        "qk_norm": False,
        "causal": False,
        "norm_eps": 1e-5,
    },
}
