"""Which files a folder stands for."""

import os
from pathlib import Path

import pytest

from chatgpt_cli.data.sources import find_files, other_kinds
from chatgpt_cli.errors import DataError


def test_links_to_folders_are_followed_each_folder_once(tmp_path: Path) -> None:
    elsewhere, data = tmp_path / "elsewhere", tmp_path / "data"
    for file in (elsewhere / "deep" / "b.txt", data / "a.txt"):
        file.parent.mkdir(parents=True)
        file.write_text("some text", encoding="utf-8")
    (data / "linked").symlink_to(elsewhere)
    (data / "twice").symlink_to(elsewhere)
    (elsewhere / "around").symlink_to(data)
    names = [Path(file.url).relative_to(data).as_posix() for file in find_files(str(data))]
    assert names == ["a.txt", "linked/deep/b.txt"]


def test_what_is_no_text_is_counted_and_hangs_nobody(tmp_path: Path) -> None:
    for name in ("a.txt", "b.html", "c.HTML", "d.pdf.gz", "Makefile", ".hidden", ".git/e.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("text", encoding="utf-8")
    os.mkfifo(tmp_path / "pipe.txt")
    assert [Path(file.url).name for file in find_files(str(tmp_path))] == ["a.txt"]
    assert other_kinds([str(tmp_path)]) == "2 .html, 1 .pdf, 1 without a suffix"
    assert other_kinds([str(tmp_path / "a.txt")]) is None


def test_a_link_that_leads_nowhere_is_told_when_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "broken.txt").symlink_to(tmp_path / "nothing")
    [file] = find_files(str(tmp_path))
    with pytest.raises(DataError, match="No such file"), file.open():
        pass


def test_a_pattern_that_fits_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "texts [new]"
    folder.mkdir()
    (folder / "a.txt").write_text("text", encoding="utf-8")
    with pytest.raises(DataError, match="no file fits") as caught:
        find_files(f"{folder}/*.txt")
    assert "[[] is a bracket itself" in str(caught.value.remedy)
    assert len(find_files(str(folder))) == 1
