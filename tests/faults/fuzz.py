"""What is fuzzed: every reader of bytes that come from outside, given damaged ones.

    python -m tests.faults.fuzz TARGET --seconds 600

A reader may return, or raise a `ChatGPTError`; anything else is a fault. With atheris
installed inputs are chosen by what code they reach; else at random from valid ones.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import random
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from chatgpt_cli.checkpoints import best_checkpoint, damage
from chatgpt_cli.config.loader import load_config
from chatgpt_cli.config.paths import StagePaths
from chatgpt_cli.config.schema import TokenizerSection
from chatgpt_cli.data.formats.fields import RowFault
from chatgpt_cli.data.formats.recognise import recognise
from chatgpt_cli.data.problems import Problem
from chatgpt_cli.data.records import read_rows, read_text
from chatgpt_cli.data.shards import ShardWriter, TokenShards, write_manifest
from chatgpt_cli.data.sources import DataFile
from chatgpt_cli.errors import ChatGPTError
from chatgpt_cli.training.metrics_log import Mark, MetricsLog, read_metrics

Target = Callable[[bytes], None]


@cache
def _folder() -> Path:
    """A scratch folder for this process, in memory where there is such a place."""
    memory = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="fuzz-", dir=memory if memory.is_dir() else None))


def _written(name: str, data: bytes) -> Path:
    path = _folder() / name
    path.write_bytes(data)
    return path


# ------------------------------------------------------------------- configuration


def yaml(data: bytes) -> None:
    """A configuration file."""
    load_config(_written("fuzz.yaml", data), [])


# ---------------------------------------------------------------------------- rows


def _rows(kind: str) -> Target:
    def read(data: bytes) -> None:
        path = _written(f"rows{kind}", data)
        file = DataFile(str(path), kind, None, len(data), "")
        for row in read_rows(file):
            if isinstance(row, Problem):
                continue
            # What a format says of a row becomes a problem.
            with contextlib.suppress(RowFault):
                recognise(row.fields)

    read.__doc__ = f"Rows in a {kind} file, in any of the formats."
    return read


def text(data: bytes) -> None:
    """A text file."""
    path = _written("text.txt", data)
    for _ in read_text(DataFile(str(path), ".txt", None, len(data), "")):
        pass


# -------------------------------------------------------------------------- shards


@cache
def _shards() -> Path:
    folder = _folder() / "data"
    folder.mkdir()
    splits = {}
    for split in ("train", "validation"):
        writer = ShardWriter(folder, split, np.dtype(np.uint16), 1000)  # type: ignore[arg-type]
        for document in range(6):
            writer.add(np.arange(document, document + 90, dtype=np.uint16), 300)
        splits[split] = writer.close()
    manifest = {"format": 1, "tokenizer_sha256": "0" * 64, "dtype": "uint16", "splits": splits}
    write_manifest(folder, manifest)
    return folder


def shard(data: bytes) -> None:
    """A token shard: as it would be opened, and as if its hash were right."""
    folder = _shards()
    path = folder / "train-00000.npy"
    path.write_bytes(data)
    _read_shards(folder)


def offsets(data: bytes) -> None:
    """The document offsets beside a shard."""
    folder = _shards()
    (folder / "train-00000.docs.npy").write_bytes(data)
    _read_shards(folder)


def _read_shards(folder: Path) -> None:
    with contextlib.suppress(ChatGPTError):
        TokenShards.open(folder, "train")
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    shards = TokenShards(folder, "train", manifest)
    shards.read(0, shards.num_tokens)
    shards.document_starts()


def manifest(data: bytes) -> None:
    """manifest.json of a data folder, its checksum right if it has none."""
    folder = _folder() / "manifest"
    if not folder.exists():
        shutil.copytree(_shards(), folder)
    (folder / "manifest.json").write_bytes(data)
    shards = TokenShards.open(folder, "train")
    shards.document_starts()
    shards.fingerprint()


# --------------------------------------------------------------------- checkpoints


@cache
def _checkpoint() -> Path:
    import torch

    from chatgpt_cli.checkpoints import Progress
    from chatgpt_cli.config.model import ModelConfig
    from chatgpt_cli.model.transformer import Transformer
    from chatgpt_cli.tokenizer.train import train_tokenizer
    from chatgpt_cli.training.checkpoint import random_state, save_checkpoint
    from tests.conftest import small_text

    tokenizer = train_tokenizer(small_text(60), TokenizerSection(vocab_size=330))
    shape = ModelConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=8, num_layers=1, num_heads=1,
        num_kv_heads=1, head_dim=8, intermediate_size=8, context_length=8,
    )  # fmt: skip
    torch.set_num_threads(1)
    model = Transformer(shape)
    model.initialize(0)
    return save_checkpoint(
        StagePaths(_folder() / "pretrain"),
        model=model,
        tokenizer=tokenizer,
        progress=Progress(step=3, best_step=3, best_loss=1.0),
        fingerprint={"seed": 1},
        settings={"optimizer": "adamw"},
        metrics=Mark(),
        optimizer={f"0.{n}.exp_avg": torch.zeros_like(p) for n, p in model.named_parameters()},
        rng=[random_state()],
    )


def _checkpoint_file(name: str) -> Target:
    def read(data: bytes) -> None:
        from chatgpt_cli.interop.huggingface import load_model
        from chatgpt_cli.training.checkpoint import check_optimizer_state, load_state

        folder = _checkpoint()
        path = folder / name
        sound = path.read_bytes()
        path.write_bytes(data)
        try:
            damage(folder)
            with contextlib.suppress(ChatGPTError):
                best_checkpoint(StagePaths(_folder() / "pretrain"))
            # As if all hashes were right.
            if name != "manifest.json":
                model = load_model(folder).model
                check_optimizer_state(model, load_state(folder))
        finally:
            path.write_bytes(sound)

    read.__doc__ = f"{name} of a checkpoint."
    return read


def metrics(data: bytes) -> None:
    """metrics.jsonl, read for a report and when a run is continued."""
    path = _written("metrics.jsonl", data)
    read_metrics(path)
    log = MetricsLog(path, resume=Mark(len(data), "0" * 64), step=5)
    log.write({"type": "train", "step": 6, "loss": 1.0})
    log.close()
    assert read_metrics(path)[-1]["step"] == 6


# -------------------------------------------------------------------- the targets


@dataclass(frozen=True)
class Fuzzed:
    """A reader and valid inputs to begin with."""

    read: Target
    seeds: Callable[[], list[bytes]]


_ROWS = [
    {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
    {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
    {"instruction": "a", "input": "b", "output": "c", "history": [["d", "e"]], "system": "f"},
    {"context": "a", "question": "b", "answers": {"text": ["c"]}},
    {"prompt": "a", "completion": "b"},
    {"src": "a", "tgt": "中"},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}], "weight": 0}]},
]


def _configs() -> list[bytes]:
    folder = Path(__file__).resolve().parents[2] / "configs"
    return [path.read_bytes() for path in sorted(folder.glob("*.yaml"))]


def _jsonl() -> list[bytes]:
    return ["\n".join(map(json.dumps, _ROWS)).encode()]


def _csv(separator: str) -> Callable[[], list[bytes]]:
    def rows() -> list[bytes]:
        line = separator.join
        messages = json.dumps(_ROWS[0]["messages"]).replace('"', '""')
        return [
            "\n".join([line(["prompt", "completion"]), line(["a", '"b\n""c"""'])]).encode(),
            "\n".join(["messages", f'"{messages}"']).encode(),
        ]

    return rows


def _parquet() -> list[bytes]:
    import pyarrow
    import pyarrow.parquet

    sink = io.BytesIO()
    table = pyarrow.table({"prompt": ["a", "b"], "completion": ["c", "d"]})
    pyarrow.parquet.write_table(table, sink)
    return [sink.getvalue()]


def _file(name: str, folder: Callable[[], Path]) -> Callable[[], list[bytes]]:
    return lambda: [(folder() / name).read_bytes()]


def _some_metrics() -> list[bytes]:
    lines = [
        {"type": "start", "step": 0, "settings": {}},
        {"type": "train", "step": 1, "loss": 2.5, "elapsed": 0.1},
        {"type": "validation", "step": 1, "loss": 2.5, "best": True},
        {"type": "sample", "step": 1, "prompt": "a", "text": "b"},
    ]
    return ["".join(json.dumps(line) + "\n" for line in lines).encode()]


CHECKPOINT_FILES = (
    "config.json",
    "model.safetensors",
    "tokenizer.model",
    "manifest.json",
    "training_state/state.json",
    "training_state/state.safetensors",
)
TARGETS: dict[str, Fuzzed] = {
    "yaml": Fuzzed(yaml, _configs),
    "text": Fuzzed(text, lambda: ["a\r\n中文\n".encode()]),
    "jsonl": Fuzzed(_rows(".jsonl"), _jsonl),
    "json": Fuzzed(_rows(".json"), lambda: [json.dumps(_ROWS).encode()]),
    "csv": Fuzzed(_rows(".csv"), _csv(",")),
    "tsv": Fuzzed(_rows(".tsv"), _csv("\t")),
    "parquet": Fuzzed(_rows(".parquet"), _parquet),
    "shard": Fuzzed(shard, _file("train-00000.npy", _shards)),
    "offsets": Fuzzed(offsets, _file("train-00000.docs.npy", _shards)),
    "manifest": Fuzzed(manifest, _file("manifest.json", _shards)),
    "metrics": Fuzzed(metrics, _some_metrics),
    **{name: Fuzzed(_checkpoint_file(name), _file(name, _checkpoint)) for name in CHECKPOINT_FILES},
}


def attempt(read: Target, data: bytes) -> None:
    """Read; an error for people is as good as success."""
    with contextlib.suppress(ChatGPTError):
        read(data)


def mutate(data: bytes, r: random.Random) -> bytes:
    """A damaged copy: bits, bytes, digits, pieces moved, doubled or cut out."""
    result = bytearray(data)
    for _ in range(r.choice((1, 1, 1, 2, 4, 16))):
        at = r.randrange(len(result) + 1)
        other = min(len(result), at + r.choice((1, 2, 8, 64)))
        match r.randrange(8):
            case 0 if at < len(result):
                result[at] ^= 1 << r.randrange(8)
            case 1 if at < len(result):
                result[at] = r.choice(b"\x00\xff\x7f\x80\n\r\"'{}[]:,-0919eE.&*!\t")
            case 2:
                del result[at:other]
            case 3:
                result[at:at] = result[at:other]
            case 4:
                result[at:at] = r.randbytes(r.randrange(9))
            case 5:
                del result[at:]
            case 6:
                digits = [i for i, byte in enumerate(result) if 48 <= byte <= 57]
                if digits:
                    put = r.choice((b"0", b"-1", b"1e999", b"99999999999999999999", b"null", b'"'))
                    i = r.choice(digits)
                    result[i : i + 1] = put
            case 7:
                result[at:at] = r.choice(
                    (b"[" * 2000, b"{" * 500, b"\xef\xbb\xbf", "中".encode(), b"1" * 5000, b"null")
                )
            case _:
                pass
    return bytes(result)


def run_random(target: Fuzzed, seconds: float, seed: int = 0) -> int:
    """Try mutations of valid inputs, and of those; how many were tried.

    Seconds are the processor's: on a busy machine the clock would cut the work short.
    """
    r = random.Random(seed)
    pool = target.seeds()
    tried, end = 0, time.process_time() + seconds
    while time.process_time() < end:
        data = mutate(r.choice(pool), r)
        try:
            attempt(target.read, data)
        except BaseException:
            (Path(tempfile.gettempdir()) / "fuzz-failure.bin").write_bytes(data)
            raise
        tried += 1
        if tried % 50 == 0 and len(pool) < 200 and len(data) < 100_000:
            pool.append(data)
    return tried


def run_atheris(name: str, seconds: int) -> None:
    """Let atheris choose the inputs; it ends the process itself."""
    import sys

    import atheris

    target = TARGETS[name]
    corpus = Path(tempfile.mkdtemp())
    for number, seed in enumerate(target.seeds()):
        (corpus / str(number)).write_bytes(seed)
    modules = [m for m in sys.modules if m.startswith("chatgpt_cli.")]
    for module in modules:
        for value in vars(sys.modules[module]).values():
            if callable(value) and getattr(value, "__module__", "") == module:
                with contextlib.suppress(Exception):
                    atheris.instrument_func(value)
    options = [f"-max_total_time={seconds}", "-timeout=60", "-rss_limit_mb=6000", str(corpus)]
    atheris.Setup(["fuzz", *options], lambda data: attempt(target.read, data))
    atheris.Fuzz()


def main() -> None:
    """Fuzz one target for a time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--atheris", action="store_true", help="choose inputs by coverage")
    arguments = parser.parse_args()
    try:
        if arguments.atheris:
            run_atheris(arguments.target, arguments.seconds)
        else:
            tried = run_random(TARGETS[arguments.target], arguments.seconds)
            print(f"{arguments.target}: {tried:,} inputs in {arguments.seconds} s, no fault")
    finally:
        shutil.rmtree(_folder(), ignore_errors=True)


if __name__ == "__main__":
    main()
