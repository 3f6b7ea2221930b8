"""Who may ask, and how often."""

from __future__ import annotations

import hmac
import math
import time
from collections.abc import Sequence

from chatgpt_cli.serving.errors import ApiError

# Clients remembered at most; beyond that those whose allowance is full are forgotten.
_REMEMBERED = 10_000


class RateLimiter:
    """So many requests a minute for each client; unused ones add up to one minute's."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        # Requests left, and when that was so.
        self._clients: dict[str, tuple[float, float]] = {}

    def take(self, client: str) -> None:
        """Count a request.

        Raises:
            ApiError: 429, with the seconds to wait.
        """
        if not self._per_minute:
            return
        now = time.monotonic()
        left, since = self._clients.get(client, (float(self._per_minute), now))
        left = min(self._per_minute, left + (now - since) * self._per_minute / 60)
        if left < 1:
            wait = math.ceil((1 - left) * 60 / self._per_minute)
            raise ApiError(
                429,
                f"more than {self._per_minute} requests a minute; try again in {wait} s",
                code="rate_limit_exceeded",
                retry_after=wait,
            )
        if len(self._clients) > _REMEMBERED:
            self._clients = {
                name: (rest, when)
                for name, (rest, when) in self._clients.items()
                if rest + (now - when) * self._per_minute / 60 < self._per_minute
            }
        self._clients[client] = (left - 1, now)


def check_key(keys: Sequence[str], header: str | None) -> str | None:
    """The key that a request carries; None if none is needed.

    Raises:
        ApiError: 401, if it carries no valid one.
    """
    if not keys:
        return None
    scheme, _, given = (header or "").partition(" ")
    # All are compared, in constant time: how long it takes tells nothing.
    matches = [hmac.compare_digest(key.encode(), given.strip().encode()) for key in keys]
    if scheme.lower() != "bearer" or not any(matches):
        raise ApiError(
            401,
            "no valid API key: send it as `Authorization: Bearer KEY`",
            code="invalid_api_key",
        )
    return given.strip()
