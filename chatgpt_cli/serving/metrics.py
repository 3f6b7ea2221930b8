"""Counts for Prometheus, in its text format (version 0.0.4)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

_BUCKETS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


class Histogram:
    """How many observations were at most so large."""

    def __init__(self) -> None:
        self.counts = [0] * len(_BUCKETS)
        self.total = 0.0
        self.count = 0

    def observe(self, seconds: float) -> None:
        """Count one."""
        self.total += seconds
        self.count += 1
        for index, bound in enumerate(_BUCKETS):
            if seconds <= bound:
                self.counts[index] += 1

    def lines(self, name: str) -> list[str]:
        """In the text format."""
        lines = [f"# TYPE {name} histogram"]
        for bound, count in zip(_BUCKETS, self.counts, strict=True):
            lines.append(f'{name}_bucket{{le="{bound:g}"}} {count}')
        lines.append(f'{name}_bucket{{le="+Inf"}} {self.count}')
        return [*lines, f"{name}_sum {self.total:.6f}", f"{name}_count {self.count}"]


@dataclass
class Metrics:
    """Everything that is counted while serving."""

    requests: Counter[tuple[str, int]] = field(default_factory=Counter)
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    first_token: Histogram = field(default_factory=Histogram)
    whole: Histogram = field(default_factory=Histogram)

    def text(self, *, writing: int, waiting: int, called_off: int) -> str:
        """The page that Prometheus reads."""
        lines = ["# TYPE chatgpt_requests_total counter"]
        for (path, status), count in sorted(self.requests.items()):
            lines.append(f'chatgpt_requests_total{{path="{path}",status="{status}"}} {count}')
        for name, kind, value in (
            ("prompt_tokens_total", "counter", self.prompt_tokens),
            ("prompt_tokens_cached_total", "counter", self.cached_tokens),
            ("completion_tokens_total", "counter", self.completion_tokens),
            ("texts_called_off_total", "counter", called_off),
            ("texts_writing", "gauge", writing),
            ("texts_waiting", "gauge", waiting),
        ):
            lines += [f"# TYPE chatgpt_{name} {kind}", f"chatgpt_{name} {value}"]
        lines += self.first_token.lines("chatgpt_first_token_seconds")
        lines += self.whole.lines("chatgpt_request_seconds")
        return "\n".join(lines) + "\n"
