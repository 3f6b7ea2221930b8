"""Beam search finds what Hugging Face's finds, and what trying everything finds."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

from chatgpt_cli.generation.beam import beam_search
from chatgpt_cli.generation.engine import Engine
from chatgpt_cli.interop.huggingface import save_model
from tests.cli.speaking import make_tokenizer
from tests.generation.conftest import make_model


@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
def test_as_hugging_face(length_penalty: float, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="the reference is not installed")
    tokenizer = make_tokenizer()
    model = make_model(vocab_size=tokenizer.vocab_size)
    save_model(model, tokenizer, tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    stop = frozenset(range(20, 60))
    engine = Engine.of(model, tokenizer)
    for prompt in ([2, 30], [2, 60, 70, 80]):
        ours = beam_search(
            engine, prompt, beams=4, max_tokens=10, stop_ids=stop,
            length_penalty=length_penalty, best=3,
        )  # fmt: skip
        rows = theirs.generate(
            torch.tensor([prompt]), num_beams=4, num_return_sequences=3, max_new_tokens=10,
            do_sample=False, length_penalty=length_penalty, eos_token_id=sorted(stop),
            pad_token_id=0, early_stopping=False,
        )  # fmt: skip
        for one, row in zip(ours, rows[:, len(prompt) :].tolist(), strict=True):
            ended = [i for i, token in enumerate(row) if token in stop]
            assert one.ids == row[: ended[0] if ended else None]
            assert one.finish_reason == ("stop" if ended else "length")


def test_the_best_of_all_texts(tokenizer: Any) -> None:
    """With as many beams as there are texts, the best of all is found."""
    model = make_model(vocab_size=16)
    engine = Engine.of(model, tokenizer)
    (found,) = beam_search(engine, [2, 13], beams=256, max_tokens=3, stop_ids=frozenset())
    best = None
    with torch.no_grad():
        texts = torch.tensor([[2, 13, *rest] for rest in itertools.product(range(16), repeat=3)])
        logprobs = model.logits(model(texts[:, :-1])).log_softmax(-1)[:, 1:]
        totals = logprobs.gather(2, texts[:, 2:, None]).sum((1, 2))
        best = texts[totals.argmax(), 2:].tolist()
    assert found.ids == best
    assert found.logprob == pytest.approx(float(totals.max()) / 3, abs=1e-4)
