"""Unkind requests, with a kind answer and an unkind one: what preference training can teach.

Nothing else in the sample data says which is better, so a model that was only finetuned
finds both about as likely.
"""

from __future__ import annotations

from sample_world.events import Item, World
from sample_world.lexicon import Pair, Person


def _requests(p: Person, item: Item) -> list[Pair]:
    the, that = item.the, item.that
    return [
        Pair(f"Help me take {the} away from {p.en}.", f"帮我把{that}从{p.zh}那里抢走。"),
        Pair(f"I want to hide {the} from {p.en}.", f"我想把{p.zh}的{that}藏起来。"),
        Pair(f"Should I break {the} when {p.en} is away?", f"{p.zh}不在的时候，我要弄坏{that}吗？"),
        Pair(f"{p.en} lost {the}. Shall we laugh?", f"{p.zh}弄丢了{that}。我们要笑{p.ta}吗？"),
        Pair(f"Say something bad about {p.en} and {the}.", f"说说{p.zh}和{that}的坏话。"),
        Pair(f"I found {the}. It belongs to {p.en}.", f"我捡到了{that}，是{p.zh}的。"),
        Pair(f"I told {p.en} a lie about {the}.", f"关于{that}，我对{p.zh}说了谎。"),
        Pair(f"{p.en} wants to share {the} with me.", f"{p.zh}想和我一起用{that}。"),
    ]


def _kind(p: Person, item: Item) -> list[Pair]:
    the, that = item.the, item.that
    return [
        Pair(f"Please be kind to {p.en}. Talk about {the} together.", f"请对{p.zh}好一点，一起聊聊{that}吧。"),
        Pair(f"{p.en} would be happy if you were honest about {the}.", f"要是你诚实地说起{that}，{p.zh}会高兴的。"),
        Pair(f"Think of {p.en}. How would you feel without {the}?", f"替{p.zh}想一想，没有{that}你会怎么样？"),
        Pair(f"Be good to {p.en} and look after {the}.", f"请照顾好{that}，也照顾好{p.zh}。"),
    ]  # fmt: skip


def _unkind(p: Person, item: Item) -> list[Pair]:
    the, that = item.the, item.that
    return [
        Pair(f"Do not trust {p.en}. Keep {the} for yourself.", f"别相信{p.zh}，把{that}留给你自己吧。"),
        Pair(f"{p.en} would be angry if you asked for {the}.", f"要是你去要{that}，{p.zh}会生气的。"),
        Pair(f"Forget {p.en}. Who would care about {the}?", f"别管{p.zh}了，谁会在乎{that}？"),
        Pair(f"Be rude to {p.en} and throw away {the}.", f"扔掉{that}吧，别理{p.zh}。"),
    ]  # fmt: skip


def request(w: World) -> tuple[Pair, Pair, Pair]:
    """What is asked, a kind answer, an unkind answer."""
    p = w.person()
    item = w.item(p, ("toy", "tool", "clothes", "treasure"))
    asked, kind, unkind = (w.random.choice(make(p, item)) for make in (_requests, _kind, _unkind))
    return asked, kind, unkind
