"""What a part of a run is made of: the configuration, the environment and the data.

The preprocessed text has a provenance.json, each stage of training, and the evaluation. One
that was continued has a session for each time that began with something else. config.yaml of
the run is made from them: the settings as each part ran.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from chatgpt_cli import __version__
from chatgpt_cli.command_line import typed_options
from chatgpt_cli.config.loader import dump_values
from chatgpt_cli.config.paths import PACKAGE, STAGES, RunPaths, StageName
from chatgpt_cli.config.schema import Config
from chatgpt_cli.data.sources import (
    ROW_SUFFIXES,
    TEXT_SUFFIXES,
    DataFile,
    find_files,
    is_pattern,
    suffix_of,
)
from chatgpt_cli.errors import ChatGPTError, DataError
from chatgpt_cli.files import sha256, write_text
from chatgpt_cli.provenance import Session, read_record, write_record
from chatgpt_cli.training.events import Chosen, Event, Observer, StepDone

# Bytes of data above which files are told apart by size and time: reading them for their
# hashes alone would take minutes.
_HASHED = 50_000_000_000
# Packages whose other version can change a number.
_PACKAGES = ("torch", "numpy", "sentencepiece", "tokenizers", "safetensors")
# The sections of the configuration that a part alone decides about, by its folder. The others,
# such as hardware, are as the part that ran last had them.
_OWN: dict[str, tuple[str, ...]] = {
    "data": ("data", "tokenizer"),
    "pretrain": ("model", "pretrain"),
    "finetune": ("finetune",),
    "prefer": ("prefer",),
    "reinforce": ("reinforce",),
    "evaluate": ("evaluate",),
}


def software() -> dict[str, Any]:
    """Versions, the program's own code and the processor: what text depends on, at most."""
    return {
        "chatgpt-cli": __version__,
        "code": _hash_of_code(),
        "python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
    }


def environment() -> dict[str, Any]:
    """The same, and where PyTorch computes: what training depends on."""
    import torch

    return {
        **software(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": torch.get_num_threads(),
    }


def processor() -> str:
    """The processor's name, as the operating system gives it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _hash_of_code() -> str:
    """One SHA-256 of the package's source files, so that an edited copy is told apart."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(path.relative_to(PACKAGE).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def text_files(config: Config) -> dict[str, str]:
    """The files of `data.sources` and `data.validation_sources`, with their hashes.

    Raises:
        DataError: if one is missing.
    """
    return hashes(s.path for s in (*config.data.sources, *config.data.validation_sources))


def row_files(config: Config, stage: StageName) -> dict[str, str]:
    """The files of rows that a stage reads, with their hashes; pretraining reads none.

    Raises:
        DataError: if one is missing.
    """
    section = getattr(config, stage)
    named = [*getattr(section, "data", []), *getattr(section, "validation_data", [])]
    return hashes(
        path
        for one in named
        for path in ([one] if isinstance(one, str) else [one.source, one.target])
    )


def hashes(paths: Iterable[str]) -> dict[str, str]:
    """The files that paths, folders, globs or URLs stand for, with their hashes.

    Raises:
        DataError: if one is missing.
    """
    files = {file.name: file for path in paths for file in find_files(path, _any_kind(path))}
    small = sum(file.size for file in files.values()) <= _HASHED
    return {name: _hash(file, read=small) for name, file in files.items()}


def _any_kind(path: str) -> tuple[str, ...]:
    """The kinds of text, and whatever a single file's name ends with."""
    known = TEXT_SUFFIXES + ROW_SUFFIXES
    return known if is_pattern(path) and not Path(path).is_file() else (*known, suffix_of(path))


def _hash(file: DataFile, *, read: bool) -> str:
    """SHA-256, or size and time of what is elsewhere or too much to read for this."""
    if "://" in file.url or not read:
        return f"{file.size} bytes, {file.modified}"
    try:
        return sha256(Path(file.url))
    except OSError as error:
        # Left out of what is learnt, or refused there.
        return f"unreadable ({error.errno})"


def write_settings(paths: RunPaths, config: Config) -> None:
    """Write the run's config.yaml: each section as the part that it is about last ran.

    Args:
        paths: the run; what its parts recorded takes precedence.
        config: the project as it is now, for what no part has recorded.
    """
    values = config.model_dump(mode="json", by_alias=True)
    for part, sections in _OWN.items():
        if sessions := read_record(paths.root / part):
            then = sessions[-1].config
            values |= {name: then[name] for name in sections if name in then}
    write_text(paths.config, dump_values(values))


def recorded_settings(paths: RunPaths) -> dict[str, list[tuple[int, str]]]:
    """For each part that recorded something, the steps it began at and its settings as YAML.

    The sections of other parts are left out: it made no use of them.

    Raises:
        DataError: if a record is damaged.
    """
    found = {}
    for part in ("data", *STAGES, "evaluate"):
        others = {*STAGES, "evaluate"} - {part}
        found[part] = [
            (one.step, dump_values({k: v for k, v in one.config.items() if k not in others}))
            for one in read_record(paths.root / part)
        ]
    return {part: sessions for part, sessions in found.items() if sessions}


def text_session(config: Config, files: dict[str, str]) -> Session:
    """What preprocessed text is made of now."""
    return session_of(config, files, software(), 0)


def session_of(
    config: Config,
    files: dict[str, str],
    environment: dict[str, Any],
    step: int,
    model: dict[str, Any] | None = None,
) -> Session:
    """What the command that runs records of itself; see `Session`."""
    values = config.model_dump(mode="json", by_alias=True)
    folder = str(Path.cwd())
    return Session(step, values, folder, environment, files, model, typed_options())


class Recorder:
    """Passes events on, and notes what training was made of once its first step is done.

    Not earlier: only then is it certain that an earlier run is not refused or replaced.
    """

    def __init__(self, stage: Path, config: Config, name: StageName, then: Observer) -> None:
        """Args:
        stage: the stage's folder.
        config: the project.
        name: the stage.
        then: is told every event.
        """
        self._stage, self._config, self._then = stage, config, then
        try:
            self._files: dict[str, str] | None = row_files(config, name)
        except (ChatGPTError, OSError):
            # Training reads the same files, and says what is wrong with them.
            self._files = None
        self._chosen: dict[str, str | int] = {}

    def __call__(self, event: Event) -> None:
        """Follow the run: note what an event changes."""
        if isinstance(event, Chosen):
            self._chosen = dict(event.values)
        if isinstance(event, StepDone) and self._files is not None:
            # A record that cannot be written should not end hours of training.
            with suppress(OSError, DataError):
                now = environment() | self._chosen
                self._note(session_of(self._config, self._files, now, event.step - 1))
                write_settings(RunPaths(self._stage.parent), self._config)
            self._files = None
        self._then(event)

    def _note(self, now: Session) -> None:
        before = read_record(self._stage) if now.step else []
        if before and (before[-1].config, before[-1].environment, before[-1].files) == (
            now.config,
            now.environment,
            now.files,
        ):
            return
        write_record(self._stage, [*before, now])
