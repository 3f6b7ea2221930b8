"""Sentences in both languages at once: each English wording has one Chinese wording."""

from __future__ import annotations

from collections.abc import Callable

from sample_world.events import World
from sample_world.lexicon import FEELINGS, FUTURES, SPOTS, TIMES, VERBS, WEATHER, Pair

# Verbs that can be going on for a while; what Chinese says then.
_GOING_ON = {
    "find": "找",
    "draw": "画",
    "choose": "挑选",
    "wash": "洗",
    "clean": "擦",
    "repair": "修理",
    "read": "读",
    "copy": "抄写",
    "eat": "吃",
    "cut": "切",
    "feed": "喂",
    "sell": "卖",
}


def capital(text: str) -> str:
    """With a capital letter in front."""
    return text[0].upper() + text[1:]


def past(w: World) -> Pair:
    """Time at the end or in front."""
    e = w.event()
    if w.chance(0.5):
        return Pair(f"{capital(e.time.en)}, {e.en}.", f"{e.time.zh}，{e.zh}。")
    zh = f"{e.person.zh}{e.time.zh}在{e.place.zh}{e.verb.zh_past}{e.item.zh}。"
    return Pair(f"{e.en} {e.time.en}.", zh)


def gift(w: World) -> Pair:
    """Giving, lending, showing."""
    p = w.person()
    q = w.person(p)
    item = w.item(p, ("toy", "paper", "clothes", "tool", "treasure"))
    t = w.random.choice(TIMES)
    en, zh = w.random.choice(
        [("gave", "把{}送给了{}"), ("lent", "把{}借给了{}"), ("showed", "把{}拿给{}看")]
    )
    return Pair(
        f"{capital(t.en)}, {p.en} {en} {item.the} to {q.en}.",
        f"{t.zh}，{p.zh}{zh.format(item.that, q.zh)}。",
    )


def wish(w: World) -> Pair:
    """Wanting something, and why."""
    p = w.person()
    verb = w.random.choice([v for v in VERBS if v.base in ("buy", "borrow", "choose")])
    item = w.item(p, tuple(k for k in verb.kinds if k != "food"))
    en, zh = w.random.choice(
        [
            ("the old one is broken", "旧的坏了"),
            ("{his} friend has one", "{ta}的朋友有一{m}"),
            ("{he} needs one for school", "{ta}上学需要一{m}"),
            ("{his} birthday is coming", "{ta}的生日快到了"),
        ]
    )
    en = en.format(his=p.his, he=p.he)
    zh = zh.format(ta=p.ta, m=item.thing.measure)
    return Pair(
        f"{p.en} wants to {verb.base} {item.en} because {en}.",
        f"{p.zh}想{verb.zh}{item.zh}，因为{zh}。",
    )


def going_on(w: World) -> Pair:
    """What somebody is doing now."""
    e = w.event()
    while e.verb.base not in _GOING_ON:
        e = w.event()
    zh = _GOING_ON[e.verb.base]
    return Pair(
        f"{e.person.en} is {e.verb.ing} {e.item.en} {e.place.en} now.",
        f"{e.person.zh}现在正在{e.place.zh}{zh}{e.item.zh}。",
    )


def future(w: World) -> Pair:
    """What somebody will do for another."""
    p = w.person()
    q = w.person(p)
    verb = w.random.choice(
        [v for v in VERBS if v.base in ("buy", "draw", "choose", "repair", "wash")]
    )
    item, t = w.item(p, verb.kinds), w.random.choice(FUTURES)
    return Pair(
        f"{capital(t.en)}, {p.en} will {verb.base} {item.en} for {q.en}.",
        f"{t.zh}，{p.zh}会为{q.zh}{verb.zh}{item.zh}。",
    )


def speech(w: World) -> Pair:
    """Direct speech."""
    e = w.event()
    en, zh = w.random.choice(
        [("said", "说"), ("wrote", "写道"), ("shouted", "喊道"), ("answered", "回答")]
    )
    return Pair(
        f'{e.person.en} {en}, "I {e.verb.past} {e.item.en} {e.place.en}."',
        f"{e.person.zh}{zh}：“我在{e.place.zh}{e.verb.zh_past}{e.item.zh}。”",
    )


def number(w: World) -> Pair:
    """Several things."""
    e = w.event()
    while e.item.thing.measure in ("首", "篇"):
        e = w.event()
    n = w.random.randint(2, 12)
    quality = f"{e.item.quality.en} " if e.item.quality else ""
    zh = f"{n}{e.item.zh[1:]}"
    return Pair(
        f"{e.person.en} {e.verb.past} {n} {quality}{e.item.thing.plural} {e.place.en}.",
        f"{e.person.zh}在{e.place.zh}{e.verb.zh_past}{zh}。",
    )


def while_(w: World) -> Pair:
    """One thing happening during another."""
    e = w.event()
    while e.verb.base not in _GOING_ON:
        e = w.event()
    q = w.person(e.person)
    en, zh = w.random.choice(
        [
            ("it began to rain", "天下起了雨"),
            ("the phone rang", "电话响了"),
            (f"{q.en} came in", f"{q.zh}走了进来"),
            (f"{q.en} called {e.person.him}", f"{q.zh}叫了{e.person.ta}一声"),
            ("the lights went out", "灯灭了"),
        ]
    )
    doing = f"{e.person.en} was {e.verb.ing} {e.item.en}"
    return Pair(
        f"When {doing}, {en}.",
        f"{e.person.zh}正在{_GOING_ON[e.verb.base]}{e.item.zh}的时候，{zh}。",
    )


def put(w: World) -> Pair:
    """Where something is put, and what follows."""
    p = w.person()
    q = w.person(p)
    item, spot = w.item(p, ("toy", "paper", "clothes", "tool", "treasure")), w.random.choice(SPOTS)
    en, zh = w.random.choice(
        [
            ("so {q} found it easily", "所以{qz}很容易就找到了它"),
            ("but {q} did not see it", "但是{qz}没有看见它"),
            ("and then {he} went out", "然后{ta}就出去了"),
            ("because {q} asked {him} to", "因为{qz}请{ta}这样做"),
        ]
    )
    en = en.format(q=q.en, he=p.he, him=p.him)
    zh = zh.format(qz=q.zh, ta=p.ta)
    return Pair(
        f"{p.en} put {item.the} {spot.en}, {en}.", f"{p.zh}把{item.that}放在{spot.zh}，{zh}。"
    )


def although(w: World) -> Pair:
    """A feeling, and an action all the same."""
    p = w.person()
    q = w.person(p)
    feeling = w.random.choice([f for f in FEELINGS if f.en in ("tired", "busy", "hungry", "sad")])
    item = w.item(p, ("toy", "tool"))
    en, zh = w.random.choice(
        [("repair", "修理"), ("carry", "搬"), ("look for", "寻找"), ("clean", "擦")]
    )
    return Pair(
        f"{p.en} was {feeling.en}, but {p.he} still helped {q.en} {en} {item.the}.",
        f"{p.zh}{feeling.zh}，但是{p.ta}还是帮{q.zh}{zh}{item.that}。",
    )


def question(w: World) -> Pair:
    """A question about what happened."""
    e = w.event()
    zh = e.verb.zh_past.removesuffix("了")
    return Pair(
        f"Did {e.person.en} {e.verb.base} {e.item.the} {e.place.en}?",
        f"{e.person.zh}在{e.place.zh}{zh}{e.item.that}了吗？",
    )


def negative(w: World) -> Pair:
    """What did not happen, and why."""
    e = w.event()
    zh_verb = e.verb.zh_past.removesuffix("了")
    en, zh = w.random.choice(
        [
            ("{he} had no time", "{ta}没有时间"),
            ("it was too late", "时间太晚了"),
            ("{he} was ill", "{ta}生病了"),
            ("{his} mother was waiting", "{ta}的妈妈在等{ta}"),
        ]
    )
    en = en.format(he=e.person.he, his=e.person.his)
    return Pair(
        f"{e.person.en} did not {e.verb.base} {e.item.the} because {en}.",
        f"{e.person.zh}没有{zh_verb}{e.item.that}，因为{zh.format(ta=e.person.ta)}。",
    )


def taste(w: World) -> Pair:
    """Who likes what."""
    p = w.person()
    q = w.person(p)
    kinds = ("toy", "food", "paper", "animal", "treasure")
    a, b = w.item(p, kinds, plain=True).thing, w.item(q, kinds, plain=True).thing
    while b == a:
        b = w.item(q, kinds, plain=True).thing
    en, zh = w.random.choice([(", but", "，但是"), (", and", "，而"), (", while", "，可是")])
    return Pair(
        f"{p.en} likes {a.plural}{en} {q.en} likes {b.plural}.",
        f"{p.zh}喜欢{a.zh}{zh}{q.zh}喜欢{b.zh}。",
    )


def weather(w: World) -> Pair:
    """The weather as a reason."""
    e = w.event()
    while e.place.en.split()[-1] not in (
        "kitchen",
        "library",
        "bedroom",
        "attic",
        "room",
        "basement",
    ):
        e = w.event()
    sky = w.random.choice(WEATHER[:5])
    return Pair(
        f"{sky.en}, so {e.person.en} stayed {e.place.en} and {e.verb.past} {e.item.en}.",
        f"{sky.zh}，所以{e.person.zh}待在{e.place.zh}，{e.verb.zh_past}{e.item.zh}。",
    )


SENTENCES: tuple[Callable[[World], Pair], ...] = (
    past,
    past,
    gift,
    wish,
    going_on,
    future,
    speech,
    number,
    while_,
    put,
    although,
    question,
    negative,
    taste,
    weather,
)


def sentence(w: World) -> Pair:
    """Any sentence."""
    return w.random.choice(SENTENCES)(w)
