"""The HTTP interface: routes, limits and the page."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from chatgpt_cli import __version__
from chatgpt_cli.config.schema import ServeSection
from chatgpt_cli.serving.answers import Answers
from chatgpt_cli.serving.errors import ApiError
from chatgpt_cli.serving.limits import RateLimiter, check_key
from chatgpt_cli.serving.metrics import Metrics
from chatgpt_cli.serving.openapi import openapi
from chatgpt_cli.serving.requests import ChatRequest, CompletionRequest, parse
from chatgpt_cli.serving.service import Service

_Handler = Callable[[Request], Awaitable[Response]]
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def build_app(service: Service, settings: ServeSection) -> Starlette:
    """The application for uvicorn.

    Args:
        service: the model and what it is called.
        settings: limits, keys and allowed origins.
    """
    metrics = Metrics()
    limiter = RateLimiter(settings.requests_per_minute)
    answers = Answers(service, metrics)
    created = int(time.time())

    def guarded(handler: _Handler) -> _Handler:
        """A handler behind key and rate limit, whose errors are OpenAI's."""

        async def handle(request: Request) -> Response:
            started = time.perf_counter()
            path = request.scope["route"].path
            try:
                key = check_key(settings.api_keys, request.headers.get("authorization"))
                if request.method == "POST":
                    host = request.client.host if request.client else "unknown"
                    limiter.take(key or host)
                response = await handler(request)
            except ApiError as error:
                response = error.response()
            except Exception:
                # Answered by `_server_error`, outside of this.
                metrics.requests[path, 500] += 1
                raise
            metrics.requests[path, response.status_code] += 1
            if request.method == "POST" and response.media_type == "application/json":
                metrics.whole.observe(time.perf_counter() - started)
            return response

        return handle

    async def chat(request: Request) -> Response:
        content = parse(ChatRequest, await _body(request, settings.max_body_kb))
        return await answers.chat(request, content)

    async def completions(request: Request) -> Response:
        content = parse(CompletionRequest, await _body(request, settings.max_body_kb))
        return await answers.completions(request, content)

    def model_object() -> dict[str, Any]:
        return {
            "id": service.name,
            "object": "model",
            "created": created,
            "owned_by": "chatgpt",
            "context_length": service.context,
        }

    async def models(_: Request) -> Response:
        return JSONResponse({"object": "list", "data": [model_object()]})

    async def model(request: Request) -> Response:
        service.check_name(request.path_params["name"])
        return JSONResponse(model_object())

    async def settings_of_page(_: Request) -> Response:
        return JSONResponse(service.page_settings())

    async def numbers(_: Request) -> Response:
        worker = service.worker
        text = metrics.text(
            writing=worker.writing,
            waiting=max(0, worker.outstanding - worker.writing),
            called_off=worker.called_off,
        )
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok", "model": service.name, "version": __version__})

    async def document(_: Request) -> Response:
        return JSONResponse(openapi(service.name))

    page, policy = _page()

    async def index(_: Request) -> Response:
        return HTMLResponse(
            page,
            headers={
                "Content-Security-Policy": policy,
                "X-Content-Type-Options": "nosniff",
                "Referrer-Policy": "no-referrer",
                "Cache-Control": "no-cache",
            },
        )

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        service.worker.start()
        yield
        await asyncio.to_thread(service.worker.stop)

    app = Starlette(
        routes=[
            Route("/", index),
            Route("/v1/models", guarded(models)),
            Route("/v1/models/{name:path}", guarded(model)),
            Route("/v1/chat/completions", guarded(chat), methods=["POST"]),
            Route("/v1/completions", guarded(completions), methods=["POST"]),
            Route("/page-settings", guarded(settings_of_page)),
            Route("/metrics", guarded(numbers)),
            Route("/health", health),
            Route("/openapi.json", document),
        ],
        exception_handlers={HTTPException: _http_error, 500: _server_error},
        lifespan=lifespan,
    )
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
        )
    if settings.host in _LOOPBACK:
        app.add_middleware(LocalHostOnly)
    return app


class LocalHostOnly:
    """Answers only who asked for this machine by a name of its own.

    A web page elsewhere can make its own host name point here (DNS rebinding); the
    Host header gives it away.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http":
            host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
            name = re.sub(r":\d*$", "", host).strip("[]").lower()
            if name not in _LOOPBACK:
                error = ApiError(
                    421, f"this server is for this machine only, not for the host {name!r}"
                )
                await error.response()(scope, receive, send)
                return
        await self._app(scope, receive, send)


async def _body(request: Request, max_kb: int) -> bytes:
    """The whole body.

    Raises:
        ApiError: if it is too long, or not said to be JSON: that is what keeps pages of
            other origins from posting here without the browser's asking first.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError(415, "the Content-Type must be application/json")
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > max_kb * 1000:
            raise ApiError(413, f"the body is longer than {max_kb} kB")
        parts.append(part)
    return b"".join(parts)


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = ApiError(error.status_code, error.detail).response()
    response.headers.update(error.headers or {})
    return response


async def _server_error(_: Request, __: Exception) -> Response:
    return ApiError(500, "the server failed; see its log").response()


def _page() -> tuple[str, str]:
    """The chat page, and a policy that lets nothing run but its own script and style."""
    html = (files("chatgpt_cli.serving") / "page.html").read_text(encoding="utf-8")
    sources = {}
    for tag in ("script", "style"):
        found = re.findall(f"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        hashes = [
            base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in found
        ]
        sources[tag] = " ".join(f"'sha256-{value}'" for value in hashes)
    policy = (
        f"default-src 'none'; script-src {sources['script']}; style-src {sources['style']}; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    return html, policy
