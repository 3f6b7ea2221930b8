"""MB/s from raw text to token shards, beside the bare tokenizers.

The whole command is timed: start of the program, reading and decompressing, cleaning,
comparing for duplicates, encoding, writing. The tokenizer is trained beforehand, since
that does not grow with the text. The peers encode text that lies in memory already:
SentencePiece with the same model and two threads, Hugging Face tokenizers (BPE).
"""

from __future__ import annotations

import lzma
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import sentencepiece
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from benchmarks.process import chatgpt, run
from benchmarks.report import Report, options

_CONFIG = """\
run_dir: {run_dir}
tokenizer: {{type: {type}, vocab_size: 8192}}
data: {{sources: ["{text}"], validation_fraction: 0.01}}
"""


def main() -> None:
    parser = options(__doc__)
    parser.add_argument(
        "--text", type=Path, required=True, help="a text file, plain or .xz; 70 MB make it exact"
    )
    parser.add_argument("--threads", type=int, default=2, help="of SentencePiece (default: 2)")
    arguments = parser.parse_args()
    report = Report("preprocess_speed")
    opener = lzma.open if arguments.text.suffix == ".xz" else open
    with opener(arguments.text, "rt", encoding="utf-8", newline="") as source:
        text = source.read(15_000_000 if arguments.quick else -1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plain = folder / "text.txt"
        plain.write_text(text, encoding="utf-8", newline="")
        size = plain.stat().st_size / 1e6
        report.figure("text, MB", size)
        for kind in ["unigram"] if arguments.quick else ["unigram", "bpe"]:
            _compare(report, kind, plain, text, size, arguments.threads, folder)
        _hugging_face(report, text, size)
    report.write(arguments.json)


def _compare(
    report: Report, kind: str, plain: Path, text: str, size: float, threads: int, folder: Path
) -> None:
    config = folder / f"{kind}.yaml"
    config.write_text(
        _CONFIG.format(run_dir=folder / kind, type=kind, text=plain), encoding="utf-8"
    )
    training = run(chatgpt("preprocess", "--config", str(config)), log=folder / "log")
    report.figure(f"{kind}: with training the tokenizer, s", training.seconds)
    trained = f"tokenizer.path={folder / kind / 'tokenizer'}"
    encoding = ["--config", str(config), "--set", trained, "--set", f"run_dir={folder / 'again'}"]
    model = str(folder / kind / "tokenizer" / "tokenizer.model")
    processor = sentencepiece.SentencePieceProcessor(model_file=model)
    lines = text.splitlines(keepends=True)
    ours, raw, memory = [], [], 0.0
    for _ in range(3):
        done = run(chatgpt("preprocess", "--force", *encoding), log=folder / "log")
        ours.append(size / done.seconds)
        memory = max(memory, done.peak_mb)
        raw.append(size / _seconds(lambda: processor.encode(lines, num_threads=threads)))
    report.figure(f"{kind}: chatgpt preprocess, MB/s", statistics.median(ours))
    report.figure(f"{kind}: SentencePiece, {threads} threads, MB/s", statistics.median(raw))
    share = statistics.median(ours) / statistics.median(raw)
    report.target(f"{kind}: share of SentencePiece's speed", share, least=0.8)
    if kind == "unigram":
        report.target("unigram: MB/s", statistics.median(ours), least=20)
    report.target(f"{kind}: peak memory, MB", memory, most=1000)


def _hugging_face(report: Report, text: str, size: float) -> None:
    """Byte-level BPE, trained on a part, encoding all of it as one batch of lines."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    lines = text.splitlines(keepends=True)
    trainer = trainers.BpeTrainer(vocab_size=8192, show_progress=False)
    tokenizer.train_from_iterator(lines[:100_000], trainer)
    seconds = _seconds(lambda: tokenizer.encode_batch_fast(lines))
    report.figure("Hugging Face tokenizers, BPE, MB/s", size / seconds)


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
