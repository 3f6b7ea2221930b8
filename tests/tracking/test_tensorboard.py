"""Event files that TensorBoard can read."""

import struct
from pathlib import Path

import pytest

from chatgpt_cli.tracking.tensorboard import EventFile, _checksum

RECORDS = [
    {"type": "start", "step": 0, "settings": {}},
    {"type": "train", "step": 10, "loss": 2.5, "learning_rate": 0.01, "elapsed": 3.0},
    {"type": "validation", "step": 300, "loss": 2.25, "bits_per_byte": None, "elapsed": 4.0},
    {"type": "sample", "step": 300, "prompt": "a", "text": "b"},
]


def _written(folder: Path) -> Path:
    events = EventFile(folder)
    for record in RECORDS:
        events.log(record, 1000.0 + float(str(record.get("elapsed", 0))))
    events.finish()
    return events.path


def test_checksum_of_the_standard_text() -> None:
    """CRC-32C of "123456789" is E3069283 (RFC 3720); masked as TFRecords mask it."""
    masked = struct.unpack("<I", _checksum(b"123456789"))[0]
    rotated = (masked - 0xA282EAD8) & 0xFFFFFFFF
    assert (rotated << 15 | rotated >> 17) & 0xFFFFFFFF == 0xE3069283


def test_records_follow_each_other(tmp_path: Path) -> None:
    data = _written(tmp_path / "run").read_bytes()
    events, at = [], 0
    while at < len(data):
        (length,) = struct.unpack("<Q", data[at : at + 8])
        assert data[at + 8 : at + 12] == _checksum(data[at : at + 8])
        events.append(data[at + 12 : at + 12 + length])
        assert data[at + 12 + length : at + 16 + length] == _checksum(events[-1])
        at += 16 + length
    assert len(events) == 4 and b"brain.Event:2" in events[0]
    assert b"train/loss" in events[1] and struct.pack("<f", 2.5) in events[1]
    assert struct.pack("<d", 1003.0) in events[1]
    # Step 300 as a varint.
    assert b"\x10\xac\x02" in events[3]


def test_tensorboard_reads_them(tmp_path: Path) -> None:
    module = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="tensorboard is not installed",
    )
    _written(tmp_path)
    _written(tmp_path)
    found = module.EventAccumulator(str(tmp_path)).Reload()
    assert [(one.step, one.value) for one in found.Scalars("validation/loss")] == [(300, 2.25)]
