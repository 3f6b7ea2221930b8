"""Asking another model through any OpenAI-compatible endpoint."""

from __future__ import annotations

import http.client
import json
import os
import random
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from chatgpt_cli.config.schema import EndpointSection
from chatgpt_cli.errors import ChatGPTError

# Answers that may be different the next time: too many requests, and faults of the server.
_PASSING = {408, 409, 425, 429, 500, 502, 503, 504, 529}
# Seconds before the first repetition, doubled each time, and at most.
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0


class EndpointError(ChatGPTError):
    """The endpoint refuses, cannot be reached, or replies something else."""


@dataclass(frozen=True)
class Reply:
    """What a model answered, and the tokens that were counted for it (0 if it does not say)."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class Endpoint:
    """A model behind an address; may be asked from several threads.

    `who` and `setting` name it in errors: "the judge", "evaluate.judge".
    """

    section: EndpointSection
    who: str
    setting: str
    pause: Callable[[float], None] = time.sleep

    @property
    def address(self) -> str:
        """Where questions go."""
        return self.section.url.rstrip("/") + "/chat/completions"

    def ask(self, messages: Sequence[dict[str, str]], **options: Any) -> Reply:
        """One answer; what may pass is tried again `retries` times.

        Args:
            messages: {"role", "content"} each.
            options: further keys of the request, such as max_tokens.

        Raises:
            EndpointError: if there is none.
        """
        body = {"model": self.section.model, "messages": list(messages), **options}
        for attempt in range(self.section.retries + 1):
            try:
                return self._once(body)
            except _PassingError as error:
                if attempt == self.section.retries:
                    raise error.lasting from error
                self.pause(error.wait if error.wait is not None else _pause(attempt))
        raise AssertionError("unreachable")

    def _once(self, body: dict[str, Any]) -> Reply:
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(self.section.api_key_env):
            headers["Authorization"] = f"Bearer {key}"
        try:
            request = urllib.request.Request(self.address, json.dumps(body).encode(), headers)
        except ValueError as error:
            raise EndpointError(
                f"{self.address} is no address",
                remedy=f"{self.setting}.url is the address up to /v1, as in "
                "http://localhost:8000/v1.",
            ) from error
        try:
            with urllib.request.urlopen(request, timeout=self.section.timeout) as response:
                return _reply(json.load(response))
        except urllib.error.HTTPError as error:
            # It holds the connection.
            error.close()
            lasting = EndpointError(
                f"{self.who} answers {error.code} ({error.reason})",
                place=self.address,
                remedy=f"Check {self.setting}.model and the key in ${self.section.api_key_env}.",
            )
            if error.code in _PASSING:
                raise _PassingError(lasting, _asked_to_wait(error)) from error
            raise lasting from error
        except (OSError, http.client.HTTPException) as error:
            lasting = EndpointError(
                f"{self.who} cannot be reached ({error})",
                place=self.address,
                remedy=f"{self.setting}.url is the address up to /v1, as in "
                "http://localhost:8000/v1.",
            )
            reason = getattr(error, "reason", error)
            if isinstance(reason, ConnectionRefusedError | socket.gaierror):
                raise lasting from error
            raise _PassingError(lasting, None) from error
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise EndpointError(
                f"{self.who}'s reply is no chat completion", place=self.address
            ) from error


class _PassingError(Exception):
    """A fault that may pass: what it is if it does not, and the seconds asked to wait."""

    def __init__(self, lasting: EndpointError, wait: float | None) -> None:
        super().__init__(str(lasting))
        self.lasting = lasting
        self.wait = wait


def _reply(content: Any) -> Reply:
    choice = content["choices"][0]
    usage = content.get("usage") or {}
    return Reply(
        text=str(choice["message"]["content"] or ""),
        finish_reason=str(choice.get("finish_reason") or "stop"),
        prompt_tokens=int(usage.get("prompt_tokens") or 0),
        completion_tokens=int(usage.get("completion_tokens") or 0),
    )


def _asked_to_wait(error: urllib.error.HTTPError) -> float | None:
    try:
        return min(max(0.0, float(error.headers["Retry-After"])), _LONGEST_PAUSE)
    except (KeyError, TypeError, ValueError):
        return None


def _pause(attempt: int) -> float:
    """Seconds before the next attempt; chance keeps parallel askers apart."""
    return min(_FIRST_PAUSE * 2.0**attempt, _LONGEST_PAUSE) * (0.5 + random.random() / 2)
