"""Two machines, as far as the network can tell, train together, and one of them is lost."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatgpt_cli.checkpoints import damage, list_checkpoints
from chatgpt_cli.config.paths import RunPaths
from chatgpt_cli.training.metrics_log import read_metrics
from tests.faults.commands import copy

pytestmark = pytest.mark.faults


@pytest.fixture
def machines() -> Iterator[list[tuple[str, str]]]:
    """Two network namespaces joined by a cable: the name and the address of each."""
    if shutil.which("ip") is None:
        pytest.skip("the command ip is not there")
    tag = uuid.uuid4().hex[:6]
    names = [f"gpt{tag}a", f"gpt{tag}b"]
    addresses = ["10.77.0.1", "10.77.0.2"]
    try:
        for name in names:
            _ip("netns", "add", name)
        _ip("link", "add", names[0], "type", "veth", "peer", "name", names[1])
        for name, address in zip(names, addresses, strict=True):
            _ip("link", "set", name, "netns", name)
            _ip("-n", name, "addr", "add", f"{address}/24", "dev", name)
            _ip("-n", name, "link", "set", name, "up")
            _ip("-n", name, "link", "set", "lo", "up")
        yield list(zip(names, addresses, strict=True))
    except subprocess.CalledProcessError as error:
        pytest.skip(f"network namespaces are not permitted here: {error.stderr.strip()}")
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


def _train(folder: Path, machine: tuple[str, str], host: str, job: str) -> subprocess.Popen[str]:
    """torchrun in a namespace; it leads a session of its own, so that all of it can be ended."""
    name, address = machine
    is_host = int(address == host)
    settings = ["pretrain.budget=300 steps", "pretrain.save_every=10", "pretrain.eval_every=300"]
    return subprocess.Popen(
        ["ip", "netns", "exec", name, sys.executable, "-m", "torch.distributed.run",
         "--nnodes", "1:2", "--nproc-per-node", "1", "--max-restarts", "3",
         "--rdzv-backend", "c10d", "--rdzv-endpoint", f"{host}:29400", "--rdzv-id", job,
         "--rdzv-conf", f"is_host={is_host},keep_alive_interval=1,keep_alive_max_attempt=3,"
         "last_call_timeout=3", "--local-addr", address,
         "-m", "chatgpt_cli", "pretrain", *(x for one in settings for x in ("--set", one))],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": name},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        start_new_session=True,
    )  # fmt: skip


def _children(pid: int) -> list[int]:
    """A process and all that it started."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
    return [pid, *(below for one in listed for below in _children(int(one)))]


def test_one_of_two_machines_is_lost(
    prepared: Path, machines: list[tuple[str, str]], tmp_path: Path
) -> None:
    folder = copy(prepared, tmp_path / "project")
    stage = RunPaths(folder / "run").pretrain
    shutil.rmtree(stage.root)
    job, host = uuid.uuid4().hex, machines[0][1]
    first, second = (_train(folder, machine, host, job) for machine in machines)
    try:
        while not list_checkpoints(stage):
            assert first.poll() is None and second.poll() is None
            time.sleep(0.05)
        for pid in reversed(_children(second.pid)):
            os.kill(pid, signal.SIGKILL)
        output, _ = first.communicate(timeout=240)
    finally:
        for process in (first, second):
            if process.poll() is None:
                process.kill()
            process.wait()
    assert first.returncode == 0, output
    assert "2 processes" in output and "from the last checkpoint" in output
    assert "another process is gone" in output and machines[1][1] in output
    newest = list_checkpoints(stage)[-1]
    assert newest.name == "step-00000300" and damage(newest) is None
    steps = [one["step"] for one in read_metrics(stage.metrics) if one["type"] == "train"]
    assert steps == list(range(1, 301))
