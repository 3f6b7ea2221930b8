"""`chatgpt init --data` writes a configuration that can run on that data."""

import random
from pathlib import Path

import pytest

from chatgpt_cli.cli.main import main
from chatgpt_cli.config.loader import load_config


def _english(kilobytes: int) -> str:
    """Few words in ever other orders: little for a tokenizer to learn."""
    drawn = random.Random(0)
    words = ["the", "cat", "dog", "saw", "a", "red", "kite", "and", "ran", "home"]
    lines = (" ".join(drawn.choices(words, k=8)) for _ in range(30 * kilobytes))
    return "\n\n".join(lines)[: 1000 * kilobytes]


def _chinese(kilobytes: int) -> str:
    """Words of many different characters."""
    drawn = random.Random(0)
    words = ["".join(chr(0x4E00 + drawn.randrange(1200)) for _ in range(2)) for _ in range(2000)]
    lines = ("".join(drawn.choices(words, k=10)) for _ in range(16 * kilobytes))
    return "。\n\n".join(lines)[: 333 * kilobytes]


@pytest.mark.parametrize("text", [_english(45), _chinese(60)], ids=["english", "chinese"])
def test_the_vocabulary_fits_small_text(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_text(text, encoding="utf-8")
    assert main(["init", "--data", "a.txt"]) == 0
    assert " KB in a.txt" in capsys.readouterr().out
    assert load_config(None, []).config.tokenizer.vocab_size != 4096
    assert main(["preprocess"]) == 0


def test_a_file_that_is_not_utf8_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_bytes("好的天气真好".encode("gb18030"))
    assert main(["init", "--data", "a.txt"]) == 0
    said = capsys.readouterr()
    assert "a.txt:1: the text is not UTF-8" in " ".join((said.out + said.err).split())
