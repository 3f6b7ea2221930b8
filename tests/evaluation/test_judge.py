"""The judge, asked through a server on this machine."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from chatgpt_cli.config.schema import JudgeSection
from chatgpt_cli.errors import ChatGPTError
from chatgpt_cli.evaluation.judge import judge_answers


class _Server(ThreadingHTTPServer):
    """Marks the answer "good" 9 and all others 3, and keeps what it was asked."""

    reply: object = None
    status = 200
    # How many questions are answered without a mark.
    unwilling = 0

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, str | None, dict[str, object]]] = []


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, self.headers["Authorization"], body))
        mark = "Mark: 9/10" if "marked:\ngood\n" in body["messages"][0]["content"] else "3"
        if self.server.unwilling:
            self.server.unwilling -= 1
            mark = "Well, it depends."
        reply = self.server.reply or {"choices": [{"message": {"content": mark}}]}
        data = json.dumps(reply).encode()
        self.send_response(self.server.status)
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


def _judge(server: _Server) -> JudgeSection:
    return JudgeSection(url=f"http://127.0.0.1:{server.server_port}/v1/", model="strict")


def test_marks_in_the_order_of_the_answers(
    server: _Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    score = judge_answers(_judge(server), ["q"] * 3, ["good", "bad", "good"], [["r"], ["r"], ["r"]])
    assert score.rows == [9.0, 3.0, 9.0] and score.value == 7.0
    assert score.signature == "judge:strict|scale:1-10"
    path, key, body = server.asked[0]
    assert (path, key, body["model"]) == ("/v1/chat/completions", "Bearer secret", "strict")


def test_one_reply_without_a_mark_is_asked_for_again(server: _Server) -> None:
    server.unwilling = 2
    score = judge_answers(_judge(server), ["q", "q"], ["good", "bad"], [["r"], ["r"]])
    assert score.rows == [9.0, 3.0]
    assert sorted(body["temperature"] for *_, body in server.asked)[:2] == [0, 0]
    assert len(server.asked) == 4


@pytest.mark.parametrize(
    ("status", "reply", "words"),
    [
        (401, {"error": "no"}, "the judge answers 401"),
        (200, {"oops": 1}, "no chat completion"),
        (200, {"choices": [{"message": {"content": "I cannot say"}}]}, "no mark"),
    ],
)
def test_faults_are_explained(status: int, reply: object, words: str, server: _Server) -> None:
    server.status, server.reply = status, reply
    with pytest.raises(ChatGPTError, match=words):
        judge_answers(_judge(server), ["q"], ["a"], [["r"]])


def test_no_server() -> None:
    judge = JudgeSection(url="http://127.0.0.1:9/v1", model="m")
    with pytest.raises(ChatGPTError, match="cannot be reached"):
        judge_answers(judge, ["q"], ["a"], [["r"]])
