"""The compiled code: products against exact ones, logits against PyTorch's, and its absence."""

from pathlib import Path
from typing import Any

import pytest
import torch

from chatgpt_cli.model.inference import InferenceModel
from chatgpt_cli.model.native import library as native
from chatgpt_cli.model.native.library import load_library
from chatgpt_cli.model.native.linear import NativeLinear
from chatgpt_cli.model.packed_linear import Quantization, pack_linear
from chatgpt_cli.model.scores import NextScores
from tests.model.test_transformer import build, tokens

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def compiled() -> Any:
    return load_library(CPU, build=True) or pytest.skip("no C++ compiler")


def numbers(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


# Inputs that fill their last group and that do not, the same for the last block of outputs.
@pytest.mark.parametrize(("outputs", "inputs"), [(48, 64), (80, 36), (7, 5), (160, 384)])
# One at a time, less than a tile, a whole tile and more, several tiles.
@pytest.mark.parametrize("rows", [1, 3, 8, 9, 37])
def test_float32_products_are_exact(compiled: Any, rows: int, outputs: int, inputs: int) -> None:
    weight, bias, x = numbers(outputs, inputs), numbers(outputs), numbers(rows, inputs)
    product = NativeLinear(compiled, weight, bias, "none")
    expected = torch.nn.functional.linear(x, weight, bias)
    torch.testing.assert_close(product(x), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("rows", [1, 2, 4, 5, 70])
@pytest.mark.parametrize(
    ("dtype", "quantization", "error"),
    [(torch.bfloat16, "none", 0.005), (torch.float32, "int8", 0.012), (torch.float32, "int4", 0.1)],
)
def test_rounded_products_are_near(
    compiled: Any, rows: int, dtype: torch.dtype, quantization: Quantization, error: float
) -> None:
    weight, x = numbers(144, 96).to(dtype), numbers(rows, 96)
    exact = torch.nn.functional.linear(x, weight.float())
    product = NativeLinear(compiled, weight, None, quantization)(x)
    assert float((product - exact).norm() / exact.norm()) < error


@pytest.mark.parametrize("quantization", ["int8", "int4"])
def test_the_same_weights_as_without_a_compiler(compiled: Any, quantization: Quantization) -> None:
    """Vectors that are exact in 8 bits and in bfloat16 leave only the weights' rounding."""
    weight = numbers(48, 64)
    x = torch.eye(64)
    ours = NativeLinear(compiled, weight, None, quantization)(x)
    theirs = pack_linear(weight, None, quantization)(x)
    torch.testing.assert_close(ours, theirs, atol=0.02, rtol=0.01)


@pytest.mark.parametrize("quantization", ["none", "int8", "int4"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_how_many_are_computed_together_changes_no_bit(
    compiled: Any, quantization: Quantization, dtype: torch.dtype
) -> None:
    """Otherwise a text would depend on what else is being written."""
    trained = build(head_dim=32).to(dtype)
    model = InferenceModel(trained, quantization, library=compiled)
    ids = tokens(11, 6)

    def logits(rows: list[int]) -> torch.Tensor:
        cache = model.new_cache()
        cache.reserve(len(rows), 6)
        cache.lengths = [0] * len(rows)
        for position in range(6):
            last = model.decode(cache, ids[rows, position].tolist()).logits
        return last

    together = logits(list(range(11)))
    for rows in ([4], [0, 9], [1, 2, 10], [3, 4, 5, 6, 7, 8]):
        assert torch.equal(logits(rows), together[rows])


@pytest.mark.parametrize("quantization", ["none", "int8", "int4"])
@pytest.mark.parametrize("positions", ["rope", "learned"])
def test_several_tokens_of_a_row_are_as_one_by_one(
    compiled: Any, quantization: Quantization, positions: Any
) -> None:
    """To the bit, and in the cache too: otherwise guesses would change what is written."""
    model = InferenceModel(build(positions=positions), quantization, library=compiled)
    ids = tokens(1, 9)[0].tolist()
    caches = [model.new_cache(), model.new_cache()]
    for cache in caches:
        cache.reserve(3, 9)
        cache.lengths = [0] * 3
        model.prefill(cache, 0, [ids[:1]] * 3)
    one, many = caches
    singles = []
    for token in ids[1:6]:
        singles.append(model.decode(one, [token] * 3).logits[1])
    together = model.extend(many, 1, ids[1:6]).logits
    assert torch.equal(together, torch.stack(singles))
    assert many.lengths == [1, 6, 1]
    assert torch.equal(one.store[:, 1, :, :6], many.store[:, 1, :, :6])


@pytest.mark.parametrize("vocab_size", [77, 96, 7])
def test_the_best_token_and_the_sum(compiled: Any, vocab_size: int) -> None:
    """Of vocabularies that fill vectors and that do not; of equal logits the first is best."""
    trained = build(vocab_size=vocab_size)
    trained.model.embed_tokens.weight.data[5] = trained.model.embed_tokens.weight.data[3]
    model = InferenceModel(trained, library=compiled)
    cache = model.new_cache()
    cache.reserve(vocab_size, 1)
    cache.lengths = [0] * vocab_size
    found = model.decode(cache, list(range(vocab_size)))
    expected = NextScores.of(found.logits)
    assert torch.equal(found.best, expected.best)
    torch.testing.assert_close(found.total, expected.total, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("quantization", ["none", "int8", "int4"])
def test_some_of_the_outputs(compiled: Any, quantization: Quantization) -> None:
    whole = NativeLinear(compiled, numbers(96, 64), numbers(96), quantization)
    x = numbers(3, 64)
    expected = whole(x)[:, 32:64]
    whole.matrix, whole.outputs = whole.rows(32, 32), 32
    torch.testing.assert_close(whole(x), expected)


@pytest.mark.parametrize("mlp", ["swiglu", "geglu", "gelu"])
@pytest.mark.parametrize("quantization", ["none", "int8", "int4"])
@pytest.mark.parametrize("head_dim", [8, 32])
def test_logits_are_those_of_pytorch(
    compiled: Any, quantization: Quantization, mlp: Any, head_dim: int
) -> None:
    trained = build(mlp=mlp, head_dim=head_dim)
    ids = tokens(3, 9)
    after = []
    for library in (None, compiled):
        model = InferenceModel(trained, quantization, library=library)
        cache = model.new_cache()
        cache.reserve(3, 9)
        cache.lengths = [0] * 3
        model.prefill(cache, 0, [ids[0, :8].tolist(), ids[1, :3].tolist(), ids[2, :5].tolist()])
        after.append(model.decode(cache, [int(ids[0, 8]), int(ids[1, 3]), int(ids[2, 5])]).logits)
    error = float((after[1] - after[0]).norm() / after[0].norm())
    # Without bits to save only the order of sums differs; else vectors are rounded too.
    assert error < (1e-5 if quantization == "none" else 0.06)


def test_a_full_cache_and_unknown_tokens_are_refused(compiled: Any) -> None:
    model = InferenceModel(build(), library=compiled)
    cache = model.new_cache()
    cache.reserve(1, 1)
    cache.lengths = [0]
    with pytest.raises(IndexError):
        model.decode(cache, [10**6])
    cache.lengths = [cache.slots]
    with pytest.raises(IndexError):
        model.decode(cache, [1])


def test_where_it_is_kept_and_when_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "chatgpt" / "compiled"
    assert load_library(CPU, build=False) is None
    assert load_library(torch.device("cuda"), build=True) is None
    if load_library(CPU, build=True) is None:
        pytest.skip("no C++ compiler")
    (kept,) = folder.iterdir()
    made = kept.stat().st_mtime_ns
    assert load_library(CPU, build=False) is load_library(CPU, build=True) is not None
    assert kept.stat().st_mtime_ns == made
    # A compiler that fails leaves nothing behind and nobody without an answer.
    with monkeypatch.context() as patched:
        patched.setattr(native, "_FLAGS", ("--no-such-flag",))
        native._fingerprint.cache_clear()
        assert load_library(CPU, build=True) is None
    native._fingerprint.cache_clear()
    assert list(folder.iterdir()) == [kept]


def test_a_damaged_library_is_as_good_as_none(tmp_path: Path) -> None:
    (tmp_path / "decode.so").write_bytes(b"not a library")
    assert native._load(tmp_path / "decode.so") is None
