"""All of a file or nothing, also when the process dies in between."""

from pathlib import Path

import pytest

from chatgpt_cli.files import atomic_path, discard, recover, write_text


def _folder(path: Path, content: str) -> None:
    path.mkdir()
    (path / "file").write_text(content, encoding="utf-8")


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "target"
    write_text(target, "old")
    with pytest.raises(OSError, match="no space"), atomic_path(target) as temporary:
        temporary.write_text("half", encoding="utf-8")
        raise OSError("no space")
    assert target.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_replaces_a_folder(tmp_path: Path) -> None:
    target = tmp_path / "target"
    for content in ("old", "new"):
        with atomic_path(target) as temporary:
            _folder(temporary, content)
    assert (target / "file").read_text(encoding="utf-8") == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_death_between_the_renames_is_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "target"
    _folder(target, "old")

    def die(*_: object) -> None:
        raise SystemExit

    monkeypatch.setattr(Path, "replace", die)
    with pytest.raises(SystemExit), atomic_path(target) as temporary:
        _folder(temporary, "new")
    assert (target / "file").read_text(encoding="utf-8") == "old"
    monkeypatch.undo()

    # As kill -9 would leave it.
    target.rename(tmp_path / ".target.replaced")
    _folder(tmp_path / ".target.123.tmp", "new")
    _folder(tmp_path / ".other", "of somebody else")
    recover(tmp_path)
    assert (target / "file").read_text(encoding="utf-8") == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"target", ".other"}


def test_discard(tmp_path: Path) -> None:
    _folder(tmp_path / "one", "")
    discard(tmp_path / "one")
    assert list(tmp_path.iterdir()) == []
