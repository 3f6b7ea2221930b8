"""Configuration faults: each with its line, its key and a way out."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatgpt_cli.config.budget import Budget
from chatgpt_cli.config.loader import dump_config, load_config
from chatgpt_cli.config.paths import builtin
from chatgpt_cli.config.yaml_source import read_yaml
from chatgpt_cli.errors import ConfigError

FAULTS = [
    ("pretrain:\n  learning_rat: 1\n", ":2", "Did you mean learning_rate?"),
    ("learning_rate: 1\n", ":1", "belongs under pretrain or finetune"),
    ("seed: abc\n", ":1", "a whole number, it is 'abc'"),
    ("seed: 1\nseed: 2\n", ":2", "first in line 1"),
    ("a:\n\tb: 1\n", ":2", "tab"),
    ("- 1\n", ":1", "key: value"),
    ("data:\n  sources:\n    - {path: a, feild: b}\n", ":3", "Did you mean field?"),
    ("finetune:\n  data: [{source: a, traget: b}]\n", ":2", "Did you mean target?"),
    ("seed: !!bool maybe\n", ":1", "cannot be read as a value"),
    ("seed: !!timestamp maybe\n", ":1", "cannot be read as a value"),
    ("model:\n  hidden_size: 100\n  num_heads: 3\n", ":1", "not a multiple of num_heads"),
    ("model:\n  preset: tinny\n", ":1", "is not one of nano, tiny"),
    ("tokenizer:\n  type: wordpiece\n", ":2", "one of unigram, bpe or char"),
    ("hardware:\n  compile: maybe\n", ":2", "auto or true or false"),
    ("pretrain:\n  budget: 3 epocs\n", ":2", '"3 epochs"'),
    ("pretrain:\n  budget: 0 steps\n", ":2", "more than zero"),
    ("pretrain:\n  objective: masked\n", ":2", "preset: bert"),
    ("model:\n  context_length: 16\npretrain:\n  sequence_length: 32\n", ":4", "longer than"),
    ("pretrain: [1, 2]\n", ":1", "section"),
    ("x: [1, 2\n", "", "not YAML"),
    ("[" * 3000, "", "not YAML"),
    ("pretrain:\n  budget：3 epochs\nseed: 1\n", ":2", "a full-width ：; write : and a space"),
    ("run_dir：runs/a\n\nseed: 1\n", ":1", "a full-width ："),
    ("run_dir：runs/a\n", ":1", "a full-width ："),
    ("data:\n  sources: ［a.txt］\n", ":2", "a full-width ［; write ["),
    ("data:\n  sources: [a.txt，b.txt］\nseed: 1\n", ":2", "a full-width ，; write ,"),
    ("seed: “1”\n", ":1", 'a full-width “; write "'),
    ("seed: 1\n＃ note: x\n", ":2", "a full-width ＃; write #"),
    ("model:\n\u3000preset: nano\n", ":2", "ordinary spaces"),
]


@pytest.mark.parametrize(("text", "line", "words"), FAULTS)
def test_faults_name_line_and_remedy(text: str, line: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        load_config(path, [])
    assert f"my.yaml{line}" in str(error.value) and words in str(error.value)


def test_full_width_punctuation_in_text_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    text = "finetune:\n  system_prompt: “你”：［好］\npretrain:\n  sample_prompts: [你：, “a”]\n"
    path.write_text(text, encoding="utf-8")
    assert load_config(path, []).config.finetune.system_prompt == "“你”：［好］"
    path.write_text(f"{text}seed: x\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="whole number") as error:
        load_config(path, [])
    assert "full-width" not in str(error.value)
    block = "generate:\n  system_prompt: |\n    a：［b］\n  # x：“y”\n  top_p: x\n"
    path.write_text(block, encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        load_config(path, [])
    assert "my.yaml:5" in str(error.value) and "full-width" not in str(error.value)


def test_all_faults_are_listed_at_once(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("seed: x\nmodle: {}\npretrain: {batch_size: 0}\n", encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        load_config(path, ["finetune.l1=-1"])
    message = str(error.value)
    for part in ("my.yaml:1: seed", "my.yaml:2: modle", "my.yaml:3: pretrain.batch_size"):
        assert part in message
    assert "--set finetune.l1=-1: finetune.l1" in message


def test_overrides_and_numbers(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("data:\n  sources: [a.txt]\npretrain:\n  learning_rate: 1e-3\nmodel:\n")
    config = load_config(
        path, ["pretrain.budget=2M tokens", "data.sources.0=b.txt", "finetune.l1=2e-5"]
    ).config
    assert config.pretrain.learning_rate == 1e-3 and config.finetune.l1 == 2e-5
    assert str(config.pretrain.budget) == "2000000 tokens"
    assert config.data.sources[0].path == "b.txt"
    for text in ("10M tokens", "1234567 steps", "1.1k steps", "2.75 epochs", "1e+07 tokens"):
        budget = Budget.parse(text)
        assert Budget.parse(str(budget)) == budget and "e+" not in str(budget)
    for bad in (
        "pretrain.budget",
        "=3",
        "data.sources.4=x",
        "seed.x=1",
        "seed=[",
        "data.sources.²=x",
        "a..b=1",
    ):
        with pytest.raises(ConfigError, match="--set"):
            load_config(path, [bad])


@pytest.mark.parametrize("path", sorted(builtin("configs").glob("*.yaml")), ids=lambda p: p.stem)
def test_built_in_configurations_load_and_dump(path: Path, tmp_path: Path) -> None:
    config = load_config(path, []).config
    copy = tmp_path / "copy.yaml"
    copy.write_text(dump_config(config), encoding="utf-8")
    assert load_config(copy, []).config == config


def test_missing_file_names_the_nearest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("chatgpt.yaml").write_text("seed: 7\n", encoding="utf-8")
    assert load_config(None, []).config.seed == 7
    with pytest.raises(ConfigError, match=r"did you mean chatgpt\.yaml"):
        load_config(Path("chatgtp.yaml"), [])
    assert load_config(Path("quickstart"), []).source == "built-in quickstart"


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        read_yaml("my.yaml", data)
    except ConfigError as error:
        assert "my.yaml" in str(error)


def test_alias_bombs_are_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(ConfigError, match="too large"):
        read_yaml("my.yaml", "\n".join(lines).encode())
