"""Training as the user sees it, for every command that trains."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from chatgpt_cli.cli.output import Output, ProgressDisplay
from chatgpt_cli.cli.project import Project
from chatgpt_cli.command_line import same_run
from chatgpt_cli.errors import ConfigError
from chatgpt_cli.ranks import this_rank

if TYPE_CHECKING:
    from chatgpt_cli.config.paths import StageName, StagePaths
    from chatgpt_cli.training.events import Event, Note, Observer
    from chatgpt_cli.training.loop import Result
    from chatgpt_cli.training.start import Finished, Mode

ResumeOption = Annotated[
    bool, typer.Option("--resume", help="Go on from the newest checkpoint of this run.")
]
RestartOption = Annotated[
    bool, typer.Option("--restart", help="Remove this stage's earlier run and begin again.")
]


class TrainingView:
    """Shows events: a bar with the loss, and a line for each evaluation and sample."""

    def __init__(self, output: Output, display: ProgressDisplay) -> None:
        self._output = output
        self._display = display

    def __call__(self, event: Event) -> None:
        """Show an event. Training goes on when nobody can see it any more."""
        with suppress(OSError):
            self._show(event)

    def _show(self, event: Event) -> None:
        from chatgpt_cli.training.events import Evaluated, Note, Sampled, StepDone

        if isinstance(event, Note):
            show_note(self._output, event)
        elif isinstance(event, Evaluated):
            bits = "" if event.bits_per_byte is None else f" · {event.bits_per_byte:.3f} bits/byte"
            more = "".join(f" · {name} {value:.3g}" for name, value in event.details.items())
            best = " (best so far)" if event.best else ""
            self._output.line(
                f"step {event.step:>6,}  validation loss {event.loss:.4f}{bits}{more}{best}"
            )
        elif isinstance(event, Sampled):
            text = event.text.strip().replace("\n", " ⏎ ")
            self._output.line(f"             {event.prompt} ▸ {text}")
        elif isinstance(event, StepDone):
            self._display.update(
                event.progress,
                f"step {event.step:,} · loss {event.loss:.3f} · "
                f"{event.tokens_per_second:,.0f} tokens/s · {_duration(event.seconds_left)} left",
            )


def show_note(output: Output, note: Note) -> None:
    """What the user should know, or be warned of."""
    (output.warn if note.kind == "warning" else output.line)(note.text)


def _duration(seconds: float) -> str:
    if seconds == float("inf"):
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def train(
    project: Project,
    *,
    command: StageName,
    stage: StagePaths,
    resume: bool,
    restart: bool,
    json_output: bool,
    work: Callable[[Mode, Observer], Result | Finished],
    following: str,
    nproc: int = 1,
) -> int:
    """Run a training stage with everything around it; the exit code.

    Args:
        project: the loaded configuration.
        command: the stage's name.
        stage: where its files lie.
        resume: go on from the newest checkpoint.
        restart: remove an earlier run.
        json_output: a JSON object at the end.
        work: trains, given the mode and whom to tell.
        following: the command to run next.
        nproc: how many processes --nproc asked for.

    Raises:
        ConfigError: for --resume together with --restart.
    """
    if resume and restart:
        raise ConfigError(
            "they exclude each other",
            place="--resume, --restart",
            remedy="Use --resume to go on, --restart to begin again.",
        )
    me = this_rank()
    if command == "reinforce" and me.count > 1:
        raise ConfigError("reinforce works with one process", remedy="Run it without torchrun.")
    from chatgpt_cli.evaluation.report.stage_page import write_stage_page
    from chatgpt_cli.reproduction.record import Recorder
    from chatgpt_cli.tracking.live import Trackers
    from chatgpt_cli.tracking.services import require
    from chatgpt_cli.training.distributed import locked, process_group
    from chatgpt_cli.training.hang import watching
    from chatgpt_cli.training.loop import Result

    output = project.output
    mode: Mode = "resume" if resume else "restart" if restart else "new"
    services = project.config.trackers if me.is_first else []
    require(services)
    if me.restarts:
        output.warn(f"A process was lost: new start {me.restarts}, from the last checkpoint.")
    timeout = project.config.hardware.rank_timeout
    with process_group(timeout=2 * timeout) as store, locked(project.paths.root, command):
        with (
            output.progress(command, 1.0) as display,
            watching(store, timeout, output.alarm) as watch,
        ):
            view = TrainingView(output, display)
            with Trackers(services, stage, group=project.paths.root.name, tell=view) as trackers:

                def observe(event: Event) -> None:
                    watch(event)
                    view(event)
                    trackers(event)

                if me.is_first:
                    observe = Recorder(stage.root, project.config, command, observe)
                result = work(mode, observe)
        if isinstance(result, Result) and me.is_first:
            write_stage_page(stage, title=str(project.paths.root), facts=_facts(project))
    progress = result.progress
    if json_output:
        output.json(
            {
                "stage": command,
                "reason": result.reason if isinstance(result, Result) else "already finished",
                "step": progress.step,
                "tokens": progress.tokens,
                "seconds": round(progress.elapsed, 1),
                "best_step": progress.best_step,
                "best_loss": progress.best_loss,
                "checkpoint": str(stage.pointed(stage.best) or stage.pointed(stage.latest)),
            }
        )
    if not isinstance(result, Result):
        output.success(f"Already trained to the end with these settings (step {progress.step:,}).")
    elif result.reason == "interrupted":
        output.warn(f"Stopped at step {progress.step:,}; everything is saved.")
        processes = [] if nproc == 1 else ["--nproc", nproc]
        output.next_step(f"Continue: chatgpt {same_run(command, *processes, '--resume')}")
        return 128 + (result.signal or 2)
    else:
        why = " by early stopping" if result.reason == "early stopping" else ""
        by = project.config.finetune.best_by if command == "finetune" else None
        measure = "validation loss" if by is None else f"{by.task} {by.metric}"
        # Scores that should be high are ranked by their negative.
        loss = (
            "" if progress.best_loss is None else f", best {measure} {abs(progress.best_loss):.4f}"
        )
        output.success(
            f"Trained {progress.step:,} steps, {progress.tokens:,} tokens, in "
            f"{_duration(progress.elapsed)}{why}{loss} at step {progress.best_step or 0:,}"
        )
        output.line(f"Curves and a verdict: {stage.report}")
        _warn_of_later(project, command)
    output.next_step(
        f"Model: {stage.pointed(stage.best) or stage.pointed(stage.latest)}. "
        f"Next: chatgpt {same_run(following)}"
    )
    return 0


def _warn_of_later(project: Project, command: str) -> None:
    """Say so if other commands would still take the model of a later, earlier trained stage."""
    from chatgpt_cli.checkpoints import list_checkpoints
    from chatgpt_cli.config.paths import STAGES

    later = STAGES[[str(name) for name in STAGES].index(command) + 1 :]
    trained = [name for name in later if list_checkpoints(project.paths.stage(name))]
    if trained:
        project.output.warn(
            f"{' and '.join(trained)} in this run began from an earlier model, and other commands "
            f"take that of the last stage: train it again, or use --stage {command}."
        )


def _facts(project: Project) -> dict[str, str]:
    """What the report's table says of the run."""
    config = project.config
    from chatgpt_cli.interop.base import project_shape

    shape = project_shape(config.model, vocab_size=config.tokenizer.vocab_size)
    name = config.model.from_ or config.model.preset
    return {
        "configuration": " ".join(
            [project.source, *(f"--set {override}" for override in project.overrides)]
        ),
        "model": f"{name}, {shape.num_parameters():,} parameters",
        "shape": f"{shape.num_layers} layers, {shape.hidden_size} wide, {shape.num_heads} heads, "
        f"context {shape.context_length}",
        "seed": str(config.seed),
    }
