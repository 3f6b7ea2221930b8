"""The frame of every report: head, style, switches for language and colours, tables.

Nothing is loaded and nothing runs: choosing is done by radio buttons and CSS, so a
page works from a mail, without a network, and under any security policy.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from chatgpt_cli import __version__
from chatgpt_cli.evaluation.words import Words
from chatgpt_cli.language import chosen

_STYLE = """
:root { color-scheme: light dark;
  --ink: light-dark(#1b1d22, #e6e8ec); --soft: light-dark(#626975, #9aa3b0);
  --paper: light-dark(#f6f7f9, #111317); --card: light-dark(#fff, #1a1d22);
  --line: light-dark(#e1e4e9, #2e333b);
  --a: light-dark(#2557d6, #7ea6ff); --b: light-dark(#c2620a, #f5b35c);
  --c: light-dark(#0a8060, #57d3a5); --d: light-dark(#8b3fd1, #c79bff);
  --e: light-dark(#b3265e, #ff8fb3); --good: light-dark(#0a7a4b, #5fd9a1);
  --bad: light-dark(#c02b2b, #ff8d85); --warm: light-dark(#e0662e, #ff8c52); }
:root:has(#theme-light:checked) { color-scheme: light; }
:root:has(#theme-dark:checked) { color-scheme: dark; }
body:has(#lang-en:checked) .zh, body:has(#lang-zh:checked) .en { display: none; }
* { box-sizing: border-box; }
body { font: 16px/1.55 system-ui, -apple-system, "Segoe UI", "Noto Sans", "Noto Sans CJK SC",
  "PingFang SC", "Microsoft YaHei", sans-serif; color: var(--ink); background: var(--paper);
  margin: 0 auto; max-width: 1180px; padding: 1rem; }
header { display: flex; flex-wrap: wrap; gap: .3rem 1.5rem; align-items: baseline;
  justify-content: space-between; margin-bottom: .8rem; }
h1 { font-size: 1.55rem; margin: .3rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .7rem; }
h3 { font-size: 1rem; margin: 1.2rem 0 .5rem; }
p { margin: .5rem 0; } small, .soft, figcaption { color: var(--soft); }
fieldset.switch { border: 0; padding: 0; margin: 0; display: inline-flex; gap: .1rem; }
.switch label { padding: .15rem .6rem; border: 1px solid var(--line); cursor: pointer;
  background: var(--card); font-size: .85rem; }
.switch label:first-of-type { border-radius: .5rem 0 0 .5rem; }
.switch label:last-of-type { border-radius: 0 .5rem .5rem 0; }
.switch input { position: absolute; opacity: 0; width: 1px; }
.switch label:has(:checked) { background: var(--a); border-color: var(--a);
  color: light-dark(#fff, #10131a); }
.switch label:has(:focus-visible) { outline: 2px solid var(--b); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .7rem;
  padding: .8rem 1rem; margin: .6rem 0; }
.next { border-left: 4px solid var(--a); } .next ul { margin: .3rem 0; padding-left: 1.2rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: .6rem; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: .7rem;
  padding: .6rem .9rem; }
.tile b { display: block; font-size: 1.35rem; font-weight: 650; line-height: 1.3;
  font-variant-numeric: tabular-nums; }
.charts { display: grid; gap: .7rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 330px), 1fr)); }
figure { margin: 0; background: var(--card); border: 1px solid var(--line);
  border-radius: .7rem; padding: .7rem; min-width: 0; }
figcaption { font-size: .9rem; margin-bottom: .3rem; }
svg { display: block; max-width: 100%; height: auto; }
svg.chart { width: 100%; } svg.bar { max-width: none; margin-top: .3rem; }
svg text { fill: var(--soft); font-size: 11.5px; font-family: inherit; }
svg .grid { stroke: var(--line); } svg .axis, svg .tick { stroke: var(--soft); }
svg .mark { stroke: var(--soft); stroke-dasharray: 3 3; }
svg .line { fill: none; stroke-width: 2; } svg .raw { opacity: .28; stroke-width: 1; }
svg .a { stroke: var(--a); } svg .b { stroke: var(--b); } svg .c { stroke: var(--c); }
svg .d { stroke: var(--d); } svg .e { stroke: var(--e); }
svg .dot.a { fill: var(--a); } svg .dot.b { fill: var(--b); } svg .dot.c { fill: var(--c); }
svg .dot.d { fill: var(--d); } svg .dot.e { fill: var(--e); }
svg .dashed { stroke-dasharray: 5 4; }
svg .cell { fill: var(--a); } svg .strong { fill: light-dark(#fff, #10131a); }
svg .plain { fill: var(--ink); }
svg .label, svg .xtick, svg .empty, svg .mid { text-anchor: middle; }
svg .ytick, svg .end { text-anchor: end; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
td, th { text-align: left; padding: .3rem 1rem .3rem 0; vertical-align: top;
  border-bottom: 1px solid var(--line); font-weight: 400; overflow-wrap: break-word; }
thead th { color: var(--soft); font-size: .85rem; white-space: nowrap; }
td.number, th.number { text-align: right; white-space: nowrap; }
.first { color: var(--soft); margin-right: .4rem; }
.range { color: var(--soft); white-space: nowrap; margin-left: .5rem; }
table:not(.pairs) .zh { white-space: nowrap; }
table.pairs th { color: var(--soft); min-width: 7.5rem; max-width: 15rem; }
table.pairs td { overflow-wrap: anywhere; }
.better { color: var(--good); font-weight: 600; } .worse { color: var(--bad); font-weight: 600; }
details > summary { cursor: pointer; color: var(--a); margin: .4rem 0; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: .85rem; margin: .4rem 0; }
.answer { border-top: 1px solid var(--line); padding: .6rem 0; }
.answer:first-of-type { border-top: 0; }
.answer dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem .8rem;
  margin: 0; } .answer dt { color: var(--soft); } .answer dd { margin: 0; overflow-wrap: anywhere;
  white-space: pre-wrap; }
mark { border-radius: .2rem; padding: 0 .1em; color: inherit; }
mark.wrong { background: color-mix(in srgb, var(--bad) 28%, transparent);
  text-decoration: line-through; }
mark.missing { background: color-mix(in srgb, var(--good) 28%, transparent); font-weight: 600; }
.tokens { line-height: 2.1; overflow-wrap: anywhere; }
.token { border-radius: .25rem; padding: .1rem .05rem; white-space: pre-wrap; cursor: help;
  background: color-mix(in srgb, var(--warm) calc(var(--s) * 75%), transparent);
  border-bottom: 1px solid var(--line); }
.token.special { color: var(--soft); font-size: .75rem; padding: .1rem .25rem; }
.token .more { display: none; position: fixed; left: 1rem; right: 1rem; bottom: 1rem; z-index: 2;
  max-width: 30rem; margin: 0 auto; background: var(--card); border: 1px solid var(--soft);
  border-radius: .7rem; padding: .6rem .9rem; line-height: 1.5; font-size: .9rem;
  color: var(--ink); box-shadow: 0 4px 18px #0004; }
.token:hover .more, .token:focus .more { display: block; }
.token:focus { outline: 2px solid var(--b); }
.layers { display: flex; flex-wrap: wrap; } .layers fieldset { flex-wrap: wrap; }
.heads { display: grid; grid-template-columns: repeat(auto-fill, minmax(104px, 1fr)); gap: .5rem;
  margin-top: .7rem; } .heads svg { width: 100%; } .heads small { display: block; }
footer { color: var(--soft); font-size: .85rem; margin: 2.5rem 0 1rem; }
@media (max-width: 600px) { body { padding: .7rem; font-size: 15px; }
  .answer dl { grid-template-columns: 1fr; gap: 0; } .answer dt { margin-top: .3rem; }
  td, th { padding-right: .7rem; } .wide { display: none; }
  .range, .first { margin: 0; display: block; font-size: .82rem; }
  .tile b { font-size: 1.15rem; } }
@page { margin: 14mm 12mm; }
@media print { :root, :root:has(:checked) { color-scheme: light; } .switch, .token .more {
  display: none !important; } body { max-width: none; padding: 0; background: #fff;
  font-size: 9.5pt; }
  figure, .tile, tr, .answer, .panel { break-inside: avoid; } h2, h3 { break-after: avoid; }
  .card { box-decoration-break: clone; -webkit-box-decoration-break: clone; }
  .scroll { overflow: visible; } td, th { padding-right: .6rem; }
  .panel { display: grid !important; grid-template-columns: 7fr 4fr; gap: 1rem; }
  .panel figure { border: 0; padding: 0; }
  .panel .heads { grid-template-columns: 1fr 1fr; align-content: start; }
  details::details-content { content-visibility: visible; display: block; }
  details > summary { list-style: none; color: var(--soft); break-after: avoid; }
  pre { font-size: .8rem; } pre.settings { columns: 3; font-size: .65rem; }
  footer { margin: 1rem 0 0; break-before: avoid; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""

_SWITCHES = """
<div><fieldset class="switch"><legend hidden>Language · 语言</legend>
<label><input type="radio" name="lang" id="lang-en"{english}>English</label>
<label><input type="radio" name="lang" id="lang-zh"{chinese}>中文</label></fieldset>
<fieldset class="switch"><legend hidden>Colours · 配色</legend>
<label><input type="radio" name="theme" checked>{auto}</label>
<label><input type="radio" name="theme" id="theme-light">{light}</label>
<label><input type="radio" name="theme" id="theme-dark">{dark}</label></fieldset></div>
"""


def page(title: str, sections: Iterable[str]) -> str:
    """A whole page, which opens in the chosen language. `sections` are HTML; the title is text."""
    is_chinese = chosen() == "zh"
    switches = _SWITCHES.format(
        english="" if is_chinese else " checked",
        chinese=" checked" if is_chinese else "",
        auto=Words("auto", "自动").html(),
        light=Words("light", "浅色").html(),
        dark=Words("dark", "深色").html(),
    )
    made = Words(f"Made by chatgpt {__version__}", f"由 chatgpt {__version__} 生成").html()
    return (
        f'<!doctype html>\n<html lang="{chosen()}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><header><h1>{escape(title)}</h1>{switches}</header>"
        f"<main>{''.join(sections)}</main><footer>{made}</footer></body></html>\n"
    )


def section(heading: Words, *content: str) -> str:
    """A part of a page with its heading; nothing if all content is empty."""
    body = "".join(content)
    return f"<section><h2>{heading.html()}</h2>{body}</section>" if body else ""


def pairs(rows: Iterable[tuple[Words, Words | str]]) -> str:
    """A table of names and values (words, or text as it is)."""
    cells = "".join(
        f"<tr><th>{name.html()}</th><td>{shown}</td></tr>"
        for name, value in rows
        for shown in [value.html() if isinstance(value, Words) else escape(value)]
    )
    return f'<div class="scroll"><table class="pairs">{cells}</table></div>' if cells else ""


def table(columns: Sequence[Words], rows: Iterable[Sequence[str]], numbers: set[int]) -> str:
    """A table; cells are HTML, and the columns in `numbers` are aligned to the right."""

    def cells(tag: str, row: Sequence[str]) -> str:
        number = ' class="number"'
        return "".join(
            f"<{tag}{number if i in numbers else ''}>{cell}</{tag}>" for i, cell in enumerate(row)
        )

    head = cells("th", [name.html() for name in columns])
    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def tiles(rows: Iterable[tuple[Words, str]]) -> str:
    """The few numbers that matter most, large."""
    made = "".join(
        f'<div class="tile"><small>{name.html()}</small><b>{escape(value)}</b></div>'
        for name, value in rows
    )
    return f'<div class="tiles">{made}</div>' if made else ""


def figure(caption: Words, picture: str) -> str:
    """A picture with its caption."""
    return f"<figure><figcaption>{caption.html()}</figcaption>{picture}</figure>"


def folded(summary: Words, content: str) -> str:
    """Something shown only when it is asked for (and in print)."""
    return f"<details><summary>{summary.html()}</summary>{content}</details>"
