"""OpenAI's own client against the real server."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.serving.conftest import SAYS, Server

openai = pytest.importorskip("openai", reason="the client is not installed")

ASK: Any = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def client(server: Server) -> Any:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0)


def test_models(client: Any) -> None:
    (model,) = client.models.list().data
    assert model.id == "small" and client.models.retrieve("small").id == "small"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("other")
    assert caught.value.code == "model_not_found"


def test_an_answer(client: Any) -> None:
    answer = client.chat.completions.create(model="small", messages=ASK)
    (choice,) = answer.choices
    assert (choice.message.role, choice.message.content) == ("assistant", SAYS)
    assert choice.finish_reason == "stop" and choice.logprobs is None
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.prompt_tokens > 3 and usage.completion_tokens > 3


def test_an_answer_piece_by_piece(client: Any) -> None:
    chunks = list(
        client.chat.completions.create(
            model="small", messages=ASK, stream=True, stream_options={"include_usage": True}
        )
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    deltas = [chunk.choices[0] for chunk in chunks[:-1]]
    assert "".join(delta.delta.content or "" for delta in deltas) == SAYS
    assert len(deltas) > 4
    assert [delta.finish_reason for delta in deltas[-2:]] == [None, "stop"]
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens > 3
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_limits_stops_and_several(client: Any) -> None:
    short = client.chat.completions.create(model="small", messages=ASK, max_tokens=2)
    assert short.choices[0].finish_reason == "length"
    assert short.usage.completion_tokens == 2
    stopped = client.chat.completions.create(model="small", messages=ASK, stop=[" sun", "zzz"])
    assert stopped.choices[0].message.content == "mat cat"
    assert stopped.choices[0].finish_reason == "stop"
    several = client.chat.completions.create(model="small", messages=ASK, n=3)
    assert [choice.index for choice in several.choices] == [0, 1, 2]
    assert {choice.message.content for choice in several.choices} == {SAYS}
    one = client.chat.completions.create(model="small", messages=ASK)
    assert several.usage.prompt_tokens == one.usage.prompt_tokens


def test_a_seed_repeats(client: Any) -> None:
    pytest.importorskip("llguidance", reason="constraints need llguidance")

    def say(seed: int) -> list[str]:
        answer = client.chat.completions.create(
            model="small", messages=ASK, seed=seed, temperature=1.0, n=2,
            extra_body={"guided_regex": "[0-9]{8}"},
        )  # fmt: skip
        return [choice.message.content for choice in answer.choices]

    assert say(5) == say(5)
    assert say(5) != say(6)
    assert say(5)[0] != say(5)[1]


def test_log_probabilities(client: Any) -> None:
    answer = client.chat.completions.create(
        model="small", messages=ASK, logprobs=True, top_logprobs=3
    )
    content = answer.choices[0].logprobs.content
    assert "".join(token.token for token in content) == SAYS
    for token in content:
        assert len(token.top_logprobs) == 3
        assert token.top_logprobs[0].token == token.token and token.logprob <= 0
        assert bytes(token.bytes).decode() == token.token
    streamed = client.chat.completions.create(
        model="small", messages=ASK, logprobs=True, stream=True
    )
    tokens = [
        token.token
        for chunk in streamed
        if chunk.choices[0].logprobs
        for token in chunk.choices[0].logprobs.content
    ]
    assert tokens == [token.token for token in content]


def test_text_to_continue(client: Any) -> None:
    answer = client.completions.create(model="small", prompt="the", max_tokens=4, logprobs=2)
    choice = answer.choices[0]
    assert choice.finish_reason == "length" and SAYS.startswith(choice.text)
    assert len(choice.logprobs.tokens) == 4 and len(choice.logprobs.top_logprobs[0]) == 2
    assert choice.logprobs.text_offset[1] == len(choice.logprobs.tokens[0])
    many = client.completions.create(model="small", prompt=["the", "a"], n=2, max_tokens=3)
    assert [choice.index for choice in many.choices] == [0, 1, 2, 3]
    streamed = client.completions.create(model="small", prompt="the", max_tokens=4, stream=True)
    assert "".join(chunk.choices[0].text for chunk in streamed) == choice.text
    tokens = client.completions.create(model="small", prompt=[2, 20, 21], max_tokens=2)
    assert tokens.usage.prompt_tokens == 3


def test_content_in_parts_and_a_system_message(client: Any) -> None:
    answer = client.chat.completions.create(
        model="small",
        messages=[
            {"role": "developer", "content": "Be 天."},
            {"role": "user", "content": [{"type": "text", "text": "hello"}]},
        ],
    )
    assert answer.choices[0].message.content == SAYS


def test_json_of_a_schema(client: Any) -> None:
    pytest.importorskip("llguidance", reason="constraints need llguidance")
    schema = {
        "type": "object",
        "properties": {"mood": {"enum": ["good", "bad"]}},
        "required": ["mood"],
        "additionalProperties": False,
    }
    answer = client.chat.completions.create(
        model="small", messages=ASK,
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
    )  # fmt: skip
    assert json.loads(answer.choices[0].message.content)["mood"] in ("good", "bad")
    chosen = client.chat.completions.create(
        model="small", messages=ASK, extra_body={"guided_choice": ["dog", "sun"]}
    )
    assert chosen.choices[0].message.content in ("dog", "sun")
    matched = client.completions.create(
        model="small", prompt="x", extra_body={"guided_regex": "[0-9]{3}"}
    )
    assert matched.choices[0].text.isdigit()
    with pytest.raises(openai.BadRequestError, match="regex cannot be used"):
        client.completions.create(model="small", prompt="x", extra_body={"guided_regex": "("})


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"messages": []}, "messages"),
        ({"temperature": -1}, "temperature"),
        ({"n": 0}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"tools": [{"type": "function", "function": {"name": "x"}}]}, "tools"),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages.0.role"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], param: str, client: Any) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**({"model": "small", "messages": ASK} | changes))
    assert caught.value.param == param
    assert caught.value.type == "invalid_request_error"


def test_other_models_and_long_prompts(client: Any) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="gpt-5", messages=ASK)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as long:
        client.completions.create(model="small", prompt="the cat " * 100)
    assert long.value.code == "context_length_exceeded"
