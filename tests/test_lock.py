"""One process holds a run directory; one that is gone does not."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from chatgpt_cli.errors import ChatGPTError
from chatgpt_cli.lock import holder, run_lock

_HOLD = """
import sys
from pathlib import Path
from chatgpt_cli.lock import run_lock
with run_lock(Path(sys.argv[1]), "pretrain"):
    print("held", flush=True)
    sys.stdin.read()
"""


def _owner(pid: int, host: str) -> str:
    return json.dumps({"pid": pid, "host": host, "command": "pretrain"})


def test_the_second_is_refused_and_a_dead_one_is_not_waited_for(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    with pytest.raises(ChatGPTError) as error, run_lock(tmp_path, "finetune"):
        pass
    assert f"process {process.pid} on {socket.gethostname()}" in str(error.value)
    assert "delete" not in (error.value.remedy or "")
    assert holder(tmp_path) == "pretrain"
    process.kill()
    process.wait()
    assert holder(tmp_path) is None
    assert (tmp_path / ".lock").exists()
    with run_lock(tmp_path, "finetune"):
        assert json.loads((tmp_path / ".lock").read_text(encoding="utf-8"))["pid"] == os.getpid()
    assert not (tmp_path / ".lock").exists()


@pytest.mark.parametrize(
    "content", ["", "{", "[]", _owner(2**30, socket.gethostname()), _owner(1, socket.gethostname())]
)
def test_what_a_dead_process_left_holds_nobody_up(content: str, tmp_path: Path) -> None:
    """Also if its number now belongs to another process, such as 1."""
    (tmp_path / ".lock").write_text(content, encoding="utf-8")
    assert holder(tmp_path) is None
    with run_lock(tmp_path, "pretrain"):
        pass


def test_another_machine_may_be_alive(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text(_owner(5, "elsewhere"), encoding="utf-8")
    with (
        pytest.raises(ChatGPTError, match=r"process 5 on elsewhere") as error,
        run_lock(tmp_path, "pretrain"),
    ):
        pass
    # Only there something may have to be cleaned up.
    assert "gone, delete" in (error.value.remedy or "")
    assert holder(tmp_path) == "pretrain"
    (tmp_path / ".lock").unlink()


def test_the_directory_is_tidied_first(tmp_path: Path) -> None:
    checkpoints = tmp_path / "pretrain" / "checkpoints"
    (checkpoints / ".step-00000004.77.tmp").mkdir(parents=True)
    (checkpoints / ".step-00000003.replaced").mkdir()
    (tmp_path / "pretrain" / ".latest.77.tmp").touch()
    with run_lock(tmp_path, "pretrain"):
        pass
    assert [path.name for path in checkpoints.iterdir()] == ["step-00000003"]
    assert not (tmp_path / "pretrain" / ".latest.77.tmp").exists()
