"""The tasks of preprocessing in parts: each leaves a folder, whole or not at all.

A task whose folder is there has nothing to do; so any run continues any other.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from chatgpt_cli.data.encode import DOCUMENT, Encoded, batches, encode_batch
from chatgpt_cli.data.parts.job import Job, load_job
from chatgpt_cli.data.problems import Problem, ProblemLog
from chatgpt_cli.data.shards import token_dtype
from chatgpt_cli.data.survey import Notes, Sample, Survey, kept, look_through, read_all
from chatgpt_cli.errors import DataError
from chatgpt_cli.files import atomic_path, sha256
from chatgpt_cli.tokenizer.tokenizer import Tokenizer


def forget() -> None:
    """Read everything anew: another run may have begun in the same process."""
    for cached in (load_job, _notes, _decided):
        cached.cache_clear()


def result(folder: Path, task: str, number: int) -> Path:
    """Where a task leaves its results."""
    return folder / task / f"{number:05d}"


# ------------------------------------------------------------- what there is in each part


def survey(folder: Path, number: int) -> None:
    """Note a part's documents, sign them, and draw its share of the tokenizer's sample.

    Raises:
        DataError: for unusable data that is not to be skipped.
    """
    target = result(folder, "survey", number)
    if target.exists():
        return
    job = load_job(folder)
    problems = ProblemLog(job.section.on_error, "data.on_error")
    sample = Sample(job.sample_bytes, job.sample_threshold)
    source = job.parts[number].source
    items = ((source, item) for _, item in read_all([job.part(number)], job.section))
    with atomic_path(target) as place:
        place.mkdir()
        look_through(items, job.sources, job.section, problems, sample, place)
        found = {
            "problems": problems.counts,
            "first": [asdict(problem) for problem in problems.first],
            "threshold": sample.threshold,
            "sample": sample.chosen,
        }
        (place / "sample.json").write_text(json.dumps(found), encoding="utf-8")


def merged_sample(folder: Path, job: Job) -> tuple[list[str], ProblemLog]:
    """The sample of all parts, and their problems, as one reading would have found them."""
    problems = ProblemLog(job.section.on_error, "data.on_error")
    sample = Sample(job.sample_bytes, job.sample_threshold)
    for number in range(len(job.parts)):
        text = (result(folder, "survey", number) / "sample.json").read_text(encoding="utf-8")
        found = json.loads(text)
        sample.limit(found["threshold"])
        for chance, one in found["sample"]:
            sample.add(chance, one)
        problems.counts.update(found["problems"])
        problems.first = (problems.first + [Problem(**one) for one in found["first"]])[:10]
    return sample.texts(), problems


def all_notes(folder: Path, job: Job) -> Notes:
    """The notes of all parts."""
    folders = [result(folder, "survey", number) for number in range(len(job.parts))]
    return Notes(folders, job.section)


# ----------------------------------------------------------------------- near duplicates


def near(folder: Path, band: int) -> None:
    """Find the documents that resemble each other, as far as one band of signatures tells."""
    target = result(folder, "near", band)
    if target.exists():
        return
    dropped = np.load(folder / "exact.npy")
    pairs = _notes(folder).similar(band, dropped)
    with atomic_path(target) as place:
        place.mkdir()
        np.save(place / "pairs.npy", pairs)


@cache
def _notes(folder: Path) -> Notes:
    return all_notes(folder, load_job(folder))


# ------------------------------------------------------------------------------ encoding


def encode(folder: Path, number: int) -> None:
    """A part's kept documents as tokens."""
    target = result(folder, "encode", number)
    if target.exists():
        return
    job, decided = load_job(folder), _decided(folder)
    source = job.part(number)
    found = decided.of_part(result(folder, "survey", number), number)
    with atomic_path(target) as place:
        place.mkdir()
        documents = [np.zeros(0, dtype=DOCUMENT)]
        with (place / "tokens.bin").open("wb") as tokens:
            for batch in batches(kept(source, job.section, found, 0)):
                encoded = encode_batch(batch, decided.tokenizer)
                encoded.ids.astype(decided.dtype).tofile(tokens)
                documents.append(encoded.documents)
        np.save(place / "documents.npy", np.concatenate(documents))
        hashes = {path.name: sha256(path) for path in sorted(place.iterdir())}
        (place / "hashes.json").write_text(json.dumps(hashes), encoding="utf-8")


def encoded_part(folder: Path, number: int, dtype: np.dtype[Any]) -> Encoded:
    """What `encode` left of a part.

    Raises:
        DataError: if it is not as it was written.
    """
    place = result(folder, "encode", number)
    try:
        hashes = json.loads((place / "hashes.json").read_text(encoding="utf-8"))
        whole = all(sha256(place / name) == expected for name, expected in hashes.items())
    except (OSError, ValueError, AttributeError):
        whole = False
    if not whole:
        raise DataError(
            "a finished part is damaged",
            place=str(place),
            remedy="Delete that folder and run the command again: this part alone is made anew.",
        )
    documents = np.load(place / "documents.npy")
    if not len(documents):
        return Encoded(np.zeros(0, dtype), documents)
    return Encoded(np.memmap(place / "tokens.bin", dtype, mode="r"), documents)


@dataclass(frozen=True)
class Decided:
    """What machine 0 has decided about all documents, for all machines.

    Attributes:
        fate: (documents,) uint8.
        starts: (parts + 1,) the number of each part's first document.
        tail: the document, and the character of it, where validation begins; see `Survey`.
    """

    fate: np.ndarray
    starts: np.ndarray
    tail: tuple[int, int]
    tokenizer: Tokenizer

    @property
    def dtype(self) -> np.dtype[Any]:
        """What token ids are stored as."""
        return token_dtype(self.tokenizer.vocab_size)

    def of_part(self, noted: Path, number: int) -> Survey:
        """The part of the survey that is about one part's documents, numbered from 0."""
        start, stop = self.starts[number : number + 2].tolist()
        return Survey(
            fate=self.fate[start:stop],
            hashes=Notes.hashes_in(noted),
            counts=Counter(),
            documents=[stop - start],
            characters=0.0,
            tail_document=self.tail[0] - start if self.tail[0] >= start else -1,
            tail_character=self.tail[1],
        )


def save_decided(folder: Path, found: Survey, sizes: Sequence[int], tokenizer: Tokenizer) -> None:
    """Write what the other machines wait for."""
    with atomic_path(folder / "decided") as place:
        place.mkdir()
        np.save(place / "fate.npy", found.fate)
        np.save(place / "starts.npy", np.concatenate(([0], np.cumsum(sizes))))
        np.save(place / "tail.npy", np.array([found.tail_document, found.tail_character]))
        (place / "tokenizer").mkdir()
        tokenizer.save(place / "tokenizer")


@cache
def _decided(folder: Path) -> Decided:
    place = folder / "decided"
    document, character = np.load(place / "tail.npy").tolist()
    return Decided(
        fate=np.load(place / "fate.npy", mmap_mode="r"),
        starts=np.load(place / "starts.npy"),
        tail=(document, character),
        tokenizer=Tokenizer.load(place / "tokenizer"),
    )
