"""Nearly equal documents: found from the threshold on, in both languages, and only those."""

import random
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest

from chatgpt_cli.config.schema import DataSection, NearDuplicatesSection
from chatgpt_cli.data.cleaning.near_duplicates import (
    PERMUTATIONS,
    bands_for,
    repeated_by,
    signatures,
    similar_pairs,
)
from chatgpt_cli.data.cleaning.signature_files import SignatureFiles, SignatureWriter
from chatgpt_cli.data.cleaning.units import phrases, units_of
from chatgpt_cli.data.problems import ProblemLog
from chatgpt_cli.data.sources import find_files
from chatgpt_cli.data.survey import SourceFiles, assigned, survey

WORDS = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in "nrstl"]
CHARACTERS = [chr(0x4E00 + 7 * n) for n in range(2000)]


def _text(r: random.Random, language: str, length: int = 300) -> list[str]:
    return r.choices(WORDS if language == "en" else CHARACTERS, k=length)


def _joined(units: list[str], language: str) -> str:
    return (" " if language == "en" else "").join(units)


def _changed(r: random.Random, units: list[str], language: str, changes: int) -> list[str]:
    """The same with some units replaced, each far enough from the others to cost 5 shingles."""
    copy = list(units)
    for place in range(10, 10 + 8 * changes, 8):
        copy[place] = _text(r, language, 1)[0]
    return copy


def _shingles(units: list[str], length: int = 5) -> set[tuple[str, ...]]:
    return {tuple(units[i : i + length]) for i in range(len(units) - length + 1)}


def _jaccard(a: list[str], b: list[str]) -> float:
    first, second = _shingles(a), _shingles(b)
    return len(first & second) / len(first | second)


def test_units_are_words_and_chinese_characters() -> None:
    units = units_of(["The café’s 3 KITES, 风筝！ the", "", "กา x"])
    # the, café, s, 3, kites, 风, 筝, the; nothing; ก, า, x
    assert units.counts.tolist() == [8, 0, 3]
    assert units.document.tolist() == [0] * 8 + [2] * 3
    assert units.lengths.tolist() == [3, 4, 1, 1, 5, 1, 1, 3, 1, 1, 1]
    assert np.flatnonzero(units.single).tolist() == [5, 6, 8, 9]
    assert np.flatnonzero(~units.lettered).tolist() == [3]
    assert len(set(units.hashes.tolist())) == 10 and units.hashes[0] == units.hashes[7]


@pytest.mark.parametrize("texts", [["", "。，"], [], ["one"], ["a b", "一"]])
def test_short_and_empty_documents_have_a_shingle_at_most(texts: list[str]) -> None:
    units = units_of(texts)
    _, begins = phrases(units, 5)
    assert units.document[begins].tolist() == np.flatnonzero(units.counts).tolist()
    signed = signatures(units, NearDuplicatesSection())
    assert signed.empty.tolist() == (units.counts == 0).tolist()


def test_the_hashes_do_not_depend_on_the_company() -> None:
    r = random.Random(0)
    texts = [_joined(_text(r, language), language) for language in ("en", "zh", "en")]
    together = signatures(units_of(texts), NearDuplicatesSection()).rows
    alone = [signatures(units_of([text]), NearDuplicatesSection()).rows[0] for text in texts]
    assert (together == np.stack(alone)).all()


@pytest.mark.parametrize("language", ["en", "zh"])
def test_signatures_estimate_the_jaccard_similarity(language: str) -> None:
    r = random.Random(1)
    errors = []
    for changes in range(1, 31):
        first = _text(r, language)
        second = _changed(r, first, language, changes)
        texts = [_joined(first, language), _joined(second, language)]
        rows = signatures(units_of(texts), NearDuplicatesSection()).rows
        errors.append(float((rows[0] == rows[1]).mean()) - _jaccard(first, second))
    # The standard error of one estimate is at most sqrt(0.25 / 256) = 0.031.
    assert max(map(abs, errors)) < 4 * 0.031
    assert abs(np.mean(errors)) < 4 * 0.031 / np.sqrt(len(errors))


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0])
def test_bands_let_pairs_at_the_threshold_meet(threshold: float) -> None:
    bands = bands_for(threshold)
    assert bands.count * bands.rows <= PERMUTATIONS
    assert 1 - (1 - threshold**bands.rows) ** bands.count >= 0.97


def test_pairs_are_found_whatever_the_crowd() -> None:
    """With one key for all, the pairs must link each document to an earlier one like it."""
    r = np.random.Generator(np.random.PCG64(0))
    kinds = r.integers(0, 5, 200)
    rows = r.integers(0, 1 << 32, size=(5, PERMUTATIONS), dtype=np.uint32)[kinds]
    usable = r.random(200) < 0.9
    pairs = similar_pairs(np.zeros(200, np.uint64), usable, lambda n: rows[n], 0.8)
    gone = repeated_by([pairs])
    firsts = {int(np.flatnonzero((kinds == kind) & usable)[0]) for kind in range(5)}
    assert set(gone) == set(np.flatnonzero(usable).tolist()) - firsts
    assert all(kinds[later] == kinds[earlier] for later, earlier in gone.items())


def test_similarity_is_not_passed_on() -> None:
    """1 goes for 0; 2 resembles only 1, which is gone, and stays."""
    assert repeated_by([np.array([[1, 2], [0, 1]]), np.array([[0, 1]])]) == {1: 0}


def test_signatures_on_disk_are_those_in_memory(tmp_path: Path) -> None:
    section = NearDuplicatesSection()
    bands = bands_for(section.threshold).count
    r = random.Random(2)
    texts = [_joined(_text(r, "en", 40), "en") for _ in range(30)]
    whole = signatures(units_of(texts), section)
    borders = [0, 7, 7, 20, 30]
    folders, counts = [], []
    for number, (start, stop) in enumerate(pairwise(borders)):
        folder = tmp_path / str(number)
        folder.mkdir()
        with SignatureWriter(folder, bands) as writer:
            for at in range(start, stop, 5):
                writer.add(signatures(units_of(texts[at : min(at + 5, stop)]), section))
        folders.append(folder)
        counts.append(stop - start)
    files = SignatureFiles(folders, counts, bands)
    chosen = np.array([29, 3, 7, 6, 19, 3])
    assert (files.rows(chosen) == whole.rows[chosen]).all()
    assert all((files.keys(band) == whole.keys[:, band]).all() for band in range(bands))


def _planted(language: str, groups: int) -> tuple[list[list[str]], list[int], list[int]]:
    """Documents; which are near-duplicates (J >= 0.9) and which near misses (J <= 0.7)."""
    r = random.Random(3)
    documents = [_text(r, language) for _ in range(groups)]
    near, miss = [], []
    for number in range(0, groups, 2):
        twin = _changed(r, documents[number], language, 2)
        assert _jaccard(documents[number], twin) >= 0.9
        near.append(len(documents))
        documents.append(twin)
        cousin = _changed(r, documents[number], language, 12)
        assert _jaccard(documents[number], cousin) <= 0.7
        miss.append(len(documents))
        documents.append(cousin)
    return documents, near, miss


@pytest.mark.parametrize("language", ["en", "zh"])
def test_planted_near_duplicates_go_and_near_misses_stay(language: str, tmp_path: Path) -> None:
    documents, near, _ = _planted(language, 60)
    texts = [_joined(document, language) for document in documents]
    (tmp_path / "a.txt").write_text("\n\n".join(texts), encoding="utf-8")
    section = DataSection.model_validate(
        {
            "sources": [{"path": str(tmp_path / "a.txt"), "separator": "\n\n"}],
            "near_duplicates": {"threshold": 0.8},
        }
    )
    sources = [SourceFiles(section.sources[0], find_files(section.sources[0].path), False)]
    problems = ProblemLog("stop", "data.on_error")
    found, _ = survey(sources, section, problems, sample_bytes=1000)
    kept = [document.text for document in assigned(sources, section, found)]
    gone = {number for number, text in enumerate(texts) if text not in set(kept)}
    # Not even the closest two others come near the threshold.
    others = [d for number, d in enumerate(documents) if number not in near]
    assert max(_jaccard(a, b) for a, b in combinations(others[:20], 2)) < 0.75
    assert gone == set(near)
    assert found.counts["near duplicates"] == len(near)
