"""Sixty-four clients at once, a few requests each; tests/serving/load.py goes on for longer."""

from __future__ import annotations

import http.client
import json
import signal
from pathlib import Path

import pytest

from tests.cli.speaking import make_wandering_run
from tests.serving import load as loading
from tests.serving.conftest import serving


@pytest.fixture(scope="module")
def wandering_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_wandering_run(tmp_path_factory.mktemp("wandering"))


def test_sixty_four_clients_are_answered_as_one_is(wandering_config: Path) -> None:
    with serving(wandering_config) as server:
        load = loading.begin(server)
        # Otherwise mixed-up answers would not show.
        assert len(set(load.expected.values())) > loading.PROMPTS / 2
        loading.run(server, load, clients=64, go_on=lambda done: done < 4)
        assert (load.wrong, load.errors) == ([], [])
        assert load.answers + load.hung_up == 64 * 4
        assert loading.drain(server, load, clients=16) == 0
        assert load.wrong == []


def test_a_killed_server_leaves_no_answer_that_looks_whole(endless_config: Path) -> None:
    with serving(endless_config) as server:
        connection = loading.connect(server)
        asked = {"prompt": "the", "max_tokens": 19_000, "stream": True}
        connection.request("POST", "/v1/completions", json.dumps(asked).encode(), loading.JSON)
        response = connection.getresponse()
        response.readline()
        server.process.send_signal(signal.SIGKILL)
        with pytest.raises((http.client.HTTPException, OSError)):
            response.read()
        server.process.wait(60)
