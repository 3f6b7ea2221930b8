"""What comes through standard input."""

import subprocess
import sys

import pytest

_READ = """
import sys
from chatgpt_cli.cli.main import set_up
from chatgpt_cli.cli.piped import checked
set_up()
try:
    print(ascii(checked(sys.stdin.read())))
except Exception as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("小明".encode(), ascii("小明")),
        ("\ufeff小明\n".encode(), ascii("小明\n")),
        ("小明".encode("gbk"), "standard input: not UTF-8 (character 2)"),
    ],
)
@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_only_utf_8_is_taken(data: bytes, said: str, locale: str) -> None:
    found = subprocess.run(
        [sys.executable, "-c", _READ],
        input=data,
        capture_output=True,
        check=True,
        env={"LC_ALL": locale},
    )
    assert found.stdout.decode().splitlines()[0] == said
