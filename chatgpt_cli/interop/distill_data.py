"""Rows for finetuning that a larger model writes: sequence-level distillation.

Kim & Rush (2016). Rows are appended as answers come, so that a run that was stopped
goes on where it was and asks nothing twice.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from chatgpt_cli.config.schema import DistillDataSection
from chatgpt_cli.data.problems import Problem
from chatgpt_cli.data.records import read_rows as read_records
from chatgpt_cli.data.records import whole_text
from chatgpt_cli.data.sources import ROW_SUFFIXES, find_files
from chatgpt_cli.errors import ConfigError, DataError
from chatgpt_cli.interop.endpoint import Endpoint, EndpointError, Reply

Turn = dict[str, str]


@dataclass
class Spent:
    """What a run asked for: rows written now, found from before, failed; tokens and money."""

    written: int = 0
    known: int = 0
    failed: int = 0
    cut: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    # In the currency of the configured prices; None if there are none.
    cost: float | None = None
    problem: str | None = None


def distill_data(
    section: DistillDataSection, *, on_progress: Callable[[int, int], None], endpoint: Endpoint
) -> Spent:
    """Ask for an answer to every prompt and append what comes to `section.to`.

    A row is {"messages", "model", "usage", "prompt_sha256"}. Answers that were cut off
    at max_tokens are counted and not written: a model that learns from answers without
    an end does not stop.

    Args:
        section: what to ask, whom, and where to write.
        on_progress: told how many prompts are done, of how many.
        endpoint: the model that answers.

    Raises:
        ConfigError: if no prompts are named.
        DataError: prompts or earlier rows that cannot be used.
        EndpointError: if the endpoint fails ten times with no answer between.
    """
    if not section.prompts or section.to is None:
        raise ConfigError(
            "distill_data.prompts and distill_data.to say what is asked and where the rows go",
            remedy="Set both, or give --prompts FILE and --to FILE.",
        )
    asked = {_hash(section, turns): turns for turns in _prompts(section)}
    done = _known(section.to) & asked.keys()
    spent = Spent(known=len(done))
    waiting = [(key, turns) for key, turns in asked.items() if key not in done]
    section.to.parent.mkdir(parents=True, exist_ok=True)
    with section.to.open("a", encoding="utf-8") as stream:
        _ask_all(section, endpoint, waiting, stream, spent, len(asked), on_progress)
    if section.price_prompt or section.price_completion:
        spent.cost = (
            spent.prompt_tokens * section.price_prompt
            + spent.completion_tokens * section.price_completion
        ) / 1e6
    return spent


# So many failures one after another are no accident.
_FAILURES = 10


def _ask_all(
    section: DistillDataSection,
    endpoint: Endpoint,
    waiting: list[tuple[str, list[Turn]]],
    stream: IO[str],
    spent: Spent,
    total: int,
    on_progress: Callable[[int, int], None],
) -> None:
    options = {"temperature": section.temperature, "max_tokens": section.max_tokens}
    pending: dict[Future[Reply], tuple[str, list[Turn]]] = {}
    following = iter(waiting)
    in_a_row = 0
    with ThreadPoolExecutor(section.parallel, thread_name_prefix="distill") as pool:
        try:
            while True:
                # No more in the queue than are asked at once, so that a stop loses little.
                while len(pending) < section.parallel and (one := next(following, None)):
                    pending[pool.submit(endpoint.ask, one[1], **options)] = one
                if not pending:
                    return
                for future in wait(pending, return_when=FIRST_COMPLETED).done:
                    key, turns = pending.pop(future)
                    try:
                        _take(section, key, turns, future.result(), stream, spent)
                        in_a_row = 0
                    except EndpointError as error:
                        in_a_row += 1
                        spent.failed += 1
                        spent.problem = error.fact
                        if in_a_row >= min(_FAILURES, total):
                            raise
                    on_progress(spent.written + spent.known + spent.failed + spent.cut, total)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            # What was paid for is kept.
            for future, (key, turns) in pending.items():
                if future.done() and not future.cancelled() and future.exception() is None:
                    _take(section, key, turns, future.result(), stream, spent)


def _take(
    section: DistillDataSection,
    key: str,
    turns: list[Turn],
    reply: Reply,
    stream: IO[str],
    spent: Spent,
) -> None:
    """Write a row, all of it on the disk before the next."""
    spent.prompt_tokens += reply.prompt_tokens
    spent.completion_tokens += reply.completion_tokens
    if reply.finish_reason in ("length", "content_filter") or not reply.text.strip():
        spent.cut += 1
        return
    kept = turns if section.keep_system else [one for one in turns if one["role"] != "system"]
    row = {
        "messages": [*kept, {"role": "assistant", "content": reply.text.strip()}],
        "model": section.model,
        "usage": {
            "prompt_tokens": reply.prompt_tokens,
            "completion_tokens": reply.completion_tokens,
        },
        "prompt_sha256": key,
    }
    stream.write(json.dumps(row, ensure_ascii=False) + "\n")
    stream.flush()
    os.fsync(stream.fileno())
    spent.written += 1


def _known(path: Path) -> set[str]:
    """The prompts whose answers are there; a line that a stop cut short is taken away.

    Raises:
        DataError: if the file holds something else.
    """
    if not path.is_file():
        return set()
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        with path.open("r+b") as stream:
            stream.truncate(len(whole))
    found = set()
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            found.add(str(json.loads(line)["prompt_sha256"]))
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                "this row was not written by `chatgpt distill-data`",
                place=f"{path}:{number}",
                remedy="Choose another file with --to; rows are only ever added to one of its own.",
            ) from error
    return found


def _prompts(section: DistillDataSection) -> Iterator[list[Turn]]:
    """What is asked: a line of a .txt file each, or rows with a prompt or messages.

    Raises:
        DataError: for a file that cannot be read, or a row that asks nothing.
    """
    system = [] if section.system_prompt is None else [_turn("system", section.system_prompt)]
    for pattern in section.prompts:
        for file in find_files(pattern, (*ROW_SUFFIXES, ".txt")):
            if file.kind == ".txt":
                text = whole_text(file)
                if isinstance(text, Problem):
                    raise DataError(text.reason, place=text.place)
                for line in text.split("\n"):
                    if line.strip():
                        yield [*system, _turn("user", line.strip())]
                continue
            for record in read_records(file):
                if isinstance(record, Problem):
                    raise DataError(record.reason, place=record.place)
                yield _of_row(record.fields, record.place, system)


def _turn(role: str, content: str) -> Turn:
    return {"role": role, "content": content}


def _of_row(fields: dict[str, Any], place: str, system: list[Turn]) -> list[Turn]:
    """A row's question without its answer."""
    messages = fields.get("messages", fields.get("prompt"))
    if isinstance(messages, list) and all(isinstance(one, dict) for one in messages):
        turns = [_turn(str(one.get("role")), str(one.get("content"))) for one in messages]
        while turns and turns[-1]["role"] == "assistant":
            turns.pop()
        if turns:
            own = turns[0]["role"] == "system"
            return turns if own else [*system, *turns]
    for name in ("prompt", "question", "instruction", "text"):
        if isinstance(fields.get(name), str) and fields[name].strip():
            more = fields.get("input") if name == "instruction" else None
            text = f"{fields[name]}\n{more}" if isinstance(more, str) and more else fields[name]
            return [*system, _turn("user", text.strip())]
    raise DataError(
        f"the row asks nothing (it has {', '.join(fields) or 'no fields'})",
        place=place,
        remedy="Use rows with prompt, question, instruction or messages, or a .txt file with a "
        "prompt in each line.",
    )


def _hash(section: DistillDataSection, turns: list[Turn]) -> str:
    """The same for the same question to the same model."""
    content = json.dumps([section.model, turns], ensure_ascii=False)
    return hashlib.sha256(content.encode("utf-8", errors="surrogatepass")).hexdigest()[:16]
