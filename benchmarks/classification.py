"""A small classifier of this project beside TF-IDF and logistic regression.

`--data` is a folder with `agnews/` (train_small, test) and `chinese-sentiment/` (train,
test), each .jsonl.gz with `text` and `label`. A masked model learns the training texts
without labels, is finetuned to the labels, and both sides label the test rows. Nothing
of the test rows is used before. TF-IDF's strength of regularisation is chosen on the
rows that finetuning validates with.

The model's part goes on where it was stopped (`--folder`), so it can be made in pieces.
"""

from __future__ import annotations

import gzip
import json
import tempfile
import time
from pathlib import Path

from benchmarks.process import chatgpt, run
from benchmarks.report import Report, options
from chatgpt_cli.config.loader import load_config
from chatgpt_cli.data.labelled import labelled_rows

_PROJECT = """\
run_dir: {folder}
tokenizer: {{vocab_size: 6000}}
data:
  sources: ["{train}"]
  validation_fraction: 0.02
model: {{preset: bert, hidden_size: 192, num_layers: 2, num_heads: 4, context_length: 128}}
pretrain:
  objective: masked
  mask_probability: 0.2
  budget: {pretrain_minutes} minutes
  dropout: 0.1
  eval_tokens: 20000
finetune:
  task: classification
  data: ["{train}"]
  validation_fraction: 0.1
  budget: {finetune_epochs} epochs
  learning_rate: 1.0e-3
  muon_learning_rate: 5.0e-3
  dropout: 0.3
  label_smoothing: 0.1
  eval_tokens: 200000
evaluate:
  contamination: false
  tasks:
    - {{name: test, data: "{test}", metrics: [accuracy, f1]}}
"""
_SETS: dict[str, tuple[str, dict[str, object]]] = {
    "agnews": ("train_small.jsonl.gz", {"ngram_range": (1, 2)}),
    # Characters, as Chinese has no spaces between words.
    "chinese-sentiment": (
        "train.jsonl.gz",
        {"analyzer": "char", "ngram_range": (1, 3), "sublinear_tf": True, "min_df": 2},
    ),
}
_STRENGTHS = (1, 3, 10, 30)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the rows")
    parser.add_argument("--only", choices=list(_SETS), help="one data set alone")
    parser.add_argument("--minutes", type=float, default=10, help="of pretraining (default: 10)")
    parser.add_argument("--epochs", type=float, default=8, help="of finetuning (default: 8)")
    parser.add_argument("--folder", type=Path, help="keep the runs here, and go on from there")
    parser.add_argument("--until", choices=["pretrain", "finetune"], help="stop after this stage")
    arguments = parser.parse_args()
    minutes = 0.5 if arguments.quick else arguments.minutes
    report = Report("classification")
    with tempfile.TemporaryDirectory() as temporary:
        for name in [arguments.only] if arguments.only else list(_SETS):
            folder = (arguments.folder or Path(temporary)).resolve() / name
            folder.mkdir(parents=True, exist_ok=True)
            train, settings = _SETS[name]
            text = _PROJECT.format(
                folder=folder / "run",
                train=arguments.data.resolve() / name / train,
                test=arguments.data.resolve() / name / "test.jsonl.gz",
                pretrain_minutes=minutes,
                finetune_epochs=arguments.epochs,
            )
            config = folder / "project.yaml"
            config.write_text(text, encoding="utf-8")
            ours = _train(report, name, config, folder, until=arguments.until)
            if ours is not None:
                theirs = _tf_idf(report, name, config, settings)
                report.target(f"{name}: accuracy above TF-IDF's", ours, least=theirs)
    report.write(arguments.json)


def _train(
    report: Report, name: str, config: Path, folder: Path, *, until: str | None
) -> float | None:
    """Train the model as a user would; its accuracy on the test rows."""
    for stage in ("preprocess", "pretrain", "finetune"):
        going_on = [] if stage == "preprocess" else ["--resume"]
        run(chatgpt(stage, "--config", str(config), *going_on), log=folder / f"{stage}.log")
        if stage != "preprocess":
            lines = (folder / "run" / stage / "metrics.jsonl").read_text(encoding="utf-8")
            last = [json.loads(line) for line in lines.splitlines() if '"elapsed"' in line][-1]
            report.figure(f"{name}: seconds of {stage}", last["elapsed"])
        if stage == until:
            return None
    run(chatgpt("evaluate", "--config", str(config)), log=folder / "evaluate.log")
    results = json.loads((folder / "run/evaluate/results.json").read_text(encoding="utf-8"))
    scores = results["tasks"]["test"]["metrics"]
    report.figure(f"{name}: parameters", results["parameters"])
    report.figure(f"{name}: accuracy", scores["accuracy"]["value"])
    report.figure(f"{name}: 95% interval", str(scores["accuracy"]["interval"]))
    report.figure(f"{name}: macro F1", scores["f1"]["value"])
    return float(scores["accuracy"]["value"])


def _tf_idf(report: Report, name: str, config: Path, settings: dict[str, object]) -> float:
    """Accuracy of TF-IDF and logistic regression on the test rows."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    section = load_config(config, []).config
    train, held_out, _, _ = labelled_rows(section.finetune)
    started = time.perf_counter()
    learnt = [(row.texts[0], row.label) for row in train]
    aside = [(row.texts[0], row.label) for row in held_out]
    vectors = TfidfVectorizer(**settings)
    matrix = vectors.fit_transform([text for text, _ in learnt])
    kept = vectors.transform([text for text, _ in aside])

    def fitted(strength: float, rows: object, labels: list[str]) -> LogisticRegression:
        return LogisticRegression(C=strength, max_iter=2000).fit(rows, labels)

    def validated(strength: float) -> float:
        model = fitted(strength, matrix, [label for _, label in learnt])
        return float(model.score(kept, [label for _, label in aside]))

    best = max(_STRENGTHS, key=validated)
    # With the strength chosen, it learns the validation rows too.
    vectors = TfidfVectorizer(**settings)
    everything = [*learnt, *aside]
    matrix = vectors.fit_transform([text for text, _ in everything])
    model = fitted(best, matrix, [label for _, label in everything])
    report.figure(f"{name}: seconds of TF-IDF with its choice", time.perf_counter() - started)
    with gzip.open(section.evaluate.tasks[0].data, "rt", encoding="utf-8") as stream:
        test = [json.loads(line) for line in stream]
    accuracy = float(
        model.score(vectors.transform([r["text"] for r in test]), [r["label"] for r in test])
    )
    report.figure(f"{name}: accuracy of TF-IDF and logistic regression", accuracy)
    return accuracy


if __name__ == "__main__":
    main()
