"""TensorBoard, Weights & Biases and Trackio behind one face."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, get_args

from chatgpt_cli.config.schema import Service
from chatgpt_cli.errors import ConfigError
from chatgpt_cli.tracking.scalars import scalars
from chatgpt_cli.tracking.tensorboard import EventFile

SERVICES: tuple[Service, ...] = get_args(Service)


class Tracker(Protocol):
    """Takes the records of one run, in order."""

    def log(self, record: dict[str, Any], when: float) -> None:
        """Take a record of metrics.jsonl; `when` is in seconds since 1970."""

    def finish(self) -> None:
        """No more will come."""


@dataclass(frozen=True)
class Run:
    """What a service is told of a run; the same `id` continues it."""

    id: str
    group: str
    settings: dict[str, Any]
    # Where a service that keeps files may do so.
    folder: Path


def require(services: Sequence[Service]) -> None:
    """Raises ConfigError for a service whose package is not installed."""
    for service in services:
        if service != "tensorboard" and importlib.util.find_spec(service) is None:
            raise ConfigError(
                f"the tracker {service} is not installed",
                place="trackers",
                remedy=f"Install it with: pip install 'chatgpt-cli[{service}]'",
            )


def open_tracker(service: Service, run: Run) -> tuple[Tracker, str]:
    """Begin or continue a run; also a sentence that says where it can be seen."""
    if service == "tensorboard":
        folder = run.folder / "tensorboard"
        return EventFile(folder), f"tensorboard --logdir {folder}"
    project = os.environ.get(f"{service.upper()}_PROJECT", "chatgpt")
    options: dict[str, Any] = {
        "project": project,
        "name": run.id,
        "group": run.group,
        "config": run.settings,
        "resume": "allow",
    }
    module = importlib.import_module(service)
    if service == "trackio":
        # Trackio knows a run by its name.
        return _Remote(module.init(**options, embed=False)), f"trackio show --project {project}"
    quiet = module.Settings(console="off", silent=True)
    opened = module.init(**options, id=run.id, dir=str(run.folder), settings=quiet)
    return _Remote(opened), opened.url or f"wandb sync {Path(opened.dir).parent} (offline)"


class _Remote:
    """A run of wandb, or of trackio, which has the same methods."""

    def __init__(self, run: Any) -> None:
        self._run = run

    def log(self, record: dict[str, Any], _when: float) -> None:
        self._run.log(scalars(record), step=int(record["step"]))

    def finish(self) -> None:
        self._run.finish()
