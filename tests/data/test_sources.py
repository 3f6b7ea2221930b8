"""Which files a folder stands for."""

from pathlib import Path

from chatgpt_cli.data.sources import find_files


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
