"""The model's view of a sentence: token probabilities and attention maps."""

from __future__ import annotations

from html import escape

import numpy as np

from chatgpt_cli.evaluation.inspection import Inspection, SeenToken
from chatgpt_cli.evaluation.report.page import figure
from chatgpt_cli.evaluation.words import Words

# More tokens than this cannot be told apart in a map.
_MAP = 28
# More maps than this would make a page of several megabytes.
_HEADS = 150
_FAINT = 0.03


def token_view(tokens: list[SeenToken]) -> str:
    """The text with surprising tokens coloured; pointing at one shows what was expected."""
    about = Words(
        "The stronger the colour, the less the model expected the token. Point at a token, or tap "
        "it, for what the model thought more likely.",
        "颜色越深，模型越没有料到该词元。将鼠标移到词元上（或轻触）可查看模型认为更可能的词元。",
    )
    shown = "".join(_token(one) for one in tokens)
    return (
        f'<div class="card"><p class="soft">{about.html()}</p><p class="tokens">{shown}</p></div>'
    )


def _token(one: SeenToken) -> str:
    surprise = 0.0 if one.probability is None else 1 - one.probability
    more = ""
    if one.probability is not None:
        rows = "<br>".join(
            f"{100 * p:.1f}% <b>{escape(_visible(text))}</b>" for text, p in one.alternatives
        )
        more = (
            f'<span class="more"><b>{escape(_visible(one.text))}</b> '
            f"{100 * one.probability:.1f}%<br><small>{rows}</small></span>"
        )
    style = "token special" if one.special else "token"
    broken = "<br>" if "\n" in one.text else ""
    return (
        f'<span class="{style}" tabindex="0" style="--s:{surprise:.2f}">'
        f"{escape(one.text.replace(chr(10), '⏎'))}{more}</span>{broken}"
    )


def _visible(text: str) -> str:
    return text.replace("\n", "⏎").replace(" ", "␣")


def attention_view(seen: Inspection) -> str:
    """For each layer the mean of its heads with the tokens' names, and each head small."""
    layers, heads, time, _ = seen.attention.shape
    start = max(0, time - _MAP)
    maps = seen.attention[:, :, start:, start:]
    names = [_visible(one.text).strip("␣") or "␣" for one in seen.tokens[start:]]
    about = Words(
        "Each row is a token, each column a token it looked at; the rows of a head add up to 1.",
        "每行是一个词元，每列是它所关注的词元；每个注意力头的每一行之和为 1。",
    )
    if start:
        about = Words(
            f"{about.en} Shown are the last {_MAP} tokens.", f"{about.zh}仅显示最后 {_MAP} 个词元。"
        )
    panels, buttons, rules = [], [], []
    for layer in range(layers):
        checked = " checked" if layer == layers - 1 else ""
        buttons.append(
            f'<label><input type="radio" name="layer" id="layer-{layer}"{checked}>'
            f"{layer + 1}</label>"
        )
        rules.append(
            f".attention:not(:has(#layer-{layer}:checked)) .layer-{layer} {{ display: none; }}"
        )
        mean = figure(
            Words(f"layer {layer + 1}, mean of its heads", f"第 {layer + 1} 层，各头平均"),
            _labelled(maps[layer].mean(0), names),
        )
        small = ""
        if layers * heads <= _HEADS and heads > 1:
            small = "".join(
                f"<div><small>{Words(f'head {h + 1}', f'头 {h + 1}').html()}</small>"
                f"{_small(maps[layer, h])}</div>"
                for h in range(heads)
            )
            small = f'<div class="heads">{small}</div>'
        panels.append(f'<div class="panel layer-{layer}">{mean}{small}</div>')
    choose = Words("layer", "层").html()
    return (
        f"<style>{''.join(rules)}</style>"
        f'<div class="card attention"><p class="soft">{about.html()}</p>'
        f'<div class="layers"><fieldset class="switch">{choose}&nbsp;{"".join(buttons)}'
        f"</fieldset></div>{''.join(panels)}</div>"
    )


def _labelled(weights: np.ndarray, names: list[str]) -> str:
    """A map with the tokens written beside and above it."""
    size, edge, cell = len(names), 78, 15
    width = edge + cell * size + 4
    parts = [
        f'<svg width="{width}" viewBox="0 0 {width} {width}" role="img" aria-label="attention">',
        f'<g transform="translate({edge} {edge}) scale({cell})">{_cells(weights)}</g>',
    ]
    for index, name in enumerate(names):
        at = edge + cell * (index + 0.5)
        short = escape(name if len(name) < 12 else name[:10] + "…")
        parts.append(f'<text class="end" x="{edge - 5}" y="{at + 4:.1f}">{short}</text>')
        parts.append(
            f'<text transform="translate({at + 4:.1f} {edge - 5}) rotate(-90)">{short}</text>'
        )
    return "".join(parts) + "</svg>"


def _small(weights: np.ndarray) -> str:
    size = len(weights)
    return f'<svg viewBox="0 0 {size} {size}" aria-hidden="true">{_cells(weights)}</svg>'


def _cells(weights: np.ndarray) -> str:
    """Unit squares, one path for each of ten strengths: a twentieth of single rectangles' size."""
    size = len(weights)
    parts = [f'<rect class="cell" width="{size}" height="{size}" fill-opacity=".04"/>']
    levels = np.where(weights < _FAINT, 0, np.ceil(weights * 10)).astype(int)
    for level in range(1, 11):
        path = "".join(f"M{j} {i}h1v1h-1z" for i, j in np.argwhere(levels == level).tolist())
        if path:
            parts.append(f'<path class="cell" fill-opacity="{level / 10:g}" d="{path}"/>')
    return "".join(parts)
