"""What the model writes, in OpenAI's words: whole, or piece by piece as events."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from chatgpt_cli.generation.engine import TokenChoice
from chatgpt_cli.serving.errors import ApiError
from chatgpt_cli.serving.metrics import Metrics
from chatgpt_cli.serving.requests import ChatRequest, CompletionRequest
from chatgpt_cli.serving.service import Service
from chatgpt_cli.serving.worker import Event, Job


@dataclass
class _Usage:
    """Tokens counted while events pass."""

    prompt: dict[int, int] = field(default_factory=dict)
    cached: int = 0
    completion: int = 0

    def note(self, event: Event, prompt: int) -> None:
        """Count an event; texts of one prompt share its tokens."""
        if event.choice is not None:
            self.completion += 1
        if event.finish_reason is not None and prompt not in self.prompt:
            self.prompt[prompt] = event.prompt_tokens
            self.cached += event.cached_tokens

    def body(self) -> dict[str, Any]:
        """The `usage` object."""
        prompt = sum(self.prompt.values())
        return {
            "prompt_tokens": prompt,
            "completion_tokens": self.completion,
            "total_tokens": prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": self.cached},
        }


class Answers:
    """Responses to the two kinds of request."""

    def __init__(self, service: Service, metrics: Metrics) -> None:
        self._service = service
        self._metrics = metrics

    async def chat(self, request: Request, content: ChatRequest) -> Response:
        """/v1/chat/completions. Raises ApiError."""
        job = await self._service.submit_chat(content)
        return await self._answer(request, content, job, _ChatWords(self._service, content))

    async def completions(self, request: Request, content: CompletionRequest) -> Response:
        """/v1/completions. Raises ApiError."""
        job = await self._service.submit_completion(content)
        return await self._answer(request, content, job, _TextWords(self._service, content))

    async def _answer(
        self,
        request: Request,
        content: ChatRequest | CompletionRequest,
        job: Job,
        words: _Words,
    ) -> Response:
        usage = _Usage()
        events = self._counted(job, usage, content.n or 1)
        if content.stream:
            wanted = content.stream_options and content.stream_options.include_usage
            body = _stream(events, words, usage if wanted else None)
            return StreamingResponse(
                body, media_type="text/event-stream", headers={"Cache-Control": "no-cache"}
            )
        texts = [_Text() for _ in job.requests]
        await _unless_gone(request, _collect(events, texts))
        choices = [words.choice(index, text) for index, text in enumerate(texts)]
        return JSONResponse(words.head() | {"choices": choices, "usage": usage.body()})

    async def _counted(self, job: Job, usage: _Usage, n: int) -> AsyncIterator[Event]:
        """A job's events, counted on their way."""
        started = time.perf_counter()
        first = True
        events = job.events()
        try:
            async for event in events:
                if event.error is not None:
                    raise ApiError(500, event.error)
                if first:
                    self._metrics.first_token.observe(time.perf_counter() - started)
                    first = False
                usage.note(event, event.index // n)
                yield event
        finally:
            # Not left to the garbage collector: what nobody reads must stop costing now.
            await events.aclose()  # type: ignore[attr-defined]
            self._metrics.prompt_tokens += sum(usage.prompt.values())
            self._metrics.cached_tokens += usage.cached
            self._metrics.completion_tokens += usage.completion


@dataclass
class _Text:
    """One text as it is put together."""

    text: str = ""
    finish_reason: str | None = None
    drawn: list[TokenChoice] = field(default_factory=list)


class _Words:
    """How a response is put."""

    kind = ""
    chunk_kind = ""

    def __init__(self, service: Service, prefix: str) -> None:
        self._service = service
        self._id = f"{prefix}-{secrets.token_hex(12)}"
        self._created = int(time.time())

    def head(self, *, chunk: bool = False) -> dict[str, Any]:
        """The fields that all parts of a response have."""
        return {
            "id": self._id,
            "object": self.chunk_kind if chunk else self.kind,
            "created": self._created,
            "model": self._service.name,
        }

    def first(self, _index: int) -> dict[str, Any] | None:
        """What a streamed text begins with."""
        return None

    def choice(self, index: int, text: _Text) -> dict[str, Any]:
        """A whole text."""
        raise NotImplementedError

    def delta(self, event: Event) -> dict[str, Any]:
        """What one token brought."""
        raise NotImplementedError

    def _token(self, choice_id: int) -> str:
        return self._service.tokenizer.decode([choice_id], skip_special=False)


class _ChatWords(_Words):
    kind = "chat.completion"
    chunk_kind = "chat.completion.chunk"

    def __init__(self, service: Service, request: ChatRequest) -> None:
        super().__init__(service, "chatcmpl")
        self._logprobs = bool(request.logprobs)

    def first(self, index: int) -> dict[str, Any]:
        delta = {"role": "assistant", "content": ""}
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}

    def choice(self, index: int, text: _Text) -> dict[str, Any]:
        return {
            "index": index,
            "message": {"role": "assistant", "content": text.text, "refusal": None},
            "logprobs": self._log(text.drawn),
            "finish_reason": text.finish_reason,
        }

    def delta(self, event: Event) -> dict[str, Any]:
        return {
            "index": event.index,
            "delta": {"content": event.text} if event.text else {},
            "logprobs": self._log([event.choice] if event.choice else []),
            "finish_reason": event.finish_reason,
        }

    def _log(self, drawn: list[TokenChoice]) -> dict[str, Any] | None:
        if not self._logprobs:
            return None
        content = []
        for choice in drawn:
            top = [self._entry(*pair) for pair in choice.top]
            content.append(self._entry(choice.id, choice.logprob) | {"top_logprobs": top})
        return {"content": content, "refusal": None}

    def _entry(self, token: int, logprob: float) -> dict[str, Any]:
        raw = self._service.tokenizer.bytes_of(token)
        # JSON has no infinity: a forbidden token is as good as impossible.
        return {"token": self._token(token), "logprob": max(logprob, -9999.0), "bytes": list(raw)}


class _TextWords(_Words):
    kind = "text_completion"
    chunk_kind = "text_completion"

    def __init__(self, service: Service, request: CompletionRequest) -> None:
        super().__init__(service, "cmpl")
        self._logprobs = request.logprobs is not None
        self._offsets: dict[int, int] = {}

    def choice(self, index: int, text: _Text) -> dict[str, Any]:
        return {
            "index": index,
            "text": text.text,
            "logprobs": self._log(index, text.drawn),
            "finish_reason": text.finish_reason,
        }

    def delta(self, event: Event) -> dict[str, Any]:
        return {
            "index": event.index,
            "text": event.text,
            "logprobs": self._log(event.index, [event.choice] if event.choice else []),
            "finish_reason": event.finish_reason,
        }

    def _log(self, index: int, drawn: list[TokenChoice]) -> dict[str, Any] | None:
        if not self._logprobs:
            return None
        tokens = [self._token(choice.id) for choice in drawn]
        offsets = []
        for token in tokens:
            offsets.append(self._offsets.get(index, 0))
            self._offsets[index] = offsets[-1] + len(token)
        return {
            "tokens": tokens,
            "token_logprobs": [max(choice.logprob, -9999.0) for choice in drawn],
            "top_logprobs": [
                {self._token(token): max(value, -9999.0) for token, value in choice.top}
                for choice in drawn
            ],
            "text_offset": offsets,
        }


async def _collect(events: AsyncIterator[Event], texts: list[_Text]) -> None:
    """Put the texts together."""
    async for event in events:
        text = texts[event.index]
        text.text += event.text
        text.finish_reason = event.finish_reason
        if event.choice is not None:
            text.drawn.append(event.choice)


async def _unless_gone(request: Request, work: Any) -> None:
    """Await the work, but call it off when the client hangs up.

    Raises:
        ApiError: 499, which nobody reads.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_hang_up(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ApiError(499, "the client has gone")
        await task
    finally:
        for one in (task, gone):
            one.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _hang_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _stream(
    events: AsyncIterator[Event], words: _Words, usage: _Usage | None
) -> AsyncIterator[bytes]:
    """Server-sent events, each a chunk, until [DONE]."""
    head = words.head(chunk=True)
    begun: set[int] = set()
    with_usage: dict[str, Any] = {} if usage is None else {"usage": None}
    try:
        async for event in events:
            if event.index not in begun:
                begun.add(event.index)
                first = words.first(event.index)
                if first is not None:
                    yield _event(head | {"choices": [first]} | with_usage)
            delta = words.delta(event)
            if event.text or event.finish_reason or delta["logprobs"]:
                yield _event(head | {"choices": [delta]} | with_usage)
        if usage is not None:
            yield _event(head | {"choices": [], "usage": usage.body()})
        yield b"data: [DONE]\n\n"
    except ApiError as error:
        yield _event(error.body())
    finally:
        await events.aclose()  # type: ignore[attr-defined]


def _event(content: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(content, ensure_ascii=False).encode() + b"\n\n"
