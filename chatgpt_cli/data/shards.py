"""Token ids on disk: plain NumPy files, memory-mapped, described by a manifest."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from chatgpt_cli.errors import DataError
from chatgpt_cli.files import sha256
from chatgpt_cli.tokenizer.special import BOS, EOS

Split = Literal["train", "validation"]
SPLITS: tuple[Split, ...] = ("train", "validation")
FORMAT = 1


class Borders(NamedTuple):
    """The tokens before and after each document; one and the same in some vocabularies."""

    bos: int = BOS
    eos: int = EOS


@dataclass
class ShardWriter:
    """Collects documents' tokens and writes a shard whenever enough have come."""

    folder: Path
    split: Split
    dtype: np.dtype[Any]
    shard_tokens: int
    shards: list[dict[str, object]] = field(default_factory=list)
    tokens: int = 0
    documents: int = 0
    bytes: int = 0
    _pieces: list[np.ndarray] = field(default_factory=list)
    _starts: list[int] = field(default_factory=list)
    _held: int = 0

    def add(self, ids: np.ndarray, size: int) -> None:
        """Append one document of `size` UTF-8 bytes, its [BOS] and [EOS] included in `ids`."""
        self._starts.append(self._held)
        self._pieces.append(ids)
        self._held += len(ids)
        self.tokens += len(ids)
        self.documents += 1
        self.bytes += size
        if self._held >= self.shard_tokens:
            self._flush()

    def close(self) -> dict[str, object]:
        """Write what is left; the split's entry for the manifest."""
        if self._held:
            self._flush()
        return {
            "tokens": self.tokens,
            "bytes": self.bytes,
            "documents": self.documents,
            "shards": self.shards,
        }

    def _flush(self) -> None:
        name = f"{self.split}-{len(self.shards):05d}"
        tokens = np.concatenate(self._pieces).astype(self.dtype)
        path, starts = self.folder / f"{name}.npy", self.folder / f"{name}.docs.npy"
        np.save(path, tokens)
        np.save(starts, np.array(self._starts, dtype=np.int64))
        self.shards.append(
            {
                "file": path.name,
                "tokens": len(tokens),
                "documents": len(self._starts),
                "sha256": sha256(path),
                "docs_sha256": sha256(starts),
            }
        )
        self._pieces, self._starts, self._held = [], [], 0


def read_manifest(folder: Path) -> dict[str, Any]:
    """manifest.json of a data folder.

    Raises:
        DataError: if it is missing, damaged or of another format.
    """
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        known = manifest["format"] == FORMAT and "splits" in manifest
    except FileNotFoundError as error:
        raise DataError(
            "there is no preprocessed text", place=str(folder), remedy="Run `chatgpt preprocess`."
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, f"it cannot be read ({error})") from error
    if not known:
        raise _damaged(path, f"its format is not {FORMAT}")
    return dict(manifest)


def _damaged(path: Path, what: str) -> DataError:
    return DataError(
        f"the preprocessed text is damaged: {what}",
        place=str(path),
        remedy="Make it again with `chatgpt preprocess --force`.",
    )


class TokenShards:
    """All shards of a split as one stream of token ids."""

    def __init__(self, folder: Path, split: Split, manifest: dict[str, Any]) -> None:
        self._folder = folder
        self._entry = manifest["splits"][split]
        self.borders = Borders(*manifest.get("borders", Borders()))
        self.tokenizer_sha256 = str(manifest["tokenizer_sha256"])
        self._shards = [self._map(shard, manifest["dtype"]) for shard in self._entry["shards"]]
        self._ends = np.cumsum([len(shard) for shard in self._shards], dtype=np.int64)

    @classmethod
    def open(cls, folder: Path, split: Split) -> TokenShards:
        """Map the shards of a split into memory.

        Raises:
            DataError: if they are missing, damaged, or not of the sizes in the manifest.
        """
        manifest = read_manifest(folder)
        try:
            return cls(folder, split, manifest)
        except (KeyError, TypeError, AttributeError) as error:
            raise _damaged(folder / "manifest.json", f"an entry is missing ({error})") from error

    def _map(self, shard: dict[str, Any], dtype: str) -> np.ndarray:
        path = self._folder / Path(str(shard["file"])).name
        try:
            tokens: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise _damaged(path, f"it cannot be read ({error})") from error
        if tokens.shape != (shard["tokens"],) or tokens.dtype != np.dtype(dtype):
            raise _damaged(
                path, f"it holds {tokens.shape} {tokens.dtype}, not {shard['tokens']} {dtype}"
            )
        return tokens

    @property
    def num_tokens(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    @property
    def num_documents(self) -> int:
        return int(self._entry["documents"])

    @property
    def num_bytes(self) -> int:
        """UTF-8 bytes of the text behind the tokens."""
        return int(self._entry["bytes"])

    def read(self, start: int, stop: int) -> np.ndarray:
        """Token ids from `start` to before `stop`, in the stored dtype."""
        pieces = []
        index = int(np.searchsorted(self._ends, start, side="right"))
        while start < stop:
            begin = int(self._ends[index - 1]) if index else 0
            shard = self._shards[index]
            piece = shard[start - begin : stop - begin]
            pieces.append(piece)
            start += len(piece)
            index += 1
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def document_starts(self) -> np.ndarray:
        """(documents,) int64: where each document begins in the stream."""
        starts, begin = [], 0
        for shard, tokens in zip(self._entry["shards"], self._shards, strict=True):
            path = self._folder / Path(str(shard["file"])).with_suffix(".docs.npy").name
            try:
                starts.append(np.load(path, allow_pickle=False) + begin)
            except (OSError, ValueError, EOFError) as error:
                raise _damaged(path, f"it cannot be read ({error})") from error
            begin += len(tokens)
        return np.concatenate(starts) if starts else np.zeros(0, dtype=np.int64)

    def verify(self) -> None:
        """Compare the files' hashes with the manifest.

        Raises:
            DataError: naming the file that is not as it was written.
        """
        for shard in self._entry["shards"]:
            path = self._folder / Path(str(shard["file"])).name
            starts = path.with_suffix(".docs.npy")
            if not starts.is_file() or sha256(starts) != shard["docs_sha256"]:
                raise _damaged(starts, "it is missing or not as it was written")
            if sha256(path) != shard["sha256"]:
                raise _damaged(path, "its contents are not what was written")

    def fingerprint(self) -> dict[str, object]:
        """The hashes of the shards, which change whenever a token does."""
        return {
            "tokens": self.num_tokens,
            "shards": [shard["sha256"] for shard in self._entry["shards"]],
        }
