"""The training loop on a small project: it learns, resumes exactly, and refuses what is wrong."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from chatgpt_cli.checkpoints import STATE
from chatgpt_cli.config.loader import load_config
from chatgpt_cli.config.paths import STAGES, RunPaths, StagePaths
from chatgpt_cli.config.schema import Config
from chatgpt_cli.data.preprocess import preprocess
from chatgpt_cli.data.shards import TokenShards
from chatgpt_cli.errors import ConfigError, DataError, ModelError, TrainingError
from chatgpt_cli.evaluation.metrics.score import Score
from chatgpt_cli.interop.huggingface import load_model, weights_hash
from chatgpt_cli.interop.locate import locate_model
from chatgpt_cli.interop.quantization import write_quantized
from chatgpt_cli.model.linear import int8_is_possible
from chatgpt_cli.model.lora import adapter_weights
from chatgpt_cli.model.quantized import quantized_weights
from chatgpt_cli.tokenizer.tokenizer import Tokenizer
from chatgpt_cli.training import device, memory, objective, scored
from chatgpt_cli.training.events import Event, Note, StepDone
from chatgpt_cli.training.finetune import finetune
from chatgpt_cli.training.loop import Result
from chatgpt_cli.training.metrics_log import read_metrics
from chatgpt_cli.training.objective import Loss, TokenLoss
from chatgpt_cli.training.prefer import prefer
from chatgpt_cli.training.pretrain import pretrain
from chatgpt_cli.training.reinforce import reinforce
from chatgpt_cli.training.start import Finished, Mode


class _Stop(Exception):
    """Stands for a process that is killed."""


def _config(project: Path, *overrides: str) -> Config:
    return load_config(project / "chatgpt.yaml", list(overrides)).config


def _prepare(project: Path, *overrides: str) -> RunPaths:
    config = _config(project, *overrides)
    paths = RunPaths(config.run_dir)
    preprocess(config, paths, force=False, tell=lambda _: None)
    return paths


def _train(
    project: Path,
    stage: str,
    *overrides: str,
    mode: Mode = "new",
    stop_at: int | None = None,
    events: list[Event] | None = None,
) -> Result | Finished:
    config = _config(project, *overrides)

    def observe(event: Event) -> None:
        if events is not None:
            events.append(event)
        if isinstance(event, StepDone) and event.step == stop_at:
            raise _Stop

    stages = {"pretrain": pretrain, "finetune": finetune, "prefer": prefer, "reinforce": reinforce}
    run = stages[stage]
    return run(config, RunPaths(config.run_dir), mode=mode, observe=observe)


def _changed(loss: Loss, *, factor: float = 1.0, more: float = 0.0) -> Loss:
    return replace(loss, total=loss.total * factor + more)


def _weights(stage: StagePaths) -> dict[str, torch.Tensor]:
    folder = stage.pointed(stage.latest)
    assert folder is not None
    adapter = folder / "adapter_model.safetensors"
    return load_file(adapter if adapter.is_file() else folder / "model.safetensors")


def _losses(stage: StagePaths) -> list[tuple[str, int, float]]:
    return [
        (record["type"], record["step"], record["loss"])
        for record in read_metrics(stage.metrics)
        if "loss" in record
    ]


MASKED = (
    "model.preset=bert", "model.hidden_size=32", "model.causal=false",
    "pretrain.objective=masked",
)  # fmt: skip


NEEDS_COMPILER = pytest.mark.skipif(not int8_is_possible(), reason="no C++ compiler")


@pytest.mark.parametrize(
    ("stage", "overrides"),
    [
        ("pretrain", ("pretrain.dropout=0.2", "pretrain.micro_batch_size=3")),
        ("pretrain", ("pretrain.optimizer=adamw", "pretrain.l1=1e-4")),
        ("pretrain", MASKED),
        ("pretrain", ("hardware.gradient_checkpointing=true", "pretrain.dropout=0.2")),
        pytest.param("pretrain", ("hardware.int8_training=true",), marks=NEEDS_COMPILER),
        ("finetune", ("finetune.dropout=0.1", "finetune.label_smoothing=0.1")),
        ("finetune", ("finetune.replay=0.3", "finetune.freeze_layers=1")),
        ("finetune", ("finetune.distill={teacher: run/pretrain/checkpoints/step-00000012}",)),
        ("prefer", ("prefer.dropout=0.1",)),
        ("prefer", ("prefer.lora={rank: 2, dropout: 0.1}",)),
        ("reinforce", ("reinforce.kl=0.1", "reinforce.updates=2")),
        ("reinforce", ("reinforce.kl=0.1", "reinforce.lora={rank: 2}")),
    ],
)
@pytest.mark.parametrize("stop_at", [7, 9])
def test_killed_and_resumed_is_the_same_to_the_bit(
    project: Path, stage: str, overrides: tuple[str, ...], stop_at: int
) -> None:
    overrides = tuple(text.replace("run/", f"{project / 'run'}/") for text in overrides)
    paths = _prepare(project, *overrides)
    if stage != "pretrain":
        _train(project, "pretrain", *overrides)
    files = StagePaths(paths.root / stage)
    _train(project, stage, *overrides)
    weights, losses = _weights(files), _losses(files)
    shutil.rmtree(files.root)

    with pytest.raises(_Stop):
        _train(project, stage, *overrides, stop_at=stop_at)
    result = _train(project, stage, *overrides, mode="resume")
    assert result.progress.step == 12
    assert _losses(files) == losses
    for name, value in _weights(files).items():
        assert torch.equal(value, weights[name]), name


def test_frozen_layers_stay_as_they_were(project: Path) -> None:
    paths = _prepare(project)
    _train(project, "pretrain")
    _train(project, "finetune", "finetune.freeze_layers=1")
    best = paths.pretrain.pointed(paths.pretrain.best)
    assert best is not None
    before, after = load_file(best / "model.safetensors"), _weights(paths.finetune)
    same = {name for name, value in after.items() if torch.equal(value, before[name])}
    assert same == {name for name in after if ".layers.0." in name}
    with pytest.raises(ConfigError, match="the model has 2 layers"):
        _train(project, "finetune", "finetune.freeze_layers=3", mode="restart")


@pytest.mark.parametrize(("before", "after"), [(0, 1), (1, 0)])
def test_other_layers_may_be_frozen_from_now_on(project: Path, before: int, after: int) -> None:
    paths = _prepare(project)
    _train(project, "pretrain")
    with pytest.raises(_Stop):
        _train(project, "finetune", f"finetune.freeze_layers={before}", stop_at=9)
    then = _weights(paths.finetune)
    result = _train(project, "finetune", f"finetune.freeze_layers={after}", mode="resume")
    assert result.progress.step == 12
    for name, value in _weights(paths.finetune).items():
        if ".layers.0." in name:
            assert torch.equal(value, then[name]) == (after == 1), name


def test_sequences_longer_than_the_base_reads_are_refused(project: Path) -> None:
    _prepare(project)
    _train(project, "pretrain")
    base = (
        f"model.from={project / 'run/pretrain/checkpoints/step-00000012'}", "model.preset=tiny",
        "model.hidden_size=null", "model.num_layers=null", "model.num_heads=null",
        "model.context_length=null", f"run_dir={project / 'other'}",
    )  # fmt: skip
    with pytest.raises(ConfigError, match=r"sequence_length \(64\) is longer than .* \(32\)"):
        _train(project, "finetune", *base, "finetune.sequence_length=64")


def test_whole_numbers_are_trained_beside(project: Path) -> None:
    paths = _prepare(project)
    _train(project, "pretrain")
    base = paths.pretrain.pointed(paths.pretrain.best)
    assert base is not None
    write_quantized(base, project / "small", 4)
    more = (
        f"model.from={project / 'small'}", "model.preset=tiny", "model.hidden_size=null",
        "model.num_layers=null", "model.num_heads=null",
        f"run_dir={project / 'other'}",
    )  # fmt: skip
    with pytest.raises(ConfigError, match="whole numbers, which cannot be trained"):
        _train(project, "finetune", *more)
    result = _train(project, "finetune", *more, "finetune.lora={rank: 4}")
    assert result.progress.step == 12
    found = locate_model(RunPaths(project / "other"), model=None).folder
    model = load_model(found, merge=False).model
    assert quantized_weights(model) and adapter_weights(model)


def test_an_adapter_finds_its_base_when_the_run_has_moved(project: Path) -> None:
    paths = _prepare(project)
    _train(project, "pretrain")
    _train(project, "finetune", "finetune.lora={rank: 4}")
    found = locate_model(paths, model=None).folder
    before = load_model(found).model.state_dict()
    paths.root.rename(project / "elsewhere")
    moved = project / "elsewhere" / found.relative_to(paths.root)
    after = load_model(moved).model.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    shutil.rmtree(project / "elsewhere" / "pretrain")
    with pytest.raises(ModelError, match="was trained for is not there"):
        load_model(moved)


def test_an_adapter_learns_tokens_that_its_base_never_read(project: Path) -> None:
    paths = _prepare(project)
    _train(project, "pretrain")
    tokenizer = Tokenizer.load(paths.tokenizer)
    counts = TokenShards.open(paths.data, "train").counts(tokenizer.vocab_size)
    rows = [json.loads(line) for line in (project / "rows.jsonl").read_text().splitlines()]
    said = [message["content"] for row in rows for message in row["messages"]]
    unread = {token for text in said for token in tokenizer.encode(text) if not counts[token]}
    assert unread

    def trained() -> set[int]:
        _train(project, "finetune", "finetune.lora={rank: 4}", mode="restart")
        adapter = load_model(locate_model(paths, model=None).folder, merge=False).model.adapter
        assert adapter is not None
        return set(adapter.tokens)

    assert trained() == {*tokenizer.special_ids, *unread}
    # Without its text nobody knows what the base has read.
    shutil.rmtree(paths.data)
    assert trained() == set(tokenizer.special_ids)


def test_each_stage_starts_from_the_one_before(project: Path) -> None:
    """And the last one's model is what other commands take."""
    paths = _prepare(project)
    with pytest.raises(ModelError, match="there is no model here to start from"):
        _train(project, "prefer")
    before = None
    for stage in STAGES:
        _train(project, stage)
        found = locate_model(paths, model=None)
        assert found.stage == stage
        state = json.loads((found.folder / STATE).read_text(encoding="utf-8"))
        if before is not None:
            assert state["fingerprint"]["base"] == weights_hash(before)
        before = found.folder


def test_it_learns_and_finishes(project: Path) -> None:
    paths = _prepare(project)
    _train(project, "pretrain", "pretrain.budget=80 steps", "pretrain.eval_every=20")
    held_out = [loss for kind, _, loss in _losses(paths.pretrain) if kind == "validation"]
    assert held_out[-1] < 0.8 * held_out[0] < 0.8 * math.log(400)
    again = _train(project, "pretrain", "pretrain.budget=80 steps", "pretrain.eval_every=20")
    assert isinstance(again, Finished)
    with pytest.raises(ConfigError, match="--resume"):
        _train(project, "pretrain", "pretrain.budget=90 steps", "pretrain.eval_every=20")
    more = _train(
        project, "pretrain", "pretrain.budget=90 steps", "pretrain.eval_every=20", mode="resume"
    )
    assert more.progress.step == 90


def test_micro_batches_do_not_change_the_losses(project: Path) -> None:
    _prepare(project)
    losses = []
    for size in (1, 4):
        events: list[Event] = []
        _train(
            project, "pretrain", f"pretrain.micro_batch_size={size}", mode="restart", events=events
        )
        losses.append([event.loss for event in events if isinstance(event, StepDone)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_gradient_checkpointing_changes_memory_only(project: Path) -> None:
    paths = _prepare(project)
    weights = []
    for on in ("false", "true"):
        _train(
            project,
            "pretrain",
            f"hardware.gradient_checkpointing={on}",
            "pretrain.dropout=0.2",
            mode="restart",
        )
        weights.append(_weights(paths.pretrain))
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name


@NEEDS_COMPILER
def test_training_in_8_bits_is_other_and_evaluated_as_ever(project: Path) -> None:
    """Two whole runs: the validation loss before the first step is the same to the bit."""
    paths, found = _prepare(project), []
    for on in ("false", "true"):
        events: list[Event] = []
        _train(project, "pretrain", f"hardware.int8_training={on}", mode="restart", events=events)
        said = [event.text for event in events if isinstance(event, Note)]
        assert any("int8" in text for text in said) == (on == "true")
        found.append((_weights(paths.pretrain), _losses(paths.pretrain)))
    (plain, expected), (ours, losses) = found
    assert any(not torch.equal(ours[name], plain[name]) for name in plain)
    assert [loss for *_, loss in losses] == pytest.approx([loss for *_, loss in expected], rel=0.01)


def test_what_was_chosen_automatically_is_kept(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine is busier when training goes on: its measured choices would differ."""
    paths, auto = _prepare(project), "hardware.precision=auto"
    monkeypatch.setattr(device, "_bfloat16_is_fast", lambda _: True)
    _train(project, "pretrain", auto)
    losses = _losses(paths.pretrain)
    shutil.rmtree(paths.pretrain.root)
    with pytest.raises(_Stop):
        _train(project, "pretrain", auto, stop_at=9)
    monkeypatch.setattr(device, "_bfloat16_is_fast", lambda _: pytest.fail("measured again"))
    monkeypatch.setattr(memory, "free_memory", lambda _: 0)
    _train(project, "pretrain", auto, mode="resume")
    assert _losses(paths.pretrain) == losses


def test_a_damaged_checkpoint_is_set_aside(project: Path) -> None:
    paths = _prepare(project)
    with pytest.raises(_Stop):
        _train(project, "pretrain", stop_at=9)
    newest = paths.pretrain.checkpoints / "step-00000008"
    model = newest / "model.safetensors"
    data = bytearray(model.read_bytes())
    data[-3] ^= 1
    model.write_bytes(bytes(data))
    events: list[Event] = []
    result = _train(project, "pretrain", mode="resume", events=events)
    assert result.progress.step == 12
    notes = [event.text for event in events if isinstance(event, Note)]
    assert any("step-00000008 is damaged: model.safetensors" in note for note in notes)
    assert (paths.pretrain.checkpoints / "damaged-step-00000008").is_dir()


def test_changed_data_is_refused_with_the_difference(project: Path) -> None:
    paths = _prepare(project)
    with pytest.raises(_Stop):
        _train(project, "pretrain", stop_at=9)
    with pytest.raises(ConfigError, match=r"\n  batch_size: 4 → 8\n"):
        _train(project, "pretrain", "pretrain.batch_size=8", mode="resume")
    # Said once, by the setting's name, and not with the advice that is refused above.
    with pytest.raises(ConfigError, match=r"other settings:\n  batch_size: 4 → 8\n") as error:
        _train(project, "pretrain", "pretrain.batch_size=8")
    assert (error.value.remedy or "").startswith("Begin again with --restart")
    with pytest.raises(ConfigError, match=r"stopped at step 8"):
        _train(project, "pretrain")
    events: list[Event] = []
    _train(project, "pretrain", "pretrain.learning_rate=0.001", mode="resume", events=events)
    notes = [event.text for event in events if isinstance(event, Note)]
    assert any("learning_rate: 0.006 → 0.001" in note for note in notes)
    assert paths.pretrain.pointed(paths.pretrain.best) is not None


def test_a_loss_that_is_not_a_number_stops_before_the_update(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = _prepare(project)
    plain = TokenLoss.__call__
    calls = 0

    def poisoned(self: TokenLoss, *arguments: Any) -> Loss:
        nonlocal calls
        calls += 1
        return _changed(plain(self, *arguments), factor=math.nan if calls == 7 else 1.0)

    monkeypatch.setattr(TokenLoss, "__call__", poisoned)
    with pytest.raises(TrainingError, match=r"loss is nan .* at step 7 \(batch 6\)") as error:
        _train(project, "pretrain")
    assert "step-00000004" in str(error.value)
    newest = paths.pretrain.pointed(paths.pretrain.latest)
    assert newest is not None and newest.name == "step-00000004"


def test_early_stopping_keeps_the_best(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = _prepare(project)
    plain = objective.evaluate_loss
    calls = 0

    def rising(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        result = plain(*arguments)  # type: ignore[arg-type]
        return type(result)(float(calls), None, 0.0, result.tokens)

    monkeypatch.setattr(objective, "evaluate_loss", rising)
    overrides = ("pretrain.budget=60 steps", "pretrain.early_stopping=3", "pretrain.keep_last=1")
    result = _train(project, "pretrain", *overrides)
    assert isinstance(result, Result) and result.reason == "early stopping"
    assert result.progress.step == 16 and result.progress.best_step == 4
    kept = sorted(path.name for path in paths.pretrain.checkpoints.iterdir())
    assert kept == ["step-00000004", "step-00000016"]
    # With more to do it is as patient again.
    more = ("pretrain.budget=80 steps", *overrides[1:])
    result = _train(project, "pretrain", *more, mode="resume")
    assert isinstance(result, Result) and result.reason == "early stopping"
    assert result.progress.step == 28 and result.progress.best_step == 4


def test_checkpoints_open_in_transformers(project: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    paths = _prepare(project)
    _train(project, "pretrain")
    folder = paths.pretrain.pointed(paths.pretrain.best)
    assert folder is not None
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert type(model).__name__ == "Qwen3ForCausalLM"
    assert tokenizer.decode(tokenizer.encode("the cat", add_special_tokens=False)) == "the cat"
    state = json.loads((folder / "training_state" / "state.json").read_text(encoding="utf-8"))
    assert state["progress"]["step"] == 12


def _poison(monkeypatch: pytest.MonkeyPatch, call: int, error: Exception | None = None) -> None:
    """Make one loss NaN, or an error."""
    plain = TokenLoss.__call__
    calls = 0

    def poisoned(self: TokenLoss, *arguments: Any) -> Loss:
        nonlocal calls
        calls += 1
        if calls == call and error is not None:
            raise error
        return _changed(plain(self, *arguments), factor=math.nan if calls == call else 1.0)

    monkeypatch.setattr(TokenLoss, "__call__", poisoned)


def test_a_bad_step_can_be_left_out(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = _prepare(project)
    _poison(monkeypatch, 7)
    events: list[Event] = []
    result = _train(project, "pretrain", "pretrain.skip_bad_steps=1", events=events)
    assert result.progress.step == 12 and result.progress.skipped == 1
    notes = [event.text for event in events if isinstance(event, Note)]
    assert any("no update was made (1 of 1 allowed)" in note for note in notes)
    records = read_metrics(paths.pretrain.metrics)
    assert [r["step"] for r in records if r["type"] == "skipped"] == [7]
    assert all(torch.isfinite(value).all() for value in _weights(paths.pretrain).values())


def test_out_of_memory_becomes_advice(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _prepare(project)
    _poison(monkeypatch, 7, torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(TrainingError, match="micro_batch_size 4 at 32 tokens") as error:
        _train(project, "pretrain")
    assert "Set micro_batch_size: 2" in str(error.value) and "step-00000004" in str(error.value)


def test_a_spike_is_told_and_logged(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = _prepare(project)
    plain = TokenLoss.__call__
    calls = 0

    def jumping(self: TokenLoss, *arguments: Any) -> Loss:
        nonlocal calls
        calls += 1
        return _changed(plain(self, *arguments), more=5000.0 if calls == 70 else 0.0)

    monkeypatch.setattr(TokenLoss, "__call__", jumping)
    events: list[Event] = []
    more = ("pretrain.budget=80 steps", "pretrain.eval_every=80", "pretrain.save_every=80")
    _train(project, "pretrain", *more, events=events)
    notes = [event.text for event in events if isinstance(event, Note)]
    assert len([note for note in notes if "The loss jumped" in note]) == 1
    assert [r["step"] for r in read_metrics(paths.pretrain.metrics) if r["type"] == "spike"] == [70]


def test_changes_are_refused_or_recorded(project: Path) -> None:
    paths = _prepare(project)
    with pytest.raises(_Stop):
        _train(project, "pretrain", stop_at=9)
    for override, words in (
        ("pretrain.optimizer=adamw", "optimizer: muon → adamw"),
        ("model.hidden_size=64", "model.hidden_size: 32 → 64"),
        ("seed=5", "seed: 1234 → 5"),
    ):
        with pytest.raises(ConfigError, match=words):
            _train(project, "pretrain", override, mode="resume")
    allowed = ("pretrain.learning_rate=1e-3", "pretrain.budget=14 steps", "pretrain.save_every=7")
    _train(project, "pretrain", *allowed, mode="resume")
    starts = [r for r in read_metrics(paths.pretrain.metrics) if r["type"] == "start"]
    assert starts[-1]["step"] == 8
    assert [line.partition(":")[0] for line in starts[-1]["changes"]] == [
        "budget", "learning_rate", "save_every",
    ]  # fmt: skip


def test_another_evaluation_forgets_the_best(project: Path) -> None:
    paths = _prepare(project)
    with pytest.raises(_Stop):
        _train(project, "pretrain", stop_at=9)
    before = paths.pretrain.pointed(paths.pretrain.best)
    events: list[Event] = []
    _train(project, "pretrain", "pretrain.eval_tokens=64", mode="resume", events=events)
    assert before is not None
    assert any("best so far is forgotten" in e.text for e in events if isinstance(e, Note))


def test_pretraining_keeps_what_it_is_told_to(project: Path) -> None:
    paths = _prepare(project)
    more = ("pretrain.keep_last=1", "pretrain.keep_every=8", "pretrain.early_stopping=0")
    result = _train(project, "pretrain", *more)
    kept = {path.name for path in paths.pretrain.checkpoints.iterdir()}
    best = f"step-{result.progress.best_step or 0:08d}"
    assert kept == {"step-00000008", "step-00000012", best}


def test_a_shard_with_another_token_is_refused(project: Path) -> None:
    paths = _prepare(project)
    shard = paths.data / "train-00000.npy"
    data = bytearray(shard.read_bytes())
    data[-20] ^= 1
    shard.write_bytes(data)
    with pytest.raises(DataError, match="not what was written"):
        _train(project, "pretrain")


def test_the_best_by_a_score_of_written_answers(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best is where the answers were, whatever the loss; two worse evaluations end it."""
    paths = _prepare(project)
    _train(project, "pretrain")
    values = iter([0.2, 0.7, 0.5, 0.6])
    asked: list[int] = []

    def run_task(task: Any, rows: list[Any], metrics: list[str], *_: Any, **__: Any) -> Any:
        asked.append(len(rows))
        assert (task.name, metrics) == ("dev", ["bleu"])
        score = Score(np.zeros(1), np.zeros((1, 1)), lambda _: np.asarray(next(values)), digits=1)
        return SimpleNamespace(scores={"bleu": score})

    monkeypatch.setattr(scored, "run_task", run_task)
    settings = (
        "finetune.best_by={task: dev, metric: bleu, rows: 3}",
        f"evaluate.tasks=[{{name: dev, data: {project / 'rows.jsonl'}, metrics: [bleu]}}]",
        "finetune.budget=30 steps", "finetune.eval_every=2", "finetune.early_stopping=2",
    )  # fmt: skip
    result = _train(project, "finetune", *settings)
    assert isinstance(result, Result) and result.reason == "early stopping"
    assert (result.progress.best_step, result.progress.best_loss) == (4, -0.7)
    assert asked == [3] * 4
    found = [r for r in read_metrics(paths.finetune.metrics) if r["type"] == "validation"]
    assert [record["dev bleu"] for record in found] == [0.2, 0.7, 0.5, 0.6]
    assert [record["best"] for record in found] == [True, True, False, False]
    assert all(record["loss"] > 0 for record in found)

    with pytest.raises(ConfigError, match="no task other"):
        _train(project, "finetune", *settings, "finetune.best_by.task=other", mode="restart")
