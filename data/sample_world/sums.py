"""Addition and subtraction in many wordings; some pairs of numbers are for the test alone."""

from __future__ import annotations

import hashlib
import random

from sample_world.lexicon import PEOPLE, THINGS, Pair

_LARGEST = 99


def held_out(a: int, b: int, sign: str) -> bool:
    """Whether a pair of numbers, in whatever order, belongs to the test.

    The sums of single digits are never held out: all others are worked out with them.
    """
    if min(a, b) < 10 and max(a, b) < (10 if sign == "+" else 20):
        return False
    key = f"{sign} {min(a, b)} {max(a, b)}"
    return hashlib.sha256(key.encode()).digest()[0] % 12 == 0


def pairs(*, test: bool) -> list[tuple[int, int, str]]:
    """All (a, b, sign) with results from 0 on: additions both ways round, subtractions."""
    found = []
    for a in range(_LARGEST + 1):
        for b in range(_LARGEST + 1):
            if held_out(a, b, "+") == test:
                found.append((a, b, "+"))
            if a >= b and held_out(a, b, "-") == test:
                found.append((a, b, "-"))
    return found


def result(a: int, b: int, sign: str) -> int:
    """a + b or a - b."""
    return a + b if sign == "+" else a - b


def worked_out(a: int, b: int, sign: str) -> Pair:
    """The answer with its working, digit by digit from the right, as at school."""
    (a10, a1), (b10, b1) = divmod(a, 10), divmod(b, 10)
    if sign == "+":
        carry = int(a1 + b1 > 9)
        steps = [f"{a1} + {b1} = {a1 + b1}", f"{a10} + {b10} + {carry} = {a10 + b10 + carry}"]
    else:
        borrowed = int(a1 < b1)
        ones = a1 + 10 * borrowed
        steps = [
            f"{ones} - {b1} = {ones - b1}",
            f"{a10} - {b10} - {borrowed} = {a10 - b10 - borrowed}",
        ]
    c = result(a, b, sign)
    return Pair(
        f"{steps[0]}, {steps[1]}, so the answer is {c}.",
        f"{steps[0]}，{steps[1]}，所以答案是{c}。",
    )


def asked(r: random.Random, a: int, b: int, sign: str) -> Pair:
    """A question in both languages."""
    plus = sign == "+"
    p, thing = r.choice(PEOPLE), r.choice([t for t in THINGS if t.kind in ("food", "treasure")])
    choices = [
        Pair(f"What is {a} {sign} {b}?", f"{a} {sign} {b} 等于多少？"),
        Pair(f"{a} {sign} {b} = ?", f"{a}{'加' if plus else '减'}{b}等于多少？"),
        Pair(f"Calculate {a} {sign} {b}.", f"计算 {a} {sign} {b}。"),
        Pair(
            f"What is {a} {'plus' if plus else 'minus'} {b}?",
            f"{a}{'加上' if plus else '减去'}{b}是多少？",
        ),
    ]
    if a > 1 and b > 1 and r.random() < 0.25:
        return Pair(
            f"{p.en} has {a} {thing.plural} and "
            + (f"gets {b} more. " if plus else f"gives away {b}. ")
            + f"How many {thing.plural} does {p.en} have now?",
            f"{p.zh}有{a}{thing.measure}{thing.zh}，又"
            + (f"得到{b}{thing.measure}" if plus else f"送出{b}{thing.measure}")
            + f"，现在有几{thing.measure}？",
        )
    return r.choice(choices)


def stated(r: random.Random, a: int, b: int, sign: str) -> str:
    """A statement of the fact, as plain text."""
    c = result(a, b, sign)
    plus = sign == "+"
    choices = [
        f"{a} {sign} {b} = {c}",
        f"{a} {sign} {b} = {c}",
        f"{a} {'plus' if plus else 'minus'} {b} is {c}.",
        f"{a}{'加' if plus else '减'}{b}等于{c}。",
        f"Question: What is {a} {sign} {b}?\nAnswer: {worked_out(a, b, sign).en}",
        f"问：{a}{'加' if plus else '减'}{b}等于多少？\n答：{worked_out(a, b, sign).zh}",
        f"问：计算 {a} {sign} {b}。\n答：{worked_out(a, b, sign).zh}",
    ]
    return r.choice(choices)
