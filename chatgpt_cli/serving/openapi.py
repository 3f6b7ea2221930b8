"""The interface described for programs: OpenAPI 3.1."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import models_json_schema

from chatgpt_cli import __version__
from chatgpt_cli.serving.requests import ChatRequest, CompletionRequest, SamplingFields

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}


def openapi(model: str) -> dict[str, Any]:
    """The document for a server with this model."""
    kinds: dict[str, type[SamplingFields]] = {
        "chat/completions": ChatRequest,
        "completions": CompletionRequest,
    }
    _, schemas = models_json_schema(
        [(kind, "validation") for kind in kinds.values()],
        ref_template="#/components/schemas/{model}",
    )
    paths: dict[str, Any] = {
        "/health": {"get": _operation("Whether the server is there")},
        "/metrics": {"get": _operation("Counts for Prometheus", "text/plain")},
        "/v1/models": {"get": _operation("The models")},
        "/v1/models/{name}": {
            "get": _operation("One model")
            | {
                "parameters": [
                    {
                        "name": "name",
                        "in": "path",
                        "required": True,
                        "schema": {"type": "string", "minLength": 1},
                        "example": model,
                    }
                ]
            }
        },
    }
    for path, kind in kinds.items():
        reference = {"$ref": f"#/components/schemas/{kind.__name__}"}
        operation = _operation((kind.__doc__ or "").strip(), "application/json")
        operation["responses"]["200"]["content"]["text/event-stream"] = {
            "schema": {"type": "string"}
        }
        body = {"required": True, "content": {"application/json": {"schema": reference}}}
        paths[f"/v1/{path}"] = {"post": operation | {"requestBody": body}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "chatgpt serve", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"] | {"Error": _ERROR},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
    }


def _operation(summary: str, media: str = "application/json") -> dict[str, Any]:
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {
        "summary": summary,
        "responses": {
            "200": {"description": "OK", "content": {media: {}}},
            "default": {"description": "an error", "content": error},
        },
    }
