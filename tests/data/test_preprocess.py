"""From files of every kind to shards, and every fault named with its place."""

import bz2
import gzip
import json
import lzma
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard

from chatgpt_cli.config.paths import RunPaths
from chatgpt_cli.config.schema import Config
from chatgpt_cli.data import encode
from chatgpt_cli.data import preprocess as module
from chatgpt_cli.data.preprocess import Prepared, preprocess
from chatgpt_cli.data.shards import TokenShards
from chatgpt_cli.errors import ConfigError, DataError
from chatgpt_cli.reproduction.record import text_files
from chatgpt_cli.tokenizer.special import BOS, EOS
from chatgpt_cli.tokenizer.tokenizer import Tokenizer
from tests.conftest import small_text


def _config(tmp_path: Path, data: dict[str, Any], **more: Any) -> Config:
    return Config.model_validate(
        {
            "run_dir": str(tmp_path / "run"),
            "data": data,
            "tokenizer": {"vocab_size": 400},
            "model": {"context_length": 16},
            **more,
        }
    )


def _run(tmp_path: Path, data: dict[str, Any], **more: Any) -> Prepared:
    config = _config(tmp_path, data, **more)
    return preprocess(config, RunPaths(config.run_dir), force=False, tell=lambda _: None)


def _documents(tmp_path: Path, split: str = "train") -> list[str]:
    paths = RunPaths(tmp_path / "run")
    tokenizer = Tokenizer.load(paths.tokenizer)
    shards = TokenShards.open(paths.data, split)  # type: ignore[arg-type]
    ids = shards.read(0, shards.num_tokens)
    assert (ids[shards.document_starts()] == BOS).all() and ids[-1] == EOS
    return [tokenizer.decode(part) for part in np.split(ids, shards.document_starts()[1:])]


def _write(path: Path, texts: list[str]) -> None:
    """The same documents in the form that the name asks for."""
    name = path.name
    if ".jsonl" in name:
        data = "\n".join(json.dumps({"text": t}, ensure_ascii=False) for t in texts)
    elif ".json" in name:
        data = json.dumps([{"text": t} for t in texts])
    elif ".csv" in name:
        data = "id,text\n" + "".join(f'{i},"{t}"\n' for i, t in enumerate(texts))
    else:
        data = "\n\n".join(texts)
    raw = data.encode()
    suffix = path.suffix
    pack = {
        ".gz": gzip.compress,
        ".bz2": bz2.compress,
        ".xz": lzma.compress,
        ".zst": zstandard.compress,
    }.get(suffix)
    path.write_bytes(pack(raw) if pack else raw)


NAMES = [
    "a.txt",
    "a.md",
    "a.jsonl",
    "a.json",
    "a.csv",
    "a.txt.gz",
    "a.jsonl.bz2",
    "a.txt.xz",
    "a.txt.zst",
]


@pytest.mark.parametrize("name", NAMES)
def test_every_kind_of_file_gives_the_same_documents(name: str, tmp_path: Path) -> None:
    texts = small_text(60)
    _write(tmp_path / name, texts)
    source = {"path": str(tmp_path / name), "separator": "\n\n"}
    _run(tmp_path, {"sources": [source], "validation_fraction": 0.1})
    found = _documents(tmp_path) + _documents(tmp_path, "validation")
    assert sorted(found) == sorted(texts)


def test_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    texts = small_text(60)
    parquet.write_table(pyarrow.table({"body": texts}), tmp_path / "a.parquet")
    _run(tmp_path, {"sources": [{"path": str(tmp_path / "*.parquet"), "field": "body"}]})
    assert sorted(_documents(tmp_path) + _documents(tmp_path, "validation")) == sorted(texts)


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_halves_of_characters_in_escapes(name: str, tmp_path: Path) -> None:
    first, second, *others = small_text(60)
    rows = [json.dumps({"text": one}) for one in (f"{first}\ud83d", f"{second}😀", *others)]
    whole = "\n".join(rows) if name == "a.jsonl" else f"[{','.join(rows)}]"
    (tmp_path / name).write_text(whole, encoding="ascii")
    _run(tmp_path, {"sources": [str(tmp_path / name)], "validation_fraction": 0.0})
    assert sorted(_documents(tmp_path)) == sorted([f"{first}\ufffd", f"{second}😀", *others])


def test_duplicates_short_and_weights(tmp_path: Path) -> None:
    texts = small_text(60)
    (tmp_path / "a.txt").write_text("\n\n".join([*texts, *texts[:9], "x"]), encoding="utf-8")
    source = {"path": str(tmp_path / "a.txt"), "separator": "\n\n", "weight": 2}
    report = _run(tmp_path, {"sources": [source], "min_chars": 2}).manifest["report"]
    assert report["duplicates"] == 9 and report["too short"] == 1
    held_out = _documents(tmp_path, "validation")
    train = _documents(tmp_path)
    assert sorted(train) == sorted(2 * [t for t in texts if t not in held_out])
    assert len(held_out) >= 1


def test_tail_split_is_exact_in_characters(tmp_path: Path) -> None:
    text = "".join(small_text(200))
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    _run(
        tmp_path,
        {"sources": [str(tmp_path / "a.txt")], "split": "tail", "validation_fraction": 0.1,
         "max_chars": 1000},
    )  # fmt: skip
    train, held_out = "".join(_documents(tmp_path)), "".join(_documents(tmp_path, "validation"))
    assert train + held_out == text and len(train) == int(len(text) * 0.9)


def test_split_is_stable_when_documents_are_added(tmp_path: Path) -> None:
    texts = small_text(300)
    path = tmp_path / "a.txt"
    held_out = []
    for count in (200, 300):
        path.write_text("\n\n".join(texts[:count]), encoding="utf-8")
        _run(tmp_path, {"sources": [{"path": str(path), "separator": "\n\n"}]})
        held_out.append(set(_documents(tmp_path, "validation")))
    assert held_out[0] <= held_out[1]


def test_long_lines_are_cut_and_nothing_is_lost(tmp_path: Path) -> None:
    text = "the cat saw a dog " * 30000 + "小明" * 5000
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    data = {"sources": [str(tmp_path / "a.txt")], "max_chars": 5000, "deduplicate": False}
    _run(tmp_path, {**data, "split": "tail"}, tokenizer={"vocab_size": 292})
    joined = "".join(_documents(tmp_path) + _documents(tmp_path, "validation"))
    assert joined == text


def test_nothing_changed_nothing_done(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("\n\n".join(small_text(80)), encoding="utf-8")
    data = {"sources": [{"path": str(path), "separator": "\n\n"}]}
    assert _run(tmp_path, data).fresh
    assert not _run(tmp_path, data).fresh
    assert _run(tmp_path, {**data, "min_chars": 3}).fresh
    shard = tmp_path / "run" / "data" / "train-00000.npy"
    shard.write_bytes(shard.read_bytes()[:-40])
    assert _run(tmp_path, {**data, "min_chars": 3}).fresh


def test_workers_do_not_change_the_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode, "_PARALLEL_BYTES", 1000)
    monkeypatch.setattr(encode, "_BATCH_CHARS", 500)
    (tmp_path / "a.txt").write_text("\n\n".join(small_text(300)), encoding="utf-8")
    source = {"path": str(tmp_path / "a.txt"), "separator": "\n\n"}
    prints = []
    for workers in (1, 2):
        _run(
            tmp_path / str(workers), {"sources": [source], "workers": workers, "shard_tokens": 2000}
        )
        folder = RunPaths(tmp_path / str(workers) / "run").data
        shards = TokenShards.open(folder, "train")
        shards.verify()
        prints.append(shards.fingerprint())
    assert prints[0] == prints[1] and len(prints[0]["shards"]) > 1  # type: ignore[arg-type]


def test_interruption_leaves_the_old_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("\n\n".join(small_text(80)), encoding="utf-8")
    data = {"sources": [{"path": str(path), "separator": "\n\n"}]}
    _run(tmp_path, data)
    before = _documents(tmp_path)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_check_amount", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _run(tmp_path, {**data, "min_chars": 2})
    assert _documents(tmp_path) == before
    assert not list((tmp_path / "run").glob(".*.tmp"))


BAD = [
    ("a.txt", "the caf\xe9".encode("latin-1"), "a.txt:1", "not UTF-8"),
    ("a.txt", "好的天气真好".encode("gb18030"), "a.txt:1", "GB18030"),
    ("a.txt", b"", "a.txt", "the file is empty"),
    ("a.jsonl", b'{"text": "a"}\n{"txt": "b"}\n', "a.jsonl:2", "did you mean 'txt'"),
    ("a.jsonl", b'{"text": 5}\n', "a.jsonl:1", "holds int, not text"),
    ("a.jsonl", b'{"text": "a"}\n{"text": \n{"text": "c"}\n', "a.jsonl:2", "not JSON"),
    ("a.jsonl", b'{"text": "a"}\n{"text": "b', "a.jsonl:2", "download cut short"),
    ("a.jsonl", '{"text": "a"}\n{“text”: "b"}'.encode(), "a.jsonl:2", 'full-width “; write "'),
    ("a.jsonl", '{"text"： "a"}\n'.encode(), "a.jsonl:1", "full-width ：; write :"),
    ("a.jsonl", '{"text": "a”}\n'.encode(), "a.jsonl:1", 'full-width ”; write "'),
    ("a.json", '[{"text": "a"}，{"text": "b"}]'.encode(), "a.json:1", "full-width ，; write ,"),
    ("a.jsonl", b"[1, 2]\n", "a.jsonl:1", "this is a list"),
    ("a.json", b'{"text": "a"}\n{"text": "b"}', "a.json:2", "name it .jsonl"),
    ("a.csv", b'text\n"a\n', "a.csv", "broken CSV"),
    ("a.csv", b"text,id\na\n", "a.csv:2", "1 columns instead of 2"),
    ("a.txt.gz", gzip.compress(b"abc" * 9999, mtime=0)[:-20], "a.txt.gz", "ends too early"),
    ("a.txt.gz", b"not gzip at all", "a.txt.gz", "cannot be read"),
    ("a.parquet", b"PAR1 nonsense", "a.parquet", "not readable as Parquet"),
]


@pytest.mark.parametrize(("name", "content", "place", "reason"), BAD)
def test_faults_are_named(
    name: str, content: bytes, place: str, reason: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as error:
        _run(tmp_path, {"sources": [str(tmp_path / name)]})
    assert place in str(error.value) and reason in str(error.value)
    assert "data.on_error=skip" in str(error.value)


def test_faults_can_be_skipped_and_are_counted(tmp_path: Path) -> None:
    lines = [json.dumps({"text": t}) for t in small_text(60)] + ["{broken", '{"x": 1}']
    (tmp_path / "a.jsonl").write_text("\n".join(lines), encoding="utf-8")
    data = {"sources": [str(tmp_path / "a.jsonl")], "on_error": "skip"}
    report = _run(tmp_path, data).manifest["report"]
    assert report["problems"] == {"not JSON": 1, "field is missing": 1}
    assert any(":61:" in line for line in report["skipped"])


def test_missing_sources_and_too_little_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="names no text"):
        _run(tmp_path, {})
    (tmp_path / "texts").mkdir()
    with pytest.raises(DataError, match="there is no file in it"):
        _run(tmp_path, {"sources": [str(tmp_path / "texts")]})
    with pytest.raises(DataError, match=r"did you mean .*texts"):
        _run(tmp_path, {"sources": [str(tmp_path / "textz")]})
    (tmp_path / "a.txt").write_text("\n\n".join(small_text(5)), encoding="utf-8")
    with pytest.raises(DataError, match="too little text"):
        _run(
            tmp_path,
            {"sources": [{"path": str(tmp_path / "a.txt"), "separator": "\n\n"}]},
            model={"context_length": 4000},
            tokenizer={"vocab_size": 330},
        )


def test_damaged_shards_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n\n".join(small_text(80)), encoding="utf-8")
    _run(tmp_path, {"sources": [{"path": str(tmp_path / "a.txt"), "separator": "\n\n"}]})
    folder = tmp_path / "run" / "data"
    shard = folder / "train-00000.npy"
    whole = shard.read_bytes()
    for damaged in (whole[:-2], whole[:30], b"", whole[:6] + b"\xff" + whole[7:]):
        shard.write_bytes(damaged)
        with pytest.raises(DataError, match="damaged"):
            TokenShards.open(folder, "train")
    shard.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(DataError, match="not what was written"):
        TokenShards.open(folder, "train")
    (folder / "manifest.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match="manifest"):
        TokenShards.open(folder, "train")


def test_an_existing_tokenizer_is_used_as_it_is(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for seed, folder in enumerate((first, second)):
        folder.mkdir()
        (folder / "a.txt").write_text("\n\n".join(small_text(80, seed)), encoding="utf-8")
    _run(first, {"sources": [{"path": str(first / "a.txt"), "separator": "\n\n"}]})
    trained = first / "run" / "tokenizer"
    data = {"sources": [{"path": str(second / "a.txt"), "separator": "\n\n"}]}
    _run(second, data, tokenizer={"path": str(trained), "vocab_size": 999})
    used = Tokenizer.load(second / "run" / "tokenizer")
    assert used.hash == Tokenizer.load(trained).hash
    with pytest.raises(ConfigError, match=r"tokenizer\.path") as caught:
        _run(second, data, tokenizer={"path": str(tmp_path)})
    assert "runs/NAME/tokenizer" in (caught.value.remedy or "")


def test_the_record_takes_its_place_with_the_shards_or_not_at_all(tmp_path: Path) -> None:
    _write(tmp_path / "text.txt", small_text(200))
    config = _config(tmp_path, {"sources": [str(tmp_path / "text.txt")]})
    paths = RunPaths(config.run_dir)

    def die(folder: Path) -> None:
        (folder / "record").write_text("half of it")
        raise KeyboardInterrupt

    def record(folder: Path) -> None:
        assert not paths.data.exists()
        (folder / "record").write_text("all of it")

    with pytest.raises(KeyboardInterrupt):
        preprocess(config, paths, force=False, tell=lambda _: None, record=die)
    assert list(config.run_dir.iterdir()) == []
    made = preprocess(config, paths, force=False, tell=lambda _: None, record=record)
    assert made.fresh and (paths.data / "record").read_text() == "all of it"


def test_a_messy_folder(tmp_path: Path) -> None:
    """What cannot be read is left out where that is asked for; what is not read is told."""
    folder = tmp_path / "texts"
    folder.mkdir()
    for number, text in enumerate(small_text(80)):
        (folder / f"{number}.txt").write_text(text, encoding="utf-8")
    (folder / "page.html").write_text("<p>", encoding="utf-8")
    (folder / "broken.txt").symlink_to(tmp_path / "nothing")
    # Alone to validate with, it is named in the manifest.
    named = os.fsdecode(os.fsencode(tmp_path) + b"/n\xff\xd0me.txt")
    Path(named).write_text("the cat saw a red kite", encoding="utf-8")
    data = {"sources": [str(folder)], "validation_sources": [named], "on_error": "skip"}
    config = _config(tmp_path, data)
    told: list[str] = []
    preprocess(config, RunPaths(tmp_path / "run"), force=False, tell=told.append)
    assert "Files of other kinds are not read: 1 .html" in told
    assert text_files(config)[str(folder / "broken.txt")].startswith("unreadable")
