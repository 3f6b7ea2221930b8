"""Marks from another model, asked through any OpenAI-compatible endpoint."""

from __future__ import annotations

import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from chatgpt_cli.config.schema import JudgeSection
from chatgpt_cli.errors import ChatGPTError
from chatgpt_cli.evaluation.metrics.score import Score, mean_score

_MARK = re.compile(r"(?<![\d.])(?:10(?:\.0+)?|[1-9](?:\.\d+)?)(?![\d.]*\d)")
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
    *,
    on_progress: Callable[[int], None] | None = None,
) -> Score:
    """The mean mark, 1 to 10, and each answer's own.

    Raises:
        ChatGPTError: if the endpoint cannot be reached, refuses, or gives no mark.
    """
    prompts = [
        _FORM.format(
            instruction=judge.instruction, question=question, reference=accepted[0], answer=answer
        )
        for question, answer, accepted in zip(questions, answers, references, strict=True)
    ]
    marks: list[float] = []
    with ThreadPoolExecutor(judge.parallel, thread_name_prefix="judge") as pool:
        for mark in pool.map(lambda prompt: _ask(judge, prompt), prompts):
            marks.append(mark)
            if on_progress is not None:
                on_progress(len(marks))
    return mean_score(marks, signature=f"judge:{judge.model}|scale:1-10", digits=2)


def _ask(judge: JudgeSection, prompt: str) -> float:
    body = {
        "model": judge.model,
        "messages": [{"role": "user", "content": prompt}],
        "temperature": 0,
        "max_tokens": 16,
    }
    headers = {"Content-Type": "application/json"}
    if key := os.environ.get(judge.api_key_env):
        headers["Authorization"] = f"Bearer {key}"
    address = judge.url.rstrip("/") + "/chat/completions"
    request = urllib.request.Request(address, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=judge.timeout) as response:
            reply = json.load(response)
        text = str(reply["choices"][0]["message"]["content"])
    except urllib.error.HTTPError as error:
        raise ChatGPTError(
            f"the judge answers {error.code} {error.reason}",
            place=address,
            remedy=f"Check evaluate.judge.model and the key in ${judge.api_key_env}.",
        ) from error
    except OSError as error:
        raise ChatGPTError(
            f"the judge cannot be reached ({error})",
            place=address,
            remedy="evaluate.judge.url is the address up to /v1, as in http://localhost:8000/v1.",
        ) from error
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise ChatGPTError("the judge's reply is no chat completion", place=address) from error
    found = _MARK.search(text)
    if found is None:
        raise ChatGPTError(
            f"the judge gave no mark from 1 to 10 but {text[:80]!r}",
            place=address,
            remedy="Use a model that follows instructions, or change evaluate.judge.instruction.",
        )
    return float(found[0])
