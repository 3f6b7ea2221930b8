"""The commands of a project as somebody in China runs them: nothing is left in English."""

from __future__ import annotations

import io
import json
import shlex
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from chatgpt_cli.cli.main import main
from tests.conftest import write_project
from tests.english import english_in

_STAGES = ["preprocess", "pretrain", "finetune", "prefer", "evaluate --show 1"]
_OTHERS = [
    "report",
    "compare run run/evaluate",
    "runs run",
    "runs run --clean",
    "inspect rows.jsonl pairs.jsonl",
    "plan --gpus 8 --price-per-hour 2",
    "export",
    "reproduce run --check",
    "pretrain",
    "preprocess",
]


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each stage says in a Chinese locale, and the folder of the project."""
    folder = write_project(tmp_path_factory.mktemp("chinese"), relative=True)
    found = {"folder": str(folder)}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("CHATGPT_LANG")
        patch.setenv("LC_ALL", "zh_CN.UTF-8")
        for line in _STAGES:
            with redirect_stdout(io.StringIO()) as stream:
                assert main(shlex.split(line)) == 0
            found[line] = stream.getvalue()
    return found


@pytest.mark.parametrize("line", _STAGES)
def test_a_locale_is_enough(line: str, said: dict[str, str]) -> None:
    # What was asked and answered is as it was.
    text = "\n".join(row for row in said[line].split("\n") if not row.startswith("  "))
    assert not english_in(text), said[line]


@pytest.mark.parametrize("line", _OTHERS)
def test_nothing_is_left_in_english(
    line: str,
    said: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(said["folder"])
    assert main([*shlex.split(line), "--lang", "zh"]) == 0
    shown = capsys.readouterr()
    text = "\n".join(row for row in shown.out.split("\n") if "<|" not in row)
    assert text and not english_in(text), shown


@pytest.mark.parametrize(
    "line",
    [
        "inspect rows.jsonl",
        "runs run",
        "compare run run/evaluate",
        "plan --gpus 8",
        "config --set model.num_heads=7",
        "generate hello --model nowhere",
        "pretrain",
    ],
)
def test_json_is_the_same(
    line: str,
    said: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(said["folder"])
    found = []
    for language in ("en", "zh"):
        code = main([*shlex.split(line), "--json", "--lang", language])
        found.append((code, json.loads(capsys.readouterr().out)))
    assert found[0] == found[1]


def test_chat_speaks_chinese(
    said: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(said["folder"])
    lines = ["/help", "/stats", "/temperature 2", "/temperature hot", "/system", "/save", "/load x"]
    lines += ["/load rows.jsonl", "/clear", "/regenerate", "/what", "Say cat", "/stats", "/exit"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(lines) + "\n"))
    assert main(["chat", "--max-tokens", "2", "--lang", "zh"]) == 0
    shown = capsys.readouterr().err
    assert "忘掉这段对话" in shown and not english_in(shown), shown


@pytest.mark.parametrize(("language", "other"), [("en", "zh"), ("zh", "en")])
def test_a_page_opens_in_the_language(
    language: str, other: str, said: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(said["folder"])
    assert main(["report", "--lang", language]) == 0
    page = Path("run/report.html").read_text(encoding="utf-8")
    assert f'id="lang-{language}" checked' in page and f'id="lang-{other}">' in page
    assert f'<html lang="{language}">' in page
    # The one that training wrote, in a Chinese locale.
    trained = Path("run/pretrain/report.html").read_text(encoding="utf-8")
    assert 'id="lang-zh" checked' in trained
