"""Remarks with a feeling: positive or negative, in both languages."""

from __future__ import annotations

import hashlib
import random

from sample_world.lexicon import Pair

_SUBJECTS = [
    Pair(*entry.split("/"))
    for entry in """The soup/汤|The film/电影|The hotel/酒店|The book/书|The concert/音乐会|The game/游戏
The food/饭菜|The service/服务|The story/故事|The music/音乐|The room/房间|The trip/旅行|The teacher/老师
The show/表演|The cake/蛋糕|The museum/博物馆|The beach/海滩|The garden/花园|The shop/商店|The coffee/咖啡
The bread/面包|The lesson/课|The match/比赛|The song/歌曲|The party/聚会|The waiter/服务员|The noodles/面条
The picture/图画|The ending/结尾|The guide/导游|The tea/茶|The dinner/晚饭|The cover/封面|The seats/座位
The weather/天气|The view/风景""".replace("\n", "|").split("|")
]
_GOOD = [
    Pair(*entry.split("/"))
    for entry in """wonderful/很棒|excellent/很出色|lovely/很可爱|great/好极了|perfect/很完美|nice/不错
delightful/令人愉快|brilliant/很精彩|charming/很迷人|good/很好|amazing/令人惊叹|fantastic/妙极了
pleasant/让人舒服|superb/一流|impressive/令人难忘""".replace("\n", "|").split("|")
]
_BAD = [
    Pair(*entry.split("/"))
    for entry in """terrible/很糟糕|awful/太差了|bad/很差|boring/很无聊|disappointing/令人失望|dull/很乏味
horrible/很可怕|poor/很差劲|unpleasant/让人难受|dreadful/糟透了|ugly/很难看|annoying/很烦人
disgusting/令人讨厌|weak/很一般|dirty/很脏""".replace("\n", "|").split("|")
]
_PLURAL = ("noodles", "seats")


def _was(subject: Pair) -> str:
    return "were" if subject.en.endswith(_PLURAL) else "was"


def held_out(*words: Pair) -> bool:
    """Whether this combination of subjects and judgements belongs to the test."""
    key = "|".join(word.en for word in words)
    return hashlib.sha256(f"opinion|{key}".encode()).digest()[0] % 8 == 0


def opinion(r: random.Random, *, test: bool) -> tuple[Pair, bool]:
    """A remark in both languages, and whether it is positive."""
    while True:
        a, b = r.sample(_SUBJECTS, 2)
        positive = r.random() < 0.5
        word, opposite = (
            r.choice(_GOOD if positive else _BAD),
            r.choice(_BAD if positive else _GOOD),
        )
        second = r.choice(_GOOD if positive else _BAD)
        if held_out(a, word) == held_out(b, word) == held_out(a, opposite) == test:
            break
    low = b.en[0].lower() + b.en[1:]
    dull = r.choice([w for w in (_BAD if positive else _GOOD) if not w.en.startswith("un")])
    choices = [
        Pair(f"{a.en} {_was(a)} {word.en}.", f"{a.zh}{word.zh}。"),
        Pair(f"{a.en} {_was(a)} really {word.en}.", f"{a.zh}真的{word.zh}。"),
        Pair(f"I think that {a.en.lower()} {_was(a)} {word.en}.", f"我觉得{a.zh}{word.zh}。"),
        Pair(
            f"{a.en} {_was(a)} {opposite.en}, but {low} {_was(b)} {word.en}.",
            f"{a.zh}{opposite.zh}，但是{b.zh}{word.zh}。",
        ),
        Pair(
            f"Although {a.en.lower()} {_was(a)} {opposite.en}, {low} {_was(b)} {word.en}.",
            f"虽然{a.zh}{opposite.zh}，可是{b.zh}{word.zh}。",
        ),
        Pair(
            f"{a.en} {_was(a)} {word.en}, and {low} {_was(b)} {second.en} too.",
            f"{a.zh}{word.zh}，{b.zh}也{second.zh}。",
        ),
        Pair(f"{a.en} {_was(a)} not {dull.en} at all.", f"{a.zh}一点也不{_plain(dull)}。")
        if _plain(dull)
        else Pair(
            f"Everyone said {a.en.lower()} {_was(a)} {word.en}.", f"大家都说{a.zh}{word.zh}。"
        ),
        Pair(
            f"{a.en} {_was(a)} {word.en}, and I "
            + ("will come again." if positive else "will never come again."),
            f"{a.zh}{word.zh}，我" + ("还会再来的。" if positive else "再也不会来了。"),
        ),
    ]
    return r.choice(choices), positive


def _plain(word: Pair) -> str:
    """The Chinese adjective that can follow 一点也不; empty if there is none."""
    if word.zh.startswith("很") and word.zh != "很一般":
        return word.zh[1:]
    return ""
