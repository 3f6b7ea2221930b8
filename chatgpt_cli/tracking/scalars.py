"""The numbers of a metrics.jsonl that are drawn as curves."""

from __future__ import annotations

from typing import Any

_NAMES = {
    "train": ("loss", "learning_rate", "tokens_per_second", "grad_norm"),
    "validation": ("loss", "bits_per_byte", "accuracy"),
}

# Of two records the later one has the larger key: a step, and its evaluation after it.
Key = tuple[int, bool]


def scalars(record: dict[str, Any]) -> dict[str, float]:
    """The record's numbers by their full names, such as "train/loss"; none of most kinds."""
    kind = str(record.get("type"))
    found = {f"{kind}/{name}": record.get(name) for name in _NAMES.get(kind, ())}
    return {name: float(value) for name, value in found.items() if isinstance(value, int | float)}


def key_of(record: dict[str, Any]) -> Key:
    """Where the record stands in its run."""
    return int(record["step"]), record["type"] == "validation"
