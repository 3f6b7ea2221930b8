"""Adapters: small trained matrices beside frozen ones (LoRA; Hu et al. 2021)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chatgpt_cli.model.quantized import QuantizedLinear
from chatgpt_cli.model.transformer import Transformer


@dataclass(frozen=True)
class Adapter:
    """The shape of an adapter, and the model it belongs to (a folder, file or name)."""

    rank: int
    alpha: float
    dropout: float
    targets: tuple[str, ...]
    base: str
    # Tokens whose embeddings are trained as well: those that the base has never seen.
    tokens: tuple[int, ...] = ()

    @property
    def scale(self) -> float:
        """What the product of the small matrices is multiplied by."""
        return self.alpha / self.rank


class AdaptedLinear(nn.Linear):
    """x W^T + b, W and b frozen, plus scale * dropout(x) A^T B^T.

    A is (rank, in), random; B is (out, rank), zero: at first nothing changes.
    """

    def __init__(self, linear: nn.Linear | QuantizedLinear, adapter: Adapter) -> None:
        has_bias = linear.bias is not None
        super().__init__(linear.in_features, linear.out_features, has_bias, device="meta")
        # W may be whole numbers, expanded each time (QLoRA; Dettmers et al. 2023).
        self.quantized = linear if isinstance(linear, QuantizedLinear) else None
        self.bias = linear.bias  # type: ignore[assignment]
        if isinstance(linear, QuantizedLinear):
            del self.weight
            device = linear.numbers.device
        else:
            self.weight = linear.weight
            device = linear.weight.device
        self.lora_A = nn.Parameter(torch.empty(adapter.rank, linear.in_features, device=device))
        self.lora_B = nn.Parameter(torch.zeros(linear.out_features, adapter.rank, device=device))
        self.scale = adapter.scale
        self.dropout = adapter.dropout

    def forward(self, input: Tensor) -> Tensor:
        """(..., inputs) to (..., outputs): the frozen product and, scaled, that of the pair."""
        if self.quantized is None:
            plain = F.linear(input, self.weight, self.bias)
        else:
            plain = self.quantized(input)
        small = F.linear(F.dropout(input, self.dropout, self.training), self.lora_A)
        return plain + F.linear(small, self.lora_B) * self.scale

    def _wide(self) -> Tensor:
        return self.weight if self.quantized is None else self.quantized.weight

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """An ordinary linear map that computes the same."""
        linear = nn.Linear(
            self.in_features, self.out_features, self.bias is not None, device="meta"
        )
        change = (self.lora_B.float() @ self.lora_A.float()) * self.scale
        wide = self._wide()
        linear.weight = nn.Parameter((wide.float() + change).to(wide.dtype))
        linear.bias = self.bias
        return linear


class AdaptedTable(nn.Module):
    """A table of token vectors, frozen but for some rows (PEFT's trainable tokens)."""

    ids: Tensor

    def __init__(self, table: nn.Embedding | nn.Linear, tokens: Sequence[int]) -> None:
        super().__init__()
        self.table = table
        ids = torch.tensor(tokens, device=table.weight.device)
        self.register_buffer("ids", ids, persistent=False)
        self.lora_rows = nn.Parameter(table.weight.detach()[ids].clone())
        self.off = False

    @property
    def weight(self) -> Tensor:
        """(vocab, hidden) with the trained rows in their places."""
        if self.off:
            return self.table.weight
        return self.table.weight.index_copy(0, self.ids, self.lora_rows.to(self.table.weight.dtype))

    def forward(self, input: Tensor) -> Tensor:
        """Ids of any shape to their rows, (..., hidden); trained rows are added to frozen ones."""
        return F.embedding(input, self.weight)

    @torch.no_grad()
    def merged(self) -> nn.Embedding | nn.Linear:
        """An ordinary table of the same vectors."""
        self.table.weight = nn.Parameter(self.weight.clone())
        return self.table


def add_adapter(model: Transformer, adapter: Adapter, *, seed: int) -> None:
    """Freeze the model and give its targets trainable matrices; A is the same on every device."""
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for owner, name, linear in list(_linears(model, adapter.targets)):
        adapted = AdaptedLinear(linear, adapter)
        bound = 1 / math.sqrt(linear.in_features)
        values = torch.rand(adapted.lora_A.shape, generator=generator) * 2 - 1
        adapted.lora_A.data.copy_(values * bound)
        setattr(owner, name, adapted)
    if adapter.tokens:
        for owner, name, table in list(_tables(model)):
            assert not isinstance(table, AdaptedTable)
            setattr(owner, name, AdaptedTable(table, adapter.tokens))
    model.adapter = adapter


def merge_adapter(model: Transformer) -> None:
    """Add the adapter to the weights, and make all of them trainable again."""
    for owner, name, linear in list(_linears(model, ())):
        if isinstance(linear, AdaptedLinear):
            setattr(owner, name, linear.merged())
    for owner, name, table in list(_tables(model)):
        if isinstance(table, AdaptedTable):
            setattr(owner, name, table.merged())
    model.adapter = None
    model.requires_grad_(True)


@contextmanager
def adapter_off(model: Transformer) -> Iterator[None]:
    """The model as it is without its adapter; afterwards with it again."""
    adapted = [one for one in model.modules() if isinstance(one, AdaptedLinear)]
    tables = [one for one in model.modules() if isinstance(one, AdaptedTable)]
    scales = [one.scale for one in adapted]
    for one in adapted:
        one.scale = 0.0
    for table in tables:
        table.off = True
    try:
        yield
    finally:
        for one, scale in zip(adapted, scales, strict=True):
            one.scale = scale
        for table in tables:
            table.off = False


def adapter_weights(model: Transformer) -> dict[str, Tensor]:
    """What is trained by name, such as model.layers.0.mlp.up_proj.lora_A."""
    return {name: p for name, p in model.named_parameters() if ".lora_" in name}


def _tables(
    model: Transformer,
) -> Iterator[tuple[nn.Module, str, nn.Embedding | nn.Linear | AdaptedTable]]:
    """The embedding of tokens, and the output matrix if it is another one."""
    yield model.model, "embed_tokens", model.model.embed_tokens
    if not model.config.tie_embeddings:
        yield model, "lm_head", model.lm_head


def _linears(
    model: Transformer, targets: Sequence[str]
) -> Iterator[tuple[nn.Module, str, nn.Linear | QuantizedLinear]]:
    """The matrices inside the blocks with these names (all of them if none is named)."""
    for block in model.model.blocks():
        for owner in (block.self_attn, block.mlp):
            for name, child in list(owner.named_children()):
                if isinstance(child, nn.Linear | QuantizedLinear) and (
                    not targets or name in targets
                ):
                    yield owner, name, child
