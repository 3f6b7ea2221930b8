"""The plan for many devices: its arithmetic against numbers worked out by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from chatgpt_cli.cli.main import main
from chatgpt_cli.config.model import ModelConfig
from chatgpt_cli.planning.cluster import GPUS, Cluster, Work, gpu_cluster, step_time, step_times

SHAPE = ModelConfig(
    vocab_size=1000, hidden_size=64, num_layers=4, num_heads=4, num_kv_heads=4, head_dim=16,
    intermediate_size=128, context_length=32,
)  # fmt: skip
WORK = Work(SHAPE, 64, 32, 8, "adamw", 2, False, 1000.0)
ONE = Cluster(1, 1, 1e9, 2e9, 1e9, 1e6, 1e5, latency=0.0, overlaps=False)


def test_one_device_only_computes() -> None:
    for method in ("ddp", "fsdp"):
        found = step_time(WORK, ONE, method)
        assert found.seconds == found.compute == 64 * 32 * SHAPE.flops_per_token() / 1e9
        assert found.utilization == pytest.approx(0.5)
        assert found.weights == found.gradients == found.exposed == 0


def test_bytes_over_bandwidth() -> None:
    four = replace(ONE, devices=4)
    count, inside = SHAPE.num_parameters(), SHAPE.num_parameters(embeddings=False)
    ddp = step_time(WORK, four, "ddp")
    # An all-reduce: three quarters of all gradients there, and of all sums back.
    assert ddp.gradients == pytest.approx(2 * 4 * count * 3 / 4 / 1e6)
    assert ddp.seconds == pytest.approx(ddp.compute + ddp.gradients)
    fsdp = step_time(WORK, four, "fsdp")
    # Two micro-batches of eight on each device: block weights four times, all others twice.
    sent = 2 * (2 * 2 * inside + 4 * (count - inside))
    assert fsdp.weights == pytest.approx(sent * 3 / 4 / 1e6)
    assert fsdp.gradients == pytest.approx(4 * count * 3 / 4 / 1e6)
    assert fsdp.memory < ddp.memory
    # Muon's state is smaller; each device's rows go to another and come back, in two bytes.
    muon = step_time(replace(WORK, optimizer="muon"), four, "fsdp")
    assert muon.memory == pytest.approx(fsdp.memory - inside)
    exchanged = 2 * 2 * inside / 4 * 3 / 4 / 1e6
    assert muon.gradients == pytest.approx(fsdp.gradients + exchanged)


def test_the_network_between_machines_slows_what_crosses_it() -> None:
    two = replace(ONE, machines=2, devices=2)
    slow = step_time(WORK, replace(two, between=1e4), "fsdp")
    fast = step_time(WORK, two, "fsdp")
    assert slow.weights == pytest.approx(10 * fast.weights)
    hybrid = step_time(WORK, replace(two, between=1e4), "hybrid")
    # Weights stay within a machine, where one half is there already.
    inside, count = SHAPE.num_parameters(embeddings=False), SHAPE.num_parameters()
    sent = 2 * (2 * 2 * inside + 4 * (count - inside))
    assert hybrid.weights == pytest.approx(sent / 2 / 1e6)


def test_what_is_hidden_costs_nothing_and_the_ends_always_show() -> None:
    eight = replace(ONE, devices=8, latency=1e-4, overlaps=True, inside=1e12)
    large = step_time(replace(WORK, batch_size=6400), eight, "fsdp")
    assert 0 < large.exposed < 0.01 * (large.weights + large.gradients)
    assert large.seconds == large.compute + large.exposed
    slow = replace(eight, inside=1e3)
    small = step_time(WORK, slow, "fsdp")
    # Nothing but the time of computing can be hidden.
    assert small.weights + small.gradients - small.exposed <= small.compute * (1 + 1e-9)


@pytest.mark.parametrize("gpu", GPUS)
def test_as_much_at_once_as_fits(gpu: str) -> None:
    work = replace(WORK, batch_size=64 * 8, at_once=512, sequence_bytes=10e9)
    for found in step_times(work, gpu_cluster(1, 8, gpu)):
        assert found.fits and found.at_once in (4, 8)
        assert found.at_once == (8 if gpu == "h200" else 4)
    huge = replace(work, sequence_bytes=1e12)
    assert not any(one.fits for one in step_times(huge, gpu_cluster(2, 8, gpu)))


def test_the_command(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = ["--config", str(project / "chatgpt.yaml")]
    assert main(["plan", *config, "--nodes", "2", "--gpus", "4", "--price-per-hour", "10"]) == 0
    shown = capsys.readouterr().out
    assert "2 x 4 H100" in shown and "hybrid" in shown and "cost" in shown
    assert main(["plan", *config, "--gpus", "4", "--gpu", "a100", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [one["method"] for one in said["steps"]] == ["ddp", "fsdp"]
    assert said["cluster"]["devices"] == 4
    assert main(["plan", *config, "--gpu", "a100"]) == 0
    assert "1 x 1 A100" in capsys.readouterr().out
