"""Reading a growing metrics.jsonl and handing on what a service does not have yet."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from chatgpt_cli.config.paths import StagePaths
from chatgpt_cli.config.schema import Service
from chatgpt_cli.files import write_text
from chatgpt_cli.tracking.scalars import Key, key_of, scalars
from chatgpt_cli.tracking.services import Run, Tracker, open_tracker
from chatgpt_cli.training.metrics_log import parse_metrics


@dataclass
class _Sent:
    """What a service has: a run, known by a hash of its first numbers, up to a record."""

    id: str
    first: str
    step: int = -1
    evaluated: bool = False

    @classmethod
    def read(cls, path: Path, first: str, name: str) -> _Sent:
        """What was noted down, or a new run if the one of the file is another or none."""
        try:
            found = cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            found = None
        if found is None or found.first != first:
            return cls(f"{name}-{secrets.token_hex(3)}", first)
        return found

    @property
    def key(self) -> Key:
        return self.step, self.evaluated

    def note(self, key: Key, path: Path) -> None:
        self.step, self.evaluated = key
        write_text(path, json.dumps(asdict(self)))


def follow(
    service: Service,
    stage: StagePaths,
    *,
    group: str,
    wait: Callable[[], bool],
    tell: Callable[[str], None],
) -> None:
    """Hand the numbers of a stage to a service, those that it has already left out.

    Args:
        service: which.
        stage: whose metrics.jsonl is read.
        group: the name that the stages of one project share.
        wait: waits a little; True once no more will be written.
        tell: told where the curves can be seen.
    """
    tracker: Tracker | None = None
    notes = stage.trackers / f"{service}.json"
    settings: dict[str, Any] = {}
    for records, modified in _growing(stage.metrics, wait):
        for record in records:
            if record["type"] == "start":
                settings = record.get("settings", {})
        records = [record for record in records if scalars(record)]
        if not records:
            continue
        if tracker is None:
            sent = _Sent.read(notes, _hash(records[0]), f"{group}-{stage.root.name}")
            run = Run(sent.id, group, settings, stage.trackers)
            tracker, seen = open_tracker(service, run)
            tell(seen)
            began = modified - float(records[-1].get("elapsed", 0))
        for record in records:
            # Event files are written anew each time.
            if service == "tensorboard" or key_of(record) > sent.key:
                tracker.log(record, began + float(record.get("elapsed", 0)))
        sent.note(max(sent.key, key_of(records[-1])), notes)
    if tracker is not None:
        tracker.finish()


def _growing(path: Path, wait: Callable[[], bool]) -> Iterator[tuple[list[dict[str, Any]], float]]:
    """The records that were added since the last time, and when, until `wait` says so."""
    read = 0
    ended = False
    while True:
        try:
            with path.open("rb") as stream:
                stream.seek(read)
                data = stream.read()
                modified = os.fstat(stream.fileno()).st_mtime
        except OSError:
            data, modified = b"", time.time()
        whole = data[: data.rfind(b"\n") + 1]
        read += len(whole)
        yield parse_metrics(whole), modified
        if ended:
            return
        ended = wait()


def _hash(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:16]
