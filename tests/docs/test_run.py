"""The command blocks of README and guides, run in the order of each page, with small models.

Budgets and sizes are made small; file names that pages take for granted are there. What a
page does not mark as not run must end with exit code 0.
"""

from __future__ import annotations

import io
import re
import runpy
import shutil
import sys
from pathlib import Path

import pytest
import torch

from chatgpt_cli.cli.main import main
from tests.conftest import write_project
from tests.docs.blocks import ROOT, Block, blocks, pages

pytestmark = pytest.mark.docs

# What every command that reads a configuration gets besides.
_STAGES = ("pretrain", "finetune", "prefer", "reinforce")
_SMALL = [
    "hardware.threads=1",
    "hardware.compile=false",
    "hardware.precision=float32",
    "evaluate.max_rows=2",
    "generate.max_tokens=4",
    *(f"{stage}.budget=4 steps" for stage in _STAGES),
    *(f"{stage}.batch_size=4" for stage in _STAGES),
    *(f"{stage}.sequence_length=64" for stage in _STAGES),
    "reinforce.max_tokens=4",
]
_OWN_MODEL = [
    "model.num_layers=1",
    "tokenizer.vocab_size=400",
    "finetune.data=[rows.jsonl]",
    # The text is one document.
    "data.split=tail",
    "data.validation_fraction=0.1",
]
# What the built-in configurations read is made for minutes.
_BUILTIN = ["data.sources=[text.txt]", "model.context_length=256"]
_WITHOUT_SETTINGS = ("init", "completion", "compare", "runs", "reproduce", "doctor")
# Names in the pages, and what they stand for here.
_NAMES = {
    "Qwen/Qwen3-0.6B": "base-model",
    "smollm2": "base-model",
    "runs/NAME": "run",
    "FILE…": "rows.jsonl",
    "文件…": "rows.jsonl",
    "我的文本/": "my-texts/",
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what pages take for granted: texts, rows, evaluated runs, a model."""
    folder = tmp_path_factory.mktemp("docs")
    write_project(folder, relative=True)
    settings = (folder / "chatgpt.yaml").read_text(encoding="utf-8")
    settings = settings.replace("context_length: 32", "context_length: 256")
    (folder / "chatgpt.yaml").write_text(settings, encoding="utf-8")
    (folder / "my-texts").mkdir()
    shutil.copy(folder / "text.txt", folder / "my-texts" / "text.txt")
    (folder / "prompts.txt").write_text("Hi\nHello\n", encoding="utf-8")
    (folder / "person.json").write_text('{"type": "integer"}', encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for command in ("preprocess", "pretrain", "finetune", "evaluate"):
            assert main(_made_small([command])) == 0
    for name in ("a", "b", "old", "new", "small"):
        shutil.copytree(folder / "run", folder / "runs" / name)
    newest = max((folder / "run" / "finetune" / "checkpoints").iterdir())
    shutil.copytree(newest, folder / "base-model")
    shutil.rmtree(folder / "base-model" / "training_state")
    (folder / "base-model" / "manifest.json").unlink()
    return folder


def _pages() -> list[Path]:
    return [page for page in pages() if any(block.commands() for block in blocks(page))]


@pytest.mark.parametrize("page", _pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_the_blocks_of_a_page_run(
    page: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "project"
    shutil.copytree(prepared, folder)
    monkeypatch.chdir(folder)
    # `chatgpt doctor` would compile for ten seconds.
    monkeypatch.setattr(torch, "compile", lambda function: function)
    for block in blocks(page):
        if block.file is not None:
            _write(folder / block.file, block.text)
        elif block.not_run is None:
            _run(block, monkeypatch)


def _write(path: Path, text: str) -> None:
    text = _named(text)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8")


def _named(text: str) -> str:
    for name, stand_in in _NAMES.items():
        text = text.replace(name, stand_in)
    return text


def _run(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    for line in block.text.splitlines():
        if line.strip().startswith("python ") and line.strip().endswith(".py"):
            runpy.run_path(line.split()[1])
    for arguments in block.commands():
        if "--help" in arguments:
            continue
        monkeypatch.setattr(sys, "stdin", io.StringIO())
        code = main(_made_small([_named(one) for one in arguments]))
        assert code == 0, f"{block.place}: chatgpt {' '.join(arguments)}"


def _made_small(arguments: list[str]) -> list[str]:
    if arguments[0] == "init":
        return [*arguments, "--force"]
    if arguments[0] in _WITHOUT_SETTINGS:
        return arguments
    there = Path("chatgpt.yaml").read_text(encoding="utf-8")
    changes = list(_SMALL)
    if "--config" in arguments:
        changes += _OWN_MODEL + _BUILTIN
    elif not re.search(r"^model: {from:", there, re.MULTILINE):
        changes += _OWN_MODEL
    small = [part for one in changes for part in ("--set", one)]
    return [arguments[0], *small, *arguments[1:]]
