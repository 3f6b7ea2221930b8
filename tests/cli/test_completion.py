"""Tab in the shells themselves: what bash answers, and that every name is offered."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from chatgpt_cli.cli.completion import setting_names
from chatgpt_cli.cli.main import COMMANDS, main
from chatgpt_cli.config.loader import load_config


def _script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["completion", shell]) == 0
    return capsys.readouterr().out


def _bash(script: str, *words: str) -> list[str]:
    """What bash offers for the last of these words."""
    listed = " ".join(f"'{word}'" for word in words)
    code = f"{script}\nCOMP_WORDS=({listed}); COMP_CWORD={len(words) - 1}; _chatgpt\n"
    code += 'printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash(capsys: pytest.CaptureFixture[str]) -> None:
    script = _script("bash", capsys)
    assert _bash(script, "chatgpt", "pre") == ["preprocess", "pretrain", "prefer"]
    assert _bash(script, "chatgpt", "") == list(COMMANDS)
    assert _bash(script, "chatgpt", "pretrain", "--res") == ["--resume", "--restart"]
    assert _bash(script, "chatgpt", "generate", "--stage", "pre") == ["pretrain", "prefer"]
    assert "pretrain.learning_rate=" in _bash(script, "chatgpt", "plan", "--set", "pretrain.lea")
    # A value without choices is a file, which bash completes itself.
    assert _bash(script, "chatgpt", "pretrain", "--config", "my") == []


def test_fish_and_zsh_name_everything(capsys: pytest.CaptureFixture[str]) -> None:
    for shell in ("fish", "zsh"):
        script = _script(shell, capsys)
        for name in COMMANDS:
            assert f" {name}" in script
        assert "model.from=" in script and "finetune.lora=" in script
    if shutil.which("fish"):
        subprocess.run(
            ["fish", "--no-execute"], input=_script("fish", capsys), text=True, check=True
        )


def test_settings_are_those_of_the_schema() -> None:
    names = setting_names()
    assert {"seed", "pretrain.learning_rate", "serve.port", "model.from"} <= set(names)
    load_config(None, ["seed=3", "pretrain.learning_rate=0.1", "serve.port=80"])
