"""A real server process with a small model, on a free port of this machine."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.speaking import make_run

pytest.importorskip("starlette", reason="serving is an extra: pip install 'chatgpt-cli[serve]'")
pytest.importorskip("uvicorn", reason="serving is an extra: pip install 'chatgpt-cli[serve]'")

SAYS = "mat cat sun dog"


@dataclass
class Server:
    """A running server."""

    url: str
    process: subprocess.Popen[str]


@contextmanager
def serving(config: Path, *options: str) -> Iterator[Server]:
    """Start a server and end it."""
    command = [sys.executable, "-m", "chatgpt_cli", "serve", "--config", str(config)]
    process = subprocess.Popen(
        [*command, "--port", "0", "--set", "serve.model_name=small", *options],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        said = []
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if found := re.search(r"Chat: (http://\S+)/ ", line):
                yield Server(found[1], process)
                break
        else:
            pytest.fail("".join(said))
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


@pytest.fixture(scope="session")
def run_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("served"), says=SAYS)


@pytest.fixture(scope="session")
def endless_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that never ends by itself, with a long context."""
    config = make_run(
        tmp_path_factory.mktemp("endless"), says="mat cat", ends=False, context_length=20000
    )
    text = config.read_text(encoding="utf-8")
    config.write_text(text + "serve: {drain_seconds: 60}\n", encoding="utf-8")
    return config


@pytest.fixture(scope="session")
def server(run_config: Path) -> Iterator[Server]:
    with serving(run_config) as running:
        yield running
