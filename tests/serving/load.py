"""Many clients at once against a running server, for as long as wanted.

    python -m tests.serving.load --config my.yaml --seconds 300

starts `chatgpt serve`, compares every greedy answer with the one given to a single client,
watches the server's memory, lets clients hang up, and ends it with requests under way.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import signal
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.serving.conftest import Server, serving

PROMPTS = 48
MAX_TOKENS = 48
JSON = {"Content-Type": "application/json"}


@dataclass
class Load:
    """What the clients saw."""

    # What a single client was answered, by prompt.
    expected: dict[str, str]
    answers: int = 0
    hung_up: int = 0
    tokens: int = 0
    wrong: list[tuple[str, str]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


def prompts() -> list[str]:
    """Of different lengths, some with the same beginning."""
    r = random.Random(0)
    words = ["the", "cat", "sat", "on", "mat", "dog", "saw", "sun", "a", "and", "ran", "天空"]
    texts: set[str] = set()
    while len(texts) < PROMPTS:
        texts.add(" ".join(r.choices(words, k=r.randint(1, 24))))
    return sorted(texts)


def body(prompt: str, *, stream: bool) -> bytes:
    """A greedy request; how long its answer may be depends on the prompt alone."""
    limit = 1 + len(prompt) * 7 % MAX_TOKENS
    asked = {"prompt": prompt, "max_tokens": limit, "temperature": 0, "stream": stream}
    return json.dumps(asked).encode()


def answer(connection: http.client.HTTPConnection, prompt: str, *, stream: bool) -> str:
    """The text, whole or put together from its pieces.

    Raises:
        RuntimeError: for any other status than 200, or a stream that breaks off.
    """
    connection.request("POST", "/v1/completions", body(prompt, stream=stream), JSON)
    response = connection.getresponse()
    content = response.read().decode()
    if response.status != 200:
        raise RuntimeError(f"status {response.status}: {content}")
    if not stream:
        return str(json.loads(content)["choices"][0]["text"])
    events = [line.removeprefix("data: ") for line in content.splitlines() if line]
    if events[-1] != "[DONE]":
        raise RuntimeError("the stream broke off")
    return "".join(json.loads(event)["choices"][0]["text"] for event in events[:-1])


def hang_up(connection: http.client.HTTPConnection, prompt: str) -> None:
    """Read the first piece and close."""
    connection.request("POST", "/v1/completions", body(prompt, stream=True), JSON)
    connection.getresponse().readline()
    connection.close()


def begin(server: Server) -> Load:
    """Ask everything once, one request after the other."""
    connection = connect(server)
    return Load({prompt: answer(connection, prompt, stream=False) for prompt in prompts()})


def run(server: Server, load: Load, *, clients: int, go_on: Callable[[int], bool]) -> None:
    """Let clients ask until `go_on`, given the number of its requests, says no."""

    def client(number: int) -> None:
        r = random.Random(number)
        connection = connect(server)
        done = 0
        while go_on(done):
            done += 1
            prompt = r.choice(list(load.expected))
            if r.random() < 0.05:
                hang_up(connection, prompt)
                with load.lock:
                    load.hung_up += 1
                continue
            started = time.perf_counter()
            try:
                text = answer(connection, prompt, stream=r.random() < 0.5)
            except (RuntimeError, OSError, http.client.HTTPException) as error:
                with load.lock:
                    load.errors.append(repr(error))
                return
            with load.lock:
                load.answers += 1
                load.seconds.append(time.perf_counter() - started)
                if text != load.expected[prompt]:
                    load.wrong.append((prompt, text))
        connection.close()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def drain(server: Server, load: Load, *, clients: int) -> int:
    """Ask to end with requests under way: they are answered, and the server leaves well.

    Returns:
        its exit status.
    """
    waiting: list[tuple[str, Any]] = []
    for prompt in list(load.expected)[:clients]:
        connection = connect(server)
        connection.request("POST", "/v1/completions", body(prompt, stream=True), JSON)
        waiting.append((prompt, connection))
    # Accepted, and their first piece has come.
    responses = [(prompt, connection.getresponse()) for prompt, connection in waiting]
    server.process.send_signal(signal.SIGTERM)
    for prompt, response in responses:
        events = [line for line in response.read().decode().splitlines() if line]
        pieces = [json.loads(event.removeprefix("data: ")) for event in events[:-1]]
        text = "".join(piece["choices"][0]["text"] for piece in pieces)
        if text != load.expected[prompt]:
            load.wrong.append((prompt, text))
    return server.process.wait(60)


def connect(server: Server) -> http.client.HTTPConnection:
    """A connection of one client's own."""
    return http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=120)


def memory(server: Server) -> float:
    """Megabytes the server holds (Linux)."""
    status = Path(f"/proc/{server.process.pid}/status").read_text(encoding="utf-8")
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def watch(server: Server, load: Load, *, clients: int, seconds: float) -> list[float]:
    """Load for a time; the server's memory, twenty times."""
    end = time.monotonic() + seconds
    sizes: list[float] = []
    over = threading.Event()

    def look() -> None:
        while not over.wait(seconds / 20):
            sizes.append(memory(server))

    watcher = threading.Thread(target=look)
    watcher.start()
    run(server, load, clients=clients, go_on=lambda _: time.monotonic() < end)
    over.set()
    watcher.join()
    return sizes


def main() -> None:
    """Load a server of one's own and say what happened."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--clients", type=int, default=64)
    arguments = parser.parse_args()
    with serving(arguments.config) as server:
        load = begin(server)
        sizes = watch(server, load, clients=arguments.clients, seconds=arguments.seconds)
        status = drain(server, load, clients=16)
    load.seconds.sort()
    print(f"{load.answers} answers, {len(load.wrong)} wrong, {len(load.errors)} errors, "
          f"{load.hung_up} hung up")  # fmt: skip
    print(f"{load.answers / arguments.seconds:.1f} answers/s; seconds for one: median "
          f"{statistics.median(load.seconds):.2f}, "
          f"99 of 100 within {load.seconds[int(len(load.seconds) * 0.99)]:.2f}")  # fmt: skip
    print("memory, MB: " + " ".join(f"{size:.0f}" for size in sizes))
    print(f"drained with exit status {status}")
    for one in [*load.wrong[:5], *load.errors[:5]]:
        print(one)


if __name__ == "__main__":
    main()
