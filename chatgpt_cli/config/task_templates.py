"""Ready descriptions of common tasks: configs/tasks/NAME.yaml, named by `like: NAME`."""

from __future__ import annotations

import difflib
from typing import Any

import yaml

from chatgpt_cli.config.paths import builtin


def task_template(name: str) -> dict[str, Any]:
    """The keys of a built-in task.

    Raises:
        ValueError: if there is none of this name, with the nearest.
    """
    folder = builtin("configs", "tasks")
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"like: {name} is not one of {', '.join(known)}{hint}")
    content = yaml.safe_load((folder / f"{name}.yaml").read_text(encoding="utf-8"))
    return dict(content)
