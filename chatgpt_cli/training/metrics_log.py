"""metrics.jsonl: one JSON object per logged step, evaluation and sample."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chatgpt_cli.errors import TrainingError
from chatgpt_cli.files import atomic_path


@dataclass(frozen=True)
class Mark:
    """How much of the file belongs to a checkpoint: its first `bytes`, and their hash."""

    bytes: int = 0
    sha256: str = hashlib.sha256().hexdigest()


class MetricsLog:
    """Appends records.

    A checkpoint keeps a `Mark` of the file as it was then. A continued run cuts the file
    there, so that no step is recorded twice and none is missing.
    """

    def __init__(
        self,
        path: Path,
        *,
        resume: Mark | None = None,
        step: int = 0,
        warn: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Args:
        path: the file; a new run begins it anew.
        resume: how much of it to keep.
        step: where the run goes on; if the file is not what it was, the readable
            records until there are kept.
        warn: told about that.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        kept = b"" if resume is None else _until(path, resume, step, warn)
        with atomic_path(path) as temporary:
            temporary.write_bytes(kept)
        self._hash = hashlib.sha256(kept)
        self._size = len(kept)
        self._stream = path.open("ab", buffering=0)

    def write(self, record: dict[str, Any]) -> None:
        """Append one record, visible to readers at once.

        Raises:
            TrainingError: if the disk is full.
        """
        line = (json.dumps(_finite(record), ensure_ascii=False) + "\n").encode()
        try:
            written = self._stream.write(line)
        except OSError as error:
            raise self._unwritable(error.strerror) from error
        if written != len(line):
            raise self._unwritable("the disk is full")
        self._hash.update(line)
        self._size += len(line)

    def _unwritable(self, why: str | None) -> TrainingError:
        return TrainingError(
            f"the metrics cannot be written: {why}",
            place=str(self._path),
            remedy="The last checkpoint is intact: free some space and continue with --resume.",
        )

    def mark(self) -> Mark:
        """Flush the file to the disk, and tell how to find this place again."""
        os.fsync(self._stream.fileno())
        return Mark(self._size, self._hash.hexdigest())

    def close(self) -> None:
        """Close the file; what was written is there."""
        self._stream.close()


def _finite(record: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN and no infinity."""
    bad = [k for k, v in record.items() if isinstance(v, float) and not math.isfinite(v)]
    return record | dict.fromkeys(bad)


def _until(path: Path, mark: Mark, step: int, warn: Callable[[str], None]) -> bytes:
    """The part of the file that a checkpoint knows."""
    try:
        data = path.read_bytes()
    except OSError:
        data = b""
    kept = data[: mark.bytes]
    if len(kept) == mark.bytes and hashlib.sha256(kept).hexdigest() == mark.sha256:
        return kept
    lines = [line + b"\n" for line in data.split(b"\n") if (r := _record(line)) and r[1] <= step]
    warn(
        f"{path.name} is not as training left it; {len(lines)} readable lines were kept. Its "
        "curves may have gaps; the model is not affected."
    )
    return b"".join(lines)


def _record(line: bytes) -> tuple[dict[str, Any], int] | None:
    """A line's record and its step, None if it is not one."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not isinstance(record.get("type"), str):
        return None
    step = record.get("step", 0)
    numbers = {"loss", "elapsed", "learning_rate", "bits_per_byte", "tokens_per_second"}
    numeric = [value for key, value in record.items() if key in numbers and value is not None]
    if type(step) is not int or not all(type(v) in (int, float) for v in numeric):
        return None
    texts = ("prompt", "text") if record["type"] == "sample" else ()
    if not all(isinstance(record.get(name), str) for name in texts):
        return None
    if record["type"] == "validation" and record.get("loss") is None:
        return None
    return record, step


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a metrics file; lines that are none are left out."""
    try:
        data = path.read_bytes()
    except OSError:
        return []
    return parse_metrics(data)


def parse_metrics(data: bytes) -> list[dict[str, Any]]:
    """The same of a file's content."""
    return [found[0] for line in data.split(b"\n") if (found := _record(line))]
