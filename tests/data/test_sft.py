"""Rows in people's formats, packing, and what finetuning learns from them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatgpt_cli.config.schema import FinetuneSection
from chatgpt_cli.data.batch import IGNORE
from chatgpt_cli.data.formats.conversations import ChatRow, TextRow
from chatgpt_cli.data.formats.fields import RowFault
from chatgpt_cli.data.packing import pack
from chatgpt_cli.data.row_encoder import RowEncoder
from chatgpt_cli.data.row_inspection import inspect_rows
from chatgpt_cli.data.sft import load_conversations
from chatgpt_cli.errors import DataError
from chatgpt_cli.tokenizer.chat import Message, render
from chatgpt_cli.tokenizer.special import END, PAD
from chatgpt_cli.tokenizer.tokenizer import Tokenizer
from tests.conftest import ENGLISH


@given(lengths=st.lists(st.integers(1, 32), min_size=1, max_size=200), bins=st.integers(1, 20))
def test_packing_loses_nothing_and_overflows_nothing(lengths: list[int], bins: int) -> None:
    packed = pack(np.array(lengths), 32, open_bins=bins)
    assert sorted(item for members in packed for item in members) == list(range(len(lengths)))
    assert all(sum(lengths[item] for item in members) <= 32 for members in packed)


def _data(tmp_path: Path, tokenizer: Tokenizer, rows: list[tuple[str, str]], **section: Any) -> Any:
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps({"prompt": a, "completion": b}, ensure_ascii=False) for a, b in rows]
    path.write_text("\n".join(lines), encoding="utf-8")
    values = {"data": [str(path)], "batch_size": 4, "validation_fraction": 0.1, **section}
    return load_conversations(FinetuneSection.model_validate(values), tokenizer, 32, seed=3)


ROWS = [(f"say the cat {n}", "a dog" + " saw" * (n % 7)) for n in range(120)]


def test_every_conversation_once_an_epoch_and_isolated(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    data = _data(tmp_path, tokenizer, ROWS)
    source = data.train
    rows = round(source.batches_per_epoch * source.batch_size)
    seen: dict[tuple[int, ...], int] = {}
    for row in range(rows):
        batch, at = source.batch(row // 4), row % 4
        ids, segments = batch.input_ids[at].numpy(), batch.segment_ids[at].numpy()
        labels, positions = batch.labels[at].numpy(), batch.position_ids[at].numpy()
        for segment in set(segments.tolist()) - {0}:
            part = np.flatnonzero(segments == segment)
            assert (np.diff(part) == 1).all() and positions[part].tolist() == list(range(len(part)))
            assert ids[part[-1]] == END and labels[part[-1]] == IGNORE
            assert batch.begins[at, part].tolist() == [True] + [False] * (len(part) - 1)
            learnt = part[labels[part] != IGNORE]
            assert (labels[learnt] == ids[learnt + 1]).all() and labels[learnt[-1]] == END
            key = tuple(ids[part].tolist())
            seen[key] = seen.get(key, 0) + 1
        assert (ids[segments == 0] == PAD).all() and (labels[segments == 0] == IGNORE).all()
    held_out = len(data.validation.data)
    assert len(seen) == len(ROWS) - held_out and set(seen.values()) == {1}


def test_batches_can_be_asked_for_in_any_order(tmp_path: Path, tokenizer: Tokenizer) -> None:
    one, other = (_data(tmp_path, tokenizer, ROWS).train for _ in range(2))
    forward = [one.batch(k).input_ids for k in range(40)]
    for k in (39, 2, 17, 0, 38):
        assert np.array_equal(forward[k], other.batch(k).input_ids)


def test_split_is_by_content(tmp_path: Path, tokenizer: Tokenizer) -> None:
    few = _data(tmp_path, tokenizer, ROWS[:80]).validation.data
    many = _data(tmp_path, tokenizer, ROWS).validation.data
    rows = [
        {tuple(d.ids[a:b].tolist()) for a, b in zip(d.starts, d.starts[1:], strict=False)}
        for d in (few, many)
    ]
    assert rows[0] <= rows[1]


def test_the_only_text_that_is_kept_aside_takes_its_copies_with_it(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    rows = [(f"say {n}", "a dog") for n in range(5)] * 2
    data = _data(tmp_path, tokenizer, rows, validation_fraction=1e-9)
    assert (len(data.validation.data), "Rows: 8 to train on" in data.notes[0]) == (2, True)


def test_long_prompts_are_cut_and_the_answer_stays(tmp_path: Path, tokenizer: Tokenizer) -> None:
    rows = [(f"the cat and the dog {n} " * 9, "a red kite") for n in range(20)]
    data = _data(tmp_path, tokenizer, rows)
    assert any("cut at the front" in note for note in data.notes)
    batch = data.train.batch(0)
    wanted = [*tokenizer.encode("a red kite"), END]
    for labels in batch.labels.tolist():
        assert [label for label in labels if label != IGNORE] == wanted


def test_characters_that_the_tokenizer_does_not_know_are_told(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    assert not any("bytes" in note for note in _data(tmp_path, tokenizer, ROWS).notes)
    rare = [*ROWS, ("say", "好")]
    assert not any("bytes" in note for note in _data(tmp_path, tokenizer, rare).notes)
    rows = [(f"say {n}", "猫猫猫和狗狗") for n in range(100)]
    (note,) = (note for note in _data(tmp_path, tokenizer, rows).notes if "bytes" in note)
    assert "猫 狗 和" in note and "data.sources" in note
    path = tmp_path / "seen.jsonl"
    turns = [[{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in rows]
    path.write_text("".join(json.dumps({"messages": one}) + "\n" for one in turns))
    found = inspect_rows([str(path)], FinetuneSection(), tokenizer, length=64, samples=1).unknown
    assert found.characters == {"猫": 300, "狗": 200, "和": 100} and found.bytes == 1800
    assert f"{found.share:.1%} of the rows' tokens" in str(found.note())
    unknown = inspect_rows([str(path)], FinetuneSection(), None, length=None, samples=1).unknown
    assert unknown.note() is None


def test_answer_that_is_too_long_is_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    rows = [*ROWS, ("say", "a dog saw the cat " * 20)]
    with pytest.raises(DataError, match="the answer alone has"):
        _data(tmp_path, tokenizer, rows)


def _encoder(tokenizer: Tokenizer, length: int, **section: Any) -> Any:
    return RowEncoder(FinetuneSection.model_validate(section), tokenizer, length)


WORDS = st.lists(st.sampled_from(ENGLISH), min_size=1, max_size=12).map(" ".join)
TURNS = st.lists(st.tuples(WORDS, WORDS, st.booleans()), min_size=1, max_size=5)


@given(system=st.none() | WORDS, turns=TURNS, length=st.integers(8, 60))
def test_truncation_keeps_an_answer_and_its_end(
    tokenizer: Tokenizer, system: str | None, turns: list[tuple[str, str, bool]], length: int
) -> None:
    messages = [Message("system", system)] if system else []
    for question, answer, learnt in turns:
        messages += [Message("user", question), Message("assistant", answer, float(learnt))]
    whole = render(messages, tokenizer)
    try:
        (cut,) = _encoder(tokenizer, length).rendered(ChatRow(tuple(messages), "here"))
    except RowFault as fault:
        assert fault.kind in ("nothing to learn", "answer too long")
        assert not any(whole.targets) or len(whole.ids) > length
        return
    assert len(cut.ids) <= length
    kept = [token for token, target in zip(cut.ids, cut.targets, strict=True) if target]
    every = [token for token, target in zip(whole.ids, whole.targets, strict=True) if target]
    # Neighbouring answers, whole, each with its end.
    ends = [-1, *(place for place, token in enumerate(every) if token == END)]
    assert kept and any(
        kept == every[start + 1 : stop + 1] for start in ends for stop in ends if stop > start
    )


def test_plain_text_is_learnt_to_its_end(tokenizer: Tokenizer) -> None:
    text = "the cat and the dog saw a red kite " * 5
    pieces = _encoder(tokenizer, 16).rendered(TextRow(text, "here"))
    learnt = [t for p in pieces for t, target in zip(p.ids, p.targets, strict=True) if target]
    assert learnt == [*tokenizer.encode(text), tokenizer.eos_id]
    assert all(len(piece.ids) <= 16 for piece in pieces) and pieces[0].ids[0] == tokenizer.bos_id


def test_rows_that_do_not_fit_are_counted_when_skipped(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    rows = [*ROWS, ("say", "a dog saw the cat " * 20)]
    data = _data(tmp_path, tokenizer, rows, on_error="skip")
    assert "Left out: 1 rows (1 answer too long)" in data.notes
