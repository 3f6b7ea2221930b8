"""Limits, keys, hanging up and ending, by plain HTTP."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.serving.conftest import SAYS, Server, serving

ASK = {"messages": [{"role": "user", "content": "hello"}]}
JSON = {"Content-Type": "application/json"}


def connect(server: Server) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=60)


def ask(
    server: Server, body: Any = ASK, path: str = "/v1/chat/completions", **headers: str
) -> tuple[int, Any, dict[str, str]]:
    connection = connect(server)
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection.request("POST", path, content, JSON | headers)
    response = connection.getresponse()
    value = json.loads(response.read())
    connection.close()
    return response.status, value, {k.lower(): v for k, v in response.getheaders()}


def get(server: Server, path: str, **headers: str) -> tuple[int, str, dict[str, str]]:
    connection = connect(server)
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, text, {k.lower(): v for k, v in response.getheaders()}


def test_the_page_and_its_policy(server: Server) -> None:
    status, html, headers = get(server, "/")
    assert status == 200 and "<title>" in html
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert "access-control-allow-origin" not in headers


def test_health_metrics_and_the_document(server: Server) -> None:
    assert json.loads(get(server, "/health")[1])["status"] == "ok"
    before = get(server, "/metrics")[1]
    assert ask(server)[0] == 200
    after = get(server, "/metrics")[1]
    assert "chatgpt_first_token_seconds_bucket" in after and before != after
    path = 'path="/v1/chat/completions",status="200"'
    assert f"chatgpt_requests_total{{{path}}}" in after
    assert json.loads(get(server, "/openapi.json")[1])["openapi"] == "3.1.0"


def test_errors_are_openai_s(server: Server) -> None:
    for body, status in ((b"{", 400), (b"[]", 400), (b"x" * 1_100_000, 413), (b"\xff", 400)):
        got, value, _ = ask(server, body)
        assert got == status and set(value["error"]) == {"message", "type", "param", "code"}
    assert ask(server, ASK, "/v1/none")[0] == 404
    status, value, _ = ask(server, ASK, "/v1/models")
    assert status == 405 and "error" in value
    # A form of another origin needs no leave from the browser; JSON does.
    assert ask(server, ASK, **{"Content-Type": "text/plain"})[0] == 415
    assert get(server, "/v1/models", Host="evil.example")[0] == 421


def test_keys_and_rates(run_config: Path) -> None:
    limits = ("--set", "serve.requests_per_minute=2", "--api-key", "one", "--api-key", "two")
    with serving(run_config, *limits) as server:
        for header in ({}, {"Authorization": "Bearer three"}, {"Authorization": "one"}):
            status, value, headers = ask(server, ASK, **header)
            assert status == 401 and value["error"]["code"] == "invalid_api_key"
            assert headers["www-authenticate"] == "Bearer"
        one, two = {"Authorization": "Bearer one"}, {"Authorization": "Bearer two"}
        assert [ask(server, ASK, **one)[0] for _ in range(3)] == [200, 200, 429]
        status, value, headers = ask(server, ASK, **one)
        assert value["error"]["code"] == "rate_limit_exceeded"
        assert 1 <= int(headers["retry-after"]) <= 30
        assert ask(server, ASK, **two)[0] == 200
        assert get(server, "/metrics")[0] == 401 and get(server, "/health")[0] == 200
        assert get(server, "/")[0] == 200


def test_other_origins_only_where_they_are_allowed(run_config: Path) -> None:
    with serving(run_config, "--set", 'serve.cors_origins=["https://a.example"]') as server:
        headers = get(server, "/v1/models", Origin="https://a.example")[2]
        assert headers["access-control-allow-origin"] == "https://a.example"
        other = get(server, "/v1/models", Origin="https://b.example")[2]
        assert "access-control-allow-origin" not in other


ENDLESS = ASK | {"max_tokens": 100_000, "stream": True}


def begin(server: Server, body: Any = ENDLESS) -> tuple[Any, Any]:
    """A stream, from which the first piece has come."""
    connection = connect(server)
    connection.request("POST", "/v1/chat/completions", json.dumps(body).encode(), JSON)
    response = connection.getresponse()
    assert response.status == 200, response.read()
    assert response.readline().startswith(b"data: ")
    return connection, response


def number(server: Server, name: str) -> int:
    lines = get(server, "/metrics")[1].splitlines()
    return int(next(line for line in lines if line.startswith(f"chatgpt_{name} ")).split()[1])


def until(server: Server, name: str, value: int) -> None:
    """Ask until it is so; each answer takes the server some time, so no sleep is needed."""
    for _ in range(3000):
        if number(server, name) == value:
            return
    raise AssertionError(f"{name} never became {value}")


def test_a_client_that_hangs_up_costs_nothing_more(endless_config: Path) -> None:
    limits = ("--set", "serve.parallel=1", "--set", "serve.max_queue=1")
    with serving(endless_config, *limits) as server:
        connection, response = begin(server)
        # A second one waits, a third is refused.
        waiting = connect(server)
        waiting.request("POST", "/v1/chat/completions", json.dumps(ENDLESS).encode(), JSON)
        until(server, "texts_waiting", 1)
        status, value, headers = ask(server)
        assert status == 429 and headers["retry-after"] == "1"
        assert value["error"]["code"] == "queue_full"
        response.close()
        connection.close()
        # Now the second one is written.
        assert waiting.getresponse().readline().startswith(b"data: ")
        waiting.close()
        until(server, "texts_writing", 0)
        # Also one that is not streamed.
        whole = connect(server)
        body = json.dumps(ENDLESS | {"stream": False}).encode()
        whole.request("POST", "/v1/chat/completions", body, JSON)
        until(server, "texts_writing", 1)
        whole.close()
        until(server, "texts_writing", 0)
        assert number(server, "texts_called_off_total") == 3
        assert ask(server, ASK | {"max_tokens": 3})[0] == 200


def test_what_is_under_way_ends_before_the_server(endless_config: Path) -> None:
    with serving(endless_config) as server:
        _, response = begin(server, ENDLESS | {"max_tokens": 300})
        server.process.send_signal(signal.SIGTERM)
        rest = response.read().decode()
        assert rest.rstrip().endswith("data: [DONE]")
        assert '"finish_reason": "length"' in rest
        assert server.process.wait(60) == 0


def test_many_at_a_time_get_each_its_own_answer(server: Server) -> None:
    """Different prompts and lengths at once: each as if it were alone."""
    bodies = [ASK | {"max_tokens": 1 + i % 7, "temperature": 0} for i in range(24)]
    alone = [ask(server, body)[1]["choices"] for body in bodies[:7]]
    results: dict[int, Any] = {}

    def one(index: int) -> None:
        results[index] = ask(server, bodies[index])[1]["choices"]

    threads = [threading.Thread(target=one, args=(index,)) for index in range(len(bodies))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(results[index] == alone[index % 7] for index in range(len(bodies)))
    assert SAYS.startswith(alone[6][0]["message"]["content"])


def test_a_taken_port_is_said(run_config: Path, server: Server) -> None:
    port = str(urlsplit(server.url).port)
    command = [sys.executable, "-m", "chatgpt_cli", "serve", "--config", str(run_config)]
    done = subprocess.run([*command, "--port", port], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "--port" in done.stderr
