"""One of the machines that share some work."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Machine:
    """Number `number`, from 0, of `of` machines that see the same files."""

    number: int
    of: int

    def share(self, tasks: int) -> range:
        """Which of so many tasks are its own."""
        return range(tasks * self.number // self.of, tasks * (self.number + 1) // self.of)


ALONE = Machine(0, 1)
