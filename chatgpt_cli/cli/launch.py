"""Several processes for one command on this machine, by PyTorch's elastic agent (torchrun)."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Annotated

import typer

from chatgpt_cli.ranks import launched

NprocOption = Annotated[
    int,
    typer.Option(
        "--nproc", min=1, show_default=False, help="Work with so many processes on this machine."
    ),
]

# How often a lost process is made good for by starting all of them again.
_RESTARTS = 3


def launch_several(
    context: typer.Context, nproc: int, config: Path | None, overrides: list[str] | None
) -> None:
    """Run the command in `nproc` processes, if this is not one of them, and end with its code.

    Raises:
        ConfigError: if the configuration is wrong, or there are not so many GPUs.
        TrainingError: if processes were lost again and again.
    """
    if nproc == 1 or launched():
        return
    from chatgpt_cli.config.loader import load_config

    # Once, before there are many who would all say what is wrong.
    device = load_config(config, overrides or []).config.hardware.device
    raise typer.Exit(_launch(list(context.obj), nproc, device))


def _launch(arguments: list[str], nproc: int, device: str) -> int:
    """The exit code of the processes."""
    import torch
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    from chatgpt_cli.errors import ConfigError, TrainingError

    gpus = torch.cuda.device_count()
    if device == "cuda" or (device == "auto" and gpus):
        if nproc > gpus:
            raise ConfigError(
                f"--nproc is {nproc}, but there are {gpus} GPUs here",
                remedy=f"Set --nproc {gpus}, or hardware.device: cpu.",
            )
    else:
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, _processors() // nproc)))
    launch = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=nproc,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=_RESTARTS,
    )
    try:
        codes = elastic_launch(launch, _work)(arguments)
    except SignalException as signalled:
        return 128 + int(signalled.sigval)
    except ChildFailedError as error:
        first, failure = error.get_first_failure()
        raise TrainingError(
            f"process {first} ended with code {failure.exitcode}, and {_RESTARTS} new starts did "
            "not help",
            remedy="What it said stands above. The last checkpoint is intact: continue with "
            "--resume.",
        ) from error
    return max(int(code) for code in codes.values())


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _work(arguments: list[str]) -> int:
    """One of the processes: the command's exit code.

    What a new start cannot help is returned, what it can help ends the process.
    """
    from chatgpt_cli.cli.main import main, set_up
    from chatgpt_cli.errors import ProcessLost

    if hasattr(os, "setsid"):
        # Ctrl-C goes to all processes of a terminal; these are told by the agent, once.
        os.setsid()
    set_up()
    code = main(arguments)
    if code == ProcessLost.exit_code or code >= 128:
        # After a signal the agent waits for the process, not for what it returns.
        raise SystemExit(code)
    return code
