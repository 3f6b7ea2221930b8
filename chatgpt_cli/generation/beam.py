"""Beam search: the continuation that is most probable as a whole, and the runners-up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from chatgpt_cli.generation.engine import Completion, Engine, answer_room
from chatgpt_cli.generation.sampling import Sampling


@dataclass(frozen=True)
class _Hypothesis:
    """Tokens (without the end), the sum of their log-probabilities, how they are ranked."""

    ids: list[int]
    total: float
    score: float
    ended: bool


def beam_search(
    engine: Engine,
    prompt: list[int],
    *,
    beams: int,
    max_tokens: int,
    stop_ids: frozenset[int],
    length_penalty: float = 1.0,
    best: int = 1,
) -> list[Completion]:
    """The best continuations found, the best first.

    Ranked by the sum of log-probabilities (the end's included) divided by
    length^length_penalty: 0 prefers short texts, above 1 long ones (Wu et al. 2016
    without their constant; as in Hugging Face).

    Args:
        engine: whose model writes; nothing else may be written meanwhile.
        prompt: token ids, at least one; cut at its beginning if it fills the context.
        beams: continuations followed at a time.
        max_tokens: length at most.
        stop_ids: tokens that end a text.
        length_penalty: see above.
        best: how many to return, at most `beams`.
    """
    model = engine.model
    context = model.config.context_length
    longest = context - answer_room(context, Sampling(max_tokens=max_tokens))
    truncated = len(prompt) > longest
    if truncated:
        head = prompt[: int(prompt[0] == engine.tokenizer.bos_id)]
        prompt = head + prompt[len(prompt) - longest + len(head) :]
    limit = min(max_tokens, context - len(prompt))

    finished: list[_Hypothesis] = []
    hopeless = False
    with torch.inference_mode():
        cache = model.new_cache()
        cache.reserve(beams, len(prompt) + limit)
        cache.lengths = [0]
        logprobs = model.prefill(cache, 0, [prompt]).log_softmax(-1)
        running: list[tuple[float, list[int]]] = [(0.0, [])]
        for length in range(1, limit + 1):
            sums = torch.tensor([total for total, _ in running], device=logprobs.device)
            scores = (logprobs + sums[:, None]).flatten()
            # Twice as many as needed: even if half of them end, all beams go on.
            ranked = scores.topk(min(2 * beams, len(scores)))
            extended: list[tuple[float, list[int], int]] = []
            for place, (total, index) in enumerate(
                zip(ranked.values.tolist(), ranked.indices.tolist(), strict=True)
            ):
                source, token = divmod(index, logprobs.shape[1])
                ids = running[source][1]
                if token in stop_ids:
                    if place < beams:
                        score = total / length**length_penalty
                        finished.append(_Hypothesis(ids, total, score, ended=True))
                elif len(extended) < beams:
                    extended.append((total, [*ids, token], source))
            finished = sorted(finished, key=lambda one: -one.score)[:beams]
            running = [(total, ids) for total, ids, _ in extended]
            hopeless = (
                len(finished) == beams
                and running[0][0] / length**length_penalty <= finished[-1].score
            )
            if length == limit or hopeless:
                break
            cache.reorder([source for _, _, source in extended])
            step = model.decode(cache, [ids[-1] for _, ids in running]).logits
            logprobs = step.log_softmax(-1)
    if not hopeless:
        # Those that reached the limit compete with those that ended.
        finished += [
            _Hypothesis(ids, total, total / len(ids) ** length_penalty, ended=False)
            for total, ids in running
        ]
    finished.sort(key=lambda one: -one.score)
    return [_completion(engine, one, len(prompt), truncated) for one in finished[:best]]


def _completion(
    engine: Engine, hypothesis: _Hypothesis, prompt_tokens: int, truncated: bool
) -> Completion:
    reason: Literal["stop", "length"] = "stop" if hypothesis.ended else "length"
    return Completion(
        ids=hypothesis.ids,
        text=engine.tokenizer.decode(hypothesis.ids),
        finish_reason=reason,
        logprob=hypothesis.total / max(1, len(hypothesis.ids) + int(hypothesis.ended)),
        prompt_tokens=prompt_tokens,
        truncated_prompt=truncated,
    )
