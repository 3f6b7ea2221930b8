"""The sample data: as its generator makes it, enough of it, and tests apart from training."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parents[2] / "data"
sys.path.insert(0, str(DATA))

from generate import facts_of, sentences_of  # noqa: E402
from sample_world import events, sums  # noqa: E402
from sample_world.lexicon import PEOPLE, THINGS  # noqa: E402

TASKS = [
    "story_qa", "translation_en_zh", "translation_zh_en", "sentiment", "arithmetic", "chat",
    "summary",
]  # fmt: skip


def _rows(folder: str, task: str) -> list[dict[str, object]]:
    path = DATA / folder / f"{task}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _training_texts() -> Iterator[str]:
    for path in sorted((DATA / "pretrain").glob("*.txt")):
        yield path.read_text(encoding="utf-8")
    for task in TASKS:
        for row in _rows("finetune", task):
            yield "\n".join(str(m["content"]) for m in row["messages"])  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def training() -> str:
    return "\n".join(_training_texts())


def test_committed_files_are_what_the_generator_makes() -> None:
    done = subprocess.run(
        [sys.executable, str(DATA / "generate.py"), "--check"],
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_is_enough() -> None:
    texts = list((DATA / "pretrain").glob("*.txt"))
    assert sum(path.stat().st_size for path in texts) >= 4_000_000
    assert sum(len(_rows("finetune", task)) for task in TASKS) >= 20_000
    assert len(_rows("preference", "train")) >= 2_000
    assert all(len(_rows("test", task)) >= 300 for task in TASKS)
    everything = [path for path in DATA.rglob("*") if path.suffix in (".txt", ".jsonl")]
    assert sum(path.stat().st_size for path in everything) < 18_000_000
    assert all("\n\n\n" not in path.read_text(encoding="utf-8") for path in texts)


@pytest.mark.parametrize("task", TASKS)
def test_no_test_sentence_is_in_training(task: str, training: str) -> None:
    known = set(sentences_of(training))
    for row in _rows("test", task):
        assert not known.intersection(facts_of(row)), row


@pytest.mark.parametrize("task", ["story_qa", "translation_en_zh", "summary", "chat"])
def test_held_out_people_and_things_do_not_meet_in_training(task: str) -> None:
    """A person and a thing of the tests never stand in one training sentence as doer and thing."""
    things = sorted((thing.en for thing in THINGS), key=len, reverse=True)
    names = "|".join(person.en for person in PEOPLE)
    doer = re.compile(
        rf"^(?:[A-Z][a-z ]+, )?({names}) (?:\w+) (?:an?|the) (?:\w+ )??({'|'.join(things)}) "
    )
    people = {person.en: person for person in PEOPLE}
    found = 0
    for row in _rows("finetune", task):
        for sentence in facts_of(row):
            if match := doer.match(sentence):
                found += 1
                assert not events.held_out(people[match[1]], match[2]), sentence
    assert found > 100 or task == "chat"


def test_held_out_sums_are_nowhere_in_training(training: str) -> None:
    pattern = re.compile(r"(\d+) ?([+\-]|加上?|减去?|plus|minus) ?(\d+)")
    signs = {"加": "+", "加上": "+", "plus": "+", "减": "-", "减去": "-", "minus": "-"}
    found = pattern.findall(training)
    assert len(found) > 10_000
    for a, sign, b in found:
        assert not sums.held_out(int(a), int(b), signs.get(sign, sign)), (a, sign, b)


@pytest.mark.parametrize("folder", ["finetune", "test"])
def test_sums_are_right(folder: str) -> None:
    for row in _rows(folder, "arithmetic"):
        question, answer = (str(m["content"]) for m in row["messages"])  # type: ignore[attr-defined]
        a, b = (int(number) for number in re.findall(r"\d+", question)[:2])
        assert int(re.findall(r"\d+", answer)[-1]) in (a + b, a - b), row


@pytest.mark.parametrize("task", TASKS)
def test_languages_are_not_mixed(task: str) -> None:
    for folder in ("finetune", "test"):
        for row in _rows(folder, task):
            for message in row["messages"]:  # type: ignore[attr-defined]
                text = re.sub(r"^(Translate into Chinese|翻译成英文)[:：]", "", message["content"])
                han = re.search("[\u4e00-\u9fff]", text)
                assert not (han and re.search("[A-Za-z]", text)), text
