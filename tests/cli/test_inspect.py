"""`chatgpt inspect` as a user types it."""

import json
from pathlib import Path
from typing import Any

import pytest

from chatgpt_cli.cli.main import main
from chatgpt_cli.config.schema import TokenizerSection
from chatgpt_cli.tokenizer.train import train_tokenizer
from tests.conftest import small_text
from tests.e2e.test_foreign_start import start


def _jsonl(*rows: object) -> bytes:
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    return "\n".join(lines).encode()


def _turns(*roles: str) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": "x"} for role in roles]}


GOOD = {"prompt": "say a", "completion": "a"}
PAIR = {"prompt": "say a", "chosen": "a", "rejected": "b"}

# Each file has one fault: name, contents, line (or row), field, words of the message.
MALFORMED: list[tuple[str, bytes, str, str, str]] = [
    ("utf16.jsonl", "\ufeff".encode("utf-16-le") + _jsonl(GOOD), ":1", "", "looks like UTF-16"),
    ("gbk.jsonl", _jsonl(GOOD) + b"\n" + '{"prompt": "中", "completion": "文"}'.encode("gbk"), ":2", "", "may be GB18030"),
    ("latin.csv", b"prompt,completion\na,b\ncaf\xe9,b\n", ":3", "", "not UTF-8"),
    ("cut.jsonl", _jsonl(GOOD, '{"prompt": "a", "compl'), ":2", "", "was the download cut short?"),
    ("broken.jsonl", _jsonl(GOOD, "{'prompt': 'a'}", GOOD), ":2", "", "not JSON"),
    ("number.jsonl", _jsonl(GOOD, "5"), ":2", "", "this is a number"),
    ("bom.jsonl", b"\xef\xbb\xbf" + _jsonl({"prompt": "", "completion": "b"}), ":1", "[prompt]", "prompt is empty"),
    ("empty.jsonl", b"", "", "", "the file is empty"),
    ("array.json", b'[{"prompt": "a"\n,]', ":2", "", "not JSON"),
    ("columns.csv", b"prompt,completion\na,b\na,b,c\n", ":3", "", "3 columns instead of 2"),
    ("quote.csv", b'prompt,completion\na,b\n"a,b\n', ":3", "", "broken CSV"),
    ("names.jsonl", _jsonl({"promt": "a", "completion": "b"}), ":1", "", "did you mean 'prompt'"),
    ("side.tsv", "en\tzh\nhello\t你好\nhi\t \n".encode(), ":3", "[zh]", "zh is empty"),
    ("languages.jsonl", _jsonl({"translation": {"en": "a", "zh": "b", "fr": "c"}}), ":1", "[translation]", "holds 3 languages"),
    ("answer.jsonl", _jsonl(GOOD, {"prompt": "a", "completion": " "}), ":2", "[completion]", "completion is empty"),
    ("null.jsonl", _jsonl({"instruction": "a", "output": None}), ":1", "[output]", "no output"),
    ("type.jsonl", _jsonl({"prompt": 7, "completion": "b"}), ":1", "[prompt]", "must be text, it holds a number"),
    ("history.jsonl", _jsonl({"instruction": "a", "output": "b", "history": ["q"]}), ":1", "[history]", "list of pairs"),
    ("first.jsonl", _jsonl(_turns("assistant", "user")), ":1", "[messages]", "begins with the assistant"),
    ("twice.jsonl", _jsonl(_turns("user", "user", "assistant")), ":1", "[messages]", "messages 1 and 2 are both by the user"),
    ("last.jsonl", _jsonl(_turns("user", "assistant", "user")), ":1", "[messages]", "nothing answers it"),
    ("system.jsonl", _jsonl(_turns("user", "system", "assistant")), ":1", "[messages]", "must come first"),
    ("role.jsonl", _jsonl(_turns("user", "asistant")), ":1", "[messages[1].role]", "did you mean 'assistant'"),
    ("weight.jsonl", _jsonl({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 3}]}), ":1", "[messages[1].weight]", "must be 0"),
    ("call.jsonl", _jsonl({"conversations": [{"from": "human", "value": "a"}, {"from": "function_call", "value": '{"f": 1}'}]}), ":1", "[conversations[1].value]", "name and the arguments"),
    ("image.jsonl", _jsonl({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}), ":1", "[messages[0].content]", "only text"),
    ("same.jsonl", _jsonl(PAIR, {**PAIR, "rejected": "a"}), ":2", "[rejected]", "nothing to prefer"),
    ("half.jsonl", _jsonl({"prompt": "a", "chosen": "b"}), ":1", "[rejected]", "rejected is missing"),
    ("kto.jsonl", _jsonl({"prompt": "a", "completion": "b", "label": "maybe"}), ":1", "[label]", "true (a good answer)"),
    ("hidden.jsonl", _jsonl({"text": "a", "label": -1}), ":1", "[label]", "has no label"),
    ("labels.jsonl", _jsonl({"text": "a", "label": ["x", "y"]}), ":1", "[label]", "holds 2 labels"),
    ("impossible.json", _jsonl({"data": [{"paragraphs": [{"context": " ", "qas": [{"question": "q", "answers": []}]}]}]}), ", article 1, paragraph 1, question 1", "[context]", "context is empty"),
]  # fmt: skip


@pytest.fixture
def malformed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "rows"
    folder.mkdir()
    for name, contents, *_ in MALFORMED:
        (folder / name).write_bytes(contents)
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.mark.usefixtures("malformed")
def test_every_fault_has_its_place_and_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(MALFORMED) >= 30
    assert main(["inspect", "rows"]) == 0
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert "Traceback" not in shown.out + shown.err
    for name, _, line, field, reason in MALFORMED:
        start = f"  rows/{name}{line}" + (f" {field}" if field else "") + ": "
        (found,) = [text for text in lines if text.startswith(start)]
        assert reason in found
    assert f"{len(MALFORMED):,} rows cannot be used" in shown.out


@pytest.mark.usefixtures("malformed")
def test_finetuning_stops_at_the_first_ten_faults(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(project / "chatgpt.yaml")
    assert main(["preprocess", "--config", config]) == 0
    assert main(["pretrain", "--config", config, "--set", "pretrain.budget=2 steps"]) == 0
    capsys.readouterr()
    assert main(["finetune", "--config", config, "--set", "finetune.data=[rows]"]) == 1
    shown = capsys.readouterr()
    assert "the first 10" in shown.err and "rows/array.json:2: " in shown.err
    assert "finetune.on_error=skip" in shown.err and "Traceback" not in shown.err


def _inspect(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["inspect", *arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


def test_without_a_tokenizer_lengths_are_in_characters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_bytes(_jsonl(GOOD, GOOD, {"prompt": "a" * 30, "completion": "b"}))
    found = _inspect(["rows.jsonl"], capsys)
    assert found["lengths"]["unit"] == "characters" and found["lengths"]["longest"] == 31
    assert found["lengths"]["longest_place"] == "rows.jsonl:3"
    assert found["duplicates"] == [{"place": "rows.jsonl:2", "first": "rows.jsonl:1"}]
    (format,) = found["formats"].values()
    spans = format["samples"][0]["views"][0]["spans"]
    assert [text for text, learnt in spans if learnt] == ["a\n"]
    assert main(["inspect", "rows.jsonl"]) == 0
    assert "There is no tokenizer yet" in capsys.readouterr().out


def test_rows_as_the_model_sees_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tokenizer = train_tokenizer(small_text(200), TokenizerSection(vocab_size=400))
    tokenizer.save(tmp_path / "run" / "tokenizer")
    long = {"prompt": "the cat and the dog " * 40, "completion": "a kite"}
    Path("rows.jsonl").write_bytes(
        _jsonl(GOOD, long, PAIR, {"text": "a red kite", "label": "good"}, {"src": "a", "tgt": "风"})
    )
    options = ["--set", "run_dir=run", "--set", "finetune.sequence_length=32"]
    found = _inspect(["rows.jsonl", *options], capsys)
    assert found["rows"] == 5 and found["lengths"]["truncated"] == 1
    assert found["labels"] == {"good": 1}
    first, second = found["formats"]["prompt and completion"]["samples"]
    assert first["views"][0]["spans"] == [
        ["[BOS]<|user|>say a<|end|><|assistant|>", False],
        ["a<|end|>", True],
    ]
    # Cut at the front, with its answer.
    assert second["views"][0]["spans"][-1] == ["a kite<|end|>", True]
    better, worse = found["formats"]["preference"]["samples"][0]["views"]
    assert (better["spans"][-1], worse["spans"][-1]) == (["a<|end|>", True], ["b<|end|>", True])
    assert main(["inspect", "rows.jsonl", *options]) == 0
    assert "⟦a kite<|end|>⟧" in capsys.readouterr().out


def test_unequal_files_are_no_translation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.en").write_text("one\ntwo\nthree\n", encoding="utf-8")
    Path("a.zh").write_text("一\n二\n", encoding="utf-8")
    Path("chatgpt.yaml").write_text(
        "finetune: {data: [{source: a.en, target: a.zh}]}", encoding="utf-8"
    )
    assert main(["inspect", "--json"]) == 1
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert problem["place"] == "a.en:3" and "a.en has 3 lines and a.zh has 2" in problem["reason"]
    Path("a.zh").write_text("一\n二\n三", encoding="utf-8")
    found = _inspect(["--set", "finetune.direction=both"], capsys)
    assert found["rows"] == 3 and not found["problems"]
    there, back = found["formats"]["translation"]["samples"][0]["views"]
    assert there["spans"][0][0].startswith("user: ") and back["spans"][-1] == ["one\n", True]


def test_a_header_that_is_wrong_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And no row that can be used is a failure."""
    monkeypatch.chdir(tmp_path)
    Path("faq.csv").write_text("frage,antwort\n" + "a,b\n" * 30, encoding="utf-8")
    assert main(["inspect", "faq.csv"]) == 1
    said = capsys.readouterr().out
    assert said.count("no known format") == 1 and "question, answer;" in said
    assert "faq.csv:2: " in said and "the same in 29 more rows of this file" in said
    assert "Name the files" not in said
    config = "finetune: {data: [faq.csv]}\nmodel: {from: nowhere}"
    Path("chatgpt.yaml").write_text(config, encoding="utf-8")
    Path("nowhere").mkdir()
    # Told before the model is looked into, which is none.
    assert main(["finetune"]) == 1
    said = capsys.readouterr().err
    assert said.count("no known format") == 1 and "the same in 9 more rows" in said


def test_with_the_tokenizer_of_the_model_to_start_from(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    start(project, "llama")
    assert main(["inspect"]) == 0
    said = capsys.readouterr().out
    assert "Length in tokens" in said and "There is no tokenizer yet" not in said
    assert "Next: chatgpt finetune" in said and "Name the files" not in said
