"""Classifiers: read, trained, resumed, scored, and the same in transformers."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from chatgpt_cli.cli.main import main
from chatgpt_cli.config.loader import load_config
from chatgpt_cli.config.paths import RunPaths
from chatgpt_cli.config.schema import FinetuneSection
from chatgpt_cli.data.labelled import encode_texts, load_labelled
from chatgpt_cli.errors import DataError
from chatgpt_cli.generation.classify import classify
from chatgpt_cli.interop.huggingface import load_model, save_model
from chatgpt_cli.model.transformer import Transformer
from chatgpt_cli.tokenizer.special import BOS, CLS, EOS, SEP
from chatgpt_cli.tokenizer.tokenizer import Tokenizer
from chatgpt_cli.training.events import Event, StepDone
from chatgpt_cli.training.finetune import finetune
from tests.interop.test_huggingface import FAMILIES, spread
from tests.model.test_transformer import build

MASKED = [
    "model.preset=bert",
    "model.hidden_size=32",
    "model.num_layers=2",
    "model.num_heads=2",
    "pretrain.objective=masked",
]
CLASSES = [
    "finetune.task=classification",
    "finetune.budget=40 steps",
    "finetune.batch_size=16",
    "finetune.eval_every=20",
    "finetune.save_every=10",
    "finetune.validation_fraction=0.2",
]


def _rows(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture
def labelled(project: Path) -> Path:
    words = ["red", "dog", "cat", "garden", "today"]
    rows = [
        {"text": f"{one} {other} {word}", "label": "toy" if word == "kite" else "person"}
        for one in words
        for other in words
        for word in ("kite", "Tom")
    ]
    _rows(project / "labelled.jsonl", rows)
    return project


def _options(project: Path, *more: str) -> list[str]:
    values = [*CLASSES, f"finetune.data=[{project / 'labelled.jsonl'}]", *more]
    return [part for value in values for part in ("--set", value)]


def _pretrained(project: Path, *more: str) -> None:
    options = ["--config", str(project / "chatgpt.yaml"), *_options(project, *more)]
    assert main(["preprocess", *options]) == 0
    assert main(["pretrain", *options]) == 0


@pytest.mark.parametrize("kind", [[], MASKED])
def test_a_classifier_from_the_command_line(
    labelled: Path, kind: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    _pretrained(labelled, *kind)
    options = ["--config", str(labelled / "chatgpt.yaml"), *_options(labelled, *kind)]
    assert main(["finetune", *options]) == 0
    shown = capsys.readouterr().out
    assert "Labels: person" in shown and "always saying" in shown

    assert main(["evaluate", *options, "--set", "evaluate.tasks=[]", "--json"]) == 0
    (task,) = json.loads(capsys.readouterr().out)["tasks"].values()
    assert task["metrics"]["accuracy"]["value"] == 1.0
    assert task["metrics"]["f1"]["confusion"]["labels"] == ["person", "toy"]

    assert main(["generate", "a red kite", *options]) == 0
    label, probability = capsys.readouterr().out.strip().split("\t")
    assert label == "toy" and probability.endswith("%")
    assert main(["generate", "a Tom", *options, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["labels"]
    assert row["label"] == "person" and sum(row["probabilities"].values()) == pytest.approx(1)
    assert main(["chat", *options]) == 1
    assert "this is a classifier" in capsys.readouterr().err


@pytest.mark.parametrize("kind", [[], MASKED])
def test_killed_and_resumed_is_the_same_to_the_bit(labelled: Path, kind: list[str]) -> None:
    _pretrained(labelled, *kind)
    values = [*_options(labelled, *kind, "finetune.dropout=0.1")[1::2], "finetune.budget=20 steps"]
    config = load_config(labelled / "chatgpt.yaml", values).config
    paths = RunPaths(config.run_dir)

    def stop(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == 15:
            raise KeyboardInterrupt

    finetune(config, paths, mode="new", observe=lambda _: None)
    whole = _weights(paths)
    shutil.rmtree(paths.finetune.root)
    with pytest.raises(KeyboardInterrupt):
        finetune(config, paths, mode="new", observe=stop)
    finetune(config, paths, mode="resume", observe=lambda _: None)
    assert all(torch.equal(value, whole[name]) for name, value in _weights(paths).items())


def _weights(paths: RunPaths) -> dict[str, torch.Tensor]:
    folder = paths.finetune.pointed(paths.finetune.latest)
    assert folder is not None
    return load_file(folder / "model.safetensors")


TEXTS = [("a red kite",), ("the cat saw Tom in our garden today",), ("风筝",)]


@pytest.mark.parametrize("name", FAMILIES)
def test_the_same_labels_in_transformers(name: str, tmp_path: Path, tokenizer: Tokenizer) -> None:
    _, choices = FAMILIES[name]
    base = spread(build(**{"vocab_size": tokenizer.vocab_size, "norm_eps": 1e-5, **choices}))
    model = base.with_labels(("bad", "good", "neither")).eval()
    assert sum(p.numel() for p in model.parameters()) == model.config.num_parameters()
    generator = torch.Generator().manual_seed(1)
    model.score.weight.data.normal_(generator=generator)
    save_model(model, tokenizer, tmp_path)

    theirs, info = transformers.AutoModelForSequenceClassification.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    assert theirs.config.id2label == {0: "bad", 1: "good", 2: "neither"}
    auto = transformers.AutoTokenizer.from_pretrained(tmp_path)
    batch = auto([text for (text,) in TEXTS], padding=True, return_tensors="pt")
    batch.pop("token_type_ids", None)
    with torch.no_grad():
        expected = theirs.eval()(**batch).logits.softmax(-1)
    ours = [list(one.probabilities.values()) for one in classify(model, tokenizer, TEXTS)]
    torch.testing.assert_close(torch.tensor(ours), expected, atol=1e-4, rtol=1e-4)
    again = load_model(tmp_path)
    assert (
        classify(again.model, again.tokenizer, TEXTS)[0].label
        == classify(model, tokenizer, TEXTS)[0].label
    )


def test_pairs_and_cuts(tokenizer: Tokenizer) -> None:
    a, b = tokenizer.encode("the cat"), tokenizer.encode("a red kite today")
    pair = ("the cat", "a red kite today")
    ids, cut = encode_texts(pair, tokenizer, causal=False, length=32)
    assert ids == [CLS, *a, SEP, *b, SEP] and not cut
    ids, cut = encode_texts(pair, tokenizer, causal=False, length=len(a) + len(b) + 1)
    assert ids == [CLS, *a, SEP, *b[:-2], SEP] and cut
    ids, _ = encode_texts(("the cat",), tokenizer, causal=True, length=32)
    assert ids == [BOS, *a, EOS]


@given(
    texts=st.lists(st.text(max_size=60), min_size=1, max_size=2).map(tuple),
    causal=st.booleans(),
    length=st.integers(4, 40),
)
def test_what_is_cut_keeps_its_special_tokens(
    tokenizer: Tokenizer, texts: tuple[str, ...], causal: bool, length: int
) -> None:
    ids, _ = encode_texts(texts, tokenizer, causal=causal, length=length)
    assert len(ids) <= length
    assert (ids[0], ids[-1]) == ((BOS, EOS) if causal else (CLS, SEP))
    if not causal:
        assert ids.count(SEP) == len(texts)


def _load(tokenizer: Tokenizer, **section: Any) -> Any:
    return load_labelled(
        FinetuneSection.model_validate(section), tokenizer, causal=True, length=32, seed=0
    )


def test_labels_that_are_not_known_are_named(tmp_path: Path, tokenizer: Tokenizer) -> None:
    train = _rows(tmp_path / "t.jsonl", [{"text": f"a {n}", "label": n % 2} for n in range(20)])
    other = _rows(tmp_path / "v.jsonl", [{"text": "a", "label": 0}, {"text": "b", "label": 2}])
    data = _load(tokenizer, data=[train])
    assert data.labels == ("0", "1")
    with pytest.raises(DataError, match=r"v.jsonl:2: the label '2' is not in the training rows"):
        _load(tokenizer, data=[train], validation_data=[other])
    data = _load(tokenizer, data=[train], validation_data=[other], on_error="skip")
    assert len(data.validation.data) == 1
    assert "Left out: 1 rows (1 unknown label)" in data.notes
    data = _load(tokenizer, data=[train], labels=["even", "odd"])
    assert data.labels == ("even", "odd")
    with pytest.raises(DataError, match=r"the label '1' is not in finetune.labels \(0, z\)"):
        _load(tokenizer, data=[train], labels=["0", "z"])
    single = _rows(tmp_path / "s.jsonl", [{"text": f"a {n}", "label": "x"} for n in range(5)])
    with pytest.raises(DataError, match="1 label"):
        _load(tokenizer, data=[single])


def test_batches_hold_each_label_where_its_text_is_scored(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    rows = [{"text": f"cat {n}", "label": n % 3} for n in range(30)]
    data = _load(tokenizer, data=[_rows(tmp_path / "t.jsonl", rows)], batch_size=4)
    batch = data.train.batch(0)
    scored = batch.labels >= 0
    assert (batch.input_ids[scored] == EOS).all() and scored.sum() > 4
    for ids, labels in zip(batch.input_ids.tolist(), batch.labels.tolist(), strict=True):
        texts = tokenizer.decode(ids, skip_special=False).split("[BOS]")[1:]
        numbers = [int(text.split()[1].removesuffix("[EOS]").split("[")[0]) for text in texts]
        assert [label for label in labels if label >= 0] == [n % 3 for n in numbers]


def test_masked_language_modeling_goes_on_with_plain_text(
    labelled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _pretrained(labelled, *MASKED)
    (labelled / "more.txt").write_text("the cat and the dog saw Tom. " * 30, encoding="utf-8")
    options = ["--config", str(labelled / "chatgpt.yaml")]
    for value in [
        *MASKED,
        "finetune.task=masked_language_modeling",
        f"finetune.data=[{labelled / 'more.txt'}, {labelled / 'labelled.jsonl'}]",
    ]:
        options += ["--set", value]
    assert main(["finetune", *options]) == 0
    capsys.readouterr()
    assert main(["generate", "the [MASK] and the dog", *options, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["filled"]
    (labelled / "rows.jsonl").write_text('{"prompt": "Hi", "completion": "Yes."}\n' * 9)
    options += ["--set", f"finetune.data=[{labelled / 'rows.jsonl'}]"]
    assert main(["finetune", *options, "--set", "finetune.task=chat", "--restart"]) == 2
    assert "cannot write" in capsys.readouterr().err


def test_language_modeling_continues_text(
    labelled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--config", str(labelled / "chatgpt.yaml")]
    assert main(["preprocess", *options]) == 0
    assert main(["pretrain", *options]) == 0
    (labelled / "more.txt").write_text("the cat and the dog. " * 60, encoding="utf-8")
    (labelled / "few.txt").write_text("the cat and the dog. " * 9, encoding="utf-8")
    for value in [
        "finetune.task=language_modeling",
        f"finetune.data=[{labelled / 'more.txt'}]",
        f"finetune.validation_data=[{labelled / 'few.txt'}]",
        "finetune.budget=40 steps",
    ]:
        options += ["--set", value]
    assert main(["finetune", *options]) == 0
    capsys.readouterr()
    arguments = ["generate", "the cat", *options, "--temperature", "0", "--max-tokens", "12"]
    assert main(arguments) == 0
    assert "and the dog" in capsys.readouterr().out


def test_a_classifier_is_no_start_for_preferences(
    labelled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _pretrained(labelled)
    options = ["--config", str(labelled / "chatgpt.yaml"), *_options(labelled)]
    assert main(["finetune", *options]) == 0
    pairs = _rows(labelled / "pairs.jsonl", [{"prompt": "a", "chosen": "b", "rejected": "c"}] * 9)
    capsys.readouterr()
    assert main(["prefer", *options, "--set", f"prefer.data=[{pairs}]"]) == 2
    assert "is a classifier" in capsys.readouterr().err
    assert main(["export", *options]) == 1


def test_new_scores_are_zero_and_the_rest_is_the_base() -> None:
    base = build(vocab_size=50)
    classifier = base.with_labels(("a", "b"))
    assert isinstance(classifier, Transformer) and not classifier.score.weight.any()
    assert torch.equal(classifier.model.embed_tokens.weight, base.model.embed_tokens.weight)


def test_the_best_by_f1_of_labels(labelled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = f"{{name: dev, data: {labelled / 'labelled.jsonl'}, metrics: [f1]}}"
    more = ("finetune.best_by={task: dev, metric: f1}", f"evaluate.tasks=[{task}]")
    _pretrained(labelled)
    options = ["--config", str(labelled / "chatgpt.yaml"), *_options(labelled, *more)]
    assert main(["finetune", *options]) == 0
    assert "best dev f1 1.0000 at step" in capsys.readouterr().out
