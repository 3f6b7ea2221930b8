"""The Evaluation Harness takes a checkpoint folder for an ordinary Hugging Face model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from chatgpt_cli.evaluation.likelihood import continuation_likelihoods
from chatgpt_cli.interop.huggingface import load_model, save_model
from tests.interop.test_gguf import own_model

lm_eval = pytest.importorskip("lm_eval", reason="needs lm-eval: make test-lm-eval")

CHOICES = ["cat", "red kite", "小明"]
TASK = """
task: local
dataset_path: json
dataset_kwargs:
  data_files: {{test: {rows}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: {choices}
doc_to_target: 1
target_delimiter: " "
metric_list:
  - metric: acc
"""


def test_a_task_of_local_rows_scores_as_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    from lm_eval.tasks import TaskManager

    folder = tmp_path / "model"
    own = own_model("qwen3")
    save_model(own.model, own.tokenizer, folder)
    questions = [f"the dog saw {number} of our" for number in range(8)]
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"question": one}) + "\n" for one in questions))
    (tmp_path / "local.yaml").write_text(
        TASK.format(rows=rows, choices=json.dumps(CHOICES, ensure_ascii=False)), encoding="utf-8"
    )
    result = lm_eval.simple_evaluate(
        model="hf",
        model_args=f"pretrained={folder},dtype=float32",
        tasks=["local"],
        task_manager=TaskManager(include_path=str(tmp_path), include_defaults=False),
        device="cpu",
        batch_size=4,
        bootstrap_iters=0,
    )
    samples = sorted(result["samples"]["local"], key=lambda one: one["doc_id"])
    theirs = [[float(pair[0]) for pair in one["filtered_resps"]] for one in samples]

    loaded = load_model(folder, dtype=torch.float32)
    tokenizer = loaded.tokenizer
    prompts, continuations = [], []
    for question in questions:
        prompt = tokenizer.encode(question)
        prompts.append(prompt)
        whole = [tokenizer.encode(f"{question} {choice}") for choice in CHOICES]
        continuations.append([ids[len(prompt) :] for ids in whole])
    ours, _ = continuation_likelihoods(
        loaded.model, prompts, continuations, bos_id=tokenizer.bos_id
    )
    torch.testing.assert_close(torch.tensor(theirs), torch.tensor(ours), atol=1e-3, rtol=1e-4)
    right = sum(max(range(3), key=scores.__getitem__) == 1 for scores in ours)
    assert result["results"]["local"]["acc,none"] == pytest.approx(right / len(questions))
