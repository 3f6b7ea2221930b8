"""provenance.json: what a part of a run recorded of itself."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from chatgpt_cli.errors import DataError
from chatgpt_cli.files import write_json

_NAME = "provenance.json"
_FORMAT = 1


@dataclass(frozen=True)
class Session:
    """With what a part of a run began, or was continued."""

    step: int
    config: dict[str, Any]
    # The folder that relative paths in the configuration start from.
    folder: str
    environment: dict[str, Any]
    # Data files by name: SHA-256, or for files elsewhere size and time.
    files: dict[str, str]
    # What was evaluated: folder, stage, step and SHA-256 of the weights. Training has none.
    model: dict[str, Any] | None = None
    # --config and each --set, as typed: they name the same project again.
    options: list[str] = field(default_factory=list)


_SESSIONS = TypeAdapter(list[Session])


def write_record(folder: Path, sessions: list[Session]) -> None:
    """Write a part's provenance.json, all of it or nothing."""
    write_json(folder / _NAME, {"format": _FORMAT, "sessions": [asdict(one) for one in sessions]})


def read_record(folder: Path) -> list[Session]:
    """The sessions of a part of a run, oldest first; none where nothing was recorded.

    Raises:
        DataError: if the file is not as it was written.
    """
    path = folder / _NAME
    try:
        return _SESSIONS.validate_python(json.loads(path.read_text(encoding="utf-8"))["sessions"])
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (OSError, ValueError, KeyError, TypeError, RecursionError, ValidationError) as error:
        raise DataError(
            f"what the run was made of cannot be read ({type(error).__name__})",
            place=str(path),
            remedy="Restore the file from a copy; without it the run cannot be repeated.",
        ) from error
