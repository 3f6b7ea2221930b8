"""MinHash signatures on disk, for more documents than memory holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from chatgpt_cli.data.cleaning.near_duplicates import PERMUTATIONS, Signatures

_ROWS, _KEYS = "signatures.bin", "keys.bin"
_CHUNK = 50_000


class SignatureWriter:
    """Appends to a folder's signatures; on leaving, the bands' keys are laid out by band."""

    def __init__(self, folder: Path, bands: int) -> None:
        self._folder, self._bands, self._count = folder, bands, 0
        self._rows = (folder / _ROWS).open("wb")
        self._keys = (folder / "unordered.bin").open("w+b")

    def __enter__(self) -> Self:
        return self

    def add(self, signed: Signatures) -> None:
        """Append some documents' signatures."""
        signed.rows.tofile(self._rows)
        signed.keys.tofile(self._keys)
        self._count += len(signed.rows)

    def __exit__(
        self, kind: type[BaseException] | None, _: object, __: TracebackType | None
    ) -> None:
        self._rows.close()
        if kind is None and self._count:
            self._keys.seek(0)
            ordered = np.memmap(
                self._folder / _KEYS, np.uint64, mode="w+", shape=(self._bands, self._count)
            )
            for start in range(0, self._count, _CHUNK):
                chunk = np.fromfile(self._keys, np.uint64, _CHUNK * self._bands)
                ordered[:, start : start + _CHUNK] = chunk.reshape(-1, self._bands).T
            ordered.flush()
        self._keys.close()
        (self._folder / "unordered.bin").unlink()


class SignatureFiles:
    """The signatures of several folders as those of one sequence of documents."""

    def __init__(self, folders: Sequence[Path], counts: Sequence[int], bands: int) -> None:
        self.bands = bands
        self._folders = list(folders)
        self._counts = list(counts)
        self._ends = np.cumsum(counts)

    def keys(self, band: int) -> np.ndarray:
        """(documents,) uint64: the keys of a band."""
        size = np.dtype(np.uint64).itemsize
        return np.concatenate(
            [
                np.fromfile(folder / _KEYS, np.uint64, count, offset=band * count * size)
                if count
                else np.zeros(0, np.uint64)
                for folder, count in zip(self._folders, self._counts, strict=True)
            ]
        )

    def rows(self, numbers: np.ndarray) -> np.ndarray:
        """(numbers, PERMUTATIONS) uint16: the signatures of some documents."""
        found = np.empty((len(numbers), PERMUTATIONS), dtype=np.uint16)
        parts = np.searchsorted(self._ends, numbers, side="right")
        for part in np.unique(parts):
            chosen = parts == part
            start = self._ends[part - 1] if part else 0
            shape = (self._counts[part], PERMUTATIONS)
            # Mapped anew each time: what has been read does not count as this process's memory.
            rows = np.memmap(self._folders[part] / _ROWS, np.uint16, mode="r", shape=shape)
            found[chosen] = rows[numbers[chosen] - start]
        return found
