"""Each rule on a text that breaks it alone, and on texts that it must leave in peace."""

from pathlib import Path
from typing import Any

import pytest

from chatgpt_cli.config.loader import load_config
from chatgpt_cli.config.paths import RunPaths
from chatgpt_cli.config.schema import Config, FiltersSection
from chatgpt_cli.data.cleaning.filters import Batch, failed_rules
from chatgpt_cli.data.cleaning.identify import languages_of
from chatgpt_cli.data.cleaning.units import units_of
from chatgpt_cli.data.preprocess import preprocess
from chatgpt_cli.errors import ConfigError

ENGLISH = """\
The river had risen in the night, and by morning the lower field was a sheet of brown water.
Anna stood at the gate with her coat over her head and counted the sheep on the other side.
There were nineteen of them, which was one too few. She called the dog, but he would not go in;
he sat down on the path, looked at the flood, and gave her to understand that he had seen enough.
So she took the long way round by the bridge, where the miller's boy was fishing for branches.
"""
CHINESE = """\
昨天夜里下了一场大雨，早上起来的时候，院子里到处都是落叶。小明穿上雨鞋，跑到门口去看河水。
河水比平时高了许多，岸边的小路已经不见了，只有几棵柳树还站在水里。他的爷爷说，这样的大水，
二十年前也来过一次，那时候全村的人都搬到山上去住，等水退了才回家。小明听了，心里又害怕又高兴。
"""
WORDS = ENGLISH.split()

BROKEN = [
    ("min_words", "The end of the story, and that is that."),
    ("mean_word_length", " ".join(a + b for a in "the of" for b in "abcdefghijkl") + " the of to."),
    ("min_lettered_words", ENGLISH + " ".join(map(str, range(100, 200))) + "."),
    ("min_stop_words", " ".join(w for w in WORDS if w.lower() not in ("the", "of", "and", "to", "with", "that", "have", "be")) * 1),  # noqa: E501
    ("max_repeated_phrases", ENGLISH + " ".join(WORDS[20:50]) + "."),
    ("max_symbols", ENGLISH + "# " * 20 + "... " * 10),
    ("max_bullet_lines", "\n".join(f"- {line}" for line in ENGLISH.splitlines())),
    ("max_ellipsis_lines", "\n".join(f"{line}..." for line in ENGLISH.splitlines())),
    ("min_ended_lines", ENGLISH.replace(".", "").replace(";", "").replace(",", "")),
    ("max_repeated_lines", ENGLISH + "See the end.\n" * 4),
    ("refused_phrases", ENGLISH + "Lorem Ipsum dolor sit amet."),
    ("min_words", "昨天夜里下了一场大雨。"),
    ("min_stop_words", "春眠觉晓处闻啼鸟夜来风雨声花落知多少" * 1 + "床前明月光疑地上霜举头望明月低头思故乡白日依山尽黄河入海流欲穷千里目更上层楼。"),  # noqa: E501
    ("max_repeated_phrases", CHINESE + CHINESE[:60]),
]  # fmt: skip


def _failed(text: str, **limits: Any) -> str | None:
    batch = Batch([text], units_of([text]), FiltersSection.model_validate(limits))
    return failed_rules(batch)[0]


@pytest.mark.parametrize("text", [ENGLISH, CHINESE, ENGLISH + CHINESE])
def test_prose_passes(text: str) -> None:
    assert _failed(text) is None


@pytest.mark.parametrize(("rule", "text"), BROKEN)
def test_each_rule_finds_what_it_is_for(rule: str, text: str) -> None:
    assert _failed(text) == rule
    assert _failed(text, **{rule: None}) is None


def test_the_longest_documents_can_be_left_out() -> None:
    assert _failed(ENGLISH, max_words=60) == "max_words"


def test_documents_are_judged_one_by_one() -> None:
    """Whatever stands beside them: no rule mixes two documents up."""
    texts = [ENGLISH, *(text for _, text in BROKEN), "", CHINESE, ENGLISH, CHINESE]
    together = failed_rules(Batch(texts, units_of(texts), FiltersSection()))
    assert together == [_failed(text) for text in texts]
    assert together[-3:] == [None] * 3


LANGUAGES = [
    ("en", ENGLISH),
    ("en", "Where is the station?"),
    ("zh", CHINESE),
    ("zh", "你好。"),
    ("zh", "我用 Python 写了一个程序。"),
    ("ja", "昨日の夜、大雨が降りました。川の水が増えて、道が見えなくなりました。"),
    ("ko", "어젯밤에 비가 많이 왔습니다. 강물이 불어나서 길이 보이지 않았습니다."),
    ("de", "Der Fluss war in der Nacht gestiegen, und am Morgen stand das untere Feld im Wasser."),
    ("fr", "La rivière avait monté pendant la nuit, et le champ du bas était couvert d'eau."),
    ("es", "El río había crecido durante la noche y el campo de abajo estaba lleno de agua."),
    ("ru", "Ночью река поднялась, и к утру нижнее поле стало сплошной бурой водой."),
]


def test_languages_are_told_apart() -> None:
    pytest.importorskip("py3langid")
    assert languages_of([text for _, text in LANGUAGES]) == [code for code, _ in LANGUAGES]


def _run(tmp_path: Path, texts: list[str], **data: Any) -> dict[str, Any]:
    (tmp_path / "a.txt").write_text("\n\n".join(texts), encoding="utf-8")
    source = {"path": str(tmp_path / "a.txt"), "separator": "\n\n"}
    config = Config.model_validate(
        {
            "run_dir": str(tmp_path / "run"),
            "data": {"sources": [source], "validation_fraction": 0, **data},
            "tokenizer": {"type": "char", "vocab_size": 2000},
            "model": {"context_length": 16},
        }
    )
    made = preprocess(config, RunPaths(config.run_dir), force=False, tell=lambda _: None)
    return made.manifest


def test_the_report_says_what_each_rule_left_out(tmp_path: Path) -> None:
    pytest.importorskip("py3langid")
    lorem = ENGLISH + "Lorem ipsum dolor sit amet."
    german = LANGUAGES[7][1]
    texts = [ENGLISH, lorem, lorem + " Again.", CHINESE, "This text is too short.", german]
    manifest = _run(tmp_path, texts, filters={}, languages=["en", "zh"])
    rejected = manifest["report"]["rejected"]
    assert {rule: entry["documents"] for rule, entry in rejected.items()} == {
        "refused_phrases": 2,
        "min_words": 1,
        "languages": 1,
    }
    (example,) = rejected["languages"]["examples"]
    assert german.startswith(example["text"]) and example["place"].endswith("a.txt")
    assert manifest["splits"]["train"]["documents"] == 2


def test_nothing_is_judged_unless_asked_for(tmp_path: Path) -> None:
    texts = [text for _, text in BROKEN] + [text for _, text in LANGUAGES] + [ENGLISH[:-9]]
    manifest = _run(tmp_path, ["".join(text.split("\n")) for text in texts])
    assert manifest["report"]["rejected"] == {}
    assert manifest["splits"]["train"]["documents"] == len(texts)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("data.near_duplicates.threshold=1.2", "at most 1.0"),
        ("data.near_duplicates={treshold: 0.8}", "threshold"),
        ("data.filters={min_word: 5}", "min_words"),
        ("data.filters={min_words: 50, max_words: 10}", "max_words"),
        ("data.filters={mean_word_length: [10, 3]}", "least is the larger"),
        ("data.filters={stop_words: [the]}", "more than there are stop_words"),
        ("data.filters={max_symbols: 20}", "max_symbols"),
        ("data.languages=[]", "languages"),
        ("data.engine=spark", "ray"),
        ("data.in_parts=sometimes", "in_parts"),
    ],
)
def test_bad_settings_are_named(setting: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "chatgpt.yaml"
    file.write_text("data: {sources: [a.txt]}\n", encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        load_config(file, [setting])
    assert message in str(error.value)


def test_an_unknown_language_is_named(tmp_path: Path) -> None:
    pytest.importorskip("py3langid")
    with pytest.raises(ConfigError, match="'zhh' is not a language") as error:
        _run(tmp_path, [ENGLISH], languages=["en", "zhh"])
    assert "Did you mean 'zh'?" in str(error.value.remedy)
