"""Short stories of several events, and questions about one of them."""

from __future__ import annotations

from dataclasses import dataclass

from sample_world.events import Event, World
from sample_world.lexicon import COLOURS, Pair
from sample_world.sentences import capital


@dataclass(frozen=True)
class Asked:
    """A story, and questions about it with their answers, in one language."""

    story: str
    turns: list[tuple[str, str]]


@dataclass(frozen=True)
class _Told:
    """An event of a story; `count` above 1 makes it several things."""

    event: Event
    count: int

    @property
    def what(self) -> Pair:
        e = self.event
        if self.count == 1:
            return Pair(e.item.en, e.item.zh)
        quality = f"{e.item.quality.en} " if e.item.quality else ""
        return Pair(f"{self.count} {quality}{e.item.thing.plural}", f"{self.count}{e.item.zh[1:]}")


def _events(w: World) -> list[_Told]:
    """Up to three events of different people, things, places and times."""
    wanted, told = w.random.choice([2, 3] if w.test else [1, 2, 2, 2, 3, 3]), list[_Told]()
    while len(told) < wanted:
        e = w.event(*(one.event.person for one in told))
        others = [one.event for one in told]
        if any(
            e.item.thing == o.item.thing or e.place == o.place or e.time == o.time for o in others
        ):
            continue
        several = w.chance(0.25) and e.item.thing.measure not in ("首", "篇")
        told.append(_Told(e, w.random.randint(2, 12) if several else 1))
    return told


def _tell(w: World, one: _Told) -> Pair:
    """An event as a sentence; the same order of words in both languages."""
    e, what = one.event, one.what
    core = f"{e.person.en} {e.verb.past} {what.en} {e.place.en}"
    if w.chance(0.5):
        return Pair(
            f"{capital(e.time.en)}, {core}.",
            f"{e.time.zh}，{e.person.zh}在{e.place.zh}{e.verb.zh_past}{what.zh}。",
        )
    return Pair(
        f"{core} {e.time.en}.",
        f"{e.person.zh}{e.time.zh}在{e.place.zh}{e.verb.zh_past}{what.zh}。",
    )


def _bare(one: _Told) -> Pair:
    """The thing without its number or quality, for questions."""
    e = one.event
    if one.count > 1:
        return Pair(f"the {e.item.thing.plural}", f"那些{e.item.thing.zh}")
    return Pair(f"the {e.item.thing.en}", f"那{e.item.thing.measure}{e.item.thing.zh}")


def asked(w: World, most: int = 1) -> tuple[Asked, Asked]:
    """The same story in English and in Chinese, with at most `most` questions about it."""
    told = _events(w)
    sentences = [_tell(w, one) for one in told]
    turns: list[tuple[Pair, Pair]] = []
    most = min(most, 3 * len(told))
    for _ in range(3 * most):
        one = w.random.choice(told)
        turn = _open_question(w, one) if not w.test and w.chance(0.25) else _question(w, one)
        if turn not in turns and len(turns) < most:
            turns.append(turn)
    return (
        Asked(" ".join(s.en for s in sentences), [(q.en, a.en) for q, a in turns]),
        Asked("".join(s.zh for s in sentences), [(q.zh, a.zh) for q, a in turns]),
    )


def _question(w: World, one: _Told) -> tuple[Pair, Pair]:
    """A question about an event, and its short answer."""
    e, bare = one.event, _bare(one)
    zh_verb = e.verb.zh_past.removesuffix("了")
    kinds = ["where", "who", "what", "when"]
    if not w.test:
        # Their answers stand before what the question names, which takes longest to learn.
        kinds += ["who", "when"]
    if one.count > 1:
        kinds += ["how many"] * 3
    elif e.item.quality in COLOURS:
        kinds += ["colour"] * 2
    kind = w.random.choice(kinds)
    if kind == "where":
        en = f"Where did {e.person.en} {e.verb.base} {bare.en}?"
        zh = f"{e.person.zh}在哪里{zh_verb}{bare.zh}？"
        answer = Pair(e.place.en, f"在{e.place.zh}")
    elif kind == "who":
        en, zh = f"Who {e.verb.past} {bare.en}?", f"谁{e.verb.zh_past}{bare.zh}？"
        answer = Pair(e.person.en, e.person.zh)
    elif kind == "what":
        en = f"What did {e.person.en} {e.verb.base} {e.place.en}?"
        zh = f"{e.person.zh}在{e.place.zh}{e.verb.zh_past}什么？"
        answer = one.what
    elif kind == "when":
        en = f"When did {e.person.en} {e.verb.base} {bare.en}?"
        zh = f"{e.person.zh}什么时候{zh_verb}{bare.zh}？"
        answer = e.time
    elif kind == "how many":
        en = f"How many {e.item.thing.plural} did {e.person.en} {e.verb.base}?"
        zh = f"{e.person.zh}{e.verb.zh_past}几{e.item.thing.measure}{e.item.thing.zh}？"
        answer = Pair(str(one.count), str(one.count))
    else:
        assert e.item.quality is not None
        en = f"What colour was the {e.item.thing.en}?"
        zh = f"那{e.item.thing.measure}{e.item.thing.zh}是什么颜色的？"
        answer = e.item.quality
    return Pair(en, zh), answer


def _open_question(w: World, one: _Told) -> tuple[Pair, Pair]:
    """A question with one clue to an event; the answer tells the rest of it."""
    e, bare = one.event, _bare(one)
    it = Pair("them", "它们") if one.count > 1 else Pair("it", "它")
    did_zh = f"{e.verb.zh_past}{one.what.zh}。"
    at_zh = f"在{e.place.zh}"
    choices = [
        (
            Pair(f"What happened to {bare.en}?", f"{bare.zh}怎么了？"),
            Pair(
                f"{e.person.en} {e.verb.past} {it.en} {e.place.en} {e.time.en}.",
                f"{e.person.zh}{e.time.zh}{at_zh}{e.verb.zh_past}{it.zh}。",
            ),
        ),
        (
            Pair(f"What did {e.person.en} do?", f"{e.person.zh}做了什么？"),
            Pair(
                f"{e.person.en} {e.verb.past} {one.what.en} {e.place.en} {e.time.en}.",
                f"{e.person.zh}{e.time.zh}{at_zh}{did_zh}",
            ),
        ),
        (
            Pair(f"What happened {e.time.en}?", f"{e.time.zh}发生了什么？"),
            Pair(
                f"{e.person.en} {e.verb.past} {one.what.en} {e.place.en}.",
                f"{e.person.zh}{at_zh}{did_zh}",
            ),
        ),
        (
            Pair(f"What happened {e.place.en}?", f"{at_zh}发生了什么？"),
            Pair(
                f"{e.person.en} {e.verb.past} {one.what.en} {e.time.en}.",
                f"{e.person.zh}{e.time.zh}{did_zh}",
            ),
        ),
    ]
    return w.random.choice(choices)
