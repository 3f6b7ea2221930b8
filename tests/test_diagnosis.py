"""`chatgpt doctor`: requirements are read rightly, faults decide the exit code."""

from __future__ import annotations

import json
from importlib.metadata import version

import pytest
import torch

from chatgpt_cli import diagnosis
from chatgpt_cli.cli.main import main


@pytest.mark.parametrize(
    ("requirement", "fault"),
    [
        ("torch<3,>=2.1", None),
        ("torch>=99", f"torch is {version('torch')}, >=99 is needed"),
        ("torch<1.0,>=0.1 ; extra == 'x'", f"torch is {version('torch')}, <1.0 is needed"),
        ("no-such-package>=1; extra == 'serve'", "no-such-package is missing"),
        ("fsspec", None),
        ("fsspec[http]>=2020.1", None),
    ],
)
def test_requirements(requirement: str, fault: str | None) -> None:
    assert diagnosis.unmet(requirement) == fault


def test_a_missing_extra_is_a_note_and_a_missing_package_a_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    listed = ["torch>=2.10,<3", "lacking>=1", "absent>=2; extra == 'serve'"]
    monkeypatch.setattr(diagnosis, "requires", lambda _: listed)
    needed, serve = diagnosis._packages()
    assert (needed.state, needed.said) == ("fault", "lacking is missing")
    assert needed.remedy == "pip install 'lacking>=1'"
    assert serve.state == "note" and serve.remedy == "pip install 'chatgpt-cli[serve]'"


def test_what_does_not_work_decides_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_: object) -> object:
        raise RuntimeError("no backend\nlong story")

    monkeypatch.setattr(diagnosis, "_PROBE_SECONDS", 0.0)
    monkeypatch.setattr(torch, "compile", lambda function: function)
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["healthy"] is True
    assert {"Python", "processor", "speed", "torch.compile"} <= {
        one["name"] for one in found["findings"]
    }
    monkeypatch.setattr(torch, "compile", lambda _: broken)
    assert main(["doctor"]) == 1
    printed = capsys.readouterr().out
    assert "torch.compile: fails: no backend" in printed and "compile: false" in printed
    assert "long story" not in printed


def test_the_rate_of_products_is_one() -> None:
    assert diagnosis.matmul_rate(torch.float32, torch.device("cpu"), 0.0) > 1e8
