"""`chatgpt generate` as it is typed."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from chatgpt_cli.cli.generate import generate, read_prompts
from chatgpt_cli.errors import ChatGPTError, ConfigError, DataError, ModelError
from tests.cli.speaking import make_run, make_wandering_run

app = typer.Typer()
app.command()(generate)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("tuned"))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("base"), "pretrain", says=" dog ran")


def run(config: Path, *arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, ["--config", str(config), *arguments], input=stdin)


def failure(config: Path, *arguments: str, stdin: str | None = None) -> ChatGPTError:
    error = run(config, *arguments, stdin=stdin).exception
    assert isinstance(error, ChatGPTError), error
    return error


def test_only_the_text_is_on_standard_output(tuned: Path, base: Path) -> None:
    assert run(tuned, "hello").stdout == "cat\n"
    assert run(base, "the").stdout == " dog ran\n"


@pytest.mark.parametrize("arguments", [(), ("-",)])
def test_a_prompt_from_standard_input(tuned: Path, arguments: tuple[str, ...]) -> None:
    assert run(tuned, *arguments, stdin="hello\n").stdout == "cat\n"


def test_json(tuned: Path) -> None:
    result = json.loads(run(tuned, "hello", "--json", "--n", "2").stdout)
    assert result["stage"] == "finetune"
    first, second = result["completions"]
    assert first == second
    assert (first["prompt"], first["text"], first["finish_reason"]) == ("hello", "cat", "stop")
    assert first["tokens"] == len(first["ids"])
    assert first["prompt_tokens"] > first["tokens"]


def test_samples_and_several(tuned: Path) -> None:
    assert run(tuned, "--samples").stdout == "> one\ncat\n\n> two\ncat\n\n"
    assert run(tuned, "x", "--n", "2").stdout == "> x\ncat\n\ncat\n\n"


def test_options_reach_the_sampling(base: Path) -> None:
    assert run(base, "x", "--stop", "ran").stdout == " dog \n"
    one = json.loads(run(base, "x", "--max-tokens", "1", "--json").stdout)["completions"][0]
    assert (one["tokens"], one["finish_reason"]) == (1, "length")
    hot = ("--temperature", "50", "--top-p", "1", "--max-tokens", "20")
    texts = {run(base, "x", *hot, "--seed", seed).stdout for seed in ("1", "1", "2")}
    assert len(texts) == 2
    assert run(base, "x", *hot, "--top-k", "1").stdout == " dog ran\n"
    assert run(base, "x", "--top-p", "2").exit_code == 2


def test_chat_and_raw_differ_in_the_prompt(tuned: Path, base: Path) -> None:
    def tokens(config: Path, *arguments: str) -> int:
        output = run(config, "cat", "--json", *arguments).stdout
        return int(json.loads(output)["completions"][0]["prompt_tokens"])

    assert tokens(tuned) == tokens(tuned, "--chat") == tokens(tuned, "--raw") + 3
    assert tokens(base) == tokens(base, "--raw") == tokens(base, "--chat") - 3


def test_a_model_folder(base: Path, tuned: Path) -> None:
    folder = base.parent / "pretrain" / "checkpoints" / "step-00000001"
    assert run(tuned, "x", "--model", str(folder)).stdout == " dog ran\n"
    assert "no such folder" in failure(tuned, "x", "--model", "nowhere").fact
    assert "no finetuned model" in failure(base, "x", "--stage", "finetune").fact


def test_a_long_prompt_is_cut_and_that_is_said(tuned: Path) -> None:
    result = run(tuned, "cat " * 100)
    assert result.stdout == "cat\n"
    assert "too long for the model's context of 48 tokens" in result.stderr


def test_batch_from_a_file(tuned: Path, tmp_path: Path) -> None:
    lines = tmp_path / "prompts.txt"
    lines.write_text("one\n\ntwo\n", encoding="utf-8")
    assert run(tuned, "--file", str(lines)).stdout == "> one\ncat\n\n> two\ncat\n\n"
    rows = tmp_path / "rows.jsonl"
    turns = [{"role": "user", "content": "天"}, {"role": "assistant", "content": "known"}]
    rows.write_text(
        json.dumps({"prompt": "p"}) + "\n" + json.dumps({"messages": turns}), encoding="utf-8"
    )
    output = json.loads(run(tuned, "--file", str(rows), "--json").stdout)
    assert [row["prompt"] for row in output["completions"]] == ["p", "天"]
    assert [row["text"] for row in output["completions"]] == ["cat", "cat"]


@pytest.mark.parametrize(
    ("content", "place", "words"),
    [
        (b'{"prompt": "a"}\n{"prompt": ', ":2", "not valid JSON"),
        (b'{"text": "a"}', ":1", "neither a text `prompt` nor a list `messages`"),
        (b'{"messages": [{"role": "king", "content": "a"}]}', ":1", "neither"),
        (b'{"messages": []}', ":1", "neither"),
        (b"[1]", ":1", "neither"),
        (b"\n \n", "", "no prompt in the file"),
        (b"\xff\xfea", "", "not UTF-8"),
    ],
)
def test_bad_files_are_named_with_their_line(
    content: bytes, place: str, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_prompts(path)
    assert words in caught.value.fact
    assert caught.value.place == f"{path}{place}"


def test_no_prompt_and_too_many(tuned: Path, tmp_path: Path) -> None:
    assert isinstance(failure(tuned, stdin=""), ConfigError)
    assert "no prompt" in failure(tuned, stdin="").fact
    assert "the prompt is empty" in failure(tuned, " ").fact
    assert "a prompt and --samples" in failure(tuned, "x", "--samples").fact
    assert "cannot be read" in failure(tuned, "--file", str(tmp_path / "none")).fact


def test_no_sample_prompts(tmp_path: Path) -> None:
    config = tmp_path / "chatgpt.yaml"
    config.write_text("run_dir: here\n", encoding="utf-8")
    assert failure(config, "--samples").place == "generate.sample_prompts"


def test_an_empty_text_is_the_start_of_any_text(base: Path) -> None:
    assert run(base, "").stdout == " dog ran\n"


def test_a_masked_model_fills_and_shows_candidates(tmp_path: Path) -> None:
    bert: dict[str, Any] = {"causal": False, "norm": "layernorm", "mlp": "geglu", "qk_norm": False}
    config = make_run(tmp_path, "pretrain", **bert)
    result = run(config, "the [MASK] sat")
    assert result.exit_code == 0, result.exception
    assert result.stdout.startswith("the ") and "[MASK]" not in result.stdout
    assert "probability" in result.stderr
    output = json.loads(run(config, "the [MASK] sat [MASK]", "--json").stdout)["filled"][0]
    assert [len(candidates) for candidates in output["masks"]] == [5, 5]
    first = [candidates[0] for candidates in output["masks"]]
    assert output["text"] == f"the {first[0]['text']} sat {first[1]['text']}"
    error = failure(config, "no mask")
    assert isinstance(error, ModelError) and "no [MASK]" in error.fact


def test_beams_choices_and_fewer_bits(tuned: Path, tmp_path: Path) -> None:
    found = run(tuned, "hello", "--beams", "3", "--n", "2", "--json")
    texts = [one["text"] for one in json.loads(found.stdout)["completions"]]
    assert texts[0] == "cat" and len(texts) == 2
    assert run(tuned, "hello", "--quantize", "int8").stdout == "cat\n"
    assert run(tuned, "hello", "--set", "generate.quantize=int4").stdout == "cat\n"
    assert "cannot give 4" in str(run(tuned, "hello", "--beams", "3", "--n", "4").exception)

    pytest.importorskip("llguidance", reason="constraints need llguidance (extra: serve)")
    assert run(tuned, "hello", "--choice", "dog", "--choice", "sun").stdout in ("dog\n", "sun\n")
    assert run(tuned, "hello", "--regex", "[a-c]at").stdout == "cat\n"
    schema = tmp_path / "schema.json"
    schema.write_text('{"const": [1, "天"]}', encoding="utf-8")
    assert run(tuned, "hello", "--json-schema", str(schema)).stdout == '[1,"天"]\n'
    both = run(tuned, "hello", "--regex", "a", "--choice", "b")
    assert "cannot be used together" in str(both.exception)
    schema.write_text("{", encoding="utf-8")
    assert "cannot be read" in str(run(tuned, "a", "--json-schema", str(schema)).exception)


def test_a_draft_and_one_that_does_not_fit(tmp_path: Path) -> None:
    config = make_wandering_run(tmp_path / "large")
    small = make_wandering_run(tmp_path / "small", num_layers=1).parent
    drawing = ("the dog", "--temperature", "0.8", "--seed", "3")
    alone = run(config, *drawing)
    helped = run(config, *drawing, "--draft", str(small))
    assert helped.stdout == alone.stdout and len(alone.stdout) > 20
    # The vocabulary is larger, so its tokens are not the same.
    other = make_wandering_run(tmp_path / "other", vocab_size=400).parent
    error = failure(config, "the dog", "--set", f"generate.draft={other}")
    assert isinstance(error, ConfigError) and "another tokenizer" in error.fact
    error = failure(config, "the dog", "--draft", str(tmp_path / "none"))
    assert isinstance(error, ModelError) and "none" in str(error.place)
