"""Reinforcement against its formula token by token; rewards; and that it raises them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import log_softmax

from chatgpt_cli.config.loader import load_config
from chatgpt_cli.config.paths import RunPaths
from chatgpt_cli.config.schema import ReinforceSection
from chatgpt_cli.data.preprocess import preprocess
from chatgpt_cli.data.questions import AnswerBatch, Question, as_conversations, question_batch
from chatgpt_cli.errors import ConfigError
from chatgpt_cli.model.transformer import Transformer
from chatgpt_cli.tokenizer.tokenizer import Tokenizer
from chatgpt_cli.training.device import Hardware
from chatgpt_cli.training.grpo import ReinforcedAnswers
from chatgpt_cli.training.metrics_log import read_metrics
from chatgpt_cli.training.pretrain import pretrain
from chatgpt_cli.training.reinforce import reinforce
from chatgpt_cli.training.rewards import reward_of
from tests.model.test_transformer import build
from tests.training.test_dpo import shaken

HARDWARE = Hardware(torch.device("cpu"), torch.float32, "matmul", False, 1)
LENGTH = 24


def question(number: int, *references: str) -> Question:
    return Question((5, 20 + number, 30), references, {"number": number}, f"rows.jsonl:{number}")


def objective(section: ReinforceSection, tokenizer: Tokenizer, **more: object) -> ReinforcedAnswers:
    values: dict[str, object] = {
        "questions": [question(n) for n in range(4)],
        "held_out": [question(9)],
        "reward": lambda answer, _: float(len(answer) % 3),
        "sequence_length": LENGTH,
        "seed": 3,
    }
    return ReinforcedAnswers(section, HARDWARE, tokenizer, **{**values, **more})  # type: ignore[arg-type]


def by_token(model: Transformer, ids: list[int], answer: int) -> torch.Tensor:
    """Log-probabilities of the last `answer` tokens: one text, all logits at once."""
    tokens = torch.tensor(ids)
    scores = log_softmax(model.logits(model(tokens[None, :-1]))[0], -1)
    return scores.gather(1, tokens[1:, None])[-answer:, 0]


def test_loss_and_gradients_equal_the_formula(tokenizer: Tokenizer) -> None:
    model, writer, before = shaken(1), shaken(2), shaken(3)
    random = np.random.default_rng(0)
    asked = [random.integers(12, 80, 4).tolist() for _ in range(5)]
    answers = [random.integers(12, 80, random.integers(1, 7)).tolist() for _ in range(5)]
    advantages = [0.7, -0.3, 1.1, -0.5, 0.2]
    section = ReinforceSection(kl=0.15, clip=0.2, updates=2)
    made = objective(section, tokenizer)
    data = as_conversations(asked, answers, 0)
    plain = data.rows([[0, 1], [2], [3, 4]], LENGTH)
    table = torch.tensor(
        [[0, 0, *advantages[:2]], [0, 0, advantages[2], 0], [0, 0, *advantages[3:]]]
    )
    zero = torch.zeros(plain.labels.shape)
    parts = (plain.input_ids, plain.labels, plain.segment_ids, plain.position_ids)
    advantage = table.gather(1, plain.segment_ids)
    batch = AnswerBatch(*parts, advantage=advantage, old=zero, reference=zero, reward=advantage)
    batch = AnswerBatch(
        *parts,
        advantage=advantage,
        old=made._read(writer, batch),
        reference=made._read(before, batch),
        reward=advantage,
    )
    assert made.count(batch) == 5
    loss = made(model, batch)
    loss.total.backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    model.zero_grad()
    expected = torch.zeros(())
    clipped = 0
    for prompt, answer, gain in zip(asked, answers, advantages, strict=True):
        ids = [*prompt, *answer]
        now = by_token(model, ids, len(answer))
        old = by_token(writer, ids, len(answer)).detach()
        reference = by_token(before, ids, len(answer)).detach()
        for t in range(len(answer)):
            ratio = (now[t] - old[t]).exp()
            limited = min(max(ratio.item(), 0.8), 1.2)
            clipped += limited * gain < ratio.item() * gain
            worth = ratio * gain if ratio.item() * gain <= limited * gain else limited * gain
            q = reference[t] - now[t]
            expected = expected - worth + 0.15 * (q.exp() - q - 1)
    assert clipped
    expected.backward()
    torch.testing.assert_close(loss.total, expected, rtol=1e-4, atol=1e-4)
    assert loss.sums["reward"].item() == pytest.approx(sum(advantages), abs=1e-5)
    assert loss.sums["length"].item() == sum(map(len, answers))
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-3, atol=1e-4)


def test_answers_are_compared_within_their_group(tokenizer: Tokenizer) -> None:
    model = build(vocab_size=400)
    model.initialize(1)
    section = ReinforceSection(batch_size=3, group_size=4, max_tokens=6)
    made = objective(section, tokenizer)
    asked = question_batch(made.questions, [2, 0, 3], tokenizer.pad_id)
    (answers,) = made.passes(model, asked, step=0)
    assert isinstance(answers, AnswerBatch) and made.count(answers) == 12
    gains: dict[int, list[float]] = {}
    for row in range(len(answers)):
        for segment in range(2, int(answers.segment_ids[row].max()) + 1):
            here = answers.segment_ids[row] == segment
            number = int(answers.input_ids[row][here][1]) - 20
            assert 1 <= int((answers.labels[row][here] >= 0).sum()) <= 6
            gains.setdefault(number, []).append(float(answers.advantage[row][here][0]))
    assert sorted(gains) == [0, 2, 3] and all(len(one) == 4 for one in gains.values())
    assert all(sum(one) == pytest.approx(0, abs=1e-5) for one in gains.values())
    assert any(abs(gain) > 0.1 for one in gains.values() for gain in one)
    # The same step draws the same answers, another step others.
    (again,) = made.passes(model, asked, step=0)
    (other,) = made.passes(model, asked, step=1)
    assert torch.equal(again.input_ids, answers.input_ids)
    assert not torch.equal(other.input_ids, answers.input_ids)


def test_rewards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = question(1, "So it is 1,200.", "#### 7")
    exact = reward_of(ReinforceSection())
    assert exact(" #### 7\n", one) == 1 and exact("7", one) == 0
    number = reward_of(ReinforceSection(reward="number"))
    assert number("600 + 600 = 1200", one) == 1 and number("none", one) == 0
    pattern = reward_of(ReinforceSection(reward="pattern", pattern=r"#### (\d+)"))
    assert pattern("well #### 7 then", one) == 1 and pattern("7", one) == 0
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_rewards.py").write_text(
        "def short(answer, row):\n    return row['number'] / len(answer)\n", encoding="utf-8"
    )
    own = reward_of(ReinforceSection(reward="own_rewards:short"))
    assert own("four", one) == 0.25
    with pytest.raises(ConfigError, match=r"fails: ZeroDivisionError") as error:
        own("", one)
    assert "rows.jsonl:1" in str(error.value)
    with pytest.raises(ConfigError, match="there is no reward function own_rewards:long"):
        reward_of(ReinforceSection(reward="own_rewards:long"))


@pytest.mark.parametrize("reward", ["best", "pattern", "own rewards:short"])
def test_an_unknown_reward_is_refused(reward: str) -> None:
    with pytest.raises(ValueError, match="reward"):
        ReinforceSection(reward=reward)


def test_the_reward_rises(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers earn the share of their characters that is an a."""
    monkeypatch.chdir(project)
    (project / "wants.py").write_text(
        "def the_a(answer, row):\n    return answer.count('a') / max(1, len(answer))\n",
        encoding="utf-8",
    )
    more = ["reinforce.reward=wants:the_a", "reinforce.pattern=null"]
    more += ["reinforce.budget=30 steps", "reinforce.batch_size=8", "reinforce.group_size=8"]
    config = load_config(project / "chatgpt.yaml", more).config
    paths = RunPaths(config.run_dir)
    preprocess(config, paths, force=False, tell=lambda _: None)
    pretrain(config, paths, mode="new", observe=lambda _: None)
    reinforce(config, paths, mode="new", observe=lambda _: None)
    rewards = [r["reward"] for r in read_metrics(paths.reinforce.metrics) if r["type"] == "train"]
    assert np.mean(rewards[-3:]) > 2 * np.mean(rewards[:3])
