"""Several conversations in one sequence, so that no step is spent on padding."""

from __future__ import annotations

import numpy as np


def pack(lengths: np.ndarray, capacity: int, *, open_bins: int = 64) -> list[list[int]]:
    """Put items into bins, in their order, each into the fullest open bin that has room.

    Best-fit with a bounded number of open bins: the fullest is closed when there are
    too many, so that what lies together stays near in a shuffled order.

    Args:
        lengths: (items,) sizes, none above `capacity`.
        capacity: size of a bin.
        open_bins: bins that may wait for more at one time.

    Returns:
        For each bin its items' numbers. Every item is in exactly one bin.
    """
    bins: list[list[int]] = []
    waiting: list[tuple[int, int]] = []  # (room left, bin)
    for item, length in enumerate(lengths.tolist()):
        fitting = [index for index, (room, _) in enumerate(waiting) if room >= length]
        if fitting:
            index = min(fitting, key=lambda one: waiting[one][0])
            room, number = waiting.pop(index)
            bins[number].append(item)
        else:
            room, number = capacity, len(bins)
            bins.append([item])
        if room > length:
            waiting.append((room - length, number))
        if len(waiting) > open_bins:
            waiting.remove(min(waiting))
    return bins


class ShuffledBins:
    """Items put into bins, in another order in each epoch: an endless row of bins.

    Which items bin k holds follows from the lengths, the seed and k.
    """

    def __init__(self, lengths: np.ndarray, capacity: int, *, packing: bool, seed: int) -> None:
        """Args: as `pack`; without `packing` every bin holds one item."""
        self._lengths = lengths
        self._capacity = capacity
        self._packing = packing
        self._seed = seed
        self._epochs: dict[int, list[list[int]]] = {}
        # Bins before each epoch, as far as is known; packing makes their number vary.
        self._before = [0]

    def __getitem__(self, number: int) -> list[int]:
        """The items of a bin, counted from 0 since the start of training."""
        while number >= self._before[-1]:
            self._before.append(self._before[-1] + len(self.epoch(len(self._before) - 1)))
        epoch = int(np.searchsorted(self._before, number, side="right")) - 1
        return self.epoch(epoch)[number - self._before[epoch]]

    def epoch(self, epoch: int) -> list[list[int]]:
        """All bins of an epoch."""
        if epoch not in self._epochs:
            order = np.random.default_rng([self._seed, epoch]).permutation(len(self._lengths))
            if self._packing:
                packed = pack(self._lengths[order], self._capacity)
                bins = [[int(order[item]) for item in members] for members in packed]
            else:
                bins = [[int(item)] for item in order]
            # The last one stays for a batch that reaches into the next epoch.
            self._epochs = {
                known: value for known, value in self._epochs.items() if known >= epoch - 1
            }
            self._epochs[epoch] = bins
        return self._epochs[epoch]
