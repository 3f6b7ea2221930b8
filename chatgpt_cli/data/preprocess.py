"""Raw text in; tokenizer, token shards, manifest and data report out."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from chatgpt_cli import __version__
from chatgpt_cli.config.paths import RunPaths
from chatgpt_cli.config.schema import Config
from chatgpt_cli.data.problems import ProblemLog
from chatgpt_cli.data.shards import (
    FORMAT,
    SPLITS,
    ShardWriter,
    TokenShards,
    read_manifest,
    write_manifest,
)
from chatgpt_cli.data.sources import find_files
from chatgpt_cli.data.survey import SourceFiles, assigned, survey
from chatgpt_cli.errors import ConfigError, DataError, ModelError
from chatgpt_cli.files import atomic_path
from chatgpt_cli.tokenizer.tokenizer import Tokenizer
from chatgpt_cli.tokenizer.train import train_tokenizer

# Text that a worker encodes at one time, in characters.
_BATCH_CHARS = 500_000
# Below this, starting worker processes takes longer than encoding.
_PARALLEL_BYTES = 8_000_000
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Prepared:
    """The manifest of the preprocessed text; `fresh` is False if nothing had to be done."""

    manifest: dict[str, Any]
    fresh: bool


def preprocess(
    config: Config,
    paths: RunPaths,
    *,
    force: bool,
    tell: Tell,
    tokenizer: Tokenizer | None = None,
) -> Prepared:
    """Make tokenizer and shards, unless those that are there come from the same request.

    Args:
        config: the project.
        paths: where the results go.
        force: make them again in any case.
        tell: told what is being done.
        tokenizer: that of the model the project starts from, to be used as it is.

    Raises:
        ConfigError: no sources, or a vocabulary that does not fit the text.
        DataError: text that cannot be used, or too little of it.
    """
    sources = find_sources(config)
    if tokenizer is None and config.tokenizer.path is not None:
        # Its faults should show before the reading.
        tokenizer = _given_tokenizer(config.tokenizer.path)
    request = _request(config, sources, tokenizer)
    if not force and (manifest := _up_to_date(paths, request)):
        return Prepared(manifest, fresh=False)
    problems = ProblemLog(config.data.on_error, "data.on_error")
    files = [file for source in sources for file in source.files]
    tell(f"Reading {len(files)} files, {_size(sum(f.size for f in files))}")
    found, sample = survey(
        sources, config.data, problems, sample_bytes=config.tokenizer.sample_bytes
    )
    if not sample:
        raise DataError(
            f"no text is left to train on ({_listed(found.counts) or 'the sources are empty'})",
            place="data.sources",
            remedy="Look at data.min_chars, and at what the files hold.",
        )
    if tokenizer is None:
        size = sum(len(text.encode()) for text in sample)
        tell(f"Training the tokenizer ({config.tokenizer.type}) on {_size(size)}")
        tokenizer = train_tokenizer(sample, config.tokenizer)
    del sample
    tell("Encoding")
    with atomic_path(paths.data) as folder:
        folder.mkdir()
        manifest = _encode(config, tokenizer, assigned(sources, config.data, found), folder)
        manifest["request"] = request
        manifest["sources"] = [
            {"path": s.section.path, "weight": s.section.weight, "files": len(s.files)}
            for s in sources
        ]
        manifest["report"] |= {
            **found.counts,
            "problems": dict(problems.counts),
            "skipped": [f"{p.place}: {p.reason}" for p in problems.first],
            "vocab_size": tokenizer.vocab_size,
        }
        _check_amount(config, manifest)
        write_manifest(folder, manifest)
        with atomic_path(paths.tokenizer) as tokenizer_folder:
            tokenizer.save(tokenizer_folder)
    return Prepared(manifest, fresh=True)


def _given_tokenizer(folder: Path) -> Tokenizer:
    try:
        return Tokenizer.load(folder)
    except ModelError as error:
        raise ConfigError(
            f"tokenizer.path: {error.fact}",
            place=str(folder),
            remedy="Name a folder with a tokenizer, such as runs/NAME/tokenizer.",
        ) from error


def _size(count: int) -> str:
    """A number of bytes for people."""
    return f"{count / 1e6:,.1f} MB" if count >= 100_000 else f"{count / 1e3:,.1f} KB"


def existing(
    config: Config, paths: RunPaths, tokenizer: Tokenizer | None = None
) -> dict[str, Any] | None:
    """The manifest of the text that `preprocess` would find done, None if it had to begin."""
    if tokenizer is None and config.tokenizer.path is not None:
        tokenizer = _given_tokenizer(config.tokenizer.path)
    return _up_to_date(paths, _request(config, find_sources(config), tokenizer))


def find_sources(config: Config) -> list[SourceFiles]:
    """The files of `data.sources` and `data.validation_sources`.

    Raises:
        ConfigError: if there are no sources.
        DataError: for a source that cannot be found.
    """
    if not config.data.sources:
        raise ConfigError(
            "data.sources names no text",
            remedy="Add your files or folders, such as `sources: [my-texts/]` under data.",
        )
    train = [SourceFiles(s, find_files(s.path), False) for s in config.data.sources]
    return train + [
        SourceFiles(s, find_files(s.path), True) for s in config.data.validation_sources
    ]


def _request(config: Config, sources: list[SourceFiles], tokenizer: Tokenizer | None) -> str:
    """A hash of all that decides about the result; and of the tokenizer, if one is given."""
    wanted = {
        "format": FORMAT,
        "version": __version__,
        "data": config.data.model_dump(mode="json", exclude={"workers"}),
        "tokenizer": config.tokenizer.model_dump(mode="json"),
        "files": [
            [file.url, file.size, file.modified] for source in sources for file in source.files
        ],
    }
    request = hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()
    return request if tokenizer is None else f"{request} {tokenizer.hash}"


def _up_to_date(paths: RunPaths, request: str) -> dict[str, Any] | None:
    """The manifest that is there, if it answers the same request and all files are whole."""
    try:
        manifest = read_manifest(paths.data)
        if manifest.get("request") != request:
            return None
        if Tokenizer.load(paths.tokenizer).hash != manifest["tokenizer_sha256"]:
            return None
        for split in SPLITS:
            TokenShards.open(paths.data, split)
        return manifest
    except (DataError, ModelError, OSError, KeyError, TypeError):
        return None


def _check_amount(config: Config, manifest: dict[str, Any]) -> None:
    context = config.model.build(vocab_size=1).context_length
    length = config.sequence_length(config.pretrain, context)
    tokens = manifest["splits"]["train"]["tokens"]
    if tokens < length:
        raise DataError(
            f"there is too little text: {tokens:,} training tokens, and one sequence alone has "
            f"{length:,}",
            place="data.sources",
            remedy="Add more text, or set a smaller model.context_length.",
        )


# ---------------------------------------------------------------------- encoding


@dataclass(frozen=True)
class _Encoded:
    """A batch of documents as tokens: all ids, where each document ends, its bytes."""

    splits: list[str]
    ids: np.ndarray
    ends: np.ndarray
    sizes: list[int]
    counts: Counter[str]


_worker_tokenizer: Tokenizer | None = None


def _start_worker(tokenizer: Tokenizer) -> None:
    global _worker_tokenizer
    _worker_tokenizer = tokenizer


def _encode_batch(batch: list[tuple[str, str]]) -> _Encoded:
    """What a worker does with a batch of (split, text)."""
    assert _worker_tokenizer is not None
    tokenizer, counts = _worker_tokenizer, Counter[str]()
    fallback = np.array(tokenizer.byte_ids, dtype=np.int64)
    pieces, sizes = [], []
    for _, text in batch:
        ids = np.array(tokenizer.document(tokenizer.encode(text)), dtype=np.uint32)
        size = len(text.encode())
        pieces.append(ids)
        sizes.append(size)
        language = _language(text)
        counts[f"{language} documents"] += 1
        counts[f"{language} bytes"] += size
        counts[f"{language} tokens"] += len(ids)
        counts[f"{language} unknown"] += int((ids == tokenizer.unk_id).sum())
        counts[f"{language} byte_fallback"] += int(np.isin(ids, fallback).sum())
        counts[f"length {1 << max(len(ids) - 1, 1).bit_length()}"] += 1
    ends = np.cumsum([len(piece) for piece in pieces])
    return _Encoded([split for split, _ in batch], np.concatenate(pieces), ends, sizes, counts)


def _language(text: str) -> str:
    """By the script of the beginning: a sixth of Han characters makes it Chinese."""
    head = text[:2000]
    han = sum("\u4e00" <= character <= "\u9fff" for character in head)
    if han * 6 >= max(len(head), 1):
        return "zh"
    latin = sum(character.isascii() and character.isalpha() for character in head)
    return "en" if latin * 2 >= max(len(head), 1) else "other"


def _encode(
    config: Config, tokenizer: Tokenizer, texts: Iterator[tuple[str, str]], folder: Any
) -> dict[str, Any]:
    """Write the shards of both splits; the manifest without its request."""
    dtype = np.dtype(np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.uint32)
    writers = {
        split: ShardWriter(folder, split, dtype, config.data.shard_tokens) for split in SPLITS
    }
    counts: Counter[str] = Counter()
    for encoded in _encode_all(texts, tokenizer, config.data.workers):
        counts.update(encoded.counts)
        start = 0
        for split, end, size in zip(encoded.splits, encoded.ends, encoded.sizes, strict=True):
            writers[split].add(encoded.ids[start:end], size)  # type: ignore[index]
            start = int(end)
    return {
        "format": FORMAT,
        "tokenizer_sha256": tokenizer.hash,
        "dtype": dtype.name,
        "borders": [tokenizer.bos_id, tokenizer.eos_id],
        "splits": {split: writer.close() for split, writer in writers.items()},
        "report": {"languages": _by_language(counts), "lengths": _lengths(counts)},
    }


def _encode_all(
    texts: Iterator[tuple[str, str]], tokenizer: Tokenizer, workers: int | str
) -> Iterator[_Encoded]:
    """Batches in their order, encoded here or, for large texts, by worker processes."""
    number = (os.cpu_count() or 1) if workers == "auto" else int(workers)
    batches = _batches(texts)
    first: list[list[tuple[str, str]]] = []
    size = 0
    for batch in batches:
        first.append(batch)
        size += sum(len(text) for _, text in batch)
        if size >= _PARALLEL_BYTES:
            break
    if number == 1 or size < _PARALLEL_BYTES:
        _start_worker(tokenizer)
        for batch in _chain(first, batches):
            yield _encode_batch(batch)
        return
    # Forking would copy a process that may have threads; spawning starts a clean one.
    context = get_context("spawn")
    with ProcessPoolExecutor(number, context, _start_worker, (tokenizer,)) as pool:
        waiting: list[Future[_Encoded]] = []
        for batch in _chain(first, batches):
            waiting.append(pool.submit(_encode_batch, batch))
            if len(waiting) > 2 * number:
                yield waiting.pop(0).result()
        for future in waiting:
            yield future.result()


def _chain(
    first: list[list[tuple[str, str]]], rest: Iterable[list[tuple[str, str]]]
) -> Iterator[list[tuple[str, str]]]:
    yield from first
    yield from rest


def _batches(texts: Iterator[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    batch: list[tuple[str, str]] = []
    size = 0
    for one in texts:
        batch.append(one)
        size += len(one[1])
        if size >= _BATCH_CHARS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


# ------------------------------------------------------------------------ report


def _by_language(counts: Counter[str]) -> dict[str, dict[str, float]]:
    table = {}
    for language in ("en", "zh", "other"):
        tokens = counts[f"{language} tokens"]
        if tokens:
            table[language] = {
                "documents": counts[f"{language} documents"],
                "bytes": counts[f"{language} bytes"],
                "tokens": tokens,
                "bytes_per_token": round(counts[f"{language} bytes"] / tokens, 3),
                "unknown_share": round(counts[f"{language} unknown"] / tokens, 6),
                "byte_fallback_share": round(counts[f"{language} byte_fallback"] / tokens, 6),
            }
    return table


def _lengths(counts: Counter[str]) -> dict[str, int]:
    """How many documents have at most so many tokens (and more than the step before)."""
    steps = sorted(int(k.removeprefix("length ")) for k in counts if k.startswith("length "))
    return {str(step): counts[f"length {step}"] for step in steps}


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
