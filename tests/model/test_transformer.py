"""The Transformer: who sees whom, and every choice against formulas written out."""

import itertools
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from chatgpt_cli.config.model import PRESETS, ModelConfig
from chatgpt_cli.config.schema import ModelSection
from chatgpt_cli.model import transformer
from chatgpt_cli.model.positions import sinusoidal_table
from chatgpt_cli.model.transformer import AttentionKind, Transformer

KINDS: tuple[AttentionKind, ...] = ("sdpa", "matmul")

CHOICES: dict[str, dict[str, Any]] = {
    "qwen3": {},
    "grouped": {"num_kv_heads": 2, "head_dim": 6},
    "one_kv_head": {"num_kv_heads": 1, "tie_embeddings": False},
    "llama": {"qk_norm": False, "rope_theta": 500.0},
    "gpt2": {"norm": "layernorm", "positions": "learned", "mlp": "gelu", "bias": True,
             "qk_norm": False},
    "article": {"norm": "layernorm", "positions": "sinusoidal", "mlp": "gelu", "bias": True,
                "qk_norm": False},
    "bert": {"norm": "layernorm", "mlp": "geglu", "qk_norm": False, "causal": False},
    "odd": {"norm": "rmsnorm", "positions": "learned", "mlp": "geglu", "bias": True,
            "num_kv_heads": 2, "causal": False, "tie_embeddings": False},
}  # fmt: skip


@pytest.fixture(autouse=True)
def _several_groups_of_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Written-out attention takes its queries in groups, also on these short texts."""
    monkeypatch.setattr(transformer, "_QUERIES", 7)


def build(dtype: torch.dtype = torch.float32, **choices: Any) -> Transformer:
    """A small model with every weight random, norms and biases too."""
    shape: dict[str, Any] = {
        "vocab_size": 40, "hidden_size": 32, "num_layers": 2, "num_heads": 4, "num_kv_heads": 4,
        "head_dim": 8, "intermediate_size": 48, "context_length": 24,
    }  # fmt: skip
    model = Transformer(ModelConfig(**{**shape, **choices}))
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
        parameter.data += 1.0 if parameter.ndim == 1 else 0.0
    return model.to(dtype).eval()


def tokens(rows: int = 3, length: int = 12) -> torch.Tensor:
    return torch.randint(0, 40, (rows, length), generator=torch.Generator().manual_seed(2))


def reference_logits(model: Transformer, row: list[int]) -> torch.Tensor:
    """(time, vocab) for one sequence in float64, one position and head at a time."""
    c = model.config
    w = {name: value.detach().double() for name, value in model.state_dict().items()}

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return w[f"{name}.weight"] @ x + w.get(f"{name}.bias", torch.zeros(1))

    def rms(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return weight * x / math.sqrt(float(x @ x) / len(x) + c.norm_eps)

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        if c.norm == "rmsnorm":
            return rms(x, w[f"{name}.weight"])
        centred = x - x.mean()
        scaled = centred / math.sqrt(float(centred @ centred) / len(x) + c.norm_eps)
        return scaled * w[f"{name}.weight"] + w.get(f"{name}.bias", torch.zeros(1))

    def turn(x: torch.Tensor, position: int) -> torch.Tensor:
        half, out = c.head_dim // 2, x.clone()
        for i in range(half):
            angle = position * c.rope_theta ** (-2 * i / c.head_dim)
            out[i] = x[i] * math.cos(angle) - x[i + half] * math.sin(angle)
            out[i + half] = x[i] * math.sin(angle) + x[i + half] * math.cos(angle)
        return out

    def head(x: torch.Tensor, name: str, index: int, position: int) -> torch.Tensor:
        part = x[index * c.head_dim : (index + 1) * c.head_dim]
        if c.qk_norm:
            part = rms(part, w[f"{name}.weight"])
        return turn(part, position) if c.positions == "rope" else part

    def gelu(x: torch.Tensor) -> torch.Tensor:
        return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))

    def mlp(x: torch.Tensor, name: str) -> torch.Tensor:
        up = linear(x, f"{name}.up_proj")
        if c.mlp == "gelu":
            inner = 0.5 * up * (1 + torch.tanh(math.sqrt(2 / math.pi) * (up + 0.044715 * up**3)))
        else:
            gate = linear(x, f"{name}.gate_proj")
            inner = up * (gelu(gate) if c.mlp == "geglu" else gate / (1 + torch.exp(-gate)))
        return linear(inner, f"{name}.down_proj")

    def attention(xs: list[torch.Tensor], name: str) -> list[torch.Tensor]:
        q, k, v = ([linear(x, f"{name}.{part}_proj") for x in xs] for part in "qkv")
        outputs = []
        for t in range(len(xs)):
            heads = []
            for h in range(c.num_heads):
                shared = h // (c.num_heads // c.num_kv_heads)
                seen = range(t + 1) if c.causal else range(len(xs))
                query = head(q[t], f"{name}.q_norm", h, t)
                scores = [
                    math.exp(float(query @ head(k[s], f"{name}.k_norm", shared, s))
                             / math.sqrt(c.head_dim))
                    for s in seen
                ]  # fmt: skip
                values = [v[s][shared * c.head_dim : (shared + 1) * c.head_dim] for s in seen]
                total = sum(scores)
                mixed = [e / total * x for e, x in zip(scores, values, strict=True)]
                heads.append(torch.stack(mixed).sum(0))
            outputs.append(linear(torch.cat(heads), f"{name}.o_proj"))
        return outputs

    xs = [w["model.embed_tokens.weight"][token] for token in row]
    for t in range(len(xs)):
        if c.positions == "learned":
            xs[t] = xs[t] + w["model.embed_positions.weight"][t]
        elif c.positions == "sinusoidal":
            wave = [
                (math.sin if d % 2 == 0 else math.cos)(t / 10_000 ** (d // 2 * 2 / c.hidden_size))
                for d in range(c.hidden_size)
            ]
            xs[t] = xs[t] + torch.tensor(wave, dtype=torch.float64) / math.sqrt(c.hidden_size)
    if not c.causal:
        xs = [norm(x, "model.embed_norm") for x in xs]
    for layer in range(c.num_layers):
        name = f"model.layers.{layer}"
        bare = layer == 0 and not c.causal
        normed = xs if bare else [norm(x, f"{name}.input_layernorm") for x in xs]
        attended = attention(normed, f"{name}.self_attn")
        xs = [x + y for x, y in zip(xs, attended, strict=True)]
        xs = [x + mlp(norm(x, f"{name}.post_attention_layernorm"), f"{name}.mlp") for x in xs]
    xs = [norm(x, "model.norm") for x in xs]
    if not c.causal:
        xs = [norm(gelu(linear(x, "head.dense")), "head.norm") for x in xs]
    output = w["model.embed_tokens.weight" if c.tie_embeddings else "lm_head.weight"]
    return torch.stack([output @ x for x in xs])


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_choice_against_formulas_in_float64(name: str, kind: AttentionKind) -> None:
    model = build(torch.float64, **CHOICES[name])
    model.set_attention(kind)
    ids = tokens(2, 7)
    logits = model.features(model(ids)) @ model.output_weight.T
    for row in range(2):
        expected = reference_logits(model, ids[row].tolist())
        # The tables of angles are float32.
        torch.testing.assert_close(logits[row], expected, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["qwen3", "grouped", "gpt2", "article"])
@settings(max_examples=10, deadline=None)
@given(position=st.integers(0, 11), token=st.integers(0, 39))
def test_a_later_token_never_changes_an_earlier_output(
    name: str, kind: AttentionKind, position: int, token: int
) -> None:
    model = build(**CHOICES[name])
    model.set_attention(kind)
    before, after = tokens(1), tokens(1)
    after[0, position] = token
    assert torch.equal(model(before)[:, :position], model(after)[:, :position])


@pytest.mark.parametrize("kind", KINDS)
def test_a_bidirectional_model_sees_both_sides(kind: AttentionKind) -> None:
    model = build(**CHOICES["bert"])
    model.set_attention(kind)
    ids = tokens(1)
    outputs = model(ids)
    for position in (0, 11):
        changed = ids.clone()
        changed[0, position] = (ids[0, position] + 1) % 40
        assert ((model(changed) - outputs).abs().amax(-1) > 1e-6).all()


@pytest.mark.parametrize("name", CHOICES)
def test_both_attention_implementations_agree(name: str) -> None:
    model = build(**CHOICES[name])
    segments = torch.tensor([[1] * 5 + [2] * 7, [1] * 12, [1] * 9 + [0] * 3])
    for segment_ids in (None, segments):
        outputs = []
        for kind in KINDS:
            model.set_attention(kind)
            outputs.append(model(tokens(), segment_ids=segment_ids))
        torch.testing.assert_close(*outputs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CHOICES)
def test_packed_sequences_equal_separate_ones(name: str, kind: AttentionKind) -> None:
    model = build(**CHOICES[name])
    model.set_attention(kind)
    ids = tokens(1, 12)
    parts = [(0, 4), (4, 9), (9, 12)]
    segments = torch.tensor([[1] * 4 + [2] * 5 + [3] * 3])
    positions = torch.tensor([[*range(4), *range(5), *range(3)]])
    packed = model.logits(model(ids, position_ids=positions, segment_ids=segments))
    separate = [model.logits(model(ids[:, a:b])) for a, b in parts]
    torch.testing.assert_close(packed, torch.cat(separate, 1), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", CHOICES)
def test_gradients_reach_every_parameter_after_one_step(name: str) -> None:
    # At the first step the zero output projections hide what is inside their block.
    model = Transformer(build(**CHOICES[name]).config)
    model.initialize(0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(3):
        optimizer.zero_grad()
        logits = model.logits(model(tokens()))
        F.cross_entropy(logits.flatten(0, 1), tokens().roll(1, 1).flatten()).backward()
        optimizer.step()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        if not parameter_name.endswith("k_proj.bias"):  # softmax does not see it
            assert parameter.grad.abs().sum() > 0, parameter_name


@pytest.mark.parametrize("preset", PRESETS)
def test_parameter_count_of_presets(preset: str) -> None:
    config = ModelSection(preset=preset).build(vocab_size=100)
    with torch.device("meta"):
        model = Transformer(config)
    assert sum(p.numel() for p in model.parameters()) == config.num_parameters()


def test_parameter_count_of_all_choices() -> None:
    options: dict[str, tuple[Any, ...]] = {
        "norm": ("rmsnorm", "layernorm"), "positions": ("rope", "learned", "sinusoidal"),
        "mlp": ("swiglu", "geglu", "gelu"), "qk_norm": (False, True), "bias": (False, True),
        "tie_embeddings": (False, True), "causal": (False, True), "num_kv_heads": (2, 4),
    }  # fmt: skip
    base = build().config.model_dump()
    for values in itertools.product(*options.values()):
        config = ModelConfig(**{**base, **dict(zip(options, values, strict=True))})
        with torch.device("meta"):
            model = Transformer(config)
        assert sum(p.numel() for p in model.parameters()) == config.num_parameters(), config


def test_sinusoidal_table_is_the_papers_formula() -> None:
    table = sinusoidal_table(50, 12)
    for position, dim in itertools.product(range(50), range(12)):
        angle = position / 10_000 ** (2 * (dim // 2) / 12)
        expected = math.sin(angle) if dim % 2 == 0 else math.cos(angle)
        assert table[position, dim].item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", CHOICES)
def test_initialisation_depends_on_the_seed_alone(name: str) -> None:
    config = build(**CHOICES[name]).config
    one, two, other = Transformer(config), Transformer(config), Transformer(config).bfloat16()
    one.initialize(7)
    torch.manual_seed(5)
    two.initialize(7)
    other.initialize(7)
    for a, b, c in zip(one.parameters(), two.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a.bfloat16(), c)
    two.initialize(8)
    assert not torch.equal(one.model.embed_tokens.weight, two.model.embed_tokens.weight)


@pytest.mark.parametrize("width", [64, 256, 1024])
@pytest.mark.parametrize("tied", [True, False])
def test_first_predictions_are_nearly_uniform(width: int, tied: bool) -> None:
    # Only the tables matter: the blocks begin as the identity.
    model = build(hidden_size=width, vocab_size=1000, num_layers=1, tie_embeddings=tied)
    model.initialize(0)
    ids = torch.randint(0, 1000, (8, 24), generator=torch.Generator().manual_seed(0))
    loss = F.cross_entropy(model.logits(model(ids)).flatten(0, 1), ids.roll(1).flatten())
    assert loss.item() < math.log(1000) + 0.5


@pytest.mark.parametrize("positions", ["rope", "sinusoidal"])
def test_position_tables_stay_exact_in_a_bfloat16_model(positions: Any) -> None:
    model = build(positions=positions).bfloat16()
    names = dict(model.model.named_buffers(recurse=False))
    assert names and all(table.dtype == torch.float32 for table in names.values())
    assert model.logits(model(tokens())).dtype == torch.float32
    assert not any(name in key for key in model.state_dict() for name in names)


@pytest.mark.parametrize("kind", KINDS)
def test_autocast_is_near_float32(kind: AttentionKind) -> None:
    model = build()
    model.set_attention(kind)
    exact = model.logits(model(tokens()))
    with torch.autocast("cpu", torch.bfloat16):
        rough = model.logits(model(tokens()))
    assert (rough - exact).abs().mean() < 0.05 * exact.abs().mean()


def test_dropout_works_while_training_only() -> None:
    model = build()
    exact = model(tokens())
    model.set_dropout(0.5)
    assert torch.equal(model(tokens()), exact)
    model.train()
    assert not torch.equal(model(tokens()), model(tokens()))


def test_too_long_a_sequence_is_refused() -> None:
    with pytest.raises(ValueError, match="25 tokens are more than the context of 24"):
        build()(tokens(1, 25))


@pytest.mark.parametrize("unseen", [False, True])
def test_frozen_blocks_pass_a_gradient_on_only_for_unseen_tokens(unseen: bool) -> None:
    model = build(tie_embeddings=True)
    model.freeze(1, unseen_tokens=unseen)
    model(tokens()).sum().backward()
    first, second = model.model.blocks()
    assert all(one.grad is None for one in first.parameters())
    assert all(one.grad is not None for one in second.parameters())
    # Nothing here goes through the output: a gradient is that of the lookup.
    assert (model.model.embed_tokens.weight.grad is not None) == unseen


@pytest.mark.parametrize("choices", [{"positions": "learned"}, {"causal": False}])
def test_what_comes_before_frozen_blocks_is_frozen(choices: dict[str, Any]) -> None:
    """Several processes wait for the gradient of whatever can have one."""
    model = build(tie_embeddings=True, **choices)
    model.freeze(1, unseen_tokens=False)
    model.logits(model(tokens())).sum().backward()
    trained = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    assert [name for name, gradient in trained.items() if gradient is None] == []
