"""The model that is served, and how a request becomes texts to write."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from chatgpt_cli.config.schema import GenerateSection
from chatgpt_cli.errors import ConfigError
from chatgpt_cli.generation.constraint import Constraint, ConstraintMaker
from chatgpt_cli.generation.conversation import STOP_IDS
from chatgpt_cli.generation.engine import Engine
from chatgpt_cli.generation.sampling import Sampling
from chatgpt_cli.serving.errors import ApiError
from chatgpt_cli.serving.requests import ChatRequest, CompletionRequest, SamplingFields
from chatgpt_cli.serving.worker import EngineWorker, Job, QueueFullError, TextRequest
from chatgpt_cli.tokenizer.chat import Message, render
from chatgpt_cli.tokenizer.special import BOS


class Service:
    """One model under one name.

    Attributes:
        name: what clients call it.
        worker: where it computes.
        context: tokens of prompt and answer together.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        name: str,
        defaults: GenerateSection,
        system_prompt: str | None,
        max_queue: int,
    ) -> None:
        self.name = name
        self.worker = EngineWorker(engine, max_queue=max_queue)
        self.tokenizer = engine.tokenizer
        self.context = engine.model.config.context_length
        self._vocab_size = engine.model.config.vocab_size
        self._defaults = defaults
        self._system_prompt = system_prompt
        self._maker: ConstraintMaker | None = None

    def page_settings(self) -> dict[str, Any]:
        """What the chat page begins with."""
        defaults = self._defaults
        return {
            "model": self.name,
            "context_length": self.context,
            "temperature": defaults.temperature,
            "top_p": defaults.top_p,
            "top_k": defaults.top_k,
            "repetition_penalty": defaults.repetition_penalty,
            "max_tokens": min(defaults.max_tokens, self.context),
            "system_prompt": self._system_prompt or "",
        }

    def check_name(self, name: str | None) -> None:
        """Raises ApiError 404 for another model than this one."""
        if name not in (None, self.name):
            raise ApiError(
                404,
                f"the model {name!r} does not exist; this server has {self.name!r}",
                code="model_not_found",
                param="model",
            )

    async def submit_chat(self, request: ChatRequest) -> Job:
        """Line up the answers to a conversation. Raises ApiError."""
        messages = [message.to_message() for message in request.messages]
        if self._system_prompt and messages[0].role != "system":
            messages = [Message("system", self._system_prompt), *messages]
        prompt = render(messages, self.tokenizer, add_generation_prompt=True).ids
        top = (request.top_logprobs or 0) if request.logprobs else 0
        max_tokens = request.max_completion_tokens or request.max_tokens
        return await self._submit([prompt], request, max_tokens, top, self._form(request))

    async def submit_completion(self, request: CompletionRequest) -> Job:
        """Line up the continuations of texts. Raises ApiError."""
        prompts = []
        for prompt in request.prompts():
            if isinstance(prompt, str):
                prompts.append([BOS, *self.tokenizer.encode(prompt)])
            elif all(0 <= token < self._vocab_size for token in prompt):
                prompts.append(list(prompt))
            else:
                raise ApiError(
                    400, f"token ids go from 0 to {self._vocab_size - 1}", param="prompt"
                )
        top = request.logprobs or 0
        form = self._form(request)
        return await self._submit(prompts, request, request.max_tokens, top, form)

    async def _submit(
        self,
        prompts: Sequence[list[int]],
        request: SamplingFields,
        max_tokens: int | None,
        top_logprobs: int,
        form: Callable[[], Constraint] | None,
    ) -> Job:
        self.check_name(request.model)
        sampling = Sampling.from_section(
            self._defaults,
            max_tokens=max_tokens,
            temperature=request.temperature,
            top_p=request.top_p,
            top_k=request.top_k,
            min_p=request.min_p,
            repetition_penalty=request.repetition_penalty,
            stop=request.stops or None,
            seed=None if request.seed is None else request.seed % 2**63,
        )
        texts = []
        for prompt in prompts:
            room = self.context - len(prompt)
            if room < 1:
                raise ApiError(
                    400,
                    f"the prompt has {len(prompt)} tokens; this model's context of "
                    f"{self.context} leaves no room for an answer",
                    code="context_length_exceeded",
                    param="messages" if isinstance(request, ChatRequest) else "prompt",
                )
            for number in range(request.n or 1):
                seed = None if sampling.seed is None else (sampling.seed + number) % 2**63
                own = replace(sampling, max_tokens=min(sampling.max_tokens, room), seed=seed)
                constraint = None if form is None else await self._constrain(form)
                texts.append(TextRequest(prompt, own, STOP_IDS, top_logprobs, constraint))
        try:
            return self.worker.submit(texts)
        except QueueFullError:
            raise ApiError(
                429, "too many requests are waiting; try again in a second",
                code="queue_full", retry_after=1,
            ) from None  # fmt: skip

    async def _constrain(self, form: Callable[[], Constraint]) -> Constraint:
        """A large schema takes a while: others are served meanwhile."""
        try:
            return await asyncio.to_thread(form)
        except ConfigError as error:
            raise ApiError(400, error.fact, param="response_format") from None

    def _form(self, request: SamplingFields) -> Callable[[], Constraint] | None:
        """Makes what the text must look like, if the request says so."""
        wanted = getattr(request, "response_format", None)
        schema: dict[str, Any] | None = None
        if wanted is not None and wanted.type == "json_object":
            schema = {"type": "object"}
        elif wanted is not None and wanted.type == "json_schema":
            if wanted.json_schema is None:
                raise ApiError(400, "json_schema is missing", param="response_format")
            schema = wanted.json_schema.json_schema
        asked = [schema is not None, request.guided_choice is not None, bool(request.guided_regex)]
        if sum(asked) > 1:
            raise ApiError(400, "only one form can be asked for", param="response_format")
        if schema is not None:
            return lambda: self._constraints().json_schema(schema)
        if request.guided_choice is not None:
            choices = request.guided_choice
            return lambda: self._constraints().choices(choices)
        if request.guided_regex:
            pattern = request.guided_regex
            return lambda: self._constraints().regex(pattern)
        return None

    def _constraints(self) -> ConstraintMaker:
        if self._maker is None:
            self._maker = ConstraintMaker(self.tokenizer)
        return self._maker
