"""Stories with a small arc: a wish, an obstacle, help, an outcome; and their summaries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sample_world.events import Item, World, held_out
from sample_world.lexicon import SPOTS, TIMES, WEATHER, Pair, Person
from sample_world.sentences import capital

_KEEPSAKES = ("toy", "tool", "clothes", "paper")


@dataclass(frozen=True)
class Story:
    """Sentences in both languages, and one sentence that sums them up."""

    sentences: list[Pair]
    summary: Pair

    @property
    def en(self) -> str:
        return " ".join(one.en for one in self.sentences)

    @property
    def zh(self) -> str:
        return "".join(one.zh for one in self.sentences)


def _cast(w: World) -> tuple[Person, Person, Item]:
    """Two people, and a thing that is on the right side of the split with both."""
    while True:
        p = w.person()
        q = w.person(p)
        item = w.item(p, _KEEPSAKES)
        if held_out(q, item.thing.en) == w.test:
            return p, q, item


def _say(w: World, *choices: tuple[str, str]) -> Pair:
    return Pair(*w.random.choice(choices))


def lost(w: World) -> Story:
    """Something is lost, looked for together, and found."""
    p, q, i = _cast(w)
    t, spot = w.random.choice(TIMES), w.random.choice(SPOTS)
    a = _say(
        w,
        (f"{capital(t.en)}, {p.en} could not find {i.the}.", f"{t.zh}，{p.zh}找不到{i.that}了。"),
        (f"{p.en} lost {i.the} {t.en}.", f"{p.zh}{t.zh}弄丢了{i.that}。"),
    )
    b = _say(
        w,
        (
            f"{capital(p.he)} looked everywhere, but {i.the} was gone.",
            f"{p.ta}到处找，可是{i.that}不见了。",
        ),
        (
            f"{p.en} was worried because {i.the} was a present from {p.his} grandmother.",
            f"{p.zh}很担心，因为{i.that}是{p.ta}奶奶送的礼物。",
        ),
    )
    c = _say(
        w,
        (
            f'"Don\'t worry," said {q.en}, "I will help you find {i.the}."',
            f"“别担心，”{q.zh}说，“我来帮你找{i.that}。”",
        ),
        (
            f"{q.en} saw this and helped {p.en} look for {i.the}.",
            f"{q.zh}看到了，就帮{p.zh}找{i.that}。",
        ),
    )
    d = Pair(
        f"At last, {q.en} found {i.the} {spot.en}.", f"最后，{q.zh}在{spot.zh}找到了{i.that}。"
    )
    e = _say(
        w,
        (
            f"{p.en} thanked {q.en} and put {i.the} in a safe place.",
            f"{p.zh}谢过{q.zh}，把{i.that}放在了安全的地方。",
        ),
        (
            f"{p.en} was so happy to have {i.the} again that {p.he} hugged {q.en}.",
            f"{p.zh}又有了{i.that}，高兴得抱住了{q.zh}。",
        ),
    )
    s = Pair(
        f"{p.en} lost {i.the}, and {q.en} found it {spot.en}.",
        f"{p.zh}弄丢了{i.that}，{q.zh}在{spot.zh}找到了它。",
    )
    return Story([a, b, c, d, e], s)


def broken(w: World) -> Story:
    """Something breaks, a friend repairs it."""
    while True:
        p, q, i = _cast(w)
        if i.thing.kind in ("toy", "tool"):
            break
    place = w.place(p, _indoors())
    a = _say(
        w,
        (
            f"{p.en} was using {i.the} {place.en} when it broke.",
            f"{p.zh}正在{place.zh}用{i.that}，它突然坏了。",
        ),
        (
            f"One day, {p.en} dropped {i.the} {place.en}, and it broke.",
            f"有一天，{p.zh}在{place.zh}摔了{i.that}，它坏了。",
        ),
    )
    b = _say(
        w,
        (
            f"{p.en} tried to repair {i.the}, but it was too difficult.",
            f"{p.zh}想修好{i.that}，但是太难了。",
        ),
        (f"{capital(p.he)} wanted to throw {i.the} away.", f"{p.ta}想把{i.that}扔掉。"),
    )
    c = _say(
        w,
        (
            f"Then {q.en} brought some tools and looked at {i.the} carefully.",
            f"这时{q.zh}拿来工具，仔细看了看{i.that}。",
        ),
        (
            f'"Let me try," said {q.en}, and took {i.the} home.',
            f"“让我试试。”{q.zh}说，然后把{i.that}带回了家。",
        ),
    )
    d = _say(
        w,
        (
            f"An hour later, {p.en}'s {i.the.removeprefix('the ')} worked again.",
            f"一个小时以后，{p.zh}的{_noun(i)}又能用了。",
        ),
        (
            f"The next day, {q.en} gave {i.the} back to {p.en}, as good as new.",
            f"第二天，{q.zh}把{i.that}还给了{p.zh}，跟新的一样。",
        ),
    )
    s = Pair(
        f"{p.en} broke {i.the}, and {q.en} repaired it.",
        f"{p.zh}弄坏了{i.that}，{q.zh}把它修好了。",
    )
    return Story([a, b, c, d], s)


def saving(w: World) -> Story:
    """A wish that costs money, work for it, and the purchase."""
    p, q, i = _cast(w)
    n = w.random.randint(3, 19)
    a = _say(
        w,
        (
            f"{p.en} saw {i.en} in a shop and wanted to have it.",
            f"{p.zh}在一家商店里看见了{i.zh}，很想要。",
        ),
        (f"{p.en} had wanted {i.en} for a long time.", f"{p.zh}一直想要{i.zh}。"),
    )
    b = _say(
        w,
        (
            f"But {i.the} cost {n} coins, and {p.en} had only {n - 2}.",
            f"可是{i.that}要{n}枚硬币，{p.zh}只有{n - 2}枚。",
        ),
        (
            f"But {p.en} did not have the {n} coins for {i.the}.",
            f"可是{p.zh}没有买{i.that}的{n}枚硬币。",
        ),
    )
    c = _say(
        w,
        (
            f"So {p.he} helped {q.en} in the garden for two days and dreamed of {i.the}.",
            f"于是{p.ta}在花园里帮{q.zh}干了两天活，心里想着{i.that}。",
        ),
        (
            f"{q.en} paid {p.him} to carry boxes, and {p.he} thought of {i.the} all the time.",
            f"{q.zh}付钱请{p.ta}搬箱子，{p.ta}心里一直想着{i.that}。",
        ),
    )
    d = _say(
        w,
        (
            f"In the end, {p.en} bought {i.the} with {p.his} own money.",
            f"最后，{p.zh}用自己的钱买下了{i.that}。",
        ),
        (
            f"On Saturday, {p.en} proudly carried {i.the} home.",
            f"星期六，{p.zh}骄傲地把{i.that}带回了家。",
        ),
    )
    s = Pair(
        f"{p.en} worked for {q.en} and bought {i.the}.",
        f"{p.zh}给{q.zh}干活，买下了{i.that}。",
    )
    return Story([a, b, c, d], s)


def birthday(w: World) -> Story:
    """A present that surprises."""
    p, q, i = _cast(w)
    t = w.random.choice(TIMES[4:11])
    a = _say(
        w,
        (
            f"{q.en} wanted to give {p.en} {i.en} for {p.his} birthday {t.en}.",
            f"{p.zh}{t.zh}过生日，{q.zh}想送{p.ta}{i.zh}。",
        ),
        (
            f"{p.en} had told {q.en} that {p.he} needed {i.en}.",
            f"{p.zh}告诉过{q.zh}，{p.ta}需要{i.zh}。",
        ),
    )
    b = _say(
        w,
        (
            f"{q.en} went to three shops before {q.he} found {i.the}.",
            f"{q.zh}跑了三家商店才找到{i.that}。",
        ),
        (
            f"The shop was closed, so {q.en} made {i.the} {q.him}self.",
            f"商店关门了，所以{q.zh}自己做了{i.that}。",
        ),
    )
    c = _say(
        w,
        (
            f"{q.en} put {i.the} into a box and hid it behind the door.",
            f"{q.zh}把{i.that}装进盒子，藏在门后面。",
        ),
        (f"{q.en} wrapped {i.the} in blue paper.", f"{q.zh}用蓝色的纸把{i.that}包了起来。"),
    )
    d = _say(
        w,
        (
            f'When {p.en} saw {i.the}, {p.he} cried, "This is the best present of all!"',
            f"{p.zh}看见{i.that}，喊道：“这是最好的礼物！”",
        ),
        (
            f"{p.en} opened the box, saw {i.the} and could not stop smiling.",
            f"{p.zh}打开盒子，看见了{i.that}，笑个不停。",
        ),
    )
    s = Pair(
        f"{q.en} surprised {p.en} with {i.en}.", f"{q.zh}送给{p.zh}{i.zh}，给了{p.ta}一个惊喜。"
    )
    return Story([a, b, c, d], s)


def trip(w: World) -> Story:
    """A trip, bad weather, shelter, and a find."""
    p, q, i = _cast(w)
    place = w.place(p, _outdoors())
    sky = w.random.choice(WEATHER[:2])
    a = _say(
        w,
        (
            f"{p.en} and {q.en} met {place.en} to play with {i.the}.",
            f"{p.zh}和{q.zh}在{place.zh}见面，一起玩{i.that}。",
        )
        if i.thing.kind == "toy"
        else (
            f"{p.en} and {q.en} met {place.en} and had {i.the} with them.",
            f"{p.zh}和{q.zh}在{place.zh}见面，还带着{i.that}。",
        ),
    )
    b = Pair(f"{sky.en}, and {i.the} got wet.", f"{sky.zh}，{i.that}湿了。")
    c = _say(
        w,
        (
            f"They ran into an old house, and {q.en} dried {i.the} with a towel.",
            f"他们跑进一座老房子，{q.zh}用毛巾擦干了{i.that}。",
        ),
        (
            f"{q.en} had an idea and hid {i.the} under {q.his} coat.",
            f"{q.zh}有了个主意，把{i.that}藏在外套下面。",
        ),
    )
    d = _say(
        w,
        (
            f'"Without you I would have lost {i.the}," {p.en} said to {q.en}.',
            f"“没有你，我就没有{i.that}了。”{p.zh}对{q.zh}说。",
        ),
        (
            f"On the way home, {p.en} let {q.en} carry {i.the}.",
            f"回家的路上，{p.zh}让{q.zh}拿着{i.that}。",
        ),
    )
    s = Pair(
        f"{p.en} and {q.en} kept {i.the} safe in bad weather.",
        f"{p.zh}和{q.zh}在坏天气里保护了{i.that}。",
    )
    return Story([a, b, c, d], s)


def animal(w: World) -> Story:
    """An animal that needs help."""
    while True:
        p = w.person()
        q = w.person(p)
        i = w.item(p, ("animal",))
        if held_out(q, i.thing.en) == w.test:
            break
    place = w.place(p, _outdoors())
    a = Pair(f"{p.en} found {i.en} {place.en}.", f"{p.zh}在{place.zh}发现了{i.zh}。")
    b = _say(
        w,
        (
            f"{i.the.capitalize()} was thin, and {p.en} did not know what to do.",
            f"{i.that}很瘦，{p.zh}不知道怎么办。",
        ),
        (
            f"{i.the.capitalize()} had hurt its foot, so {p.en} called {q.en}.",
            f"{i.that}的脚受伤了，所以{p.zh}叫来了{q.zh}。",
        ),
    )
    c = _say(
        w,
        (f"{q.en} brought water and food for {i.the}.", f"{q.zh}给{i.that}带来了水和吃的。"),
        (
            f"{q.en} put {i.the} into a basket and took it to the doctor.",
            f"{q.zh}把{i.that}放进篮子，带它去看医生。",
        ),
    )
    d = _say(
        w,
        (
            f"A week later, {i.the} followed {p.en} everywhere.",
            f"一个星期以后，{i.that}总是跟着{p.zh}。",
        ),
        (
            f"Soon {i.the} was well again, and {p.en} let it go.",
            f"不久{i.that}就好了，{p.zh}放它走了。",
        ),
    )
    s = Pair(
        f"{p.en} found {i.en} {place.en}, and {q.en} helped it.",
        f"{p.zh}在{place.zh}发现了{i.zh}，{q.zh}帮助了它。",
    )
    return Story([a, b, c, d], s)


def _noun(item: Item) -> str:
    """The thing without a measure word: 红色的风筝."""
    return item.zh[1 + len(item.thing.measure) :]


def _indoors() -> list[Pair]:
    from sample_world.lexicon import PLACES

    return [
        p
        for p in PLACES
        if p.en.split()[-1] in ("kitchen", "bedroom", "school", "classroom", "office", "room")
    ]


def _outdoors() -> list[Pair]:
    from sample_world.lexicon import PLACES

    words = (
        "garden",
        "park",
        "river",
        "forest",
        "beach",
        "farm",
        "lake",
        "hill",
        "village",
        "tree",
    )
    return [p for p in PLACES if p.en.split()[-1] in words]


PLOTS: tuple[Callable[[World], Story], ...] = (lost, broken, saving, birthday, trip, animal)


def story(w: World) -> Story:
    """A story of any plot."""
    return w.random.choice(PLOTS)(w)
