"""Texts of one's own that a model is measured on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chatgpt_cli.cli.main import main
from chatgpt_cli.config.loader import load_config
from chatgpt_cli.errors import ConfigError, DataError
from chatgpt_cli.evaluation.run import plan, plan_texts
from chatgpt_cli.evaluation.texts import read_text
from chatgpt_cli.tokenizer.tokenizer import Tokenizer
from tests.conftest import small_text

Printed = pytest.CaptureFixture[str]


@pytest.fixture
def pretrained(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A base model whose validation text is the file kept.txt, document by document."""
    monkeypatch.chdir(project)
    (project / "kept.txt").write_text("\n\n".join(small_text(30, seed=5)), encoding="utf-8")
    kept = 'data.validation_sources=[{path: kept.txt, separator: "\\n\\n"}]'
    assert main(["preprocess", "--set", kept]) == 0
    assert main(["pretrain", "--set", kept, "--set", "pretrain.budget=4 steps"]) == 0
    return project / "run"


def _texts(**files: str) -> str:
    """The setting that names these files as texts; documents end at an empty line."""
    return "evaluate.texts=" + json.dumps(
        [
            {"name": name, "data": {"path": file, "separator": "\n\n"}}
            for name, file in files.items()
        ]
    )


def _evaluated(capsys: Printed, *arguments: str) -> Any:
    capsys.readouterr()
    assert main(["evaluate", "--metric", "perplexity", "--json", *arguments]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_text_is_measured_as_the_validation_text_is(pretrained: Path, capsys: Printed) -> None:
    found = _evaluated(capsys, "--set", _texts(test="kept.txt"))
    text, kept = found["texts"]["test"], found["held_out"]
    assert text.pop("data") == "test" and kept.pop("data") == "held-out text"
    # The order of documents differs, and with it the bootstrap's draws.
    for one in (text, kept):
        assert one.pop("text_sha256") and one.pop("intervals")
    assert kept["documents"] == 30
    assert text == kept
    losses = [np.load(pretrained / "evaluate" / f"{name}.npy") for name in ("held_out", "texts")]
    assert np.array_equal(*(np.sort(one, axis=0) for one in losses))
    page = (pretrained / "evaluate" / "report.html").read_text(encoding="utf-8")
    assert "held-out text (validation split)" in page and "<td>test" in page

    assert main(["evaluate", "--task", "test", "--set", _texts(test="kept.txt")]) == 0
    shown = capsys.readouterr().out
    assert "test" in shown and "bits_per_byte" in shown and "validation split" not in shown


def test_runs_are_compared_on_the_same_text_only(pretrained: Path, capsys: Printed) -> None:
    _evaluated(capsys, "--set", _texts(test="kept.txt", other="kept.txt"))
    (pretrained / "evaluate").rename(pretrained / "first")
    Path("kept.txt").rename("moved.txt")
    Path("other.txt").write_text("\n\n".join(small_text(30, seed=6)), encoding="utf-8")
    _evaluated(capsys, "--set", _texts(test="moved.txt", other="other.txt"))
    assert main(["compare", "run/first", "run/evaluate", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    names = [(one["task"], one["metric"], one["rows"]) for one in found["metrics"]]
    assert ("test", "perplexity", 30) in names and ("test", "bits_per_byte", 30) in names
    assert not any(task == "other" for task, _, _ in names)
    assert "other: not the same text in every run, and not compared" in found["notes"]


def test_documents_are_those_of_sources(project: Path, tokenizer: Tokenizer) -> None:
    """Files, folders and globs; texts and rows; normalised as the configuration says."""
    (project / "more").mkdir()
    (project / "more" / "a.txt").write_text("the cat\n\nthe dog", encoding="utf-8")
    rows = [json.dumps({"body": "the cat"}), json.dumps({"body": "the dog"})]
    (project / "more" / "b.jsonl").write_text("\n".join(rows), encoding="utf-8")
    hashes = set()
    for source in (
        {"path": f"{project}/more/a.txt", "separator": "\n\n"},
        {"path": f"{project}/more/*.jsonl", "field": "body"},
    ):
        given = f"evaluate.texts={json.dumps([{'name': 'test', 'data': source}])}"
        config = load_config(project / "chatgpt.yaml", [given]).config
        text = read_text(config.evaluate.texts[0], config, tokenizer)
        assert (text.ids == tokenizer.bos_id).sum() == 2
        hashes.add(text.sha256)
    assert len(hashes) == 1


def test_faults_are_told(project: Path, tokenizer: Tokenizer) -> None:
    (project / "empty.txt").write_text(" \n", encoding="utf-8")
    for file in ("empty.txt", "nowhere.txt"):
        given = f"evaluate.texts=[{{name: test, data: {project}/{file}}}]"
        config = load_config(project / "chatgpt.yaml", [given]).config
        with pytest.raises(DataError, match=r"no text in these|no file or folder"):
            read_text(config.evaluate.texts[0], config, tokenizer)
    with pytest.raises(ConfigError, match="two texts or tasks of the name say"):
        load_config(project / "chatgpt.yaml", ["evaluate.texts=[{name: say, data: x.txt}]"])


def test_which_are_measured(project: Path) -> None:
    given = "evaluate.texts=[{name: one, data: x.txt}, {name: two, data: x.txt}]"
    config = load_config(project / "chatgpt.yaml", [given]).config

    def names(*, metrics: list[str], tasks: list[str]) -> list[str]:
        plan(config, metrics=metrics, tasks=tasks)
        return [one.name for one in plan_texts(config, metrics=metrics, tasks=tasks)]

    assert names(metrics=[], tasks=[]) == names(metrics=["perplexity"], tasks=[]) == ["one", "two"]
    assert names(metrics=[], tasks=["two"]) == ["two"]
    assert names(metrics=["bleu"], tasks=[]) == names(metrics=[], tasks=["say"]) == []
    with pytest.raises(ConfigError, match="did you mean two"):
        names(metrics=[], tasks=["twoo"])
