"""Raw text in; tokenizer, token shards, manifest and data report out."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from chatgpt_cli import __version__
from chatgpt_cli.config.paths import RunPaths
from chatgpt_cli.config.schema import HOW_IT_IS_DONE, Config
from chatgpt_cli.data.cleaning.identify import check_languages
from chatgpt_cli.data.encode import Encoded, Tally, encode_all
from chatgpt_cli.data.parts.machine import ALONE, Machine
from chatgpt_cli.data.problems import ProblemLog
from chatgpt_cli.data.shards import (
    FORMAT,
    SPLITS,
    ShardWriter,
    TokenShards,
    read_manifest,
    token_dtype,
    write_manifest,
)
from chatgpt_cli.data.sources import find_files, other_kinds
from chatgpt_cli.data.survey import SourceFiles, Survey, assigned, kept_aside, survey
from chatgpt_cli.errors import ConfigError, DataError, ModelError
from chatgpt_cli.files import atomic_path
from chatgpt_cli.tokenizer.tokenizer import Tokenizer
from chatgpt_cli.tokenizer.train import train_tokenizer

# From here on it is worth doing in parts, in bytes.
_LARGE = 1_000_000_000
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
    machine: Machine = ALONE,
    record: Callable[[Path], None] | None = None,
) -> Prepared:
    """Make tokenizer and shards, unless those that are there come from the same request.

    Args:
        config: the project.
        paths: where the results go.
        force: make them again in any case.
        tell: told what is being done.
        tokenizer: that of the model the project starts from, to be used as it is.
        machine: number 0 of those that share the work; the others call `help_preprocess`.
        record: adds files to the folder of the shards before that takes its place, so that
            no death of the process leaves one without the other.

    Raises:
        ConfigError: no sources, or a vocabulary that does not fit the text.
        DataError: text that cannot be used, or too little of it.
    """
    sources, tokenizer, request = _asked_for(config, tokenizer)
    if force:
        shutil.rmtree(paths.parts, ignore_errors=True)
    elif manifest := _up_to_date(paths, request):
        return Prepared(manifest, fresh=False)
    files = [file for source in sources for file in source.files]
    size = sum(file.size for file in files)
    work = _work(config, paths, sources, request, machine, tell, size=size)
    tell(f"Reading {len(files)} files, {_size(size)}")
    if others := other_kinds(source.section.path for source in sources):
        tell(f"Files of other kinds are not read: {others}")
    found, sample, problems = work.survey()
    if not sample:
        raise DataError(
            f"no text is left to train on ({_listed(found) or 'the sources are empty'})",
            place="data.sources",
            remedy="Look at data.min_chars, data.languages and data.filters, and at what the "
            "files hold.",
        )
    if tokenizer is None:
        tokenizer = work.tokenizer()
    if tokenizer is None:
        taken = sum(len(text.encode()) for text in sample)
        tell(f"Training the tokenizer ({config.tokenizer.type}) on {_size(taken)}")
        tokenizer = train_tokenizer(sample, config.tokenizer)
    del sample
    tell("Encoding")
    entries = {
        "request": request,
        "sources": [
            {"path": s.section.path, "weight": s.section.weight, "files": len(s.files)}
            for s in sources
        ],
    }
    report = {
        **found.counts,
        "rejected": found.rejected.rules,
        "problems": dict(problems.counts),
        "skipped": [f"{p.place}: {p.reason}" for p in problems.first],
        "kept_aside": kept_aside(sources, config.data, found),
        "vocab_size": tokenizer.vocab_size,
    }
    encoded = work.encode(tokenizer, found)
    with atomic_path(paths.data) as folder:
        folder.mkdir()
        manifest = _write_shards(config, tokenizer, encoded, folder) | entries
        manifest["report"] |= report
        _check_amount(config, manifest)
        write_manifest(folder, manifest)
        if record is not None:
            record(folder)
        with atomic_path(paths.tokenizer) as tokenizer_folder:
            tokenizer.save(tokenizer_folder)
    work.discard()
    return Prepared(manifest, fresh=True)


def help_preprocess(
    config: Config,
    paths: RunPaths,
    *,
    machine: Machine,
    tell: Tell,
    tokenizer: Tokenizer | None = None,
) -> None:
    """Do the share of one of several machines, of which machine 0 calls `preprocess`.

    Raises:
        ConfigError, DataError: as `preprocess`.
    """
    sources, _, request = _asked_for(config, tokenizer)
    if _up_to_date(paths, request):
        return
    from chatgpt_cli.data.parts.work import InParts

    InParts(config, sources, paths.parts / _short(request), machine, tell).help()


class _Work(Protocol):
    """How the text is read twice: to decide about it, and to encode it."""

    def survey(self) -> tuple[Survey, list[str], ProblemLog]: ...

    def tokenizer(self) -> Tokenizer | None: ...

    def encode(self, tokenizer: Tokenizer, found: Survey) -> Iterator[Encoded]: ...

    def discard(self) -> None: ...


def _work(
    config: Config,
    paths: RunPaths,
    sources: list[SourceFiles],
    request: str,
    machine: Machine,
    tell: Tell,
    *,
    size: int,
) -> _Work:
    """In parts where that is asked for, or where the text is large."""
    wanted = config.data.in_parts
    several = machine.of > 1 or config.data.engine == "ray"
    if wanted is True or (wanted == "auto" and (several or size >= _LARGE)):
        from chatgpt_cli.data.parts.work import InParts

        return InParts(config, sources, paths.parts / _short(request), machine, tell)
    return _AtOnce(config, sources)


@dataclass(frozen=True)
class _AtOnce:
    """The text from its beginning to its end, by this process; others encode what it reads."""

    config: Config
    sources: list[SourceFiles]

    def survey(self) -> tuple[Survey, list[str], ProblemLog]:
        problems = ProblemLog(self.config.data.on_error, "data.on_error")
        found, sample = survey(
            self.sources,
            self.config.data,
            problems,
            sample_bytes=self.config.tokenizer.sample_bytes,
        )
        return found, sample, problems

    def tokenizer(self) -> Tokenizer | None:
        return None

    def encode(self, tokenizer: Tokenizer, found: Survey) -> Iterator[Encoded]:
        texts = assigned(self.sources, self.config.data, found)
        return encode_all(texts, tokenizer, self.config.data.workers)

    def discard(self) -> None:
        """There is nothing to put away."""


def _asked_for(
    config: Config, tokenizer: Tokenizer | None
) -> tuple[list[SourceFiles], Tokenizer | None, str]:
    """The sources, the tokenizer if it is given, and the request; faults show early."""
    sources = find_sources(config)
    if config.data.languages is not None:
        check_languages(config.data.languages)
    if tokenizer is None and config.tokenizer.path is not None:
        tokenizer = _given_tokenizer(config.tokenizer.path)
    return sources, tokenizer, _request(config, sources, tokenizer)


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
    return _up_to_date(paths, _asked_for(config, tokenizer)[2])


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
        "data": config.data.model_dump(mode="json", exclude=set(HOW_IT_IS_DONE)),
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


def _write_shards(
    config: Config, tokenizer: Tokenizer, encoded: Iterator[Encoded], folder: Path
) -> dict[str, Any]:
    """Write the shards of both splits; the manifest without its request."""
    dtype = token_dtype(tokenizer.vocab_size)
    writers = [ShardWriter(folder, split, dtype, config.data.shard_tokens) for split in SPLITS]
    tally = Tally()
    for batch in encoded:
        tally.add(batch.documents)
        ends = np.cumsum(batch.documents["tokens"], dtype=np.int64)
        start = 0
        for split, size, end in zip(
            batch.documents["split"].tolist(),
            batch.documents["bytes"].tolist(),
            ends.tolist(),
            strict=True,
        ):
            writers[split].add(batch.ids[start:end], size)
            start = end
    return {
        "format": FORMAT,
        "tokenizer_sha256": tokenizer.hash,
        "dtype": dtype.name,
        "borders": [tokenizer.bos_id, tokenizer.eos_id],
        "splits": {split: writer.close() for split, writer in zip(SPLITS, writers, strict=True)},
        "report": {"languages": tally.by_language(), "lengths": tally.by_length()},
    }


def _short(request: str) -> str:
    """A name for the folder of the parts."""
    return hashlib.sha256(request.encode()).hexdigest()[:16]


def _listed(found: Survey) -> str:
    left_out = {**found.counts}
    left_out |= {rule: entry["documents"] for rule, entry in found.rejected.rules.items()}
    return ", ".join(f"{count:,} {name}" for name, count in left_out.items() if count)
