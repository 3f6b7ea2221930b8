"""Whether a stage starts afresh, goes on, or is already done."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from chatgpt_cli.checkpoints import Progress, newest_intact
from chatgpt_cli.config.paths import StagePaths
from chatgpt_cli.errors import ConfigError
from chatgpt_cli.files import set_aside
from chatgpt_cli.ranks import this_rank
from chatgpt_cli.training.checkpoint import Saved, load_state
from chatgpt_cli.training.distributed import on_first
from chatgpt_cli.training.events import Note, Observer

Mode = Literal["new", "resume", "restart"]

# Settings whose change would leave the saved state without meaning, and those after
# which an evaluation cannot be compared with earlier ones.
_FIXED = ("optimizer",)
_OTHER_EVALUATION = ("eval_tokens", "validation_data", "best_by")


@dataclass(frozen=True)
class Finished:
    """The stage was trained to its end with these very settings."""

    progress: Progress


def open_stage(
    stage: StagePaths,
    *,
    mode: Mode,
    fingerprint: dict[str, object],
    settings: dict[str, object],
    observe: Observer,
) -> Saved | Finished | None:
    """The state to go on from, `Finished`, or None to begin at the beginning.

    A job that torchrun begins again, because a process or a machine was lost, goes on
    from its own checkpoint whatever the mode.

    Args:
        stage: its files; `restart` sets aside what is there.
        mode: what the user asked for.
        fingerprint: what a continuation may not change.
        settings: what it may change; changes are told.
        observe: told about damaged checkpoints and changed settings.

    Raises:
        ConfigError: if there is an earlier run and the user did not say what to do with
            it, or it cannot be continued because the model or the data changed.
    """
    job = this_rank().job
    if mode == "restart" and not on_first(lambda: _is_of_job(stage, job)):
        on_first(lambda: _put_aside(stage))
        return None
    folder = on_first(lambda: newest_intact(stage, lambda text: observe(Note(text, "warning"))))
    if folder is None:
        if mode == "resume":
            observe(Note("There is no checkpoint to continue from; starting at the beginning."))
        return None
    saved = load_state(folder)
    changed = differences(saved.settings, settings)
    # The stream of batches names some settings as its own: those are said once.
    streams = [line.removeprefix("train.") for line in differences(saved.fingerprint, fingerprint)]
    fixed = [*dict.fromkeys(streams + _of(changed, _FIXED))]
    changes = [line for line in changed if line not in fixed]
    done = saved.progress.finished
    if done and not changes and not fixed:
        return Finished(saved.progress)
    if mode == "new" and (job is None or saved.job != job):
        how = f"finished ({done})" if done else "stopped"
        listed = "".join(f"\n  {line}" for line in (fixed + changes)[:10])
        raise ConfigError(
            f"there is a run here that {how} at step {saved.progress.step:,}"
            + (f", with other settings:{listed}" if listed else ""),
            place=str(stage.root),
            remedy="Begin again with --restart (removes it), choose another run_dir, or, to go "
            "on from there, restore these and give --resume."
            if fixed
            else "Go on from there with --resume, begin again with --restart (removes it), "
            "or choose another run_dir.",
        )
    if fixed:
        raise ConfigError(
            "this run cannot be continued, because what it was trained on changed:"
            + "".join(f"\n  {line}" for line in fixed[:10]),
            place=str(stage.root),
            remedy="Restore these, begin again with --restart, or choose another run_dir.",
        )
    for line in changes:
        observe(Note(f"Continuing with a changed setting: {line}"))
    if _of(changes, _OTHER_EVALUATION):
        observe(Note("The evaluation changes: the best so far is forgotten."))
        progress = replace(saved.progress, best_step=None, best_loss=None, stale=0)
        saved = replace(saved, progress=progress)
    return replace(saved, changes=changes)


def _is_of_job(stage: StagePaths, job: str | None) -> bool:
    """Whether there is a checkpoint of this very job, which torchrun has begun again."""
    if job is None:
        return False
    folder = newest_intact(stage, lambda _: None)
    return folder is not None and load_state(folder).job == job


def _put_aside(stage: StagePaths) -> None:
    # Lost only once the new run has begun: it may fail over its settings.
    if stage.root.exists():
        set_aside(stage.root)


def _of(lines: list[str], names: tuple[str, ...]) -> list[str]:
    """The differences that concern these settings."""
    return [line for line in lines if line.partition(":")[0].partition(".")[0] in names]


def differences(old: object, new: object, prefix: str = "") -> list[str]:
    """Each value that differs, as "a.b: 1 → 2"."""
    if isinstance(old, dict) and isinstance(new, dict):
        lines: list[str] = []
        for key in sorted(old.keys() | new.keys()):
            name = f"{prefix}.{key}" if prefix else str(key)
            lines += differences(old.get(key), new.get(key), name)
        return lines
    if isinstance(old, tuple) or isinstance(new, tuple):
        # JSON has lists only.
        old, new = list(old or ()), list(new or ())  # type: ignore[call-overload]
    return [] if old == new else [f"{prefix}: {_short(old)} → {_short(new)}"]


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:37] + "…"
