"""The program in Chinese: the choice, the catalogue, and that no message lacks an entry."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from chatgpt_cli.catalogue import Catalogue, Entry, chinese
from chatgpt_cli.cli.main import main
from chatgpt_cli.cli.output import Output
from chatgpt_cli.config.starter import _COMMENT, STARTER
from chatgpt_cli.language import chosen, located, preferred, speaking, translator
from tests.english import english_in
from tests.messages import PACKAGE, Message, messages

# ------------------------------------------------------------------------- the choice


@pytest.mark.parametrize(
    ("environment", "language"),
    [
        ({}, "en"),
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "de_DE.UTF-8"}, "en"),
        ({"LANG": "zh_CN.UTF-8", "LC_MESSAGES": "en_GB.UTF-8"}, "en"),
        ({"LANG": "en_US.UTF-8", "LC_ALL": "zh_TW.UTF-8"}, "zh"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": ""}, "zh"),
        ({"LC_ALL": "zh_CN.UTF-8", "CHATGPT_LANG": "en"}, "en"),
        ({"LC_ALL": "C", "CHATGPT_LANG": "zh"}, "zh"),
    ],
)
def test_the_environment_chooses(environment: dict[str, str], language: str) -> None:
    assert preferred(environment) == language


@pytest.mark.parametrize(
    ("name", "language"),
    [("Chinese (Simplified)_China", "zh"), ("zh_CN", "zh"), ("English_United States", "en")],
)
def test_windows_has_a_locale_of_its_own(
    name: str, language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setattr("locale.getlocale", lambda: (name, "936"))
    assert preferred({}) == language
    assert preferred({"CHATGPT_LANG": "en"}) == "en"


@pytest.mark.parametrize(
    "line",
    [
        ["--lang", "zh", "runs", "nowhere"],
        ["runs", "--lang", "zh", "nowhere"],
        ["runs", "nowhere", "--lang=zh"],
        ["--lang", "en", "runs", "nowhere", "--lang", "zh"],
    ],
)
def test_the_option_stands_anywhere(line: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line) == 1
    assert capsys.readouterr().err.startswith("错误：nowhere：没有这个文件夹\n")
    assert chosen() == "en"


def test_the_option_outdoes_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CHATGPT_LANG", "zh")
    assert main(["runs", "nowhere"]) == 1
    assert "没有这个文件夹" in capsys.readouterr().err
    assert main(["runs", "nowhere", "--lang", "en"]) == 1
    assert "there is no such folder" in capsys.readouterr().err


@pytest.mark.parametrize("line", [["--lang", "fr"], ["runs", "--lang"], ["--lang="]])
def test_there_is_no_other_language(line: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line) == 2
    assert "en, zh" in capsys.readouterr().err


def test_english_costs_nothing() -> None:
    """The catalogue is not loaded."""
    code = (
        "import sys; from chatgpt_cli.cli.main import main; "
        "assert main(['--help']) == 0 and main(['runs', 'nowhere']) == 1; "
        "assert 'chatgpt_cli.catalogue' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


# ---------------------------------------------------------------------- the catalogue

_SAMPLE = r"""
# A comment.

the file {} is empty
文件 {} 是空的

{}: {} rows[[, {} of them new]]
{0}：{1} 行[[，其中 {2} 行是新的]]

it is damaged: {}
已损坏：{:text}

Left out: {}
已去掉：{:list}

too short
太短

There are: {}
现有：{:names}

{}, row {}
{} 第 {} 行

two\nlines
两\n行

of {}
关于 {:text}
"""


@pytest.mark.parametrize(
    ("english", "chinese_"),
    [
        ("the file a.txt is empty", "文件 a.txt 是空的"),
        # Data stay as they are, though they look like a message.
        ("the file too short is empty", "文件 too short 是空的"),
        ("runs/a: 1,200 rows", "runs/a：1,200 行"),
        ("runs/a: 1,200 rows, 3 of them new", "runs/a：1,200 行，其中 3 行是新的"),
        ("it is damaged: the file x is empty", "已损坏：文件 x 是空的"),
        ("Left out: 3 too short, 1 other", "已去掉：太短 3、1 other"),
        ("There are: too short or long", "现有：too short 或 long"),
        ("There are: a and b and c", "现有：a、b 和 c"),
        ("There are: a", "现有：a"),
        ("a.jsonl, row 3: too short", "a.jsonl 第 3 行：太短"),
        ("too short: too short", "too short：太短"),
        ("two\nlines", "两\n行"),
        ("  a.txt: too short\n  b.txt: too short", "  a.txt：太短\n  b.txt：太短"),
        ("too short; too short", "太短；太短"),
        # No space between two Chinese words.
        ("of too short", "关于太短"),
        ("nobody said this", "nobody said this"),
        ("", ""),
    ],
)
def test_messages_are_found_and_filled(english: str, chinese_: str) -> None:
    assert Catalogue(_SAMPLE).translate(english) == chinese_


@pytest.mark.parametrize("content", ["one line", "a\nb\nc", "a\nb\n\na\nc"])
def test_a_broken_catalogue_is_an_error(content: str) -> None:
    with pytest.raises(ValueError):
        Catalogue(content)


@given(st.text())
def test_any_text_can_be_shown(text: str) -> None:
    with speaking("zh"):
        assert isinstance(translator()(text), str)
        assert located(text, "nobody said this").endswith("nobody said this")


def _entries() -> list[Entry]:
    return list(chinese().entries.values())


def test_every_entry_is_sound() -> None:
    """Each gap is in both, numbered or not; Chinese punctuation, and spaces as is usual."""
    faults = [f"{fault}: {entry.chinese}" for entry in _entries() for fault in _faults(entry)]
    assert not faults, "\n".join(faults)


def _faults(entry: Entry) -> list[str]:
    numbers = [int(one) for one in re.findall(r"\{(\d+)[:}]", entry.chinese)]
    plain = re.findall(r"\{(?::\w+)?\}", entry.chinese)
    gaps = list(range(entry.english.count("{}")))
    own = re.sub(r"`[^`]*`|\{[^}]*\}|\[\[|\]\]|'[^']*'", "·", entry.chinese)
    return [
        fault
        for fault, there in {
            "gaps": (plain and numbers) or sorted(numbers or range(len(plain))) != gaps,
            "optional parts": entry.english.count("[[") != entry.chinese.count("[["),
            "ASCII marks": re.search(r"[\u4e00-\u9fff][,;:!?()]|[,;:!?(][\u4e00-\u9fff]", own),
            "no space": re.search(r"[\u4e00-\u9fff][A-Za-z0-9]|[A-Za-z0-9][\u4e00-\u9fff]", own),
            "a space": re.search(r"[，。；：？！、（）] |[^ ] [，。；：？！、（）]", own.strip()),
        }.items()
        if there
    ]


# ------------------------------------------------------------------------- every message

_SHOWN, _OTHERS = messages()

# Sentences that are not shown on a terminal: pages in both languages, the server's
# interface, what models read, and patterns for other programs' messages.
_ELSEWHERE = (
    "evaluation/report/", "evaluation/verdict.py", "evaluation/advice.py", "evaluation/svg.py",
    "serving/", "tokenizer/huggingface.py", "tokenizer/template.py", "catalogue.py",
    "evaluation/judge.py", "cli/completion.py", "cli/help_page.py", "model/native/",
    "config/starter.py",
)  # fmt: skip
_NOT_SHOWN = re.compile(
    r"You may call these functions|Is the answer correct|Translate into|Run a command line"
    r"|Invalid value for|unable to parse|Input should|it should be|required_chars|broadcast_buffers"
    r"|out of memory|not enough memory|allocate memory"
    r"|^wandb sync"
    # Prompts in commands that are suggested, to be typed as they stand.
    r"|^Once upon a time$|^The \[MASK\] is blue\.$"
    # Parts of messages that are found whole as well.
    r"|^, which is in|this needs \d+ .B$"
)


def _lacking(found: list[Message], is_sentence: Callable[[str], bool]) -> list[str]:
    """The messages that would be shown in English, or partly so."""
    return sorted(
        {
            f"chatgpt_cli/{one.place}: {one.text!r}"
            for one in found
            if not one.place.startswith(_ELSEWHERE)
            and not _NOT_SHOWN.search(one.text)
            and is_sentence(one.text)
            and english_in(chinese().translate(one.text))
        }
    )


def test_every_message_has_its_chinese() -> None:
    lacking = _lacking(_SHOWN, lambda text: bool(english_in(text)))
    assert not lacking, "write their Chinese into locale/zh.txt:\n" + "\n".join(lacking)


def test_no_sentence_is_overlooked() -> None:
    """Nor one that reaches people in a way that tests/messages.py does not know."""
    lacking = _lacking(_OTHERS, lambda text: len(re.findall(r"[A-Za-z]{2,}", text)) > 2)
    assert not lacking, "translate them, or say above where they go:\n" + "\n".join(lacking)


def test_every_entry_is_of_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    used: set[str] = set()
    find = Catalogue.find

    def noting(catalogue: Catalogue, message: str) -> Entry | None:
        entry = find(catalogue, message)
        used.update([] if entry is None else [entry.english])
        return entry

    monkeypatch.setattr(Catalogue, "find", noting)
    for one in [*_SHOWN, *_OTHERS]:
        if not one.place.startswith(("evaluation/report/", "evaluation/verdict.py")):
            chinese().translate(one.text)
    whole = (PACKAGE / "locale" / "zh.txt").read_text(encoding="utf-8")
    own = whole.partition("messages of other people's programs")[0]
    comments = {one for line in STARTER.split("\n") for one in _COMMENT.findall(line)}
    entries = Catalogue(own).entries.values()
    unused = {one.english for one in entries} - used - comments
    assert not unused


def test_a_new_project_is_commented_in_chinese(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / "en.yaml", tmp_path / "zh.yaml"]
    for file in files:
        assert main(["init", str(file), "--lang", file.stem]) == 0
    assert not english_in(capsys.readouterr().out.partition("✓")[2].partition("✓")[2])
    english, chinese_ = (file.read_text(encoding="utf-8") for file in files)
    assert yaml.safe_load(chinese_) == {**yaml.safe_load(english), "run_dir": "runs/zh"}
    for line in re.findall(r"# (?![a-z_ -]+:)(.*)", chinese_):
        # Presets have names.
        assert "bert" in line or not english_in(line), line


def test_a_process_that_ends_says_why_in_chinese(capsys: pytest.CaptureFixture[str]) -> None:
    """From a thread, which does not know the choice."""
    with speaking("zh"):
        output = Output()
    thread = Thread(target=output.alarm, args=["the disk is full"])
    thread.start()
    thread.join()
    assert capsys.readouterr().err == "错误：磁盘已满\n"


def test_help_is_chinese(capsys: pytest.CaptureFixture[str]) -> None:
    from chatgpt_cli.cli.main import COMMANDS

    assert main(["--help", "--lang", "zh"]) == 0
    for command in COMMANDS:
        assert main([command, "--help", "--lang", "zh"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("用法：chatgpt 命令 [选项]\n") and "[默认：auto]" in said
    assert not english_in(said)
