"""`chatgpt preprocess` as a user types it."""

import json
from pathlib import Path

import pytest

from chatgpt_cli.cli.main import main


def test_it_says_what_was_left_out(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = project / "text.txt"
    first = text.read_text(encoding="utf-8").split("\n\n")[0]
    more = [first, f"{first} 7", "The end."]
    text.write_text("\n\n".join([text.read_text(encoding="utf-8"), *more]), encoding="utf-8")
    settings = [
        "data.in_parts=true",
        "data.workers=1",
        "data.near_duplicates.threshold=0.8",
        "data.filters={min_words: 4, min_stop_words: null}",
    ]
    options = [option for setting in settings for option in ("--set", setting)]
    assert main(["preprocess", "--config", str(project / "chatgpt.yaml"), *options]) == 0
    told = capsys.readouterr().out
    assert "Working in parts, 1 of them" in told
    assert "min_words" in told and "The end." in told
    assert "1 near duplicates" in told.replace("Left out: 1 duplicates, ", "")
    report = json.loads((project / "run" / "data" / "manifest.json").read_text("utf-8"))["report"]
    assert report["rejected"]["min_words"]["documents"] == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--nodes", "2", "--node-rank", "2"], "numbered from 0 to 1"),
        (["--nodes", "2", "--force"], "--force works with one machine"),
        (["--nodes", "0"], "--nodes"),
    ],
)
def test_machines_that_cannot_be(
    options: list[str], message: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["preprocess", "--config", str(project / "chatgpt.yaml"), *options]) == 2
    assert message in capsys.readouterr().err
    assert not (project / "run").exists()


@pytest.mark.parametrize(
    ("fraction", "aside"), [(0.1, "b.txt"), (0.3, "part of a.txt, b.txt"), (0.05, "part of b.txt")]
)
def test_few_documents_that_are_kept_aside_are_named(
    fraction: float,
    aside: str,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The end of the text may be all of the last file, of which then nothing is learnt."""
    monkeypatch.chdir(project)
    text = Path("text.txt").read_text(encoding="utf-8")
    Path("texts").mkdir()
    border = len(text) * 9 // 10
    Path("texts/a.txt").write_text(text[:border], encoding="utf-8")
    Path("texts/b.txt").write_text(text[border:], encoding="utf-8")
    settings = ["data.sources=[texts]", "data.split=tail", f"data.validation_fraction={fraction}"]
    options = [option for setting in settings for option in ("--set", setting)]
    assert main(["preprocess", *options]) == 0
    said = capsys.readouterr().out.replace("texts/", "")
    assert f"Kept aside to validate with, and not learnt: {aside}\n" in said
