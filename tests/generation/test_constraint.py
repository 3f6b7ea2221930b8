"""Texts of a given form, whatever a model with random weights would like to write."""

import json
import re
from typing import Any

import pytest

from chatgpt_cli.errors import ConfigError
from chatgpt_cli.generation.constraint import Constraint, ConstraintMaker
from chatgpt_cli.generation.engine import Engine
from chatgpt_cli.generation.sampling import Sampling
from chatgpt_cli.tokenizer.special import END
from tests.generation.conftest import ByteTokenizer, make_model

pytest.importorskip("llguidance", reason="constraints need llguidance (extra: serve)")


class Bytes(ByteTokenizer):
    def bytes_of(self, id: int) -> bytes:
        return bytes([id - 12]) if 12 <= id < 268 else b""


@pytest.fixture(scope="module")
def engine() -> Engine:
    tokenizer: Any = Bytes()
    # More ids than tokens: matrices are padded.
    return Engine.of(make_model(vocab_size=272, context_length=256), tokenizer)


@pytest.fixture(scope="module")
def maker() -> ConstraintMaker:
    tokenizer: Any = Bytes()
    return ConstraintMaker(tokenizer)


def write(engine: Engine, constraint: Constraint, seed: int) -> str:
    sampling = Sampling(max_tokens=200, temperature=1.5, seed=seed)
    generation = engine.submit(
        [2, 30], sampling, stop_ids=frozenset({END, 3}), constraint=constraint
    )
    while engine.writing or engine.waiting:
        engine.step()
    assert generation.finish_reason == "stop"
    return generation.completion().text


def test_one_of_the_choices(engine: Engine, maker: ConstraintMaker) -> None:
    choices = ["positive", "negative", "中性", "pos"]
    texts = {write(engine, maker.choices(choices), seed) for seed in range(12)}
    assert len(texts) > 1 and texts <= set(choices)


def test_a_regular_expression(engine: Engine, maker: ConstraintMaker) -> None:
    pattern = r"[A-Z][a-z]{2,5} (19|20)\d\d[.!]?"
    for seed in range(5):
        assert re.fullmatch(pattern, write(engine, maker.regex(pattern), seed))


def test_json_of_a_schema(engine: Engine, maker: ConstraintMaker) -> None:
    schema = {
        "type": "object",
        "properties": {
            "mood": {"enum": ["good", "bad"]},
            "stars": {"type": "integer", "minimum": 1, "maximum": 5},
        },
        "required": ["mood", "stars"],
        "additionalProperties": False,
    }
    for seed in range(5):
        value = json.loads(write(engine, maker.json_schema(schema), seed))
        assert value["mood"] in ("good", "bad") and 1 <= value["stars"] <= 5


def test_what_cannot_be_used_is_said(maker: ConstraintMaker) -> None:
    with pytest.raises(ConfigError, match="the regex cannot be used"):
        maker.regex("(")
    with pytest.raises(ConfigError, match="JSON schema cannot be used"):
        maker.json_schema({"type": "nothing"})
    with pytest.raises(ConfigError, match="at least one"):
        maker.choices([])
