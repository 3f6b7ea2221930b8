"""Mistakes as users make them: each is told with the fact, the place and a remedy.

In this process, with the exit code that the console script would end with. Ports and files
that are in use are in use.
"""

from __future__ import annotations

import gzip
import io
import shlex
import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from chatgpt_cli.cli.main import main
from tests.english import english_in

_FILES: dict[str, str | bytes] = {
    "empty.txt": "",
    "empty.jsonl": "",
    "file-not-folder": "x",
    "picture.png": b"\x89PNG",
    "latin.txt": "café au lait\n".encode("latin-1"),
    "cut.txt.gz": gzip.compress(b"abc def " * 1000)[:-20],
    "broken.jsonl": '{"text": "fine"}\n{"text": "not closed\n',
    "nofield.csv": "body,title\na,b\n",
    "odd.jsonl": '{"colour": "red"}\n',
    "twice.jsonl": '{"messages": [{"role": "user", "content": "a"}, '
    '{"role": "user", "content": "b"}]}\n',
    "prompts.txt": "Hi\n",
    "bad.json": "{",
    "syntax.yaml": "model:\n  preset: [tiny\n",
    "tab.yaml": "model:\n\tpreset: tiny\n",
    "list.yaml": "- a\n- b\n",
    "none.yaml": "",
    "twice.yaml": "seed: 1\nseed: 2\n",
    "latin.yaml": b"run_dir: caf\xe9\n",
    "top.yaml": "pretran:\n  budget: 3 steps\n",
    "nested.yaml": "pretrain:\n  learning_rte: 0.1\n",
    "elsewhere.yaml": "model:\n  learning_rate: 0.1\n",
    "type.yaml": "pretrain:\n  batch_size: many\n",
    "metric.yaml": "evaluate:\n  tasks:\n    - {name: a, data: rows.jsonl, metrics: [recall]}\n",
    "away.yaml": "data:\n  sources: [texts.txt]\nfinetune:\n  data:\n    - row.jsonl\n",
    "like.yaml": "evaluate:\n  tasks:\n    - {like: squadd, name: a, data: rows.jsonl}\n",
}


@dataclass(frozen=True)
class _Folders:
    """The same project, further and further along."""

    new: Path
    preprocessed: Path
    trained: Path


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Folders]:
    from tests.conftest import write_project

    root = tmp_path_factory.mktemp("mistakes")
    new, preprocessed, trained = (root / name for name in ("new", "preprocessed", "trained"))
    new.mkdir()
    write_project(new, relative=True)
    for name, content in _FILES.items():
        data = content.encode() if isinstance(content, str) else content
        (new / name).write_bytes(data)
    (new / "folder").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        shutil.copytree(new, preprocessed)
        patch.chdir(preprocessed)
        assert main(["preprocess"]) == 0
        shutil.copytree(preprocessed, trained)
        patch.chdir(trained)
        other = ["--set", "tokenizer.vocab_size=350", "--set", "run_dir=big"]
        for line in (["pretrain"], ["finetune"], ["evaluate"], ["preprocess", *other],
                     ["pretrain", *other]):  # fmt: skip
            assert main(line) == 0
        shutil.copytree(trained / "run", trained / "hurt")
        for weights in trained.glob("hurt/finetune/checkpoints/*/model.safetensors"):
            data = bytearray(weights.read_bytes())
            data[-5] ^= 255
            weights.write_bytes(data)
    yield _Folders(new, preprocessed, trained)


# Where, the command line, the exit code, the fact, the place, the remedy (parts of them).
_N, _P, _T = "new", "preprocessed", "trained"
MISTAKES = [
    # The command line.
    (_N, "pretrian", 2, "not a command", "pretrian", "Did you mean pretrain?"),
    (_N, "pretrain --confg x", 2, "No such option", "--confg", "pretrain --help"),
    (_N, "pretrain extra", 2, "unexpected extra argument", "extra", "pretrain --help"),
    (_N, "reproduce", 2, "Missing argument", "RUN", "reproduce --help"),
    (_N, "evaluate --max-rows 0", 2, "greater than or equal to 1", "--max-rows:", "--help"),
    (_N, "evaluate --max-rows many", 2, "valid integer", "--max-rows:", "--help"),
    (_N, "chat --temperature hot", 2, "valid number", "--temperature:", "chat --help"),
    (_N, "serve --port 99999", 2, "less than or equal to 65535", "--port:", "--help"),
    (_N, "plan --task cooking", 2, "'cooking'", "--task:", "translation"),
    (_N, "export --format onnx", 2, "'onnx'", "--format:", "export --help"),
    (_N, "quantize --bits 3", 2, "3 bits", "--bits:", "8 or 4"),
    (_N, "generate --stage last hello", 2, "'last' is not one of", "--stage:", "--help"),
    (_N, "pretrain --resume --restart", 2, "exclude each other", "--resume", "to go on"),
    (_N, "runs --yes", 2, "nothing to agree to", "--yes", "--clean"),
    (_T, "generate hello --choice yes --regex x", 2, "together", "--regex", "Choose one"),
    # The configuration.
    (_N, "init", 2, "there already", "chatgpt.yaml:", "--force"),
    (_N, "config --config nowhere.yaml", 2, "no such conf", "nowhere.yaml:", "chatgpt init"),
    (_N, "config --config folder", 2, "this is a folder", "folder:", "chatgpt.yaml"),
    (_N, "config --config syntax.yaml", 2, "not YAML", "syntax.yaml:3:", "colons"),
    (_N, "config --config tab.yaml", 2, "a tab", "tab.yaml:2:", "spaces"),
    (_N, "config --config list.yaml", 2, "key: value", "list.yaml:1:", "chatgpt init"),
    (_N, "config --config twice.yaml", 2, "twice", "twice.yaml:2:", "Keep one"),
    (_N, "config --config latin.yaml", 2, "not UTF-8", "latin.yaml:1:", "Save it"),
    (_N, "config --config top.yaml", 2, "not a setting", "top.yaml:1:", "mean pretrain?"),
    (_N, "config --config nested.yaml", 2, "not a setting", "nested.yaml:2:", "learning_rate?"),
    (_N, "config --config elsewhere.yaml", 2, "not a", "elsewhere.yaml:2:", "under pretrain"),
    (_N, "config --config type.yaml", 2, "whole number", "type.yaml:2:", "--schema"),
    (_N, "config --config metric.yaml", 2, "needs labels", "metric.yaml:3:", "--schema"),
    (_N, "config --config like.yaml", 2, "squadd is not", "like.yaml:3:", "mean squad?"),
    (_N, "config --set pretrain.budget", 2, "KEY=VALUE", "--set pretrain.budget:", "3e-4"),
    (_N, "config --set 'seed=[1'", 2, "not YAML", "--set seed=[1:", "quote it"),
    (_N, "config --set pretrain.budget=9", 2, "unit", "--set pretrain.budget=9:", "3 epochs"),
    (_N, "config --set model.preset=huge", 2, "'huge'", "--set model.preset=huge:", "nano"),
    (_N, "config --set model.num_heads=7", 2, "multiple", "--set model.num_heads", "head_dim"),
    (_N, "config --set pretrain.sequence_length=999", 2, "longer", "--set pretrain.seq", "--sch"),
    (_N, "config --set pretrain.objective=masked", 2, "causal", "--set pretrain.obj", "bert"),
    (_N, "config --set evaluate.tasks.5.name=x", 2, "list of 1", "--set evaluate", "from 0"),
    (_N, "config --set run_dir.x=1", 2, "is a value", "--set run_dir.x=1:", "chatgpt config"),
    (_N, "config --set prefer.batch_size=3", 2, "must be even", "--set prefer.batch", "--schema"),
    (_N, "config --set reinforce.pattern=(", 2, "no regular", "--set reinforce.pat", "--schema"),
    (_P, "pretrain --set hardware.device=cuda", 2, "finds none", "hardware.device", "auto"),
    # Text.
    (_N, "preprocess --config none.yaml", 2, "names no text", "data.sources", "my-texts"),
    (_N, "preprocess --set data.sources=[texts.txt]", 1, "no file", "texts.txt:", "text.txt?"),
    (_N, "preprocess --config away.yaml --set model.from=nobody/nothing", 1, "no file",
     "away.yaml:2: data.sources: texts.txt:", "text.txt?"),
    (_N, "finetune --config away.yaml --set model.from=nobody/nothing", 1, "no file",
     "away.yaml:5: finetune.data: row.jsonl:", "rows.jsonl?"),
    (_N, "preprocess --set data.sources=[picture.png]", 1, ".png", "picture.png:", ".jsonl"),
    (_N, "preprocess --set data.sources=[odd://x.txt]", 1, "not known", "odd://x.txt:", "Install"),
    (_N, "preprocess --set data.sources=[folder]", 1, "no file in it", "folder:", "Known are"),
    (_N, "preprocess --set data.sources=[empty.txt]", 1, "is empty", "empty.txt:", "Correct"),
    (_N, "preprocess --set data.sources=[latin.txt]", 1, "not UTF-8", "latin.txt:1:", "Save it"),
    (_N, "preprocess --set data.sources=[cut.txt.gz]", 1, "too early", "cut.txt.gz:", "Fetch"),
    (_N, "preprocess --set data.sources=[broken.jsonl]", 1, "not JSON", "jsonl:2:", "cut short?"),
    (_N, "preprocess --set data.sources=[nofield.csv]", 1, "no field", "csv:2:", "field: body"),
    (_N, "preprocess --set tokenizer.vocab_size=99999", 2, "larger", "tokenizer.vocab", "or less"),
    (_N, "preprocess --set tokenizer.path=nowhere", 2, "no tokenizer", "nowhere:", "Name a"),
    (_N, "preprocess --set run_dir=file-not-folder", 2, "a file", "file-not-folder:", "another"),
    # Too early.
    (_N, "pretrain", 1, "no tokenizer", "run/tokenizer:", "chatgpt preprocess"),
    (_P, "finetune", 1, "no model here", "run:", "pretrain` first, or name one as model.from"),
    (_N, "prefer", 1, "no model here", "run:", "chatgpt pretrain"),
    (_N, "reinforce", 1, "no model here", "run:", "chatgpt pretrain"),
    (_N, "evaluate", 1, "no trained model", "run:", "chatgpt pretrain"),
    (_N, "generate hello", 1, "no trained model", "run:", "chatgpt pretrain"),
    (_N, "chat", 1, "no trained model", "run:", "chatgpt pretrain"),
    (_N, "serve --port 0", 1, "no trained model", "run:", "chatgpt pretrain"),
    (_N, "quantize", 1, "no trained model", "run:", "chatgpt pretrain"),
    (_N, "export", 1, "no trained model", "run:", "chatgpt pretrain"),
    (_N, "report", 1, "nothing to report", "run:", "chatgpt pretrain"),
    (_P, "reproduce run", 1, "no stage was trained", "run:", "pretrain/"),
    (_N, "runs nowhere", 1, "no such folder", "nowhere:", "runs/"),
    # Rows.
    (_N, "inspect nowhere.jsonl", 1, "no file", "nowhere.jsonl:", "rows.jsonl?"),
    (_N, "inspect --set finetune.data=[]", 2, "nothing to inspect", "finetune.data", "inspect F"),
    (_T, "finetune --restart --set finetune.data=[]", 2, "names no rows", "finetune.data", "Add"),
    (_T, "finetune --restart --set finetune.data=[odd.jsonl]", 1, "no known", "odd.jsonl:1:", "C"),
    (_T, "finetune --restart --set finetune.data=[twice.jsonl]", 1, "both by", "twice.jsonl:1:",
     "on_error=skip"),
    (_T, "finetune --restart --set finetune.task=classification", 1, "classification",
     "rows.jsonl:1:", "on_error=skip"),
    (_T, "finetune --restart --set finetune.freeze_layers=9", 2, "has 2 layers", "freeze_", "few"),
    (_T, "prefer --set prefer.data=[rows.jsonl]", 1, "preference", "rows.jsonl:1:", "Correct"),
    (_T, "reinforce --set reinforce.reward=no:f --set reinforce.pattern=null", 2, "no reward",
     "reinforce.reward:", "def f(answer, row)"),
    (_T, "finetune --restart --set 'finetune.distill={teacher: big}'", 2, "different tokenizers",
     "big/", "tokenizer.path"),
    # Runs that are there.
    (_T, "pretrain --set pretrain.learning_rate=1", 2, "0.006 → 1", "run/pretrain:", "--resume"),
    (_T, "pretrain --resume --set seed=5", 2, "1234 → 5", "run/pretrain:", "--restart"),
    (_T, "evaluate --set run_dir=hurt", 1, "damaged", "hurt/finetune", "--resume"),
    (_T, "evaluate --metric blue", 2, "did you mean bleu", "--metric", "There are"),
    (_T, "evaluate --metric bleu --set evaluate.tasks=[]", 2, "no task", "evaluate.tasks:", "rows"),
    (_T, "evaluate --task sey", 2, "did you mean say", "--task", "There are"),
    (_T, "evaluate --set evaluate.tasks.0.data=odd.jsonl", 1, "no known", "odd.jsonl:1:",
     "Correct these.\n"),
    (_T, "evaluate --set evaluate.tasks.0.data=no.jsonl", 1, "no file", "no.jsonl:", "relative"),
    (_T, "compare run", 1, "two runs", "comparing", "RUN_B"),
    (_T, "compare run big", 1, "no evaluation", "big:", "chatgpt evaluate"),
    (_T, "compare run run --output folder", 1, "directory", "folder:", "Name a file"),
    # Models and prompts.
    (_T, "generate", 2, "no prompt", "generate", "pipe one in"),
    (_T, "generate hello --model smollm3", 1, "no such folder", "smollm3:", "config.json"),
    (_T, "generate hello --model rows.jsonl", 1, "neither", "rows.jsonl:", "config.json"),
    (_T, "generate hello --model folder", 1, "no config.json", "folder:", "step-"),
    (_T, "generate hello --stage prefer", 1, "no preference", "run:", "chatgpt prefer"),
    (_T, "generate hello --regex (", 2, "unclosed group", "regex", "Correct"),
    (_T, "generate hello --json-schema bad.json", 1, "line 1 column 2", "bad.json:", "one JSON"),
    (_T, "generate --file empty.txt", 1, "no prompt", "empty.txt:", "one on each line"),
    (_T, "generate hello --stage pretrain --draft big", 2, "another tokenizer", "generate.draft",
     "tokenizer.path"),
    (_T, "serve --port PORT", 1, "in use", "serve.port:", "--port"),
    (_T, "serve --host nowhere.invalid", 1, "no address", "serve.host:", "127.0.0.1"),
    (_T, "quantize --to folder", 2, "something already", "folder:", "--to"),
    (_T, "export --format huggingface --to folder", 2, "already", "folder:", "--to"),
    (_T, "distill-data", 2, "whom to ask", "distill_data", "--url"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("state", "line", "code", "fact", "place", "remedy"),
    MISTAKES,
    ids=[line for _, line, *_ in MISTAKES],
)
def test_a_mistake_is_explained(
    state: str,
    line: str,
    code: int,
    fact: str,
    place: str,
    remedy: str,
    folders: _Folders,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(getattr(folders, state))
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        line = line.replace("PORT", str(taken.getsockname()[1]))
        assert main(shlex.split(line)) == code
        said = capsys.readouterr().err
        assert main([*shlex.split(line), "--lang", "zh"]) == code
        chinese = capsys.readouterr()
    error = said[said.index("Error: ") :]
    assert fact in error and place in error and remedy in error, error
    assert len(error.splitlines()) > 1, "there is no remedy"
    assert "Traceback" not in said and "this is a bug" not in said
    # What a library says of a pattern is quoted.
    assert english_in(chinese.out + chinese.err) in (None, "regex parse error"), chinese
    assert len(chinese.err[chinese.err.index("错误：") :].splitlines()) > 1


def test_a_mistaken_restart_does_not_cost_the_run(
    folders: _Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folders.trained)
    before = set(Path("run").rglob("*"))
    assert main(["pretrain", "--restart", "--set", "hardware.device=cuda"]) == 2
    assert set(Path("run").rglob("*")) == before


@pytest.mark.parametrize(
    ("line", "package", "extra"),
    [
        ("serve --port 0", "uvicorn", "serve"),
        ("generate hello --regex x", "llguidance", "serve"),
        ("preprocess --set data.sources=[x.parquet]", "pyarrow", "parquet"),
        ("pretrain --restart --set trackers=[wandb]", "wandb", "wandb"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(
    line: str,
    package: str,
    extra: str,
    folders: _Folders,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folders.trained)
    Path("x.parquet").write_bytes(b"PAR1")
    for name in [one for one in sys.modules if one.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    if package == "uvicorn":
        monkeypatch.delitem(sys.modules, "chatgpt_cli.serving.app", raising=False)
    assert main(shlex.split(line)) in (1, 2)
    said = capsys.readouterr().err
    assert package in said and f"chatgpt-cli[{extra}]" in said and "bug" not in said


def test_settings_that_came_too_late_are_told(
    folders: _Folders, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folders.trained)
    # How the text is divided for the work changes nothing of what comes out.
    late = ["--set", "tokenizer.vocab_size=390", "--set", "data.in_parts=true"]
    assert main(["pretrain", *late]) == 0
    said = capsys.readouterr().out
    assert "tokenizer.vocab_size: 400 → 390 has changed since" in said and "in_parts:" not in said


def test_a_single_document_leaves_nothing_to_validate_with(
    folders: _Folders, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A newcomer's one file without blank lines: told at once, and again where it stops."""
    monkeypatch.chdir(folders.new)
    one = ["--set", "data.sources=[text.txt]", "--set", "run_dir=single"]
    assert main(["preprocess", *one]) == 0
    assert "data.split: tail" in capsys.readouterr().out
    assert main(["pretrain", *one]) == 1
    assert "data.split: tail" in capsys.readouterr().err
    tail = ["--set", "data.split=tail"]
    assert main(["preprocess", *one, *tail]) == 0
    assert main(["pretrain", *one, *tail]) == 0


def test_a_budget_of_a_step_or_two_is_told(
    folders: _Folders, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Few rows in one large batch: a newcomer's model that answers as it did before."""
    monkeypatch.chdir(folders.trained)
    few = ["--set", "finetune.budget=1 epochs", "--set", "finetune.batch_size=64"]
    assert main(["finetune", "--restart", *few]) == 0
    assert "steps of 64 sequences, too few to learn much" in capsys.readouterr().out
