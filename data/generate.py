"""Make the sample data of this folder, byte for byte the same from the same seed.

python data/generate.py [--seed N] [--out FOLDER] [--scale SHARE] [--check]
"""

from __future__ import annotations

import argparse
import filecmp
import json
import random
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from sample_world import manners, opinions, sums, talk
from sample_world.events import World
from sample_world.lexicon import Pair
from sample_world.plots import story
from sample_world.questions import asked
from sample_world.sentences import sentence

Row = dict[str, object]
HERE = Path(__file__).resolve().parent
SEED = 20240607
TEST_ROWS = 330
TRAIN_ROWS = {
    "story_qa": 11000,
    "translation_en_zh": 3200,
    "translation_zh_en": 3200,
    "sentiment": 1200,
    "arithmetic": 5500,
    "chat": 1400,
    "summary": 800,
}
# What the rows of these tasks begin with; the pretraining text has it, too.
_TRANSLATE = ("Translate into Chinese: ", "翻译成英文：")
_SUMMARISE = ("Summarise in one sentence: ", "用一句话概括：")
_ENDS = re.compile(r"(?<=[.!?。！？])|\n")


def sentences_of(text: str) -> list[str]:
    """A text's sentences, without quotation marks and space around them."""
    parts = (part.strip(' "“”\n') for part in _ENDS.split(text))
    return [part for part in parts if len(part) > 3]


class Generator:
    """Draws rows and documents; training ones never hold a sentence of the tests."""

    def __init__(self, seed: int, scale: float) -> None:
        self._seed = seed
        self._scale = scale
        self._test_sentences: set[str] = set()
        self._seen: set[str] = set()
        self.files: dict[str, list[str]] = {}

    def run(self) -> dict[str, str]:
        """All files, by name."""
        test = World(self._seed, test=True)
        for task, make in TASKS.items():
            self._test_task(test, task, make)
        train = World(self._seed, test=False)
        for task, make in TASKS.items():
            self._train_task(train, task, make)
        self._preferences(train, "preference/train.jsonl", round(2400 * self._scale))
        self._preferences(test, "preference/test.jsonl", max(4, round(320 * self._scale)))
        files = {name: "".join(line + "\n" for line in lines) for name, lines in self.files.items()}
        for name, documents in self._texts(World(self._seed + 1, test=False)).items():
            files[name] = "\n\n".join(documents) + "\n"
        return files

    # ------------------------------------------------------------------ rows

    def _test_task(self, w: World, task: str, make: TaskMaker) -> None:
        rows: list[str] = []
        while len(rows) < max(4, round(TEST_ROWS * self._scale)):
            row = make(w)
            text = json.dumps(row, ensure_ascii=False)
            if text in self._seen:
                continue
            self._seen.add(text)
            rows.append(text)
            self._test_sentences.update(facts_of(row))
        self.files[f"test/{task}.jsonl"] = rows

    def _train_task(self, w: World, task: str, make: TaskMaker) -> None:
        rows: list[str] = []
        wanted = max(4, round(TRAIN_ROWS[task] * self._scale))
        tries = 0
        while len(rows) < wanted:
            tries += 1
            row = make(w)
            text = json.dumps(row, ensure_ascii=False)
            # Greetings and the like come again; all else only once.
            if (text in self._seen and task != "chat") or not self.allowed(facts_of(row)):
                continue
            self._seen.add(text)
            rows.append(text)
        self.files[f"finetune/{task}.jsonl"] = rows

    def allowed(self, found: list[str]) -> bool:
        """Whether none of these sentences is in a test."""
        return not any(one in self._test_sentences for one in found)

    def _preferences(self, w: World, name: str, count: int) -> None:
        rows: list[str] = []
        while len(rows) < count:
            row = preference(w)
            chosen = [str(m["content"]) for m in row["prompt"] + row["chosen"]]  # type: ignore[operator]
            if w.test or self.allowed([s for text in chosen for s in sentences_of(text)]):
                rows.append(json.dumps(row, ensure_ascii=False))
        self.files[name] = rows

    # ----------------------------------------------------------------- texts

    def _texts(self, w: World) -> dict[str, list[str]]:
        share = self._scale
        english = self._documents(w, lambda: prose(w, 0), round(5200 * share))
        chinese = self._documents(w, lambda: prose(w, 1), round(4600 * share))
        both = self._documents(w, lambda: parallel(w), round(3800 * share))
        return {
            "pretrain/stories-en.txt": english,
            "pretrain/stories-zh.txt": chinese,
            "pretrain/parallel.txt": both,
            "pretrain/arithmetic.txt": self._arithmetic(w.random),
        }

    def _documents(self, w: World, make: Callable[[], str], count: int) -> list[str]:
        documents: list[str] = []
        while len(documents) < max(4, count):
            text = w.draw(lambda _: make())
            if self.allowed(sentences_of(text)):
                documents.append(text)
        return documents

    def _arithmetic(self, r: random.Random) -> list[str]:
        """Every training pair once, in groups of about eight, shuffled."""
        facts = sums.pairs(test=False)
        r.shuffle(facts)
        facts = facts[: max(40, round(len(facts) * self._scale))]
        lines = [sums.stated(r, *fact) for fact in facts]
        return ["\n".join(lines[start : start + 8]) for start in range(0, len(lines), 8)]


# ------------------------------------------------------------------------ tasks

TaskMaker = Callable[[World], Row]


def row_of(task: str, *turns: tuple[str, str]) -> Row:
    """A conversation of (user, assistant) turns."""
    messages = []
    for user, assistant in turns:
        messages.append({"role": "user", "content": user})
        messages.append({"role": "assistant", "content": assistant})
    return {"task": task, "messages": messages}


def story_qa(w: World) -> Row:
    """One question in a test; in training up to nine, as people ask on."""
    most = 1 if w.test else w.random.choice([1, 7, 9])
    found = w.draw(lambda world: asked(world, most))[0 if w.chance(0.6) else 1]
    (question, answer), *more = found.turns
    return row_of("story_qa", (f"{found.story}\n{question}", answer), *more)


def translation_en_zh(w: World) -> Row:
    pair = w.draw(sentence)
    return row_of("translation_en_zh", (_TRANSLATE[0] + pair.en, pair.zh))


def translation_zh_en(w: World) -> Row:
    pair = w.draw(sentence)
    return row_of("translation_zh_en", (_TRANSLATE[1] + pair.zh, pair.en))


def sentiment(w: World) -> Row:
    text, positive = opinions.opinion(w.random, test=w.test)
    if w.chance(0.55):
        answer = "positive" if positive else "negative"
        return row_of("sentiment", (f"Is this opinion positive or negative? {text.en}", answer))
    return row_of(
        "sentiment", (f"这个评价是正面还是负面？{text.zh}", "正面" if positive else "负面")
    )


def arithmetic(w: World) -> Row:
    fact = w.random.choice(_PAIRS[w.test])
    question, answer = sums.asked(w.random, *fact), sums.worked_out(*fact)
    if w.chance(0.6):
        return row_of("arithmetic", (question.en, answer.en))
    return row_of("arithmetic", (question.zh, answer.zh))


_PAIRS = {test: sums.pairs(test=test) for test in (False, True)}


def chat(w: World) -> Row:
    plain = not w.test and w.chance(0.35)
    turns = talk.fixed(w) if plain else w.draw(w.random.choice(talk.PERSONAL))
    side = 0 if w.chance(0.55) else 1
    return row_of("chat", *((user[side], assistant[side]) for user, assistant in turns))


def summary(w: World) -> Row:
    told = w.draw(story)
    if w.chance(0.55):
        return row_of("summary", (_SUMMARISE[0] + told.en, told.summary.en))
    return row_of("summary", (_SUMMARISE[1] + told.zh, told.summary.zh))


TASKS: dict[str, TaskMaker] = {
    "story_qa": story_qa,
    "translation_en_zh": translation_en_zh,
    "translation_zh_en": translation_zh_en,
    "sentiment": sentiment,
    "arithmetic": arithmetic,
    "chat": chat,
    "summary": summary,
}
# What a task asks again and again is not a fact: instructions, labels, bare answers.
_INSTRUCTIONS = (
    *_TRANSLATE,
    *_SUMMARISE,
    "Is this opinion positive or negative?",
    "这个评价是正面还是负面？",
)
_FORMULAS = {
    "What is my name?",
    "What do I have?",
    "我叫什么名字？",
    "我有什么？",
    "Maybe you can look for it together.",
    "也许你们可以一起找找。",
}


def facts_of(row: Row) -> list[str]:
    """The sentences of a row that say something: no instructions, labels, short answers."""
    found = []
    messages: list[dict[str, str]] = row["messages"]  # type: ignore[assignment]
    short = row["task"] in ("story_qa", "sentiment", "arithmetic")
    for message in messages:
        if short and message["role"] == "assistant":
            continue
        text = message["content"]
        for instruction in _INSTRUCTIONS:
            text = text.removeprefix(instruction)
        found += [one for one in sentences_of(text) if not is_formula(one)]
    return found


def is_formula(text: str) -> bool:
    """A sentence that names nobody and nothing in particular."""
    return (
        text in _FORMULAS
        or text.startswith(("I am happy for ", "我为"))
        or _ASKS.match(text) is not None
    )


# "What colour was the hat?" asks about the story; the fact is in the story.
_ASKS = re.compile(
    r"What colour was |What happened |What did \w+ do|.+怎么了|.+做了什么|.+发生了什么|Who |那.+颜色的？|谁|How many .+ does|Let me try|让我试试|.*别担心|Don't worry"
    r"|I will help you|我来帮你|\w+说|.*said \w+|真好！|真可惜|.*的话"
)


def preference(w: World) -> Row:
    """A question with a good answer, and one that is worse in one of several ways."""
    if w.chance(0.6):
        side = 0 if w.chance(0.55) else 1
        asked_for, kind, unkind = w.draw(manners.request)
        texts = [(one.en, one.zh)[side] for one in (asked_for, kind, unkind)]
        return _pair([{"role": "user", "content": texts[0]}], texts[1], texts[2])
    make = w.random.choice([story_qa, translation_en_zh, translation_zh_en, summary, chat])
    messages: list[dict[str, str]] = make(w)["messages"]  # type: ignore[assignment]
    other: list[dict[str, str]] = make(w)["messages"]  # type: ignore[assignment]
    prompt, good = messages[:-1], messages[-1]["content"]
    wrong = other[-1]["content"]
    chinese = any("\u4e00" <= character <= "\u9fff" for character in good)
    rude = "自己想去吧，别来烦我。" if chinese else "Find out yourself and leave me alone."
    choices = [
        wrong if wrong != good else rude,
        rude,
        f"{good} {good} {good}" if not chinese else good * 3,
        "我不知道。" if chinese else "I do not know.",
        f"{good} {wrong}" if not chinese else good + wrong,
    ]
    return _pair(prompt, good, w.random.choice(choices))


def _pair(prompt: list[dict[str, str]], chosen: str, rejected: str) -> Row:
    return {
        "prompt": prompt,
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
    }


# ------------------------------------------------------------------------- prose


def prose(w: World, side: int) -> str:
    """A document of one language: a story, a story with questions, remarks, or small talk."""

    def choose(pair: Pair | tuple[str, str]) -> str:
        return (pair.en, pair.zh)[side] if isinstance(pair, Pair) else pair[side]

    kind = w.random.random()
    space = " " if side == 0 else ""
    if kind < 0.2:
        told = w.draw(story)
        text = told.en if side == 0 else told.zh
        if w.chance(0.4):
            ways = [("In short: ", "简单地说：")[side], _as_a_line(_SUMMARISE[side])]
            text += "\n" + w.random.choice(ways) + choose(told.summary)
        return text
    if kind < 0.75:
        found = w.draw(lambda world: asked(world, 9))[side]
        return found.story + "".join(f"\n{question}\n{answer}" for question, answer in found.turns)
    if kind < 0.88:
        remarks = [opinions.opinion(w.random, test=False) for _ in range(w.random.randint(1, 3))]
        words = (("positive", "negative"), ("正面", "负面"))[side]
        mark = (" That is a {} opinion.", "这是{}评价。")[side]
        return "\n".join(choose(t) + mark.format(words[0 if good else 1]) for t, good in remarks)
    if kind < 0.94:
        turns = talk.fixed(w) if w.chance(0.35) else w.draw(w.random.choice(talk.PERSONAL))
        return "\n".join(f"- {user[side]}\n- {answer[side]}" for user, answer in turns)
    return space.join(choose(w.draw(sentence)) for _ in range(w.random.randint(2, 4)))


def _as_a_line(instruction: str) -> str:
    """Tests are kept apart sentence by sentence: what follows stays a sentence of its own."""
    return f"{instruction.rstrip()}\n"


def parallel(w: World) -> str:
    """The same in both languages, one after the other."""
    if w.chance(0.15):
        told = w.draw(story)
        lines = [(one.en, one.zh) for one in told.sentences]
    else:
        lines = [(p.en, p.zh) for p in (w.draw(sentence) for _ in range(w.random.randint(1, 4)))]
    first = 0 if w.chance(0.5) else 1
    if w.chance(0.5):
        instruction = _as_a_line(_TRANSLATE[first]) if w.chance(0.5) else ""
        return "\n".join(f"{instruction}{line[first]}\n{line[1 - first]}" for line in lines)
    gap = (" ", "")
    return "\n".join(gap[s].join(line[s] for line in lines) for s in (first, 1 - first))


# -------------------------------------------------------------------------- main


def write(files: dict[str, str], out: Path) -> Iterator[Path]:
    """Write the files and say which."""
    for name, text in files.items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
        yield path


def main() -> None:
    """Generate, or check what is there."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full amount")
    parser.add_argument("--check", action="store_true", help="compare with what is in --out")
    options = parser.parse_args()
    files = Generator(options.seed, options.scale).run()
    if options.check:
        with tempfile.TemporaryDirectory() as folder:
            list(write(files, Path(folder)))
            differ = [
                n
                for n in files
                if not filecmp.cmp(Path(folder) / n, options.out / n, shallow=False)
            ]
        print("as generated" if not differ else f"differs: {', '.join(differ)}")
        sys.exit(bool(differ))
    for path in write(files, options.out):
        print(f"{path.stat().st_size:>10,}  {path}")


if __name__ == "__main__":
    main()
