"""The next batch, prepared while the model works on this one."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

from chatgpt_cli.data.batch import Batch, BatchSource


class Prefetch:
    """A source's batches in their order, each prepared in a thread before it is asked for."""

    def __init__(self, source: BatchSource, first: int, *, pin: bool) -> None:
        """Args:
        source: makes the batches.
        first: the number of the first one.
        pin: put them into memory from which a GPU copies while it computes.
        """
        self._source = source
        self._index = first
        self._pin = pin
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._next: Future[Batch] = self._pool.submit(self._prepare, first)

    def __enter__(self) -> Prefetch:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def next(self) -> Batch:
        """The next batch; the one after it is begun."""
        batch = self._next.result()
        self._index += 1
        self._next = self._pool.submit(self._prepare, self._index)
        return batch

    def _prepare(self, index: int) -> Batch:
        batch = self._source.batch(index)
        return batch.pinned() if self._pin else batch
