"""What the documentation shows exists: commands, options, settings, links, and references."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from chatgpt_cli.cli.main import COMMANDS, command_of
from chatgpt_cli.config.loader import load_config
from chatgpt_cli.config.schema import Config
from tests.docs.blocks import ROOT, Block, blocks, pages

_BLOCKS = [block for page in pages() for block in blocks(page)]
_COMMANDS = [(block, arguments) for block in _BLOCKS for arguments in block.commands()]


def _keys(text: str) -> list[str]:
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError:
        return []
    return list(content) if isinstance(content, dict) else []


def test_there_are_blocks() -> None:
    assert len(_COMMANDS) > 80 and len(pages()) > 15


@pytest.mark.parametrize(
    ("block", "arguments"),
    _COMMANDS,
    ids=[f"{block.place} {' '.join(arguments)}" for block, arguments in _COMMANDS],
)
def test_a_command_line_is_one(block: Block, arguments: list[str]) -> None:
    name, *rest = arguments
    assert name in COMMANDS, block.place
    if "--help" in rest:
        return
    # Placeholders such as FILE… stand for texts, which they are.
    context = command_of(name).make_context(f"chatgpt {name}", list(rest))
    overrides = context.params.get("set_")
    if overrides:
        load_config(Path("quickstart"), list(overrides))


def _settings() -> list[Block]:
    found = []
    for block in _BLOCKS:
        keys = _keys(block.text) if block.language == "yaml" else []
        if keys and set(keys) <= set(Config.model_fields):
            found.append(block)
    return found


@pytest.mark.parametrize("block", _settings(), ids=lambda block: block.place)
def test_settings_are_valid(block: Block) -> None:
    content: dict[str, Any] = yaml.safe_load(block.text)
    Config.model_validate({key: {} if one is None else one for key, one in content.items()})


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target or target.startswith(("#", "mailto:")):
            continue
        path = page.parent / target.partition("#")[0]
        assert path.exists(), f"{page.relative_to(ROOT)} → {target}"


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["cli.md", "config.md"])
def test_references_are_up_to_date(name: str) -> None:
    made = _generator().PAGES[name]()
    kept = (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8")
    assert made == kept, "run `make reference`"


def test_every_setting_is_in_the_reference() -> None:
    text = (ROOT / "docs" / "reference" / "config.md").read_text(encoding="utf-8")
    for key in Config.model_json_schema()["$defs"]["PretrainSection"]["properties"]:
        assert f"| `{key}` |" in text
    assert "Muon's rate, for the matrices inside the blocks." in text
