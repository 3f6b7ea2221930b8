"""Which of several processes this one is, as torchrun tells it. Needs no PyTorch."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Rank:
    """A process among `count`, of which `local_count` run on this machine.

    Attributes:
        number: its rank, from 0.
        count: how many there are (the world size).
        local: its rank among those of this machine.
        local_count: how many those are.
        job: what torchrun calls the job, alike in all processes and after every restart;
            None if it has no name of its own.
        restarts: how often torchrun has restarted the processes.
    """

    number: int = 0
    count: int = 1
    local: int = 0
    local_count: int = 1
    job: str | None = None
    restarts: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and speaks to the user."""
        return self.number == 0


def launched() -> bool:
    """Whether torchrun, or `--nproc`, started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def this_rank() -> Rank:
    """This process; one that was started alone is the first of one."""
    if not launched():
        return Rank()

    def number(name: str, default: int) -> int:
        return int(os.environ.get(name, default))

    # What torchrun says if nobody named the job.
    job = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    return Rank(
        number=number("RANK", 0),
        count=number("WORLD_SIZE", 1),
        local=number("LOCAL_RANK", 0),
        local_count=number("LOCAL_WORLD_SIZE", 1),
        job=None if job == "none" else job,
        restarts=number("TORCHELASTIC_RESTART_COUNT", 0),
    )
