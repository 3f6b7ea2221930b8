"""Rows from a larger model, asked through a server on this machine."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from chatgpt_cli.config.schema import DistillDataSection
from chatgpt_cli.data.rows import read_rows
from chatgpt_cli.errors import ConfigError, DataError
from chatgpt_cli.interop.distill_data import Spent, distill_data
from chatgpt_cli.interop.endpoint import Endpoint, EndpointError


class _Server(ThreadingHTTPServer):
    """Answers in capital letters; the first `faults` requests fail with `status`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[str] = []
        self.faults, self.status, self.most_at_once = 0, 503, 0
        self.now = 0
        self.lock = threading.Lock()


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        question = body["messages"][-1]["content"]
        with self.server.lock:
            self.server.asked.append(question)
            fails = len(self.server.asked) <= self.server.faults
        reason = "length" if "long" in question else "stop"
        answer = None if "bomb" in question else question.upper()
        reply = {
            "choices": [{"message": {"content": answer}, "finish_reason": reason}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 5},
        }
        data = json.dumps(reply).encode()
        self.send_response(self.server.status if fails else 200)
        self.send_header("Retry-After", "7")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[_Server]:
    with _Server() as made:
        thread = threading.Thread(target=made.serve_forever, daemon=True)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def section(server: _Server, folder: Path, **more: object) -> DistillDataSection:
    prompts = folder / "prompts.txt"
    if not prompts.exists():
        prompts.write_text("who are you\n\nwhat is a kite\nwho are you\nhi\n", encoding="utf-8")
    values = {
        "url": f"http://127.0.0.1:{server.server_port}/v1",
        "model": "big",
        "prompts": [str(prompts)],
        "to": folder / "rows.jsonl",
    }
    return DistillDataSection.model_validate({**values, **more})


def run(one: DistillDataSection, pauses: list[float] | None = None) -> Spent:
    waited = pauses if pauses is not None else []
    endpoint = Endpoint(one, "the model", "distill_data", pause=waited.append)
    return distill_data(one, on_progress=lambda *_: None, endpoint=endpoint)


def test_rows_are_written_counted_and_can_be_learnt(server: _Server, tmp_path: Path) -> None:
    one = section(server, tmp_path, price_prompt=2.0, price_completion=10.0, system_prompt="Be.")
    spent = run(one)
    assert (spent.written, spent.known, spent.failed) == (3, 0, 0)
    assert (spent.prompt_tokens, spent.completion_tokens) == (9, 15)
    assert spent.cost == pytest.approx((9 * 2 + 15 * 10) / 1e6)
    assert sorted(server.asked) == ["hi", "what is a kite", "who are you"]
    rows = read_rows([str(one.to)], on_error="stop").rows
    found = {row.messages[0].content: row.messages[1].content for row in rows}
    assert found == {text: text.upper() for text in server.asked}


def test_prompts_may_be_compressed_but_must_be_text(server: _Server, tmp_path: Path) -> None:
    packed, other = tmp_path / "more.txt.gz", tmp_path / "other.txt"
    packed.write_bytes(gzip.compress(b"\xef\xbb\xbfone\r\ntwo\n"))
    assert run(section(server, tmp_path, prompts=[str(packed)])).written == 2
    assert sorted(server.asked) == ["one", "two"]
    other.write_bytes(b"caf\xe9\n")
    with pytest.raises(DataError, match=r"other\.txt:1: the text is not UTF-8"):
        run(section(server, tmp_path, prompts=[str(other)]))


def test_nothing_is_asked_twice(server: _Server, tmp_path: Path) -> None:
    one = section(server, tmp_path)
    run(one)
    file = tmp_path / "rows.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    # Killed while the last row was being written.
    file.write_text("".join(lines[:2]) + lines[2][:20], encoding="utf-8")
    server.asked.clear()
    spent = run(one)
    assert (spent.written, spent.known) == (1, 2) and len(server.asked) == 1
    assert sorted(file.read_text(encoding="utf-8").splitlines(keepends=True)) == sorted(lines)
    assert run(one).written == 0 and len(server.asked) == 1


def test_what_passes_is_tried_again(server: _Server, tmp_path: Path) -> None:
    server.faults, server.status = 3, 429
    pauses: list[float] = []
    spent = run(section(server, tmp_path, parallel=1, retries=3), pauses)
    assert spent.written == 3 and pauses == [7.0, 7.0, 7.0] and len(server.asked) == 6


def test_what_does_not_pass_is_not(server: _Server, tmp_path: Path) -> None:
    server.faults, server.status = 100, 401
    with pytest.raises(EndpointError, match="the model answers 401"):
        run(section(server, tmp_path))
    assert len(server.asked) <= 4
    assert (tmp_path / "rows.jsonl").read_bytes() == b""


def test_a_single_failure_leaves_its_prompt_for_later(server: _Server, tmp_path: Path) -> None:
    server.faults, server.status = 1, 500
    one = section(server, tmp_path, parallel=1, retries=0)
    spent = run(one)
    assert (spent.written, spent.failed) == (2, 1) and "500" in (spent.problem or "")
    assert run(one).written == 1


def test_cut_answers_are_left_out(server: _Server, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a long story\nhi\na bomb\n", encoding="utf-8")
    spent = run(section(server, tmp_path))
    assert (spent.written, spent.cut) == (1, 2)
    assert "None" not in (tmp_path / "rows.jsonl").read_text(encoding="utf-8")


def test_an_address_without_its_kind_is_named(server: _Server, tmp_path: Path) -> None:
    with pytest.raises(EndpointError, match="localhost/v1/chat/completions is no address"):
        run(section(server, tmp_path, url="localhost/v1"))


def test_prompts_of_rows(server: _Server, tmp_path: Path) -> None:
    rows = [
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "x"}]},
        {"instruction": "b", "input": "c", "output": "x"},
        {"prompt": [{"role": "user", "content": "d"}], "chosen": "x"},
    ]
    file = tmp_path / "prompts.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    run(section(server, tmp_path, prompts=[str(file)]))
    assert sorted(server.asked) == ["a", "b\nc", "d"]
    file.write_text('{"answer": "x"}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"asks nothing \(it has answer\)"):
        run(section(server, tmp_path, prompts=[str(file)]))


def test_other_files_are_left_alone(server: _Server, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"messages": []}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"rows.jsonl:1.*not written by"):
        run(section(server, tmp_path))
    with pytest.raises(ConfigError, match=r"distill_data\.prompts and"):
        run(section(server, tmp_path, prompts=[]))
