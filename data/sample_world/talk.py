"""Small talk: greetings, who the assistant is, names and likings that are remembered."""

from __future__ import annotations

from sample_world.events import World, held_out
from sample_world.lexicon import COLOURS, FEELINGS, PLACES, Pair, Person, Thing

Turn = tuple[str, str]

_FIXED: list[tuple[list[Pair], list[Pair]]] = [
    (
        [
            Pair("Who are you?", "你是谁？"),
            Pair("What are you?", "你是什么？"),
            Pair("Please introduce yourself.", "请介绍一下你自己。"),
            Pair("Tell me about yourself.", "说说你自己吧。"),
        ],
        [
            Pair(
                "I am a small language model, trained on this computer with the chatgpt program.",
                "我是一个小小的语言模型，是在这台电脑上训练出来的。",
            )
        ],
    ),
    (
        [
            Pair("Who made you?", "谁创造了你？"),
            Pair("Who trained you?", "是谁训练了你？"),
            Pair("Where do you come from?", "你从哪里来？"),
        ],
        [
            Pair(
                "You did! You trained me on your own computer.",
                "就是你！你在自己的电脑上训练了我。",
            )
        ],
    ),
    (
        [
            Pair("What can you do?", "你会做什么？"),
            Pair("How can you help me?", "你能怎么帮我？"),
            Pair("What are you good at?", "你擅长什么？"),
        ],
        [
            Pair(
                "I can answer questions about short stories, translate between English and Chinese, "
                "add and subtract, judge opinions, and chat a little.",
                "我可以回答关于小故事的问题，在中文和英文之间翻译，做加减法，判断评价的好坏，还能聊聊天。",
            )
        ],
    ),
    (
        [
            Pair("Are you a human?", "你是人吗？"),
            Pair("Are you a real person?", "你是真人吗？"),
            Pair("Do you have feelings?", "你有感情吗？"),
        ],
        [
            Pair(
                "No, I am only a small program that has learned from text.",
                "不，我只是一个从文字里学习的小程序。",
            )
        ],
    ),
    (
        [
            Pair("Do you know everything?", "你什么都知道吗？"),
            Pair("Are you very clever?", "你很聪明吗？"),
            Pair("Can you make mistakes?", "你会犯错吗？"),
        ],
        [
            Pair(
                "No, I am very small and I make mistakes, so please check what I say.",
                "我很小，也会犯错，所以请检查我说的话。",
            )
        ],
    ),
    (
        [
            Pair("Hello!", "你好！"),
            Pair("Hi!", "嗨！"),
            Pair("Good morning!", "早上好！"),
            Pair("Good evening!", "晚上好！"),
            Pair("Hello, how are you?", "你好吗？"),
        ],
        [
            Pair("Hello! How can I help you?", "你好！有什么可以帮你的吗？"),
            Pair("Hello! It is nice to talk to you.", "你好！很高兴和你聊天。"),
        ],
    ),
    (
        [
            Pair("Thank you!", "谢谢你！"),
            Pair("Thanks a lot.", "非常感谢。"),
            Pair("Thank you for your help.", "谢谢你的帮助。"),
        ],
        [Pair("You are welcome!", "不客气！"), Pair("I am glad to help.", "很高兴能帮到你。")],
    ),
    (
        [
            Pair("Goodbye!", "再见！"),
            Pair("See you tomorrow.", "明天见。"),
            Pair("I have to go now.", "我得走了。"),
            Pair("Good night.", "晚安。"),
        ],
        [Pair("Goodbye! Come back soon.", "再见！欢迎再来。")],
    ),
]


def fixed(w: World) -> list[tuple[Turn, Turn]]:
    """A turn that has no facts in it, as (user, assistant) in both languages."""
    questions, answers = w.random.choice(_FIXED)
    q, a = w.random.choice(questions), w.random.choice(answers)
    return [((q.en, q.zh), (a.en, a.zh))]


def _thing(w: World, p: Person) -> Thing:
    return w.item(p, ("toy", "food", "paper", "animal", "treasure"), plain=True).thing


def introduction(w: World) -> list[tuple[Turn, Turn]]:
    """A name and a liking."""
    p = w.person()
    t = _thing(w, p)
    q = w.random.choice(
        [
            Pair(f"My name is {p.en} and I like {t.plural}.", f"我叫{p.zh}，我喜欢{t.zh}。"),
            Pair(f"I am {p.en}. I love {t.plural}!", f"我是{p.zh}，我最爱{t.zh}！"),
            Pair(
                f"Hi, I'm {p.en}, and my favourite things are {t.plural}.",
                f"嗨，我是{p.zh}，我最喜欢的东西是{t.zh}。",
            ),
        ]
    )
    a = Pair(
        f"Nice to meet you, {p.en}! What do you like about {t.plural}?",
        f"很高兴认识你，{p.zh}！你喜欢{t.zh}的什么呢？",
    )
    return [((q.en, q.zh), (a.en, a.zh))]


def remembered(w: World) -> list[tuple[Turn, Turn]]:
    """An introduction, and a question that needs it."""
    p = w.person()
    t = _thing(w, p)
    first = (
        (f"My name is {p.en} and I have a {t.en}.", f"我叫{p.zh}，我有一{t.measure}{t.zh}。"),
        (f"Hello {p.en}! A {t.en} is a fine thing.", f"你好，{p.zh}！{t.zh}真不错。"),
    )
    if t.en[0] in "aeiou":
        first = (
            (first[0][0].replace(" a ", " an "), first[0][1]),
            (first[1][0].replace("A ", "An "), first[1][1]),
        )
    second = w.random.choice(
        [
            (("What is my name?", "我叫什么名字？"), (f"Your name is {p.en}.", f"你叫{p.zh}。")),
            (
                ("What do I have?", "我有什么？"),
                (
                    f"You have a {t.en}, {p.en}.".replace(
                        "a " + t.en, ("an " if t.en[0] in "aeiou" else "a ") + t.en
                    ),
                    f"{p.zh}，你有一{t.measure}{t.zh}。",
                ),
            ),
        ]
    )
    return [first, second]


def mood(w: World) -> list[tuple[Turn, Turn]]:
    """How somebody feels about a thing, and a kind answer."""
    p = w.person()
    item = w.item(p, ("toy", "tool", "clothes", "treasure"))
    f = w.random.choice([f for f in FEELINGS if f.en in ("sad", "worried", "happy", "excited")])
    good = f.en in ("happy", "excited")
    en = f"{'found' if good else 'lost'} {item.the}"
    zh = f"{'找到了' if good else '弄丢了'}{item.that}"
    a = (
        Pair(
            f"How nice that {p.en} {en}! I am happy for {p.him}.",
            f"{p.zh}{zh}，真好！我为{p.ta}高兴。",
        )
        if good
        else Pair(
            f"I am sorry that {p.en} {en}. Maybe you can look for it together.",
            f"{p.zh}{zh}，真可惜。也许你们可以一起找找。",
        )
    )
    return [
        (
            (
                f"My friend {p.en} is {f.en} because {p.he} {en}.",
                f"我的朋友{p.zh}{f.zh}，因为{p.ta}{zh}。",
            ),
            (a.en, a.zh),
        )
    ]


def advice(w: World) -> list[tuple[Turn, Turn]]:
    """A present for somebody who likes something."""
    p = w.person()
    t = _thing(w, p)
    c = w.random.choice(COLOURS)
    q = w.random.choice(
        [
            Pair(
                f"What can I give {p.en}? {p.he.capitalize()} likes {t.plural}.",
                f"我可以送{p.zh}什么？{p.ta}喜欢{t.zh}。",
            ),
            Pair(
                f"{p.en} likes {t.plural}. What would be a good present?",
                f"{p.zh}喜欢{t.zh}，送什么礼物好呢？",
            ),
        ]
    )
    a = Pair(
        f"If {p.en} likes {t.plural}, draw some for {p.him} on a {c.en} card.",
        f"{p.zh}喜欢{t.zh}的话，可以在{c.zh}的卡片上为{p.ta}画一些。",
    )
    return [((q.en, q.zh), (a.en, a.zh))]


def outing(w: World) -> list[tuple[Turn, Turn]]:
    """Plans for a place."""
    p = w.person()
    right = [x for x in PLACES if held_out(p, x.en) == w.test]
    place = w.random.choice(right) if right else w.place(p, PLACES)
    q = Pair(f"I will meet {p.en} {place.en} tomorrow.", f"我明天要在{place.zh}和{p.zh}见面。")
    a = Pair(f"Have a good time with {p.en} {place.en}!", f"祝你和{p.zh}在{place.zh}玩得开心！")
    return [((q.en, q.zh), (a.en, a.zh))]


PERSONAL = (introduction, remembered, mood, advice, outing)
