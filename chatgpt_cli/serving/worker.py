"""The thread in which the model computes, and how requests reach it."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from chatgpt_cli.generation.constraint import Constraint
from chatgpt_cli.generation.engine import Engine, Generation, TokenChoice
from chatgpt_cli.generation.sampling import Sampling

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TextRequest:
    """One text to write."""

    prompt: list[int]
    sampling: Sampling
    stop_ids: frozenset[int]
    top_logprobs: int = 0
    constraint: Constraint | None = None


@dataclass(frozen=True)
class Event:
    """What one token brought to one of a job's texts."""

    index: int
    text: str
    # None for the token that ended the turn.
    choice: TokenChoice | None
    finish_reason: Literal["stop", "length"] | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    # The computation failed; no more will come.
    error: str | None = None


class QueueFullError(Exception):
    """More texts wait already than may."""


class Job:
    """The texts of one HTTP request."""

    def __init__(self, worker: EngineWorker, requests: Sequence[TextRequest]) -> None:
        self._worker = worker
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self.requests = list(requests)
        self.generations: list[Generation] = []
        self.open = len(requests)

    def post(self, event: Event) -> None:
        """Pass an event on to whoever waits for it; called in the loop's own thread."""
        self._events.put_nowait(event)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Where the events are awaited."""
        return self._loop

    async def events(self) -> AsyncIterator[Event]:
        """All events until all texts have ended; left early, the texts are called off."""
        try:
            while self.open:
                event = await self._events.get()
                if event.finish_reason is not None:
                    self.open -= 1
                    self._worker.count(-1)
                yield event
                if event.error is not None:
                    return
        finally:
            if self.open:
                self._worker.count(-self.open)
                self.open = 0
                self._worker.call_off(self)


class EngineWorker:
    """Runs an engine in a thread of its own; everything else happens in the event loop's.

    Attributes:
        outstanding: texts that are being written or wait.
        called_off: texts that nobody waited for any more.
    """

    def __init__(self, engine: Engine, *, max_queue: int) -> None:
        self._engine = engine
        self._limit = engine.max_rows + max_queue
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._jobs: dict[Generation, tuple[Job, int]] = {}
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self.outstanding = 0
        self.called_off = 0

    def start(self) -> None:
        """Begin to take jobs."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the token it is at."""
        self._inbox.put(None)
        self._thread.join()

    @property
    def writing(self) -> int:
        """Texts that are being written now."""
        return self._engine.writing

    def count(self, change: int) -> None:
        """Note that texts began or ended."""
        self.outstanding += change

    def submit(self, requests: Sequence[TextRequest]) -> Job:
        """Line up the texts of one HTTP request.

        Raises:
            QueueFullError: if too many wait already.
        """
        if self.outstanding and self.outstanding + len(requests) > self._limit:
            raise QueueFullError
        job = Job(self, requests)
        self.count(len(requests))
        self._inbox.put(lambda: self._begin(job))
        return job

    def call_off(self, job: Job) -> None:
        """Stop writing the texts of a job."""
        self._inbox.put(lambda: self._cancel(job))

    def _begin(self, job: Job) -> None:
        for index, one in enumerate(job.requests):
            generation = self._engine.submit(
                one.prompt,
                one.sampling,
                stop_ids=one.stop_ids,
                top_logprobs=one.top_logprobs,
                constraint=one.constraint,
            )
            job.generations.append(generation)
            self._jobs[generation] = (job, index)

    def _cancel(self, job: Job) -> None:
        for generation in job.generations:
            if self._jobs.pop(generation, None) is not None:
                self.called_off += 1
                self._engine.cancel(generation)

    def _run(self) -> None:
        while True:
            idle = not (self._engine.writing or self._engine.waiting)
            try:
                command = self._inbox.get(block=idle)
            except queue.Empty:
                self._step()
                continue
            if command is None:
                return
            command()

    def _step(self) -> None:
        """One token more for every text; the news goes to the loop in one call."""
        try:
            drawn = self._engine.step()
        except Exception:
            _log.exception("The model failed; the texts being written are lost.")
            self._fail()
            return
        news: list[tuple[Job, Event]] = []
        for one in drawn:
            generation = one.generation
            job, index = self._jobs[generation]
            choice: TokenChoice | None = one.choice
            if one.finish_reason is not None:
                del self._jobs[generation]
                if one.choice.id in generation.stop_ids:
                    choice = None
            event = Event(
                index, one.text, choice, one.finish_reason,
                len(generation.prompt), generation.cached_tokens,
            )  # fmt: skip
            news.append((job, event))
        _deliver(news)

    def _fail(self) -> None:
        """Tell all who wait, and begin with an empty engine."""
        lost = list(self._jobs.items())
        self._jobs.clear()
        self._engine.clear()
        message = "the model failed while writing; see the server's log"
        _deliver([(job, Event(index, "", None, error=message)) for _, (job, index) in lost])


def _deliver(news: list[tuple[Job, Event]]) -> None:
    def post() -> None:
        for job, event in news:
            job.post(event)

    if news:
        try:
            news[0][0].loop.call_soon_threadsafe(post)
        except RuntimeError:  # the loop has ended, and with it all who waited
            _log.debug("The event loop has ended.")
