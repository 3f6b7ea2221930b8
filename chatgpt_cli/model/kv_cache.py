"""Keys and values of the tokens seen so far, so that each is computed once."""

from __future__ import annotations

import torch
from torch import Tensor

from chatgpt_cli.config.model import ModelConfig

# Slots are added in steps, so that a longer text seldom moves the shorter ones.
_STEP = 64


class KVCache:
    """Keys and values of several texts, one in each row, that grow and leave one by one.

    Row b's tokens fill the slots 0 .. lengths[b] - 1. What lies behind them is finite
    and hidden by a mask.

    Attributes:
        store: (layers, rows, 2 * kv_heads, slots, head_dim); keys first, then values.
        lengths: slots in use in each row.
    """

    def __init__(self, config: ModelConfig, *, device: torch.device, dtype: torch.dtype) -> None:
        self.context = config.context_length
        shape = (config.num_layers, 0, 2 * config.num_kv_heads, 0, config.head_dim)
        self.store = torch.zeros(shape, device=device, dtype=dtype)
        self.lengths: list[int] = []

    @property
    def slots(self) -> int:
        """Slots there are in a row."""
        return self.store.shape[3]

    def reserve(self, rows: int, slots: int) -> None:
        """Make room for so many rows of so many tokens; what is stored stays."""
        layers, old_rows, heads, old_slots, head_dim = self.store.shape
        if rows <= old_rows and slots <= old_slots:
            return
        rows = max(rows, min(2 * old_rows, rows + 16)) if rows > old_rows else old_rows
        slots = max(old_slots, min(self.context, -(-slots // _STEP) * _STEP))
        grown = self.store.new_zeros(layers, rows, heads, slots, head_dim)
        used, longest = len(self.lengths), max(self.lengths, default=0)
        grown[:, :used, :, :longest] = self.store[:, :used, :, :longest]
        self.store = grown

    def write(self, layer: int, first: int, new: Tensor, positions: Tensor | int) -> None:
        """Store new keys and values, (rows, time, 2 * kv_heads, head_dim).

        Args:
            layer: which.
            first: the row of the first of them.
            positions: (rows, time), or the one slot at which all of them begin.
        """
        rows, time = new.shape[:2]
        target = self.store[layer, first : first + rows]
        if isinstance(positions, int):
            target[:, :, positions : positions + time] = new.transpose(1, 2)
        else:
            index = torch.arange(rows, device=new.device)[:, None]
            # Rows and slots indexed together put the heads last, as they are in `new`.
            target[index, :, positions] = new.to(target.dtype)

    def read(self, layer: int, first: int, rows: int, slots: int) -> tuple[Tensor, Tensor]:
        """Keys and values of some rows, each (rows, kv_heads, slots, head_dim)."""
        part = self.store[layer, first : first + rows, :, :slots]
        keys, values = part.chunk(2, 1)
        return keys, values

    def remove(self, row: int) -> None:
        """A row has ended; the last one takes its place."""
        last = len(self.lengths) - 1
        if row != last:
            length = self.lengths[last]
            self.store[:, row, :, :length] = self.store[:, last, :, :length]
            self.lengths[row] = length
        del self.lengths[last]

    def save(self, row: int, length: int) -> Tensor:
        """A copy of a row's first tokens: (layers, 2 * kv_heads, length, head_dim)."""
        return self.store[:, row, :, :length].clone()

    def restore(self, row: int, saved: Tensor, length: int) -> None:
        """Begin a row with the first tokens of a copy."""
        self.store[:, row, :, :length] = saved[:, :, :length]
        self.lengths[row] = length

    def reorder(self, rows: list[int]) -> None:
        """Row i becomes a copy of what rows[i] was; all rows must be equally long."""
        length = max(self.lengths, default=0)
        picked = self.store[:, torch.tensor(rows, device=self.store.device), :, :length]
        self.store[:, : len(rows), :, :length] = picked
        self.lengths = [self.lengths[row] for row in rows]
