"""Marks from another model, asked through any OpenAI-compatible endpoint."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

from chatgpt_cli.config.schema import JudgeSection
from chatgpt_cli.errors import ChatGPTError
from chatgpt_cli.evaluation.metrics.score import Score, mean_score
from chatgpt_cli.interop.endpoint import Endpoint

_MARK = re.compile(r"(?<![\d.])(?:10(?:\.0+)?|[1-9](?:\.\d+)?)(?![\d.]*\d)")
# A judge that once gave no mark is asked again, such that it can say something else.
_TEMPERATURES = (0.0, 1.0, 1.0)
_FORM = (
    "{instruction}\n\nQuestion:\n{question}\n\nReference answer:\n{reference}\n\n"
    "Answer to be marked:\n{answer}\n\n"
    "Give a mark from 1 (useless) to 10 (perfect). Reply with the number only."
)


def judge_answers(
    judge: JudgeSection,
    questions: list[str],
    answers: list[str],
    references: list[list[str]],
) -> Score:
    """The mean mark, 1 to 10, and each answer's own.

    A judge that gives no mark is asked three times in all.

    Raises:
        ChatGPTError: if the endpoint cannot be reached, refuses, or gives no mark.
    """
    prompts = [
        _FORM.format(
            instruction=judge.instruction, question=question, reference=accepted[0], answer=answer
        )
        for question, answer, accepted in zip(questions, answers, references, strict=True)
    ]
    endpoint = Endpoint(judge, "the judge", "evaluate.judge")
    with ThreadPoolExecutor(judge.parallel, thread_name_prefix="judge") as pool:
        marks = list(pool.map(lambda prompt: _mark(endpoint, prompt), prompts))
    return mean_score(marks, signature=f"judge:{judge.model}|scale:1-10", digits=2)


def _mark(endpoint: Endpoint, prompt: str) -> float:
    question = [{"role": "user", "content": prompt}]
    text = ""
    for temperature in _TEMPERATURES:
        text = endpoint.ask(question, temperature=temperature, max_tokens=16).text
        if found := _MARK.search(text):
            return float(found[0])
    raise ChatGPTError(
        f"the judge gave no mark from 1 to 10 but {text[:80]!r}",
        place=endpoint.address,
        remedy="Use a model that follows instructions, or change evaluate.judge.instruction.",
    )
