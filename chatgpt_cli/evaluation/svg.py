"""Line charts as inline SVG: no scripts, colours from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import count

from chatgpt_cli.evaluation.words import Words

Point = tuple[float, float]

# Beyond this a value is a fault and not a measurement; it would only flatten the rest.
_HUGE = 1e30
# More points than this cannot be told apart on a screen.
_MOST_POINTS = 400

_WIDTH, _HEIGHT = 360, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 12, 32, 40
_EMPTY = Words("no data", "无数据")
_clips = count()


@dataclass(frozen=True)
class Line:
    """A named series. `style` is a class of the page: its colour and its stroke.

    A line that is not `scales` is cut off where it leaves the others' range.
    """

    name: Words
    points: Sequence[Point]
    style: str
    dots: bool = False
    scales: bool = True


@dataclass(frozen=True)
class Mark:
    """A vertical line at x, with a few words."""

    x: float
    text: Words


@dataclass(frozen=True)
class Axis:
    """Values from `low` to `high` laid out on pixels from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def place(self, value: float) -> float:
        """The pixel of a value."""
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, most: int) -> list[float]:
        """Round values inside the range: 1, 2 or 5 times powers of ten apart."""
        rough = (self.high - self.low) / most
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        # Where the range is too small for its size, steps vanish in rounding.
        return [index * step for index in range(first, min(last, first + 2 * most) + 1)]


def line_chart(
    title: Words,
    lines: Sequence[Line],
    *,
    x_label: Words,
    marks: Sequence[Mark] = (),
) -> str:
    """An SVG element with axes, ticks, grid and legend; it grows with the page's width.

    Values that are not finite are left out; of several thousand points, those that
    show the shape are kept. Dots carry their values as tooltips.

    Args:
        title: what a screen reader says.
    """
    kept = [(line, _clean(line.points)) for line in lines]
    kept = [(line, points) for line, points in kept if points]
    head = (
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(f"{title.en} · {title.zh}")}" xmlns="http://www.w3.org/2000/svg">'
    )
    if not kept:
        return f"{head}{_text(_EMPTY, 'empty', _WIDTH / 2, _HEIGHT / 2)}</svg>"
    x, y = _axes(kept)
    clip = f"plot{next(_clips)}"
    parts = [
        head,
        f'<clipPath id="{clip}"><rect x="{_LEFT}" y="{_TOP - 4}" '
        f'width="{_WIDTH - _LEFT - _RIGHT}" height="{_HEIGHT - _TOP - _BOTTOM + 8}"/></clipPath>',
        *_grid(x, y),
        _text(x_label, "label", (x.start + x.end) / 2, _HEIGHT - 6),
        f'<g clip-path="url(#{clip})">',
        *(_mark(mark, x, y) for mark in marks if x.low <= mark.x <= x.high),
        *(_drawn(line, points, x, y) for line, points in kept),
        "</g>",
        *_legend([line for line, _ in kept]),
        "</svg>",
    ]
    return "".join(parts)


def compact(value: float) -> str:
    """A number in few characters: 1.5k, 20M, 0.003, 3e-05."""
    size = abs(value)
    if size >= 1e15 or 0 < size < 1e-4:
        return f"{value:.2g}"
    for limit, suffix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= limit:
            return f"{value / limit:.4g}{suffix}"
    return f"{value:.4g}"


def _clean(points: Iterable[Point]) -> list[Point]:
    good = [(x, y) for x, y in points if math.isfinite(x) and abs(y) < _HUGE and abs(x) < _HUGE]
    return _thinned(good)


def _thinned(points: list[Point]) -> list[Point]:
    """At most about `_MOST_POINTS`: of each stretch its lowest and highest, so spikes stay."""
    if len(points) <= _MOST_POINTS:
        return points
    stretch = -(-2 * len(points) // _MOST_POINTS)
    chosen: list[Point] = [points[0]]
    for start in range(0, len(points), stretch):
        part = range(start, min(start + stretch, len(points)))
        low = min(part, key=lambda index: points[index][1])
        high = max(part, key=lambda index: points[index][1])
        chosen += [points[index] for index in sorted({low, high})]
    return [*chosen, points[-1]]


def _axes(kept: Sequence[tuple[Line, list[Point]]]) -> tuple[Axis, Axis]:
    xs = [x for _, points in kept for x, _ in points]
    scaling = [points for line, points in kept if line.scales] or [points for _, points in kept]
    ys = [y for points in scaling for _, y in points]
    x_low, x_high = min(xs), max(xs)
    if x_low == x_high:
        x_low, x_high = x_low - 1, x_high + 1
    y_low, y_high = min(ys), max(ys)
    margin = 0.06 * (y_high - y_low) or 0.05 * abs(y_high) or 1.0
    below = 0.0 if 0 <= y_low < margin else y_low - margin
    return (
        Axis(x_low, x_high, _LEFT, _WIDTH - _RIGHT),
        Axis(below, y_high + margin, _HEIGHT - _BOTTOM, _TOP),
    )


def _grid(x: Axis, y: Axis) -> list[str]:
    parts = []
    for tick in y.ticks(5):
        at = y.place(tick)
        parts.append(
            f'<line class="grid" x1="{x.start}" x2="{x.end}" y1="{at:.1f}" y2="{at:.1f}"/>'
            f'<text class="ytick" x="{x.start - 8}" y="{at + 4:.1f}">{compact(tick)}</text>'
        )
    for tick in x.ticks(6):
        at = x.place(tick)
        parts.append(
            f'<line class="tick" x1="{at:.1f}" x2="{at:.1f}" y1="{y.start}" y2="{y.start + 4}"/>'
            f'<text class="xtick" x="{at:.1f}" y="{y.start + 18}">{compact(tick)}</text>'
        )
    parts.append(f'<line class="axis" x1="{x.start}" x2="{x.end}" y1="{y.start}" y2="{y.start}"/>')
    return parts


def _drawn(line: Line, points: list[Point], x: Axis, y: Axis) -> str:
    placed = [(x.place(px), y.place(py)) for px, py in points]
    path = "M" + "L".join(f"{px:.1f} {py:.1f}" for px, py in placed)
    parts = [f'<path class="line {line.style}" d="{path}"/>'] if len(placed) > 1 else []
    if line.dots or len(placed) == 1:
        parts += [
            f'<circle class="dot {line.style}" cx="{cx:.1f}" cy="{cy:.1f}" r="3">'
            f"<title>{escape(line.name.en)}: {py:.5g} @ {px:,.6g}</title></circle>"
            for (cx, cy), (px, py) in zip(placed, points, strict=True)
        ]
    return "".join(parts)


def _text(words: Words, style: str, x: float, y: float, more: str = "") -> str:
    """A text in both languages, of which the page shows one."""
    return "".join(
        f'<text class="{style} {language}"{more} x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'
        for language, text in zip(("en", "zh"), words, strict=True)
    )


def _mark(mark: Mark, x: Axis, y: Axis) -> str:
    at = x.place(mark.x)
    right = at > (x.start + x.end) / 2
    anchor, shift = ("end", -6) if right else ("start", 6)
    return f'<line class="mark" x1="{at:.1f}" x2="{at:.1f}" y1="{y.start}" y2="{y.end}"/>' + _text(
        mark.text, "marked", at + shift, y.end + 12, f' text-anchor="{anchor}"'
    )


def _legend(lines: Sequence[Line]) -> list[str]:
    """The lines' names, once for each language: their widths differ."""
    parts = []
    for index, language in enumerate(("en", "zh")):
        at = float(_LEFT)
        parts.append(f'<g class="{language}">')
        for line in lines:
            name = line.name[index]
            parts.append(
                f'<line class="line {line.style}" x1="{at:.1f}" x2="{at + 16:.1f}" y1="14" '
                f'y2="14"/><text class="legend" x="{at + 21:.1f}" y="18">{escape(name)}</text>'
            )
            # Roughly the width of the text: Chinese characters are twice as wide.
            at += 34 + sum(12.0 if ord(character) > 0x2E80 else 6.2 for character in name)
        parts.append("</g>")
    return parts
