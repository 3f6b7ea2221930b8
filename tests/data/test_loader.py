"""Windows over a token stream: coverage, order, borders of documents, masks."""

from typing import cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chatgpt_cli.data.batch import IGNORE
from chatgpt_cli.data.loader import HeldOutWindows, TokenWindows, window_batch
from chatgpt_cli.data.masking import MaskedBatches, Masking
from chatgpt_cli.data.shards import Borders, TokenShards
from chatgpt_cli.errors import DataError
from chatgpt_cli.tokenizer.special import BOS, CLS, EOS, MASK, SEP


class _Stream:
    """Stands for `TokenShards`: tokens that lie in memory."""

    def __init__(self, tokens: np.ndarray, borders: Borders) -> None:
        self._tokens = tokens
        self.num_tokens = len(tokens)
        self.borders = borders

    def read(self, start: int, stop: int) -> np.ndarray:
        assert 0 <= start <= stop <= self.num_tokens
        return self._tokens[start:stop]

    def fingerprint(self) -> dict[str, object]:
        return {}


def _stream(tokens: np.ndarray, borders: Borders | None = None) -> TokenShards:
    return cast(TokenShards, _Stream(tokens, borders or Borders()))


def _windows(tokens: int, length: int, batch: int = 4, seed: int = 0) -> TokenWindows:
    stream = _stream(np.arange(100, 100 + tokens, dtype=np.uint16))
    return TokenWindows(stream, batch_size=batch, sequence_length=length, seed=seed)


@settings(max_examples=60, deadline=None)
@given(tokens=st.integers(20, 300), length=st.integers(2, 20), seed=st.integers(0, 99))
def test_an_epoch_shows_every_window_once(tokens: int, length: int, seed: int) -> None:
    source = _windows(tokens, length, batch=1, seed=seed)
    rows = tokens // length
    for epoch in range(2):
        seen = [source.windows(epoch * rows + row)[0, :-1].astype(int) - 100 for row in range(rows)]
        flat = np.concatenate(seen)
        assert len(set(flat.tolist())) == rows * length, "a token was shown twice in an epoch"
        for row in seen:
            assert np.array_equal((row - row[0]) % tokens, np.arange(length))


def test_any_batch_can_be_asked_for_in_any_order() -> None:
    one, other = _windows(1000, 8), _windows(1000, 8)
    forward = [one.windows(k) for k in range(80)]
    for k in (79, 3, 40, 0, 78):
        assert np.array_equal(forward[k], other.windows(k))


def test_epochs_differ_in_order_and_offset() -> None:
    source = _windows(800, 8, batch=100)
    assert not np.array_equal(source.windows(0), source.windows(1))


def test_text_shorter_than_a_sequence_is_refused() -> None:
    with pytest.raises(DataError, match="7 tokens, fewer than one sequence of 8"):
        _windows(7, 8)


def test_documents_are_segments_and_bos_is_no_target() -> None:
    windows = np.array([[50, EOS, BOS, 60, 61, EOS, BOS, 70]])
    batch = window_batch(windows, Borders())
    assert batch.input_ids[0].tolist() == [50, EOS, BOS, 60, 61, EOS, BOS]
    assert batch.labels[0].tolist() == [EOS, IGNORE, 60, 61, EOS, IGNORE, 70]
    assert batch.segment_ids[0].tolist() == [1, 1, 2, 2, 2, 2, 3]
    assert batch.position_ids[0].tolist() == [0, 1, 0, 1, 2, 3, 0]
    assert batch.begins[0].tolist() == [False, False, True, False, False, False, True]


@pytest.mark.parametrize("masked", [False, True])
def test_what_is_no_target_is_ignored_in_unsigned_shards_too(masked: bool) -> None:
    tokens = np.tile(np.array([BOS, 50, 51, EOS], dtype=np.uint16), 40)
    source = TokenWindows(_stream(tokens), batch_size=4, sequence_length=20, seed=0)
    batch = (MaskedBatches(source, Masking(60, 0.3, 0)) if masked else source).batch(0)
    assert set(batch.labels.flatten().tolist()) == {IGNORE, 50, 51} | (set() if masked else {EOS})


@pytest.mark.parametrize("borders", [Borders(), Borders(bos=7, eos=7)])
@pytest.mark.parametrize("tokens", [2, 8, 9, 10, 50, 57])
def test_held_out_windows_predict_each_token_once(tokens: int, borders: Borders) -> None:
    stream = _stream(np.arange(100, 100 + tokens, dtype=np.uint16), borders)
    source = HeldOutWindows(stream, batch_size=3, sequence_length=8, max_tokens=None)
    targets = [int(t) for batch in source for t in batch.labels.flatten() if t != IGNORE]
    assert sorted(targets) == list(range(101, 100 + tokens))


def test_held_out_windows_are_limited_and_the_same_each_time() -> None:
    stream = _stream(np.arange(100, 1100, dtype=np.uint16))
    source = HeldOutWindows(stream, batch_size=4, sequence_length=10, max_tokens=100)
    first, second = ([batch.input_ids for batch in source] for _ in range(2))
    assert sum(len(ids) for ids in first) == 10
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_masking_follows_the_80_10_10_rule() -> None:
    ids = np.random.default_rng(0).integers(100, 5000, size=(64, 512))
    ids[:, 0], ids[:, -1] = BOS, EOS
    plain = window_batch(np.pad(ids, ((0, 0), (0, 1))), Borders())
    batch = Masking(5000, 0.15, seed=1).of(plain, 1, 0)
    hidden, labels = batch.input_ids.numpy(), batch.labels.numpy()
    target = labels != IGNORE
    assert not target[:, 0].any() and not target[:, -1].any()
    assert (hidden[:, 0] == CLS).all() and (hidden[:, -1] == SEP).all()
    assert target.mean() == pytest.approx(0.15, abs=0.01)
    assert np.array_equal(labels[target], ids[target])
    assert np.array_equal(hidden[~target][hidden[~target] > 11], ids[~target][ids[~target] > 11])
    assert (hidden[target] == MASK).mean() == pytest.approx(0.8, abs=0.02)
    assert (hidden[target] == ids[target]).mean() == pytest.approx(0.1, abs=0.02)


def test_masks_depend_on_seed_and_index_only() -> None:
    def source(seed: int) -> MaskedBatches:
        return MaskedBatches(_windows(1000, 8), Masking(2000, 0.3, seed))

    assert torch.equal(source(1).batch(5).input_ids, source(1).batch(5).input_ids)
    assert not torch.equal(source(1).batch(5).labels, source(2).batch(5).labels)
    assert not torch.equal(source(1).batch(5).labels, source(1).batch(6).labels)
