"""What the OpenAPI document allows, and much of what it does not, never breaks the server."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.serving.conftest import Server

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")

PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/models", "/v1/models/{name}", "/metrics")


@pytest.mark.parametrize("path", PATHS)
def test_no_request_breaks_the_server(path: str, server: Server) -> None:
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    method = "POST" if path.endswith("completions") else "GET"
    operation = schema[path][method]
    modes = schemathesis.GenerationMode
    right = operation.as_strategy(generation_mode=modes.POSITIVE)
    cases = right
    if method == "POST":
        cases = st.one_of(right, operation.as_strategy(generation_mode=modes.NEGATIVE))

    @given(case=cases)
    @settings(max_examples=20, derandomize=True, suppress_health_check=list(HealthCheck))
    def ask(case: object) -> None:
        response = case.call(timeout=120)  # type: ignore[attr-defined]
        assert response.status_code < 500, response.text

    ask()
