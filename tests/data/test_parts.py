"""Preprocessing in parts: the same files as in one go, whoever has done what, and when."""

import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chatgpt_cli.config.paths import RunPaths
from chatgpt_cli.config.schema import Config, SourceSection
from chatgpt_cli.data.parts import plan, tasks
from chatgpt_cli.data.parts.engine import run_here
from chatgpt_cli.data.parts.machine import Machine
from chatgpt_cli.data.parts.plan import divide
from chatgpt_cli.data.preprocess import Prepared, preprocess
from chatgpt_cli.data.problems import Problem
from chatgpt_cli.data.sources import find_files
from chatgpt_cli.data.survey import Sample, SourceFiles, read_all
from chatgpt_cli.errors import ChatGPTError, ConfigError, DataError
from tests.conftest import small_text
from tests.data.dying import kill_itself


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "PART_BYTES", 4000)


@pytest.fixture
def texts(tmp_path: Path) -> list[dict[str, Any]]:
    """Sources of several kinds, with duplicates across files, and one shown 2.5 times."""
    documents = small_text(400)
    near = [f"{document.rsplit(' ', 1)[0]} kite" for document in documents[:30]]
    everything = [*documents, *documents[:20], *near]
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text("\n\n".join(everything[:250]), encoding="utf-8")
    for number in range(3):
        part = everything[250 + 20 * number : 270 + 20 * number]
        (folder / f"b{number}.txt").write_text("\n\n".join(part), encoding="utf-8")
    rows = [json.dumps({"text": text}, ensure_ascii=False) for text in everything[310:]]
    (tmp_path / "c.jsonl").write_text("\n".join(rows), encoding="utf-8")
    return [
        {"path": str(folder), "separator": "\n\n"},
        {"path": str(tmp_path / "c.jsonl"), "weight": 2.5},
    ]


def _config(run_dir: Path, sources: list[dict[str, Any]], **data: Any) -> Config:
    return Config.model_validate(
        {
            "run_dir": str(run_dir),
            "data": {
                "sources": sources,
                "near_duplicates": {"threshold": 0.7, "shingle": 2},
                "filters": {"min_words": 12, "min_stop_words": None, "mean_word_length": None},
                "shard_tokens": 2000,
                **data,
            },
            "tokenizer": {"vocab_size": 400},
            "model": {"context_length": 16},
        }
    )


def _run(config: Config) -> Prepared:
    return preprocess(config, RunPaths(config.run_dir), force=False, tell=lambda _: None)


def _files(config: Config) -> dict[str, Any]:
    """What is in the files; of the manifest all but how it names places, in ranges or not."""
    root = config.run_dir
    files: dict[str, Any] = {
        str(path.relative_to(root)): path.read_bytes()
        for folder in ("data", "tokenizer")
        for path in sorted((root / folder).rglob("*"))
        if path.is_file()
    }
    manifest = json.loads(files.pop("data/manifest.json"))
    del manifest["checksum"]
    for entry in manifest["report"]["rejected"].values():
        for example in entry["examples"]:
            del example["place"]
    return {**files, "manifest": manifest}


@pytest.mark.parametrize(("split", "workers"), [("hash", 2), ("hash", 1), ("tail", 1)])
def test_the_files_are_those_of_one_go(
    split: str, workers: int, tmp_path: Path, texts: list[dict[str, Any]]
) -> None:
    plain = _config(tmp_path / "plain", texts, split=split, in_parts=False)
    report = _run(plain).manifest["report"]
    assert report["duplicates"] and report["near duplicates"] and report["rejected"]
    config = _config(tmp_path / "run", texts, split=split, in_parts=True, workers=workers)
    _run(config)
    assert _files(config) == _files(plain)
    assert not (config.run_dir / "parts").exists()


def test_text_for_validation_alone(tmp_path: Path, texts: list[dict[str, Any]]) -> None:
    """What resembles training text goes from it, since that comes first."""
    documents = small_text(60, seed=7)
    again = json.loads((tmp_path / "c.jsonl").read_text("utf-8").splitlines()[0])["text"]
    (tmp_path / "v.txt").write_text("\n\n".join([again, *documents]), encoding="utf-8")
    own = {"validation_sources": [{"path": str(tmp_path / "v.txt"), "separator": "\n\n"}]}
    plain = _config(tmp_path / "plain", texts, in_parts=False, **own)
    config = _config(tmp_path / "run", texts, in_parts=True, workers=1, **own)
    manifest = _run(plain).manifest
    _run(config)
    assert _files(config) == _files(plain)
    assert 40 < manifest["splits"]["validation"]["documents"] <= 60


def test_two_machines_share_the_work(tmp_path: Path, texts: list[dict[str, Any]]) -> None:
    plain = _config(tmp_path / "plain", texts, in_parts=False)
    _run(plain)
    config = _config(tmp_path / "run", texts, workers=1)
    command = [sys.executable, "-c", _AS_MACHINE, config.model_dump_json(by_alias=True)]
    other = subprocess.Popen([*command, "1"], env=_environment())
    try:
        subprocess.run([*command, "0"], env=_environment(), check=True, timeout=300)
        assert other.wait(timeout=300) == 0
    finally:
        other.kill()
    assert _files(config) == _files(plain)
    assert not (config.run_dir / "parts").exists()


_AS_MACHINE = """
import sys
from chatgpt_cli.config.paths import RunPaths
from chatgpt_cli.config.schema import Config
from chatgpt_cli.data.parts import plan
from chatgpt_cli.data.parts.machine import Machine
from chatgpt_cli.data.preprocess import help_preprocess, preprocess

plan.PART_BYTES = 4000
config = Config.model_validate_json(sys.argv[1])
paths, machine = RunPaths(config.run_dir), Machine(int(sys.argv[2]), 2)
if machine.number:
    help_preprocess(config, paths, machine=machine, tell=print)
else:
    preprocess(config, paths, machine=machine, tell=print, force=False)
"""


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


_KILLED = """
import os, signal, sys
from chatgpt_cli.config.paths import RunPaths
from chatgpt_cli.config.schema import Config
from chatgpt_cli.data.parts import plan, tasks
from chatgpt_cli.data.preprocess import preprocess

plan.PART_BYTES = 4000
config = Config.model_validate_json(sys.argv[1])
name, last = sys.argv[2], int(sys.argv[3])
inner = {"survey": "look_through", "encode": "kept"}[name]
original, calls = getattr(tasks, inner), []

def counted(*arguments):
    calls.append(1)
    done = original(*arguments)
    if len(calls) > last:
        os.kill(os.getpid(), signal.SIGKILL)
    return done

setattr(tasks, inner, counted)
preprocess(config, RunPaths(config.run_dir), tell=print, force=False)
"""


@pytest.mark.parametrize("stage", ["survey", "encode"])
def test_killed_in_the_middle_it_goes_on(
    stage: str, tmp_path: Path, texts: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = _config(tmp_path / "plain", texts, in_parts=False)
    _run(plain)
    config = _config(tmp_path / "run", texts, in_parts=True, workers=1)
    command = [sys.executable, "-c", _KILLED, config.model_dump_json(by_alias=True), stage, "3"]
    killed = subprocess.run(command, env=_environment(), timeout=300, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    (folder,) = (config.run_dir / "parts").iterdir()
    done = {path.name: path.stat().st_ino for path in (folder / stage).glob("0*")}
    assert len(done) == 3
    seen = []
    original = tasks.look_through if stage == "survey" else tasks.kept

    def counted(*arguments: Any) -> Any:
        seen.append(1)
        return original(*arguments)

    monkeypatch.setattr(tasks, original.__name__, counted)
    told: list[str] = []
    preprocess(config, RunPaths(config.run_dir), force=False, tell=told.append)
    parts = len(json.loads(_job(tmp_path, texts))["parts"])
    assert len(seen) == parts - 3
    assert any(line.startswith("Going on") for line in told)
    assert _files(config) == _files(plain)


def _job(tmp_path: Path, texts: list[dict[str, Any]]) -> str:
    """The plan that these texts have, as a run with nothing else to do would write it."""
    from chatgpt_cli.data.parts.job import plan_job, save_job
    from chatgpt_cli.data.preprocess import find_sources

    config = _config(tmp_path / "other", texts)
    save_job(plan_job(config, find_sources(config)), tmp_path)
    return (tmp_path / "job.json").read_text(encoding="utf-8")


def test_a_killed_worker_ends_the_work(tmp_path: Path) -> None:
    with pytest.raises(ChatGPTError, match="a worker process was killed"):
        run_here(kill_itself, tmp_path, range(4), 2)


def test_workers_end_with_their_parent() -> None:
    """The output would stay open as long as one of them runs."""
    code = """
from pathlib import Path
from chatgpt_cli.data.parts.engine import run_here
from tests.data.dying import kill_parent
run_here(kill_parent, Path(), range(20), 2)
"""
    command = [sys.executable, "-c", code]
    killed = subprocess.run(command, env=_environment(), timeout=300, capture_output=True)
    assert killed.returncode == -signal.SIGKILL


def test_a_damaged_part_is_named(
    tmp_path: Path, texts: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _config(tmp_path / "run", texts, in_parts=True, workers=1)
    original = tasks.encoded_part

    def damaging(folder: Path, number: int, dtype: Any) -> Any:
        if number == 2:
            path = folder / "encode" / "00002" / "tokens.bin"
            path.write_bytes(path.read_bytes()[:-2] + b"\0\0")
        return original(folder, number, dtype)

    monkeypatch.setattr(tasks, "encoded_part", damaging)
    with pytest.raises(DataError, match="a finished part is damaged") as error:
        _run(config)
    assert "00002" in str(error.value.place)
    monkeypatch.setattr(tasks, "encoded_part", original)
    folder = Path(str(error.value.place))
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    _run(config)
    plain = _config(tmp_path / "plain", texts, in_parts=False)
    _run(plain)
    assert _files(config) == _files(plain)


def test_faults_are_told_as_in_one_go(tmp_path: Path) -> None:
    lines = [json.dumps({"text": t}) for t in small_text(200)]
    lines[100] = "{broken"
    (tmp_path / "a.jsonl").write_text("\n".join(lines), encoding="utf-8")
    sources = [{"path": str(tmp_path / "a.jsonl")}]
    config = _config(tmp_path / "run", sources, in_parts=True, workers=2)
    with pytest.raises(DataError, match=r"not JSON") as error:
        _run(config)
    assert "from byte" in str(error.value) and "data.on_error=skip" in str(error.value)
    skipping = _config(tmp_path / "run", sources, in_parts=True, workers=2, on_error="skip")
    assert _run(skipping).manifest["report"]["problems"] == {"not JSON": 1}


SEPARATED = [
    ("a.txt", "\n\n", "\n\n", "\n\n"),
    ("a.txt", "\n\n", "\r\n\r\n", "\r\n"),
    ("a.txt", "\n<|endoftext|>\n", "\n<|endoftext|>\n", "\n"),
    ("a.md", "\n\n", "\n\n\n\n", "\n"),
]


@pytest.mark.parametrize(("name", "separator", "written", "inside"), SEPARATED)
def test_ranges_of_a_file_hold_its_documents(
    name: str, separator: str, written: str, inside: str, tmp_path: Path
) -> None:
    """`written` stands between documents, `inside` within some; neither falls between ranges."""
    inside = inside if inside != separator else "\n"
    texts = [text.replace("\n", inside) for text in small_text(300)]
    (tmp_path / name).write_bytes(written.join(texts).encode())
    _same_documents(tmp_path / name, {"separator": separator}, len(texts))


def test_ranges_of_rows(tmp_path: Path) -> None:
    rows = [json.dumps({"text": text}, ensure_ascii=False) for text in small_text(300)]
    (tmp_path / "a.jsonl").write_text("\n\n".join(rows) + "\n", encoding="utf-8")
    _same_documents(tmp_path / "a.jsonl", {}, 300)


def _same_documents(path: Path, source: dict[str, Any], count: int) -> None:
    section = SourceSection.model_validate({"path": str(path), **source})
    whole = SourceFiles(section, find_files(section.path), False)
    data = Config.model_validate({}).data
    expected = [item for _, item in read_all([whole], data)]
    parts = divide([whole])
    assert len(parts) > 5 and len(expected) == count
    ranges = [file for part in parts for file in part.files]
    assert [file.start for file in ranges[1:]] == [file.stop for file in ranges[:-1]]
    found = [
        item
        for part in parts
        for _, item in read_all([SourceFiles(section, part.files, False)], data)
    ]
    assert not any(isinstance(item, Problem) for item in found)
    assert [item.text for item in found] == [item.text for item in expected]  # type: ignore[union-attr]


@pytest.mark.parametrize("limit", [500, 3000, 10**6])
def test_the_sample_of_samples_is_the_sample(limit: int) -> None:
    r = random.Random(limit)
    texts = [(r.getrandbits(32), text) for text in small_text(500)]
    whole = Sample(limit)
    for chance, text in texts:
        whole.add(chance, text)
    merged = Sample(limit)
    for start in range(0, len(texts), 60):
        part = Sample(limit)
        for chance, text in texts[start : start + 60]:
            part.add(chance, text)
        merged.limit(part.threshold)
        for chance, text in part.chosen:
            merged.add(chance, text)
    assert merged.texts() == whole.texts() and whole.texts()


def test_small_files_share_a_part_and_packed_ones_are_whole(tmp_path: Path) -> None:
    import gzip

    for number in range(6):
        (tmp_path / f"{number}.txt").write_text("x" * 1500, encoding="utf-8")
    packed = gzip.compress("\n\n".join(small_text(600)).encode())
    (tmp_path / "z.txt.gz").write_bytes(packed)
    assert len(packed) > 8000
    section = SourceSection(path=str(tmp_path), separator="\n\n")
    parts = divide([SourceFiles(section, find_files(section.path), False)])
    assert [len(part.files) for part in parts] == [3, 3, 1]


@pytest.mark.parametrize(("tasks_", "machines"), [(0, 3), (2, 3), (7, 3), (12, 5), (5, 1)])
def test_each_task_has_one_machine(tasks_: int, machines: int) -> None:
    shares = [Machine(number, machines).share(tasks_) for number in range(machines)]
    assert [task for share in shares for task in share] == list(range(tasks_))


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray_it_says_what_to_install(tmp_path: Path, texts: list[dict[str, Any]]) -> None:
    with pytest.raises(ConfigError, match="ray is not installed") as error:
        _run(_config(tmp_path / "run", texts, engine="ray"))
    assert "chatgpt-cli[ray]" in str(error.value.remedy)


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="make test-ray installs Ray")
def test_ray_makes_the_same_files(tmp_path: Path, texts: list[dict[str, Any]]) -> None:
    import ray

    plain = _config(tmp_path / "plain", texts, in_parts=False)
    _run(plain)
    config = _config(tmp_path / "run", texts, engine="ray", workers=2)
    bad = _config(
        tmp_path / "bad", [{"path": str(tmp_path / "c.jsonl"), "field": "x"}], engine="ray"
    )
    try:
        _run(config)
        assert _files(config) == _files(plain)
        with pytest.raises(DataError, match="the row has no field 'x'"):
            _run(bad)
    finally:
        ray.shutdown()
