"""The curves of a run as TensorBoard event files, written without TensorBoard.

An event file is a sequence of TFRecords: length, its checksum, a protocol buffer, its
checksum. Only the few fields that scalars need are written (tensorflow/core/util/event.proto).
"""

from __future__ import annotations

import struct
import time
from pathlib import Path
from typing import Any

from chatgpt_cli.tracking.scalars import scalars


class EventFile:
    """The curves of one run, in TensorBoard's folder for it."""

    def __init__(self, folder: Path) -> None:
        """Begin a file anew; an earlier one of this run goes.

        Its name is new, too: a TensorBoard that is looking would go on reading where the
        old one ended.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("events.out.tfevents.*.chatgpt"):
            old.unlink()
        self.path = folder / f"events.out.tfevents.{time.time_ns()}.chatgpt"
        self._stream = self.path.open("wb", buffering=0)
        self._version_written = False

    def log(self, record: dict[str, Any], when: float) -> None:
        """Append the numbers of a record; `when` is in seconds since 1970."""
        if not self._version_written:
            self._stream.write(_record(_double(1, when) + _bytes(3, b"brain.Event:2")))
            self._version_written = True
        for name, value in scalars(record).items():
            summary = _bytes(1, _bytes(1, name.encode()) + _float(2, value))
            event = _double(1, when) + _varint(2, int(record["step"])) + _bytes(5, summary)
            self._stream.write(_record(event))

    def finish(self) -> None:
        """Close the file."""
        self._stream.close()


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
