"""Preference training against the closed form, written out for each pair alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import log_softmax, logsigmoid

from chatgpt_cli.config.schema import PreferSection
from chatgpt_cli.data.packed import Conversations
from chatgpt_cli.data.pairs import HeldOutPairs, PairBatches, Pairs
from chatgpt_cli.data.preferences import load_pairs
from chatgpt_cli.errors import DataError
from chatgpt_cli.model.transformer import Transformer
from chatgpt_cli.tokenizer.tokenizer import Tokenizer
from chatgpt_cli.training.device import Hardware
from chatgpt_cli.training.dpo import PreferenceLoss, set_reference
from tests.model.test_transformer import build

HARDWARE = Hardware(torch.device("cpu"), torch.float32, "matmul", False, 1)
LENGTH = 24


def make_pairs(count: int = 7) -> Pairs:
    random = np.random.default_rng(4)
    ids, targets, lengths = [], [], []
    for _ in range(count):
        question = random.integers(12, 80, random.integers(2, 7))
        for _ in range(2):
            answer = random.integers(12, 80, random.integers(1, 9))
            ids += [*question, *answer]
            targets += [False] * len(question) + [True] * len(answer)
            lengths.append(len(question) + len(answer))
    starts = np.cumsum([0, *lengths])
    data = Conversations(np.array(ids, np.int32), np.array(targets), starts, pad_id=0)
    return Pairs(data, np.zeros(len(ids), np.float32))


def shaken(seed: int) -> Transformer:
    model = build(vocab_size=80)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def log_probability(model: Transformer, data: Conversations, number: int) -> Tensor:
    """Of an answer by itself: no packing, no padding, all logits at once."""
    part = slice(int(data.starts[number]), int(data.starts[number + 1]))
    ids = torch.from_numpy(data.ids[part].astype(np.int64))
    scores = log_softmax(model.logits(model(ids[None, :-1]))[0], -1)
    found = scores.gather(1, ids[1:, None])[:, 0]
    return found[torch.from_numpy(data.targets[part][1:])].sum()


@pytest.mark.parametrize(("smoothing", "sft_weight"), [(0.0, 0.0), (0.2, 0.0), (0.0, 0.7)])
def test_loss_and_gradients_equal_the_closed_form(smoothing: float, sft_weight: float) -> None:
    pairs, model, before = make_pairs(), shaken(1), shaken(2)
    held = HeldOutPairs(pairs, 2, LENGTH)
    set_reference(before, held, HARDWARE)
    batch = pairs.rows([one for bins in held.bins() for one in bins], LENGTH)
    assert len(batch) < 2 * len(pairs)  # several pairs in a row
    objective = PreferenceLoss(HARDWARE, 0.3, smoothing, sft_weight)
    assert objective.count(batch) == len(pairs)
    loss = objective(model, batch)
    loss.total.backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    model.zero_grad()
    margins, surprises = [], []
    for pair in range(len(pairs)):
        rewards = []
        for number in (2 * pair, 2 * pair + 1):
            now = log_probability(model, pairs.conversations, number)
            if number % 2 == 0:
                part = slice(*pairs.conversations.starts[number : number + 2])
                surprises.append(-now / int(pairs.conversations.targets[part].sum()))
            rewards.append(now - log_probability(before, pairs.conversations, number).detach())
        margins.append(0.3 * (rewards[0] - rewards[1]))
    margin = torch.stack(margins)
    expected = -((1 - smoothing) * logsigmoid(margin) + smoothing * logsigmoid(-margin)).sum()
    expected = expected + sft_weight * torch.stack(surprises).sum()
    expected.backward()
    torch.testing.assert_close(loss.total, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(loss.sums["margin"], margin.sum(), rtol=1e-4, atol=1e-4)
    assert loss.sums["accuracy"].item() == (margin > 0).sum().item()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-3, atol=1e-4)


def test_before_training_no_answer_is_preferred() -> None:
    pairs, model = make_pairs(), shaken(1)
    held = HeldOutPairs(pairs, 2, LENGTH)
    set_reference(model, held, HARDWARE)
    found = PreferenceLoss(HARDWARE, beta=0.1).validate(model, held)
    assert found.nats_per_token == pytest.approx(np.log(2), rel=1e-5)
    assert found.details["margin"] == pytest.approx(0, abs=1e-5) and found.tokens == len(pairs)


def test_no_micro_batch_parts_a_pair() -> None:
    pairs = make_pairs()
    batches = PairBatches(pairs, batch_size=6, sequence_length=LENGTH, seed=1)
    batch = batches.batch(3)
    objective = PreferenceLoss(HARDWARE, beta=0.1)
    for size in (1, 3, 4):
        parts = list(batch.split(size))
        assert all(len(part) % 2 == 0 for part in parts)
        assert sum(objective.count(part) for part in parts) == objective.count(batch)


def load(tmp_path: Path, tokenizer: Tokenizer, rows: list[str], length: int) -> list[str]:
    file = tmp_path / "pairs.jsonl"
    file.write_text("\n".join(rows), encoding="utf-8")
    section = PreferSection(data=[str(file)], validation_fraction=0.3)
    data = load_pairs(section, tokenizer, length, system_prompt=None, seed=1)
    found = []
    for batch in (*data.learnt, *data.validation):
        for row in range(len(batch)):
            for segment in range(2, int(batch.segment_ids[row].max()) + 1):
                found.append(
                    tokenizer.decode(
                        batch.input_ids[row][batch.segment_ids[row] == segment].tolist()
                    )
                )
    return found


def row(question: str, better: str, worse: str) -> str:
    return f'{{"prompt": "{question}", "chosen": "{better}", "rejected": "{worse}"}}'


def test_a_long_question_is_cut_alike_before_both(tmp_path: Path, tokenizer: Tokenizer) -> None:
    words = " ".join(["the cat saw a red kite"] * 9)
    rows = [row(f"{n} {words} today", "Tom", "our garden and our dog") for n in range(6)]
    texts = load(tmp_path, tokenizer, rows, 24)
    better, worse = texts[0], texts[1] if "dog" in texts[1] else texts[-1]
    assert len(texts) == 12 and "kite today" in better
    questions = {text.replace("Tom", "").replace("our garden and our dog", "") for text in texts}
    assert len(questions) == 1 and worse != better


def test_what_is_left_out_is_told(tmp_path: Path, tokenizer: Tokenizer) -> None:
    file = tmp_path / "pairs.jsonl"
    rows = [row(f"Who {n}?", "Tom", "a cat") for n in range(8)]
    file.write_text("\n".join([*rows, '{"prompt": "Who?", "chosen": "Tom"}']), encoding="utf-8")
    section = PreferSection(data=[str(file)], validation_fraction=0.3, on_error="skip")
    data = load_pairs(section, tokenizer, 24, system_prompt=None, seed=1)
    assert "Left out: 1 rows (1 field is missing)" in data.notes


def test_an_answer_that_does_not_fit_is_named(tmp_path: Path, tokenizer: Tokenizer) -> None:
    long = " ".join(["the dog"] * 30)
    rows = [row("Who?", "Tom", "Tom and a cat"), row("And who else?", "a cat", long)]
    with pytest.raises(DataError, match=r"pairs.jsonl:2.*an answer alone is longer"):
        load(tmp_path, tokenizer, rows, 24)
