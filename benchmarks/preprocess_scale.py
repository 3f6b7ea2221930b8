"""Much text in parts: time, memory of a worker, identical shards, near-duplicates found.

The text is made here: documents of sentences drawn at random from real English and Chinese
text, so that none resembles another by chance; some are then repeated exactly, and some with
words or characters replaced, so that their Jaccard similarity to the first is known. What
became of those is read from the shards. With --kill, one run more is killed in its middle and
begun again.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import json
import lzma
import random
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.process import chatgpt, run
from benchmarks.report import Report, options
from chatgpt_cli.config.paths import RunPaths
from chatgpt_cli.config.schema import FiltersSection
from chatgpt_cli.data.cleaning.filters import Batch, failed_rules
from chatgpt_cli.data.cleaning.units import units_of
from chatgpt_cli.data.shards import SPLITS, TokenShards
from chatgpt_cli.tokenizer.tokenizer import Tokenizer

_THRESHOLD = 0.8
_SHINGLE = 5
_DOCUMENT = 2000  # UTF-8 bytes
_FILES = 16
_CONFIG = """\
run_dir: {run_dir}
tokenizer: {{vocab_size: 8192, sample_bytes: 2000000{tokenizer}}}
data:
  sources: ["{folder}/*.jsonl"]
  validation_fraction: 0.01
  in_parts: true
  near_duplicates: {{threshold: {threshold}, shingle: {shingle}}}
  filters: {{}}
"""


@dataclass
class Planted:
    """What was made: documents in all, copies with changes, and copies without."""

    documents: int = 0
    bytes: int = 0
    similar: int = 0
    equal: int = 0


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--english", type=Path, required=True, help="a text file, plain or .xz")
    parser.add_argument("--chinese", type=Path, required=True, help="a text file, plain or .xz")
    parser.add_argument("--megabytes", type=int, default=1000, help="of text (default: 1000)")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--kill", action="store_true", help="and once killed in the middle")
    arguments = parser.parse_args()
    report = Report("preprocess_scale")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size = 30 if arguments.quick else arguments.megabytes
        # By a process of its own: a child's memory is counted from that of its parent on.
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            making = (folder, arguments.english, arguments.chinese, size * 1_000_000)
            planted = pool.submit(_make, *making).result()
        report.figure("text, MB", planted.bytes / 1e6)
        report.figure("documents", planted.documents)
        report.figure("planted near-duplicates", planted.similar)
        _train(report, folder)
        prints = []
        for workers in arguments.workers:
            seconds = _whole(report, folder, workers, planted)
            prints.append(_print(folder / f"run{workers}"))
        if arguments.kill:
            _killed(report, folder, arguments.workers[-1], seconds)
            prints.append(_print(folder / "killed"))
        report.target("kinds of shards", len(set(prints)), most=1)
        _found(report, folder / f"run{arguments.workers[0]}", folder, planted)
    report.write(arguments.json)


# ------------------------------------------------------------------------ the text


def _make(folder: Path, english: Path, chinese: Path, size: int) -> Planted:
    """Write rows to several files; a copy comes somewhere behind its original."""
    r = random.Random(5)
    pools = [_sentences(english, r"(?<=[.!?]) +"), _sentences(chinese, r"(?<=[。！？])")]
    planted = Planted()
    waiting: list[tuple[int, str]] = []
    (folder / "text").mkdir()
    with (folder / "copies.jsonl").open("w", encoding="utf-8") as copies:
        for number in range(_FILES):
            path = folder / "text" / f"{number:02d}.jsonl"
            with path.open("w", encoding="utf-8", newline="\n") as stream:
                while planted.bytes < size * (number + 1) // _FILES:
                    while waiting and waiting[0][0] <= planted.documents:
                        _write(stream, heapq.heappop(waiting)[1], planted)
                    units = _document(r, pools)
                    text = _joined(units)
                    _write(stream, text, planted)
                    copy = _copy(r, units, planted, copies)
                    if copy is not None:
                        behind = planted.documents + r.randrange(1, 200_000)
                        heapq.heappush(waiting, (behind, copy))
                if number == _FILES - 1:
                    for _, text in sorted(waiting):
                        _write(stream, text, planted)
    return planted


def _sentences(path: Path, end: str) -> list[list[str]]:
    """Sentences as words or characters."""
    opener = lzma.open if path.suffix == ".xz" else open
    with opener(path, "rt", encoding="utf-8") as stream:
        text = stream.read()
    sentences = []
    for sentence in re.split(end, text.replace("\n", " ")):
        units = sentence.split() if " " in end else list(sentence.replace(" ", ""))
        if 6 <= len(units) <= 80:
            sentences.append(units)
    return sentences


def _document(r: random.Random, pools: list[list[list[str]]]) -> list[str]:
    """Units of a document; two thirds of the documents are English."""
    chinese = r.random() < 1 / 3
    pool = pools[chinese]
    units: list[str] = []
    size = 0
    while size < _DOCUMENT:
        sentence = r.choice(pool)
        units += sentence
        size += len(sentence) * (3 if chinese else 6)
    return units


def _joined(units: list[str]) -> str:
    return ("" if max(map(len, units)) == 1 else " ").join(units)


def _write(stream: Any, text: str, planted: Planted) -> None:
    row = json.dumps({"text": text}, ensure_ascii=False) + "\n"
    stream.write(row)
    planted.documents += 1
    planted.bytes += len(row.encode())


def _copy(r: random.Random, units: list[str], planted: Planted, copies: Any) -> str | None:
    """Of ten documents one is copied with changes, of fifty one without."""
    chance = r.random()
    if chance > 0.12:
        return None
    if chance > 0.1:
        planted.equal += 1
        return _joined(units)
    changed = list(units)
    # The last one stays: a filter looks at how lines end.
    for place in r.sample(range(len(units) - 1), max(1, int(len(units) * r.uniform(0, 0.08)))):
        changed[place] = r.choice(units)
    text = _joined(changed)
    similarity = _jaccard(units, changed)
    if text == _joined(units):
        planted.equal += 1
    else:
        planted.similar += 1
        copies.write(json.dumps({"text": text, "similarity": similarity}) + "\n")
    return text


def _jaccard(first: list[str], second: list[str]) -> float:
    a, b = (set(_shingles(units)) for units in (first, second))
    return len(a & b) / len(a | b)


def _shingles(units: list[str]) -> Iterator[tuple[str, ...]]:
    """By a plain definition of words and characters, apart from the program's own."""
    words = re.findall(r"[^\W_]", "".join(units)) if max(map(len, units)) == 1 else None
    words = words or re.findall(r"[^\W_]+", " ".join(units).lower())
    return zip(*(words[shift:] for shift in range(_SHINGLE)), strict=False)


# ------------------------------------------------------------------------- the runs


def _train(report: Report, folder: Path) -> None:
    """The tokenizer beforehand: it takes the same time and memory for any amount of text."""
    name = "00.jsonl"
    (folder / "first").mkdir()
    (folder / "first" / name).symlink_to(folder / "text" / name)
    done = run(_command(folder, "trained", 1, text="first"), log=folder / "log")
    report.figure("with training the tokenizer, a sixteenth of the text: s", done.seconds)
    report.figure("training: peak memory, MB", done.peak_mb)


def _command(folder: Path, name: str, workers: int, *, text: str = "text") -> list[str]:
    config = folder / f"{name}.yaml"
    trained = f", path: {folder / 'trained' / 'tokenizer'}" if text == "text" else ""
    config.write_text(
        _CONFIG.format(
            run_dir=folder / name,
            folder=folder / text,
            threshold=_THRESHOLD,
            shingle=_SHINGLE,
            tokenizer=trained,
        ),
        encoding="utf-8",
    )
    return chatgpt("preprocess", "--config", str(config), "--set", f"data.workers={workers}")


def _whole(report: Report, folder: Path, workers: int, planted: Planted) -> float:
    done = run(_command(folder, f"run{workers}", workers), log=folder / "log")
    report.figure(f"workers {workers}: s", done.seconds)
    report.figure(f"workers {workers}: s of processors", done.cpu_seconds)
    report.figure(f"workers {workers}: MB/s", planted.bytes / 1e6 / done.seconds)
    report.target(f"workers {workers}: peak memory of a process, MB", done.peak_mb, most=1000)
    return done.seconds


def _killed(report: Report, folder: Path, workers: int, seconds: float) -> None:
    """Kill a run in its middle, and begin it again."""
    command = _command(folder, "killed", workers)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        time.sleep(seconds / 2)
        process.send_signal(signal.SIGKILL)
        process.wait()
    report.figure("killed after, s", seconds / 2)
    done = run(command, log=folder / "log")
    report.figure("the rest after that, s", done.seconds)
    going_on = re.search(r"Going on: .*", done.output)
    report.figure("it said", going_on.group() if going_on else "nothing")


def _print(run_dir: Path) -> str:
    shards = [TokenShards.open(RunPaths(run_dir).data, split) for split in SPLITS]
    return json.dumps([one.fingerprint() for one in shards])


# -------------------------------------------------------------------- what was found


def _found(report: Report, run_dir: Path, folder: Path, planted: Planted) -> None:
    """Which copies are gone, by looking for their tokens in the shards."""
    tokenizer = Tokenizer.load(RunPaths(run_dir).tokenizer)
    there: set[bytes] = set()
    kept = 0
    for split in SPLITS:
        shards = TokenShards.open(RunPaths(run_dir).data, split)
        starts = [*shards.document_starts().tolist(), shards.num_tokens]
        ids = shards.read(0, shards.num_tokens).astype("<u4")
        for start, stop in itertools.pairwise(starts):
            there.add(hashlib.blake2b(ids[start:stop].tobytes(), digest_size=12).digest())
        kept += len(starts) - 1
    gone: list[float] = []
    stayed: list[float] = []
    with (folder / "copies.jsonl").open(encoding="utf-8") as copies:
        for line in copies:
            row = json.loads(line)
            if _is_filtered(row["text"]):
                continue
            ids = np.array(tokenizer.document(tokenizer.encode(row["text"])), dtype="<u4")
            digest = hashlib.blake2b(ids.tobytes(), digest_size=12).digest()
            (stayed if digest in there else gone).append(row["similarity"])
    manifest = json.loads((RunPaths(run_dir).manifest).read_text(encoding="utf-8"))["report"]
    removed = manifest["near duplicates"]
    report.figure("removed as equal (planted)", f"{manifest['duplicates']} ({planted.equal})")
    report.figure("removed by filters", sum(e["documents"] for e in manifest["rejected"].values()))
    report.figure("removed as near-duplicates", removed)
    report.figure("of these not planted", removed - len(gone))
    for low, high in ((0, 0.7), (0.7, 0.75), (0.75, 0.8), (0.8, 0.85), (0.85, 0.9), (0.9, 1)):
        inside = [s for s in gone if low <= s < high], [s for s in stayed if low <= s < high]
        total = sum(map(len, inside))
        if total:
            share = len(inside[0]) / total
            report.figure(f"removed of {total} with similarity {low} to {high}", share)
    alike = [s for s in gone if s >= _THRESHOLD]
    missed = [s for s in stayed if s >= _THRESHOLD]
    report.target("recall", len(alike) / max(1, len(alike) + len(missed)), least=0.95)
    report.target("precision", len(alike) / max(1, removed), least=0.9)


def _is_filtered(text: str) -> bool:
    """Whether a copy goes for another reason than its similarity."""
    return failed_rules(Batch([text], units_of([text]), FiltersSection())) != [None]


if __name__ == "__main__":
    main()
