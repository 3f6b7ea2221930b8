"""Token ids on disk: plain NumPy files, memory-mapped, described by a manifest."""

from __future__ import annotations

import hashlib
import json
import shutil
import tokenize
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from chatgpt_cli.command_line import same_run
from chatgpt_cli.errors import DataError
from chatgpt_cli.files import sha256, write_json
from chatgpt_cli.tokenizer.special import BOS, EOS

Split = Literal["train", "validation"]
SPLITS: tuple[Split, ...] = ("train", "validation")
FORMAT = 1
_COUNTED_AT_ONCE = 1 << 24


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """What token ids are stored as."""
    return np.dtype(np.uint16 if vocab_size <= 1 << 16 else np.uint32)


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
        # A copy: a view would hold the whole batch, or map the whole file, that it is of.
        self._pieces.append(np.array(ids, dtype=self.dtype))
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
        tokens = np.concatenate(self._pieces)
        path, starts = self.folder / f"{name}.npy", self.folder / f"{name}.docs.npy"
        try:
            np.save(path, tokens)
            np.save(starts, np.array(self._starts, dtype=np.int64))
        except OSError as error:
            # NumPy says only how many numbers it could write.
            free = shutil.disk_usage(self.folder).free
            raise DataError(
                f"the token shards cannot be written: {error.strerror or 'the disk is full'}",
                place=str(path.parent),
                remedy=f"This one takes {tokens.nbytes / 1e6:,.1f} MB; {free / 1e6:,.1f} MB are "
                "free. What was preprocessed before is intact: free some space and run it again.",
            ) from error
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


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Write manifest.json, with a hash of its own contents."""
    write_json(folder / "manifest.json", {**manifest, "checksum": _checksum(manifest)})


def _checksum(manifest: dict[str, Any]) -> str:
    rest = {key: value for key, value in manifest.items() if key != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def read_manifest(folder: Path) -> dict[str, Any]:
    """manifest.json of a data folder.

    Raises:
        DataError: if it is missing, damaged or of another format.
    """
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        known = manifest["format"] == FORMAT and set(manifest["splits"]) == set(SPLITS)
        whole = manifest.get("checksum", "") in ("", _checksum(manifest))
    except FileNotFoundError as error:
        raise DataError(
            "there is no preprocessed text",
            place=str(folder),
            remedy=f"Run `chatgpt {same_run('preprocess', run=folder.parent)}`.",
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(path, f"it cannot be read ({error})") from error
    if not known:
        raise _damaged(path, f"its format is not {FORMAT}")
    if not whole:
        raise _damaged(path, "its contents are not what was written")
    return dict(manifest)


def _load(path: Path) -> np.ndarray:
    """Map a NumPy file into memory, whatever its header claims: never more than there is."""
    try:
        mapped: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (
        OSError, ValueError, EOFError, TypeError, OverflowError, SyntaxError, MemoryError,
        RecursionError, tokenize.TokenError,
    ) as error:  # fmt: skip
        raise _damaged(path, f"it cannot be read ({error})") from error
    return mapped


def _hash(path: Path) -> str:
    try:
        return sha256(path)
    except OSError as error:
        raise _damaged(path, f"it cannot be read ({error.strerror})") from error


def _damaged(path: Path, what: str) -> DataError:
    return DataError(
        f"the preprocessed text is damaged: {what}",
        place=str(path),
        remedy="Make it again with "
        f"`chatgpt {same_run('preprocess', '--force', run=path.parent.parent)}`.",
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
        """Verify the shards of a split and map them into memory.

        Raises:
            DataError: if they are missing, or not as they were written.
        """
        manifest = read_manifest(folder)
        try:
            shards = cls(folder, split, manifest)
            shards.verify()
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise _damaged(folder / "manifest.json", f"an entry is wrong ({error})") from error
        return shards

    def _map(self, shard: dict[str, Any], dtype: str) -> np.ndarray:
        path = self._folder / Path(str(shard["file"])).name
        tokens = _load(path)
        if tokens.shape != (shard["tokens"],) or tokens.dtype != np.dtype(dtype):
            raise _damaged(
                path, f"it holds {tokens.shape} {tokens.dtype}, not {shard['tokens']} {dtype}"
            )
        return tokens

    @property
    def num_tokens(self) -> int:
        """Tokens of all shards."""
        return int(self._ends[-1]) if len(self._ends) else 0

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

    def counts(self, vocab_size: int) -> np.ndarray:
        """How often each token occurs: (vocab,) int64."""
        total = np.zeros(vocab_size, dtype=np.int64)
        for start in range(0, self.num_tokens, _COUNTED_AT_ONCE):
            part = self.read(start, min(start + _COUNTED_AT_ONCE, self.num_tokens))
            total += np.bincount(part, minlength=vocab_size)
        return total

    def document_starts(self) -> np.ndarray:
        """(documents,) int64: where each document begins in the stream."""
        starts, begin = [], 0
        for shard, tokens in zip(self._entry["shards"], self._shards, strict=True):
            path = self._folder / Path(str(shard["file"])).with_suffix(".docs.npy").name
            offsets = _load(path)
            if offsets.dtype != np.int64 or offsets.shape != (shard["documents"],):
                raise _damaged(path, f"it holds {offsets.shape} {offsets.dtype}")
            starts.append(offsets + begin)
            begin += len(tokens)
        return np.concatenate(starts) if starts else np.zeros(0, dtype=np.int64)

    def verify(self) -> None:
        """Compare the files' hashes with the manifest.

        Raises:
            DataError: naming the file that is not as it was written.
        """
        expected = {}
        for shard in self._entry["shards"]:
            path = self._folder / Path(str(shard["file"])).name
            expected[path] = shard["sha256"]
            expected[path.with_suffix(".docs.npy")] = shard["docs_sha256"]
        with ThreadPoolExecutor() as pool:
            for path, found in zip(expected, pool.map(_hash, expected), strict=True):
                if found != expected[path]:
                    raise _damaged(path, "its contents are not what was written")

    def fingerprint(self) -> dict[str, object]:
        """The hashes of the shards, which change whenever a token does."""
        return {
            "tokens": self.num_tokens,
            "shards": [shard["sha256"] for shard in self._entry["shards"]],
        }
