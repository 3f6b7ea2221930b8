"""Command lines that the program suggests: always on the run that it speaks of."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class _Typed:
    """The options that named a project, and its run directory."""

    options: tuple[str, ...] = ()
    run_dir: Path | None = None


_TYPED: ContextVar[_Typed | None] = ContextVar("typed", default=None)


def remember(config: Path | None, overrides: Sequence[str], run_dir: Path) -> None:
    """Keep how the user named the project, for the rest of this command.

    Args:
        config: what --config said, None if it was left out.
        overrides: what each --set said.
        run_dir: the run directory that came of both.
    """
    named = () if config is None else ("--config", str(config))
    changed = (part for one in overrides for part in ("--set", one))
    _TYPED.set(_Typed((*named, *changed), run_dir))


def _typed() -> _Typed:
    return _TYPED.get() or _Typed()


def typed_options() -> list[str]:
    """The --config and every --set of the command that runs; none outside of one."""
    return list(_typed().options)


def same_run(command: str, *arguments: object, run: Path | None = None) -> str:
    """A command on the same project and run, quoted for the shell, without `chatgpt`.

    Threads do not inherit what was typed: ask before they begin.

    Args:
        command: its name.
        arguments: what follows the options that name the project.
        run: a run directory that need not be the one of the command that runs; then the
            options are those that the run recorded.
    """
    typed = _typed()
    options: Sequence[str] = typed.options
    if run is not None and (typed.run_dir is None or typed.run_dir.resolve() != run.resolve()):
        options = [*_recorded(run, command), "--set", f"run_dir={run}"]
    return quoted(command, *options, *arguments)


def quoted(*words: object) -> str:
    """Words as one command line of this system's shell."""
    texts = [str(word) for word in words]
    return subprocess.list2cmdline(texts) if sys.platform == "win32" else shlex.join(texts)


def _recorded(run: Path, command: str) -> list[str]:
    """The options a run was last trained with, that stage's first, without its run_dir."""
    from chatgpt_cli.config.paths import STAGES
    from chatgpt_cli.errors import DataError
    from chatgpt_cli.provenance import read_record

    for part in (command, *reversed(STAGES), "data"):
        try:
            sessions = read_record(run / part)
        except DataError:
            continue
        if sessions:
            given = sessions[-1].options
            pairs = zip(given[::2], given[1::2], strict=False)
            return [word for pair in pairs if not pair[1].startswith("run_dir=") for word in pair]
    return []
