"""metrics.jsonl: one JSON object per logged step, evaluation and sample."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from chatgpt_cli.files import write_text


class MetricsLog:
    """Appends records; a continued run first drops what lies after its checkpoint."""

    def __init__(self, path: Path, *, resume_step: int | None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = read_metrics(path) if resume_step is not None else []
        kept = [record for record in kept if record.get("step", 0) <= (resume_step or 0)]
        write_text(path, "".join(_line(record) for record in kept if record["type"] != "end"))
        self._stream = path.open("a", encoding="utf-8", newline="\n")

    def write(self, record: dict[str, Any]) -> None:
        """Append one record, visible to readers at once."""
        self._stream.write(_line(record))
        self._stream.flush()

    def close(self) -> None:
        self._stream.close()


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a metrics file; a half-written last line is left out."""
    records: list[dict[str, Any]] = []
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return records
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and "type" in record:
            records.append(record)
    return records
