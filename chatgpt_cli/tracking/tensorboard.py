"""The curves of a run as TensorBoard event files, written without TensorBoard.

An event file is a sequence of TFRecords: length, its checksum, a protocol buffer, its
checksum. Only the few fields that scalars need are written (tensorflow/core/util/event.proto).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chatgpt_cli.files import atomic_path

_SCALARS = {
    "train": ("loss", "learning_rate", "tokens_per_second", "grad_norm"),
    "validation": ("loss", "bits_per_byte", "accuracy"),
}


def write_events(folder: Path, records: list[dict[str, Any]], *, ended: float) -> Path:
    """Write the numbers of a metrics.jsonl as one event file, replacing an earlier one.

    Args:
        folder: TensorBoard's run; made if it is missing.
        records: from `read_metrics`.
        ended: when the last of them was written, in seconds since 1970.
    """
    path = folder / "events.out.tfevents.0.chatgpt"
    last = max((float(one.get("elapsed", 0)) for one in records), default=0.0)
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        stream.write(_record(_double(1, ended - last) + _bytes(3, b"brain.Event:2")))
        for tag, step, elapsed, value in _scalars(records):
            summary = _bytes(1, _bytes(1, tag.encode()) + _float(2, value))
            event = _double(1, ended - last + elapsed) + _varint(2, step) + _bytes(5, summary)
            stream.write(_record(event))
    return path


def _scalars(records: list[dict[str, Any]]) -> Iterator[tuple[str, int, float, float]]:
    for record in records:
        for name in _SCALARS.get(str(record.get("type")), ()):
            value = record.get(name)
            if isinstance(value, int | float):
                tag = f"{record['type']}/{name}"
                yield tag, int(record["step"]), float(record.get("elapsed", 0)), float(value)


def _record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + _checksum(length) + data + _checksum(data)


def _checksum(data: bytes) -> bytes:
    """CRC-32C, rotated and shifted so that a checksum of a checksum is not weak."""
    value = 0xFFFFFFFF
    for byte in data:
        value = _TABLE[(value ^ byte) & 0xFF] ^ (value >> 8)
    value ^= 0xFFFFFFFF
    return struct.pack("<I", ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _table() -> list[int]:
    """The CRC of each byte by Castagnoli's polynomial, reflected."""
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _table()


def _key(field: int, kind: int) -> bytes:
    return bytes([field << 3 | kind])


def _varint(field: int, value: int) -> bytes:
    digits = []
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return _key(field, 0) + bytes([*digits, value])


def _double(field: int, value: float) -> bytes:
    return _key(field, 1) + struct.pack("<d", value)


def _float(field: int, value: float) -> bytes:
    return _key(field, 5) + struct.pack("<f", value)


def _bytes(field: int, value: bytes) -> bytes:
    length = _varint(field, len(value))[1:]
    return _key(field, 2) + length + value
