"""Preprocessing in parts: each is done once, by any worker of any machine, and kept.

Machine 0 plans and decides; between its decisions every machine does its share of the parts:

    plan, survey*, exact duplicates, near duplicates* (a task for each band of the
    signatures), fates and tokenizer, encode*, shards            (* by all machines)

The order of documents is that of one reading from beginning to end, so the shards are the
same files, byte for byte, whoever has done which part.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from chatgpt_cli.config.schema import Config
from chatgpt_cli.data.cleaning.near_duplicates import bands_for
from chatgpt_cli.data.encode import Encoded
from chatgpt_cli.data.parts import tasks
from chatgpt_cli.data.parts.engine import Task, run_here, run_on_ray
from chatgpt_cli.data.parts.job import Job, load_job, plan_job, save_job
from chatgpt_cli.data.parts.machine import Machine
from chatgpt_cli.data.problems import ProblemLog
from chatgpt_cli.data.shards import token_dtype
from chatgpt_cli.data.survey import SourceFiles, Survey, rounds
from chatgpt_cli.data.workers import processes
from chatgpt_cli.files import atomic_path, discard
from chatgpt_cli.lock import run_lock
from chatgpt_cli.tokenizer.tokenizer import Tokenizer

# Seconds between two looks at what other machines have done, and between two messages.
_LOOK = 1.0
_MESSAGE = 60.0
# Begins the names of folders that hold the locks of the other machines.
_MACHINE = "machine-"


@dataclass
class InParts:
    """The work in a folder that all machines see, named after the request."""

    config: Config
    sources: list[SourceFiles]
    folder: Path
    machine: Machine
    tell: Callable[[str], None]
    _sizes: list[int] = field(default_factory=list)

    def survey(self) -> tuple[Survey, list[str], ProblemLog]:
        """Look through all parts, and decide about every document.

        Raises:
            DataError: for unusable data that is not to be skipped.
        """
        tasks.forget()
        self._remove_others()
        if not (self.folder / "job.json").exists():
            save_job(plan_job(self.config, self.sources), self.folder)
        job = load_job(self.folder)
        self._tell_what_is_done(job)
        self._run(tasks.survey, len(job.parts))
        notes = tasks.all_notes(self.folder, job)
        self._sizes = notes.sizes
        dropped = notes.dropped()
        pairs: list[np.ndarray] = []
        if notes.bands:
            with (
                atomic_path(self.folder / "exact.npy") as temporary,
                temporary.open("wb") as stream,
            ):
                np.save(stream, dropped)
            self.tell("Comparing documents that share a band of their signatures")
            self._run(tasks.near, notes.bands)
            pairs = [
                np.load(tasks.result(self.folder, "near", band) / "pairs.npy")
                for band in range(notes.bands)
            ]
        found = notes.survey(self.sources, dropped, pairs)
        sample, problems = tasks.merged_sample(self.folder, job)
        return found, sample, problems

    def tokenizer(self) -> Tokenizer | None:
        """That of an earlier run which was interrupted, if it had come so far."""
        if (self.folder / "decided").exists():
            return Tokenizer.load(self.folder / "decided" / "tokenizer")
        return None

    def encode(self, tokenizer: Tokenizer, found: Survey) -> Iterator[Encoded]:
        """Encode all parts; what they hold, in the order of one reading."""
        if not (self.folder / "decided").exists():
            tasks.save_decided(self.folder, found, self._sizes, tokenizer)
        job = load_job(self.folder)
        self._run(tasks.encode, len(job.parts))
        dtype = token_dtype(tokenizer.vocab_size)
        for number, source in enumerate(self.sources):
            own = [index for index, part in enumerate(job.parts) if part.source == number]
            for round_ in range(1, rounds(source) + 1):
                for index in own:
                    yield from _shown(tasks.encoded_part(self.folder, index, dtype), round_)

    def discard(self) -> None:
        """Remove the parts: all is in the shards."""
        discard(self.folder)
        with suppress(OSError):
            self.folder.parent.rmdir()

    def help(self) -> None:
        """Do this machine's share; machine 0 decides in between and makes the shards.

        Raises:
            DataError: for unusable data that is not to be skipped.
        """
        tasks.forget()
        own = self.folder.parent / f"{_MACHINE}{self.machine.number:05d}"
        with run_lock(own, "preprocess"):
            self._await(self.folder / "job.json", "plans the parts")
            job = load_job(self.folder)
            self._run(tasks.survey, len(job.parts), wait=False)
            if job.section.near_duplicates is not None:
                self._await(self.folder / "exact.npy", "compares equal documents")
                bands = bands_for(job.section.near_duplicates.threshold).count
                self._run(tasks.near, bands, wait=False)
            self._await(self.folder / "decided", "decides and trains the tokenizer")
            self._run(tasks.encode, len(job.parts), wait=False)
        with suppress(OSError):
            own.rmdir()
            own.parent.rmdir()

    def _run(self, task: Task, count: int, *, wait: bool = True) -> None:
        run = run_on_ray if self.config.data.engine == "ray" else run_here
        own = [
            number
            for number in self.machine.share(count)
            if not tasks.result(self.folder, task.__name__, number).exists()
        ]
        run(task, self.folder, own, processes(self.config.data.workers))
        if not wait:
            return
        for number in range(count):
            self._await(
                tasks.result(self.folder, task.__name__, number),
                f"does part {number} of {count} of: {task.__name__}",
            )

    def _await(self, path: Path, what: str) -> None:
        """Wait for what another machine makes."""
        told = time.monotonic()
        while not path.exists():
            time.sleep(_LOOK)
            if time.monotonic() - told > _MESSAGE:
                self.tell(f"Waiting until another machine {what} ({path})")
                told = time.monotonic()

    def _remove_others(self) -> None:
        """Remove parts that were made for another request."""
        for other in self.folder.parent.glob("*"):
            if other != self.folder and not other.name.startswith(_MACHINE):
                shutil.rmtree(other, ignore_errors=True)

    def _tell_what_is_done(self, job: Job) -> None:
        count = len(job.parts)
        done = [
            sum(tasks.result(self.folder, name, number).exists() for number in range(count))
            for name in ("survey", "encode")
        ]
        if any(done):
            self.tell(
                f"Going on: of {count} parts, {done[0]} are looked through and {done[1]} encoded"
            )
        else:
            self.tell(f"Working in parts, {count} of them")


def _shown(part: Encoded, round_: int) -> Iterator[Encoded]:
    """Of a part's documents those that are shown so often in an epoch."""
    chosen = part.documents["copies"] >= round_
    if chosen.all():
        yield part
        return
    ends = np.cumsum(part.documents["tokens"], dtype=np.int64)
    pieces = [
        part.ids[end - length : end]
        for end, length in zip(
            ends[chosen].tolist(), part.documents["tokens"][chosen].tolist(), strict=True
        )
    ]
    if pieces:
        yield Encoded(np.concatenate(pieces), part.documents[chosen])
