"""The one training loop. Tasks differ only in the objective and the batches they give it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from chatgpt_cli.checkpoints import Progress, list_checkpoints, name_of, prune
from chatgpt_cli.config.paths import StagePaths
from chatgpt_cli.config.schema import TrainingSection
from chatgpt_cli.data.batch import Batch, BatchSource
from chatgpt_cli.errors import TrainingError
from chatgpt_cli.files import write_text
from chatgpt_cli.model.transformer import Transformer
from chatgpt_cli.ranks import this_rank
from chatgpt_cli.tokenizer.tokenizer import Tokenizer
from chatgpt_cli.training.checkpoint import Saved, check_optimizer_state, restore_random_state
from chatgpt_cli.training.device import Hardware
from chatgpt_cli.training.distributed import gather, rank, total, world_size
from chatgpt_cli.training.effort import FEW_STEPS
from chatgpt_cli.training.events import Chosen, Evaluated, Note, Observer, Sampled, StepDone
from chatgpt_cli.training.memory import advise, fitting_sequences, is_out_of_memory
from chatgpt_cli.training.metrics_log import MetricsLog
from chatgpt_cli.training.objective import Objective
from chatgpt_cli.training.optimizer import Optimizers
from chatgpt_cli.training.parallel import Parallel, choose_kind, whole_tensor
from chatgpt_cli.training.prefetch import Prefetch
from chatgpt_cli.training.saving import Saver
from chatgpt_cli.training.schedule import learning_rate_factor
from chatgpt_cli.training.signals import StopSignals
from chatgpt_cli.training.validation import ValidationLoss
from chatgpt_cli.training.watch import Spike, watch_loss

# How many evaluations and checkpoints "auto" spreads over the budget.
AUTO_EVALUATIONS = 20
_AUTO_CHECKPOINTS = 4


@dataclass(frozen=True)
class Result:
    """How training ended: "budget", "early stopping" or "interrupted"."""

    reason: str
    progress: Progress
    signal: int | None = None


@dataclass(frozen=True)
class _Taken:
    """What a step did: mean loss, the gradient's norm, targets and tokens, other means."""

    loss: float
    norm: float
    targets: int
    tokens: int
    means: dict[str, float]

    @classmethod
    def mean(cls, updates: list[_Taken]) -> _Taken:
        """Several updates as one."""
        return cls(
            fmean(one.loss for one in updates),
            fmean(one.norm for one in updates),
            sum(one.targets for one in updates),
            sum(one.tokens for one in updates),
            {name: fmean(one.means[name] for one in updates) for name in updates[0].means},
        )


@dataclass
class Trainer:
    """Everything a run of training is made of; `run` does it.

    One of several processes does its share of each batch and of each evaluation; the
    first one alone writes files. All take every decision alike.

    `sample` continues a prompt with the model as it is (for looking, not for scores).
    `fingerprint` holds what a continuation may not change, `settings` what it was
    trained with; both are saved with every checkpoint.
    """

    model: Transformer
    tokenizer: Tokenizer
    objective: Objective
    section: TrainingSection
    train: BatchSource
    validation: Iterable[Batch]
    hardware: Hardware
    stage: StagePaths
    fingerprint: dict[str, object]
    settings: dict[str, object]
    observe: Observer
    sample: Callable[[Transformer, str, int], str]
    seed: int = 0

    def __post_init__(self) -> None:
        self.progress = Progress()
        # Those that arrive here, and the one that all processes know of.
        self._signals = StopSignals(lambda text: self.observe(Note(text)))
        self._stop_signal: int | None = None
        # The step and the end of the last checkpoint.
        self._saved: tuple[int, str | None] | None = None
        # What went wrong in this process and must end all of them after this step.
        self._failure: TrainingError | None = None

    def run(self, saved: Saved | None = None) -> Result:
        """Train from the start, or go on from `saved` (whose weights the model has).

        Raises:
            TrainingError: if the loss or a gradient is not a number, the memory is not
                enough, or a checkpoint cannot be written. The last checkpoint is intact
                then.
        """
        self._prepare(saved)
        started = time.perf_counter() - self.progress.elapsed
        start = {"type": "start", "step": self.progress.step, "settings": self.settings}
        if saved is not None and saved.changes:
            start["changes"] = saved.changes
        try:
            self._write(start)
            with self._signals:
                pin = self.hardware.device.type == "cuda"
                with Prefetch(self.train, self.progress.step, pin=pin) as batches:
                    reason = self._steps(batches, started)
                self._finish(reason)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise self._out_of_memory() from error
        finally:
            self._saver.close()
            if self._log is not None:
                self._log.close()
        return Result(reason, self.progress, self._stop_signal)

    # ------------------------------------------------------------------ setting up

    def _prepare(self, saved: Saved | None) -> None:
        # Each process drops out other numbers.
        torch.manual_seed(self.seed + rank())
        self.model.set_attention(self.hardware.attention)
        self.model.set_int8_training(self.hardware.int8)
        self.model.set_gradient_checkpointing(self.hardware.gradient_checkpointing)
        if self.section.dropout is not None:
            self.model.set_dropout(self.section.dropout)
        self.model.train()
        kind = choose_kind(self.model, self.hardware, self.section.optimizer)
        self._forward_compiled()
        self._parallel = Parallel(self.model, self.objective, self.hardware, kind)
        self._optimizers = Optimizers(self.model, self.section)
        if saved is not None:
            # With a larger budget, what ended early has all its patience again.
            early = saved.progress.finished == "early stopping"
            stale = 0 if early else saved.progress.stale
            self.progress = replace(saved.progress, finished=None, stale=stale)
            check_optimizer_state(self.model, saved)
            self._optimizers.load_state(saved.optimizer)
            if saved.shards is not None:
                self._optimizers.load_shards(saved.shards)
            restore_random_state(saved.rng, rank())
            self._saved = (saved.progress.step, saved.progress.finished)
            # The process may have ended between the save and the pointers.
            if rank() == 0:
                write_text(self.stage.latest, saved.folder.name + "\n")
                self._point_to_best()
        self._log: MetricsLog | None = None
        if rank() == 0:
            self._log = MetricsLog(
                self.stage.metrics,
                resume=None if saved is None else saved.metrics,
                step=self.progress.step,
                warn=lambda text: self.observe(Note(text, "warning")),
            )
        self._saver = Saver(
            self.stage, self.tokenizer, self.fingerprint, self.settings, self._after_save
        )
        self._micro_batch_size = self.sequences_at_once()
        self.progress.chosen = self.hardware.chosen() | {"micro_batch_size": self._micro_batch_size}
        self.observe(Chosen(self.progress.chosen))
        self.observe(
            Note(f"{self.hardware} · {self._micro_batch_size} of {self.train.batch_size} at once")
        )
        if world_size() > 1:
            self.observe(Note(str(self._parallel)))
        self._warn_of_few_steps()

    def _warn_of_few_steps(self) -> None:
        """Few rows in large batches are a step or two, after which nothing is learnt."""
        amount, unit = self.section.budget
        per_epoch = self.train.batches_per_epoch
        if unit == "epochs" and amount * per_epoch < FEW_STEPS:
            steps = max(1, math.ceil(amount * per_epoch))
            self.observe(
                Note(
                    f"The whole budget is {steps} steps of {self.train.batch_size} sequences, too "
                    "few to learn much: set a smaller batch_size, or more epochs.",
                    "warning",
                )
            )

    def sequences_at_once(self) -> int:
        """The sequences of a micro-batch: as set, as before, or what fits and is fast."""
        chosen, own = self.section.micro_batch_size, -(-self.train.batch_size // world_size())
        if chosen == "auto":
            before = self.progress.chosen
            if before.get("device") == self.hardware.device.type:
                return min(int(before["micro_batch_size"]), own)
            fitting = fitting_sequences(
                self.model.config,
                self.hardware,
                optimizer=self.section.optimizer,
                length=self.train.sequence_length,
                batch_size=own,
                trained=self._adapter_size(),
                processes=this_rank().local_count if self.hardware.device.type == "cpu" else 1,
            )
            return min(gather(fitting))
        return min(chosen, own)

    def _adapter_size(self) -> int | None:
        """The parameters that are trained, if those are only an adapter's."""
        if self.model.adapter is None:
            return None
        return sum(one.numel() for one in self.model.parameters() if one.requires_grad)

    def _forward_compiled(self) -> None:
        """Compile block by block: as fast as whole, and compiles in less time."""
        if self.hardware.compile:
            for block in self.model.model.blocks():
                block.compile(dynamic=False)

    # ------------------------------------------------------------------- the steps

    def _steps(self, batches: Prefetch, started: float) -> str:
        """Step until the budget is used, early stopping, or a signal; says which."""
        window_start, window_tokens = time.perf_counter(), 0
        while (before := self._share()) < 1:
            if world_size() == 1:
                self._stop_signal = self._signals.first
            if self._stop_signal is not None:
                return "interrupted"
            batch = batches.next()
            taken = self._step(batch, before)
            now = time.perf_counter()
            self.progress.step += 1
            self.progress.tokens += taken.tokens
            self.progress.elapsed = now - started
            self._agree_how_it_stands()
            window_tokens += taken.tokens
            share = self._share()
            log = self.progress.step % self.section.log_every == 0 or share >= 1
            self._tell(share, taken, window_tokens / (now - window_start), log=log)
            if log:
                window_start, window_tokens = now, 0
            spent = time.perf_counter()
            finished = self._after_step(before, share)
            window_start += time.perf_counter() - spent
            if finished:
                return finished
        return "budget"

    def _step(self, batch: Batch, share: float) -> _Taken:
        """One step: an update for each batch that the objective makes of this one."""
        self._optimizers.set_factor(learning_rate_factor(self.section, share))
        passes = self.objective.passes(self.model, batch, self.progress.step)
        return _Taken.mean([self._update(part) for part in passes])

    def _update(self, batch: Batch) -> _Taken:
        """One update of the weights.

        The gradient is that of the mean over all targets of the batch, however it is
        divided into micro-batches and however unevenly targets lie in them.
        """
        targets = self.objective.count(batch)
        if targets == 0:
            raise TrainingError(
                f"batch {self.progress.step:,} has no token to learn from",
                place=str(self.stage.root),
                remedy="Look at the data: every row needs an answer that fits sequence_length.",
            )
        nll = torch.zeros((), device=self.hardware.device)
        sums: dict[str, Tensor] = {}
        micros = list(batch.share(rank(), world_size()).split(self._micro_batch_size))
        for number, micro in enumerate(micros, start=1):
            loss = self._parallel.backward(
                micro.to(self.hardware.device), targets / world_size(), last=number == len(micros)
            )
            nll += loss.total.detach()
            for name, value in loss.sums.items():
                sums[name] = sums.get(name, 0) + value.detach()
        norm = torch.nn.utils.clip_grad_norm_(
            self.model.parameters(), self.section.gradient_clip or math.inf
        )
        added, *others = total([float(nll), *map(float, sums.values())])
        mean, size = added / targets, float(whole_tensor(norm))
        if math.isfinite(mean) and math.isfinite(size):
            self._optimizers.step()
        else:
            self._leave_out(mean, size)
        means = {name: value / targets for name, value in zip(sums, others, strict=True)}
        return _Taken(mean, size, targets, batch.input_ids.numel(), means)

    def _agree_how_it_stands(self) -> None:
        """One clock, one signal and one failure for all processes.

        Raises:
            TrainingError: in all of them, if one failed.
        """
        if world_size() == 1:
            return
        self._failure = self._failure or self._saver.failure()
        failed = self._failure is not None
        signalled = self._signals.first is not None
        elapsed = self.progress.elapsed if rank() == 0 else 0.0
        self.progress.elapsed, signals, failures = total([elapsed, signalled, failed])
        if failures:
            raise next(one for one in gather(self._failure) if one is not None)
        if signals:
            everywhere = gather(self._signals.first)
            self._stop_signal = next(one for one in everywhere if one is not None)

    # ----------------------------------------------------------------- what goes wrong

    def _write(self, record: dict[str, Any]) -> None:
        """Add to metrics.jsonl, in the first process.

        Raises:
            TrainingError: if it cannot be written; among several, all of them end after
                this step.
        """
        if self._log is None:
            return
        try:
            self._log.write(record)
        except TrainingError as error:
            if world_size() == 1:
                raise
            self._failure = error

    def _leave_out(self, loss: float, norm: float) -> None:
        """Make no update from numbers that are none, as often as is allowed."""
        what = (
            f"the loss is {loss} and the gradient's norm {norm} at step "
            f"{self.progress.step + 1:,} (batch {self.progress.step:,}); no update was made"
        )
        allowed = self.section.skip_bad_steps
        if self.progress.skipped >= allowed:
            skipped = f", after {allowed:,} such steps were left out" if allowed else ""
            raise TrainingError(
                what + skipped,
                place=str(self.stage.root),
                remedy=f"{self._kept()} Lower learning_rate and muon_learning_rate, raise "
                "warmup_fraction, set hardware.precision to float32, or allow skip_bad_steps; "
                "then continue with --resume or --restart.",
            )
        self.model.zero_grad(set_to_none=True)
        self.progress.skipped += 1
        number = f"{self.progress.skipped:,} of {allowed:,} allowed"
        self.observe(Note(f"A step was left out: {what} ({number}).", "warning"))
        self._write({"type": "skipped", "step": self.progress.step + 1, "reason": what})

    def _kept(self) -> str:
        """What there is to go on from."""
        folders = list_checkpoints(self.stage)
        return (
            f"The last good checkpoint is {folders[-1].name}." if folders else "Nothing is saved."
        )

    def _report_spike(self, spike: Spike) -> None:
        step = self.progress.step
        self.observe(
            Note(
                f"The loss jumped to {spike.loss:.3f} at step {step:,} (about {spike.usual:.3f} "
                "before). If it does not come back, lower the learning rates or gradient_clip.",
                "warning",
            )
        )
        self._write({"type": "spike", "step": step, "loss": spike.loss, "usual_loss": spike.usual})

    def _out_of_memory(self) -> TrainingError:
        return TrainingError(
            f"the memory is not enough for micro_batch_size {self._micro_batch_size} at "
            f"{self.train.sequence_length:,} tokens (step {self.progress.step + 1:,})",
            place=str(self.stage.root),
            remedy=advise(
                self.model.config,
                self.hardware,
                optimizer=self.section.optimizer,
                micro_batch_size=self._micro_batch_size,
                sequence_length=self.train.sequence_length,
                trained=self._adapter_size(),
            )
            + f" {self._kept()}",
        )

    def _share(self) -> float:
        """The part of the budget that is used, 0 to 1."""
        amount, unit = self.section.budget
        used = {
            "steps": float(self.progress.step),
            "tokens": float(self.progress.tokens),
            "epochs": self.progress.step / self.train.batches_per_epoch,
            "minutes": self.progress.elapsed / 60,
        }[unit]
        # The last step of a whole number of epochs should not be missed by rounding.
        return min(1.0, used / amount + 1e-9)

    def _tell(self, share: float, taken: _Taken, speed: float, *, log: bool) -> None:
        now = self.progress
        left = now.elapsed / share * (1 - share) if share > 0 else math.inf
        epoch = now.step / self.train.batches_per_epoch
        rate = self._optimizers.learning_rate
        self.observe(StepDone(now.step, share, taken.loss, speed, rate, left, epoch, log))
        spike = watch_loss(now, taken.loss)
        if spike is not None:
            self._report_spike(spike)
        if log:
            self._write(
                {
                    "type": "train",
                    "step": now.step,
                    "epoch": round(epoch, 4),
                    "tokens": now.tokens,
                    "targets": taken.targets,
                    "loss": taken.loss,
                    **taken.means,
                    "learning_rate": rate,
                    "grad_norm": taken.norm,
                    "tokens_per_second": round(speed, 1),
                    "elapsed": round(now.elapsed, 3),
                }
            )

    # --------------------------------------------------------- between the steps

    def _after_step(self, before: float, share: float) -> str | None:
        """Evaluate, sample and save when due; the reason if training ends here."""
        self.progress.validation_loss = None
        evaluate = self._due(self.section.eval_every, before, share, AUTO_EVALUATIONS)
        improved = evaluate and self._evaluate()
        patience = self.section.early_stopping
        finished = None
        if share >= 1:
            finished = "budget"
        elif evaluate and patience and self.progress.stale >= patience:
            finished = "early stopping"
        due = self._due(self.section.save_every, before, share, _AUTO_CHECKPOINTS)
        if improved or due or finished:
            self._save(finished)
        return finished

    def _due(self, every: int | str, before: float, share: float, parts: int) -> bool:
        if share >= 1:
            return True
        if isinstance(every, int):
            return self.progress.step % every == 0
        return math.floor(share * parts) > math.floor(before * parts)

    def _evaluate(self) -> bool:
        """Validation loss and samples; True if it is the best so far."""
        started = time.perf_counter()
        # Compiling once more for evaluation's shapes would cost more than it gains.
        with torch.compiler.set_stance("force_eager"):
            with self._parallel.whole():
                result = self.objective.validate(self.model, self.validation)
            if self.section.sample_prompts:
                self._draw_samples(self._parallel.gathered())
        measure = result.nats_per_token if result.rank is None else result.rank
        before = self.progress.best_loss
        best = math.isfinite(measure) and (before is None or measure < before)
        self.progress.validation_loss = measure
        if best:
            self.progress.best_loss = measure
            self.progress.best_step = self.progress.step
            self.progress.stale = 0
        else:
            self.progress.stale += 1
        self._record_evaluation(result, best, time.perf_counter() - started)
        return best

    def _record_evaluation(self, result: ValidationLoss, best: bool, seconds: float) -> None:
        step = self.progress.step
        self._write(
            {
                "type": "validation",
                "step": step,
                "loss": result.nats_per_token,
                "bits_per_byte": result.bits_per_byte,
                "accuracy": result.accuracy,
                **result.details,
                "best": best,
                "elapsed": round(self.progress.elapsed, 3),
            }
        )
        loss, bits, details = result.nats_per_token, result.bits_per_byte, result.details
        self.observe(Evaluated(step, loss, bits, best, seconds, details))

    def _draw_samples(self, model: Transformer | None) -> None:
        """Let the model with all its weights, which the first process has, write."""
        if model is None:
            return
        step = self.progress.step
        model.eval()
        for prompt in self.section.sample_prompts:
            text = self.sample(model, prompt, self.section.sample_tokens)
            self._write({"type": "sample", "step": step, "prompt": prompt, "text": text})
            self.observe(Sampled(step, prompt, text))
        model.train()

    def _save(self, finished: str | None) -> None:
        """Write a checkpoint, with the reason why training ends there, if it does."""
        self.progress.finished = finished
        self._saver.save(
            self._parallel.gathered(),
            progress=self.progress,
            metrics=None if self._log is None else self._log.mark(),
            optimizer=self._optimizers.state(),
        )
        self._saved = (self.progress.step, finished)

    def _after_save(self) -> None:
        """What a new checkpoint changes among the others."""
        self._point_to_best()
        prune(
            self.stage,
            self.progress,
            keep_last=self.section.keep_last,
            keep_best=self.section.keep_best,
            keep_every=self.section.keep_every,
        )

    def _point_to_best(self) -> None:
        """Let `best` name the best checkpoint; the one before while that is being written.

        Nothing, if neither is there or none is the best any more.
        """
        best = self.progress.best_step
        if best is not None and (self.stage.checkpoints / name_of(best)).is_dir():
            write_text(self.stage.best, name_of(best) + "\n")
        elif best is None or self.stage.pointed(self.stage.best) is None:
            self.stage.best.unlink(missing_ok=True)

    def _finish(self, reason: str) -> None:
        """Save where training stands, unless it just was."""
        finished = None if reason == "interrupted" else reason
        if self._saved != (self.progress.step, finished):
            self._save(finished)
        self._saver.finish()
        record: dict[str, Any] = {"type": "end", "step": self.progress.step, "reason": reason}
        self._write(record)
        self._agree_how_it_stands()


@dataclass(frozen=True)
class Prepared:
    """A run that can begin, and the state that it goes on from, if there is one."""

    trainer: Trainer
    saved: Saved | None
