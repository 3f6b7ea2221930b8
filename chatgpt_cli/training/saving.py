"""When and by whom a checkpoint is written: at once by one process, or by several meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import torch.distributed as dist
from torch import Tensor

from chatgpt_cli.checkpoints import Progress, name_of
from chatgpt_cli.config.paths import StagePaths
from chatgpt_cli.errors import TrainingError
from chatgpt_cli.files import scratch_folder
from chatgpt_cli.model.transformer import Transformer
from chatgpt_cli.tokenizer.tokenizer import Tokenizer
from chatgpt_cli.training.checkpoint import (
    make_room,
    random_state,
    save_checkpoint,
    size_of,
    unwritten,
)
from chatgpt_cli.training.distributed import gather, on_first, rank
from chatgpt_cli.training.metrics_log import Mark
from chatgpt_cli.training.shards import WrittenShards, divided, write_shards


@dataclass
class Saver:
    """Writes the checkpoints of a run; `after` is called in the first process for each.

    A state that every process has whole is written by the first one while the others
    wait: as long as one process fits it, that is quick. A divided state is copied to the
    CPU, and written while training goes on, by each process its part.
    """

    stage: StagePaths
    tokenizer: Tokenizer
    fingerprint: dict[str, object]
    settings: dict[str, object]
    after: Callable[[], None]

    def __post_init__(self) -> None:
        self._group: dist.ProcessGroup | None = None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._written: Future[Path] | None = None
        self._shards: WrittenShards | None = None

    def save(
        self,
        model: Transformer | None,
        *,
        progress: Progress,
        metrics: Mark | None,
        optimizer: dict[str, Tensor],
    ) -> None:
        """Write what stands now; all processes must. Only the first needs model and metrics.

        Raises:
            TrainingError: in all of them, if this or an earlier checkpoint cannot be written.
        """
        self.finish()
        parts = divided(optimizer)
        whole = {name: tensor for name, tensor in optimizer.items() if name not in parts}
        rng = gather(random_state())
        if not parts:
            on_first(lambda: self._write(model, progress, metrics, whole, rng, None))
            on_first(self.after)
            return
        folder = on_first(lambda: self._place(model, progress, optimizer))
        if self._group is None:
            self._group = dist.new_group(backend="gloo")
        self._shards = write_shards(parts, folder, self._group)
        if rank() == 0:
            copied = {name: tensor.clone() for name, tensor in whole.items()}
            now = replace(progress, chosen=dict(progress.chosen))
            self._written = self._pool.submit(
                self._write, model, now, metrics, copied, rng, self._shards
            )

    def failure(self) -> TrainingError | None:
        """Why the checkpoint under way could not be written, as soon as that is known."""
        if self._written is None or not self._written.done():
            return None
        error = self._written.exception()
        return error if isinstance(error, TrainingError) else None

    def finish(self) -> None:
        """Wait for the checkpoint that is under way; all processes must.

        Raises:
            TrainingError: in all of them, if it could not be written.
        """
        if self._shards is None:
            return
        self._shards.wait()
        self._shards = None
        on_first(self._end)

    def close(self) -> None:
        """Whatever happens: nothing is written any more after this."""
        self._pool.shutdown(wait=True)

    def _end(self) -> None:
        assert self._written is not None
        written, self._written = self._written, None
        written.result()
        self.after()

    def _place(
        self, model: Transformer | None, progress: Progress, optimizer: dict[str, Tensor]
    ) -> Path:
        """A folder for the parts, in which they have room."""
        assert model is not None
        target = self.stage.checkpoints / name_of(progress.step)
        needed = size_of(model, self.tokenizer, optimizer)
        try:
            make_room(self.stage, progress, needed)
            return scratch_folder(target.with_name(f"{target.name}.shards"))
        except OSError as error:
            raise unwritten(self.stage, progress, needed, error) from error

    def _write(
        self,
        model: Transformer | None,
        progress: Progress,
        metrics: Mark | None,
        optimizer: dict[str, Tensor],
        rng: list[dict[str, Tensor]],
        shards: WrittenShards | None,
    ) -> Path:
        assert model is not None and metrics is not None
        return save_checkpoint(
            self.stage,
            model=model,
            tokenizer=self.tokenizer,
            progress=progress,
            fingerprint=self.fingerprint,
            settings=self.settings,
            metrics=metrics,
            optimizer=optimizer,
            rng=rng,
            shards=shards,
        )
