"""Completions: the same with and without cache, alone and in a batch, whole and streamed."""

from collections import Counter
from typing import Any

import pytest
import torch
from scipy.stats import chi2

from chatgpt_cli.generation.engine import Engine, Stream, complete
from chatgpt_cli.generation.sampling import Sampling
from chatgpt_cli.generation.text import StoppingText
from chatgpt_cli.model.inference import InferenceModel
from chatgpt_cli.model.transformer import Transformer
from tests.generation.conftest import make_model

NEVER: frozenset[int] = frozenset()
GREEDY = Sampling(max_tokens=12, temperature=0)
PROMPTS = [[2, 30], [2, 40, 50, 60, 70, 80], [2], [2, 100, 101, 102], [2, 40, 50, 61]]


def greedy_without_cache(model: Transformer, prompt: list[int], steps: int) -> list[int]:
    ids = list(prompt)
    with torch.no_grad():
        for _ in range(steps):
            ids.append(int(model.logits(model(torch.tensor([ids])))[0, -1].argmax()))
    return ids[len(prompt) :]


@pytest.mark.parametrize("positions", ["rope", "learned", "sinusoidal"])
def test_the_same_tokens_as_without_a_cache(positions: Any, tokenizer: Any, library: Any) -> None:
    model = make_model(positions=positions)
    results = complete(model, tokenizer, PROMPTS, GREEDY, stop_ids=NEVER, library=library)
    for prompt, result in zip(PROMPTS, results, strict=True):
        assert result.ids == greedy_without_cache(model, prompt, 12)
        assert result.text == tokenizer.decode(result.ids)
        assert (result.finish_reason, result.prompt_tokens) == ("length", len(prompt))


@pytest.mark.parametrize(
    "sampling",
    [
        GREEDY,
        Sampling(max_tokens=20, temperature=1.0, top_p=0.9, seed=5),
        Sampling(max_tokens=20, temperature=0.7, repetition_penalty=1.3, seed=1),
    ],
)
def test_a_batch_gives_what_one_by_one_gives(
    model: Transformer, tokenizer: Any, sampling: Sampling, library: Any
) -> None:
    # Some of these tokens come up, so rows leave the batch at different times.
    stops = frozenset(range(12, 60))
    together = complete(model, tokenizer, PROMPTS, sampling, stop_ids=stops, library=library)
    assert len({len(result.ids) for result in together}) > 1
    in_twos = complete(
        model, tokenizer, PROMPTS, sampling, stop_ids=stops, batch_size=2, library=library
    )
    for index, (one, two) in enumerate(zip(together, in_twos, strict=True)):
        seed = None if sampling.seed is None else sampling.seed + index
        own = Sampling(**{**vars(sampling), "seed": seed})
        (alone,) = complete(model, tokenizer, [PROMPTS[index]], own, stop_ids=stops)
        assert one.ids == two.ids == alone.ids
        assert one.finish_reason == alone.finish_reason
        assert one.logprob == pytest.approx(alone.logprob, abs=1e-4)


def test_a_seed_repeats_and_no_seed_varies(model: Transformer, tokenizer: Any) -> None:
    def text(seed: int | None) -> list[int]:
        sampling = Sampling(max_tokens=30, temperature=2.0, seed=seed)
        return complete(model, tokenizer, [[2]], sampling, stop_ids=NEVER)[0].ids

    assert text(4) == text(4)
    assert text(4) != text(5)
    assert text(None) != text(None)


def test_a_stop_token_ends_and_is_not_part_of_the_text(model: Transformer, tokenizer: Any) -> None:
    (free,) = complete(model, tokenizer, [[2, 30]], GREEDY, stop_ids=NEVER)
    position = next(i for i, id in enumerate(free.ids) if id not in free.ids[:i] and i > 0)
    stop = frozenset({free.ids[position]})
    (ended,) = complete(model, tokenizer, [[2, 30]], GREEDY, stop_ids=stop)
    assert ended.ids == free.ids[:position]
    assert ended.finish_reason == "stop"


def test_mean_log_probability(model: Transformer, tokenizer: Any) -> None:
    sampling = Sampling(max_tokens=5, temperature=0.5, top_k=3, seed=0)
    (result,) = complete(model, tokenizer, [[2, 30]], sampling, stop_ids=NEVER)
    with torch.no_grad():
        logits = model.logits(model(torch.tensor([[2, 30, *result.ids]])))[0, 1:-1]
    expected = logits.log_softmax(-1)[range(5), result.ids].mean().item()
    assert result.logprob == pytest.approx(expected, abs=1e-5)


def stream(model: Transformer, tokenizer: Any, prompt: list[int], sampling: Sampling) -> Stream:
    return Engine.of(model, tokenizer).stream(prompt, sampling, stop_ids=NEVER)


def scripted(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Make every prompt be continued by `text`."""
    from chatgpt_cli.generation import engine

    script = iter([12 + byte for byte in text.encode()])
    monkeypatch.setattr(engine, "sample", lambda *_: torch.tensor([next(script)]))


@pytest.mark.parametrize(
    ("said", "stop", "expected", "reason"),
    [
        ("one two three", ("two",), "one ", "stop"),
        ("one two three", ("three", "tw"), "one ", "stop"),
        ("aab", ("ab",), "a", "stop"),
        ("天下太平", ("太",), "天下", "stop"),
        ("天下太", ("太平",), "天下太", "length"),
        ("天", ("x",), "天", "length"),
    ],
)
def test_stop_strings_across_token_borders(
    said: str, stop: tuple[str, ...], expected: str, reason: str,
    model: Transformer, tokenizer: Any, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    sampling = Sampling(max_tokens=len(said.encode()), stop=stop)
    scripted(monkeypatch, said)
    (result,) = complete(model, tokenizer, [[2]], sampling, stop_ids=NEVER)
    assert (result.text, result.finish_reason) == (expected, reason)
    scripted(monkeypatch, said)
    pieces = list(stream(model, tokenizer, [2], sampling))
    assert "".join(pieces) == expected


def test_a_stream_gives_the_same_text_in_whole_characters(
    model: Transformer, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, "你好, world")
    sampling = Sampling(max_tokens=len("你好, world".encode()))
    answer = stream(model, tokenizer, [2], sampling)
    assert list(answer) == list("你好, world")
    assert answer.completion.text == "你好, world"


def test_a_sampled_stream_equals_complete(model: Transformer, tokenizer: Any) -> None:
    sampling = Sampling(max_tokens=25, temperature=1.0, seed=9)
    answer = stream(model, tokenizer, [2, 30], sampling)
    pieces = list(answer)
    (whole,) = complete(model, tokenizer, [[2, 30]], sampling, stop_ids=NEVER)
    assert "".join(pieces) == whole.text
    assert answer.completion == whole


def test_half_a_character_at_the_end_is_replaced(tokenizer: Any) -> None:
    text = StoppingText(tokenizer, ())
    assert text.push(12 + "天".encode()[0]) == ""
    assert text.flush() == "\ufffd"


@pytest.mark.parametrize(
    ("length", "max_tokens", "kept", "written"),
    [(10, 100, 10, 54), (60, 100, 48, 16), (60, 2, 60, 2), (64, 1, 63, 1), (500, 10, 54, 10)],
)
def test_prompts_that_fill_the_context(
    length: int, max_tokens: int, kept: int, written: int, model: Transformer, tokenizer: Any
) -> None:
    prompt = [2, *range(13, 13 + 255)][:length] + [20] * (length - 256)
    sampling = Sampling(max_tokens=max_tokens, temperature=0)
    (result,) = complete(model, tokenizer, [prompt], sampling, stop_ids=NEVER)
    assert (result.prompt_tokens, len(result.ids)) == (kept, written)
    assert result.truncated_prompt == (kept < length)
    cut = [2, *prompt[length - kept + 1 :]]
    assert result.ids == greedy_without_cache(model, cut, written)


def test_progress_model_mode_and_nothing_to_do(model: Transformer, tokenizer: Any) -> None:
    model.train()
    model.set_dropout(0.5)
    seen: list[int] = []
    prompts = PROMPTS * 2
    results = complete(
        model, tokenizer, prompts, GREEDY, stop_ids=NEVER, batch_size=4, on_progress=seen.append
    )
    assert seen == [4, 8, 10]
    assert model.training
    assert [r.ids for r in results[:5]] == [r.ids for r in results[5:]]
    assert complete(model, tokenizer, [], GREEDY, stop_ids=NEVER) == []
    with pytest.raises(ValueError, match="at least one token"):
        complete(model, tokenizer, [[]], GREEDY, stop_ids=NEVER)


def test_special_tokens_are_never_penalised(model: Transformer, tokenizer: Any) -> None:
    # Otherwise a conversation would become unable to end its turns.
    plain = GREEDY
    strong = Sampling(max_tokens=12, temperature=0, repetition_penalty=50.0)
    (result,) = complete(model, tokenizer, [[2, 30]], strong, stop_ids=NEVER)
    ordinary = [id for id in result.ids if id >= 12]
    assert len(set(ordinary)) == len(ordinary)
    engine = Engine.of(model, tokenizer)
    seen = engine.submit([2, 11, 30], strong, stop_ids=NEVER).seen
    assert seen is not None and seen.nonzero().flatten().tolist() == [30]
    assert engine.submit([2, 11, 30], plain, stop_ids=NEVER).seen is None


def run(engine: Engine) -> None:
    while engine.writing or engine.waiting:
        engine.step()


def test_texts_that_come_while_others_are_written(
    model: Transformer, tokenizer: Any, library: Any
) -> None:
    """Each with settings of its own, in two rows: as if it were alone."""
    settings = [
        GREEDY,
        Sampling(max_tokens=9, temperature=1.0, top_k=5, seed=3),
        Sampling(max_tokens=5, temperature=0.8, repetition_penalty=1.2, seed=4),
        Sampling(max_tokens=7, temperature=1.5, min_p=0.1, seed=5),
        GREEDY,
    ]
    engine = Engine(InferenceModel(model, library=library), tokenizer, max_rows=2)
    generations = []
    for prompt, sampling in zip(PROMPTS, settings, strict=True):
        generations.append(engine.submit(prompt, sampling, stop_ids=NEVER))
        engine.step()
        assert engine.writing <= 2
    run(engine)
    for prompt, sampling, generation in zip(PROMPTS, settings, generations, strict=True):
        (alone,) = complete(model, tokenizer, [prompt], sampling, stop_ids=NEVER)
        assert generation.ids == alone.ids


def test_a_text_that_is_called_off_leaves_the_others_alone(
    model: Transformer, tokenizer: Any
) -> None:
    engine = Engine(InferenceModel(model), tokenizer, max_rows=2)
    first, second, third = (engine.submit(p, GREEDY, stop_ids=NEVER) for p in PROMPTS[:3])
    engine.step()
    engine.step()
    engine.cancel(first)
    engine.cancel(third)
    assert (engine.writing, engine.waiting) == (1, 0)
    run(engine)
    assert (len(first.ids), len(second.ids), len(third.ids)) == (2, 12, 0)
    assert second.ids == greedy_without_cache(model, PROMPTS[1], 12)


def test_what_was_read_is_not_read_again(model: Transformer, tokenizer: Any, library: Any) -> None:
    engine = Engine.of(model, tokenizer, library=library)
    prompt = [2, *range(20, 40)]
    first = engine.submit(prompt, GREEDY, stop_ids=NEVER)
    run(engine)
    assert first.cached_tokens == 0
    longer = [*prompt, *first.ids, 50, 51]
    for next_, known in ((longer, 32), (prompt, 20), ([2, *range(20, 37), 99], 18), ([2, 99], 0)):
        again = engine.submit(next_, GREEDY, stop_ids=NEVER)
        run(engine)
        assert again.cached_tokens == known
        assert again.ids == greedy_without_cache(model, next_, 12)


def test_the_most_probable_tokens_are_noted(model: Transformer, tokenizer: Any) -> None:
    engine = Engine.of(model, tokenizer)
    generation = engine.submit([2, 30], GREEDY, stop_ids=NEVER, top_logprobs=3)
    run(engine)
    with torch.no_grad():
        logits = model.logits(model(torch.tensor([[2, 30]])))[0, -1]
    best = logits.log_softmax(-1).topk(3)
    first = generation.drawn[0]
    assert [id for id, _ in first.top] == best.indices.tolist()
    assert [p for _, p in first.top] == pytest.approx(best.values.tolist(), abs=1e-4)
    assert first.top[0] == (first.id, pytest.approx(first.logprob))


@pytest.mark.parametrize("quantization", ["int8", "int4"])
def test_quantized_models_write(quantization: Any, tokenizer: Any, library: Any) -> None:
    model = make_model(hidden_size=64, head_dim=16, intermediate_size=64)
    engine = Engine.of(model, tokenizer, quantization, library=library)
    (result,) = engine.complete([[2, 30]], GREEDY, stop_ids=NEVER)
    assert len(result.ids) == 12


SAMPLINGS = [
    GREEDY,
    Sampling(max_tokens=25, temperature=1.0, seed=3),
    Sampling(max_tokens=25, temperature=0.9, top_p=0.9, seed=4),
    Sampling(max_tokens=25, temperature=0.8, top_k=5, repetition_penalty=1.2, seed=5),
]


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("noise", [0.0, 0.03, 1.0])
def test_a_draft_changes_nothing_but_the_steps(
    model: Transformer, tokenizer: Any, library: Any, noise: float, sampling: Sampling
) -> None:
    """A model that guesses well, not so well or badly: the same tokens, log-probabilities, text."""
    small = make_model()
    small.load_state_dict(model.state_dict())
    generator = torch.Generator().manual_seed(0)
    for parameter in small.parameters():
        parameter.data += noise * torch.randn(parameter.shape, generator=generator)
    packed = InferenceModel(model, library=library)
    alone = Engine(packed, tokenizer)
    helped = Engine(packed, tokenizer, draft=InferenceModel(small, library=library))
    for prompt in PROMPTS:
        (expected,) = alone.complete([prompt], sampling, stop_ids=NEVER)
        generation = helped.submit(prompt, sampling, stop_ids=NEVER)
        steps = 0
        while helped.writing or helped.waiting:
            helped.step()
            steps += 1
        got = generation.completion()
        assert (got.ids, got.finish_reason) == (expected.ids, expected.finish_reason)
        assert got.logprob == pytest.approx(expected.logprob, abs=1e-4)
        if noise == 0.0 and sampling.repetition_penalty == 1.0:
            # Right every time: 4, 5, 6 … tokens guessed, and one more each time.
            assert steps <= 1 + 4


def test_with_a_draft_tokens_have_the_large_models_probabilities(
    model: Transformer, tokenizer: Any, library: Any
) -> None:
    """Pairs of tokens drawn 3,000 times, against the probabilities (chi-square)."""
    small = make_model(num_layers=1)
    engine = Engine(
        InferenceModel(model, library=library),
        tokenizer,
        draft=InferenceModel(small, library=library),
    )
    drawn: Counter[tuple[int, ...]] = Counter()
    for seed in range(3000):
        sampling = Sampling(max_tokens=3, temperature=3.0, top_k=3, seed=seed)
        generation = engine.submit([2, 30], sampling, stop_ids=NEVER, follow=False)
        run(engine)
        drawn[tuple(generation.ids[1:])] += 1
    # The first token is read with the prompt; the draft guesses the two after it.
    expected: Counter[tuple[int, ...]] = Counter()
    for first, p in top_three(model, [2, 30]).items():
        for second, q in top_three(model, [2, 30, first]).items():
            for third, r in top_three(model, [2, 30, first, second]).items():
                expected[second, third] += p * q * r * 3000
    assert drawn.keys() <= expected.keys()
    square = sum((drawn[pair] - mean) ** 2 / mean for pair, mean in expected.items())
    assert chi2.sf(square, len(expected) - 1) > 0.001


def top_three(model: Transformer, ids: list[int]) -> dict[int, float]:
    """The most probable tokens and their shares at temperature 3."""
    with torch.no_grad():
        best = (model.logits(model(torch.tensor([ids])))[0, -1] / 3).topk(3)
    shares = best.values.softmax(-1).tolist()
    return dict(zip(best.indices.tolist(), shares, strict=True))
