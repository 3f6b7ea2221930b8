"""What clients send, checked: OpenAI's fields, and a few that other servers have too."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from chatgpt_cli.serving.errors import ApiError
from chatgpt_cli.tokenizer.chat import Message, Role


class _Request(BaseModel):
    """Unknown fields are ignored, as clients send many that only concern OpenAI."""

    model_config = ConfigDict(extra="ignore")


class TextPart(_Request):
    """A part of a message. Others than text are refused."""

    type: Literal["text"]
    text: str


class ChatMessage(_Request):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] | None = None

    def to_message(self) -> Message:
        """As the chat template takes it."""
        text = self.content
        if not isinstance(text, str):
            text = "".join(part.text for part in text or [])
        role: Role = "system" if self.role == "developer" else self.role
        return Message(role, text)


class StreamOptions(_Request):
    """What a stream ends with."""

    include_usage: bool | None = False


class JsonSchemaFormat(_Request):
    """A schema and its name."""

    name: str = "answer"
    json_schema: dict[str, Any] = Field(default_factory=dict, alias="schema")
    strict: bool | None = None


class ResponseFormat(_Request):
    """The form that an answer must have."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaFormat | None = None


class SamplingFields(_Request):
    """What both kinds of request have. What is left out is as the server was configured."""

    model: str | None = None
    n: Annotated[int, Field(ge=1, le=16)] | None = 1
    temperature: Annotated[float, Field(ge=0, le=10)] | None = None
    top_p: Annotated[float, Field(ge=1e-4, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(ge=1e-4, le=100)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: str | Annotated[list[str], Field(max_length=16)] | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    user: str | None = None
    # The form of the text, under the names that vLLM uses.
    guided_choice: Annotated[list[str], Field(max_length=1000)] | None = None
    guided_regex: Annotated[str, Field(max_length=10_000)] | None = None
    # Refused unless they ask for nothing.
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return tuple(text for text in stop if text)

    def refuse_unsupported(self) -> None:
        """Raises ApiError for what would silently be ignored otherwise."""
        for name in ("presence_penalty", "frequency_penalty", "logit_bias"):
            if getattr(self, name):
                raise ApiError(
                    400, f"{name} is not supported; leave it out",
                    code="unsupported_parameter", param=name,
                )  # fmt: skip


class ChatRequest(SamplingFields):
    """POST /v1/chat/completions"""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = False
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    tools: list[Any] | None = None

    def refuse_unsupported(self) -> None:
        """Also what only chats can ask for."""
        super().refuse_unsupported()
        if self.tools:
            raise ApiError(
                400, "tools are not supported", code="unsupported_parameter", param="tools"
            )


class CompletionRequest(SamplingFields):
    """POST /v1/completions"""

    prompt: str | list[str] | list[int] | list[list[int]]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    echo: bool | None = False
    suffix: str | None = None
    best_of: int | None = None

    def refuse_unsupported(self) -> None:
        """Also what only completions can ask for."""
        super().refuse_unsupported()
        for name in ("echo", "suffix"):
            if getattr(self, name):
                raise ApiError(
                    400, f"{name} is not supported", code="unsupported_parameter", param=name
                )
        if self.best_of not in (None, self.n):
            raise ApiError(
                400, "best_of is not supported", code="unsupported_parameter", param="best_of"
            )

    def prompts(self) -> Sequence[str | list[int]]:
        """One text or token list for each prompt."""
        prompt: Any = self.prompt
        if isinstance(prompt, str) or (prompt and isinstance(prompt[0], int)):
            return [prompt]
        if not prompt or [] in prompt:
            raise ApiError(400, "the prompt is empty", param="prompt")
        return list(prompt)


_Kind = TypeVar("_Kind", bound=SamplingFields)


def parse(kind: type[_Kind], body: bytes) -> _Kind:
    """A checked request.

    Raises:
        ApiError: 400, naming the field.
    """
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"the body is not valid JSON ({error})") from None
    if not isinstance(content, dict):
        raise ApiError(400, "the body must be a JSON object")
    try:
        request = kind.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ApiError(400, f"{place}: {first['msg']}", param=place) from None
    request.refuse_unsupported()
    return request
