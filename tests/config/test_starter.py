"""The starter file loads, and the defaults in its comments are those of the schema."""

import re
from pathlib import Path

import pytest
import yaml

from chatgpt_cli.config.loader import load_config
from chatgpt_cli.config.schema import Config, FinetuneSection, GenerateSection, PretrainSection
from chatgpt_cli.config.starter import starter

_EXAMPLES = {"data", "sample_prompts", "system_prompt", "field", "dropout", "context_length"}


@pytest.mark.parametrize("name", ["mine", "我的", "my: project", "a #1", "{b}"])
def test_it_loads(name: str, tmp_path: Path) -> None:
    path = tmp_path / "chatgpt.yaml"
    path.write_text(starter(name=name, source="texts/"), encoding="utf-8")
    config = load_config(path, []).config
    assert config.data.sources[0].path == "texts/" and str(config.run_dir) == f"runs/{name}"


def test_commented_defaults_are_true() -> None:
    defaults = Config()
    sections = {
        "tokenizer": defaults.tokenizer,
        "data": defaults.data,
        "model": defaults.model,
        "pretrain": PretrainSection(),
        "finetune": FinetuneSection(),
        "generate": GenerateSection(),
    }
    section, checked = "", 0
    for line in starter(name="x", source="y").splitlines():
        if match := re.match(r"(?:# )?(\w+):$", line):
            section = match[1]
        match = re.match(r"#?  ?#? +(\w+): (.+?)(?:\s+#.*)?$", line)
        if line.lstrip().startswith("#") and match and section in sections:
            key, value = match[1], yaml.safe_load(match[2])
            known = getattr(sections[section], key, None)
            if key not in _EXAMPLES and known is not None:
                assert known == value, (section, key)
                checked += 1
    assert checked >= 10
