"""Keys and values of the tokens seen so far, so that each is computed once."""

from __future__ import annotations

import torch
from torch import Tensor

from chatgpt_cli.config.model import ModelConfig


class KVCache:
    """Preallocated keys and values of a batch whose rows may differ in length.

    Row b's tokens fill the slots 0 .. lengths[b] - 1. Prompts of unequal length go
    in together, padded on the right; `set_lengths` then forgets the padding, and
    later tokens of each row overwrite it.

    Attributes:
        length: slots in use in the longest row (a Python number: no device wait).
        lengths: (batch,) int64, slots in use in each row.
        ragged: whether rows may differ; if not, no mask and no scatter is needed.
    """

    def __init__(
        self,
        config: ModelConfig,
        batch_size: int,
        max_length: int,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        # (layers, batch, kv_heads, slots, head_dim); slots never reached are never read.
        shape = (
            config.num_layers,
            batch_size,
            config.num_kv_heads,
            max_length,
            config.head_dim,
        )
        self.keys = torch.zeros(shape, device=device, dtype=dtype)
        self.values = torch.zeros(shape, device=device, dtype=dtype)
        self.lengths = torch.zeros(batch_size, dtype=torch.int64, device=device)
        self.length = 0
        self.ragged = False

    @property
    def max_length(self) -> int:
        """Slots there are in a row."""
        return self.keys.shape[3]

    def positions(self, new: int) -> Tensor:
        """Slots, which are also positions, of the next `new` tokens: (batch, new)."""
        return self.lengths[:, None] + torch.arange(new, device=self.lengths.device)

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store new (batch, kv_heads, new, head_dim) and return all up to the longest row.

        Every layer appends the same number of tokens, then `advance` counts them.
        """
        new = keys.shape[2]
        stop = self.length + new
        if stop > self.max_length:
            raise ValueError(f"{stop} tokens do not fit into a cache of {self.max_length}")
        all_keys, all_values = self.keys[layer], self.values[layer]
        if self.ragged:
            rows = torch.arange(keys.shape[0], device=keys.device)[:, None]
            slots = self.positions(new)
            # Indexing rows and slots together puts heads last: (batch, new, kv_heads, head_dim).
            all_keys[rows, :, slots] = keys.transpose(1, 2).to(all_keys.dtype)
            all_values[rows, :, slots] = values.transpose(1, 2).to(all_values.dtype)
        else:
            all_keys[:, :, self.length : stop] = keys
            all_values[:, :, self.length : stop] = values
        return all_keys[:, :, :stop], all_values[:, :, :stop]

    def advance(self, new: int) -> None:
        """Count `new` tokens more in every row."""
        self.length += new
        self.lengths += new

    def set_lengths(self, lengths: list[int]) -> None:
        """Keep only the first `lengths[b]` tokens of each row b (padding, or a rollback)."""
        if max(lengths) > self.length:
            raise ValueError("a cache can be cut, not grown")
        self.length = max(lengths)
        self.ragged = min(lengths) != self.length
        self.lengths = torch.tensor(lengths, dtype=torch.int64, device=self.keys.device)

    def keep_rows(self, rows: list[int], lengths: list[int]) -> None:
        """Go on with fewer rows; row i becomes what rows[i] was, cut to lengths[i].

        Rows that leave are filled from the end, so that little is copied: each
        rows[i] is i itself, or at least len(rows).
        """
        for target, source in enumerate(rows):
            if target != source:
                self.keys[:, target, :, : self.length] = self.keys[:, source, :, : self.length]
                self.values[:, target, :, : self.length] = self.values[:, source, :, : self.length]
        self.keys = self.keys[:, : len(rows)]
        self.values = self.values[:, : len(rows)]
        self.set_lengths(lengths)
