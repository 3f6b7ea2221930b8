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
