"""Spans that are hidden: how many, which, and never what is learnt."""

from dataclasses import dataclass

import pytest
import torch

from chatgpt_cli.data.augment import SpanMasked
from chatgpt_cli.data.batch import IGNORE, Batch
from chatgpt_cli.tokenizer.special import MASK

SPECIAL = 12


@dataclass(frozen=True)
class Rows:
    """Every fourth token is special; of each row the second half is learnt."""

    batch_size: int = 64
    sequence_length: int = 128
    batches_per_epoch: float = 2.0

    def fingerprint(self) -> dict[str, object]:
        return {"data": "rows"}

    def batch(self, index: int) -> Batch:
        shape = (self.batch_size, self.sequence_length)
        ids = torch.randint(SPECIAL, 500, shape, generator=torch.Generator().manual_seed(index))
        ids[:, ::4] = 5
        labels = torch.full(shape, IGNORE)
        labels[:, 63:-1] = ids[:, 64:]
        ones = torch.ones(shape, dtype=torch.int64)
        return Batch(ids, labels, ones, torch.arange(128).expand(shape))


@pytest.mark.parametrize("share", [0.05, 0.15, 0.3])
def test_about_as_much_is_hidden_as_was_asked_for(share: float) -> None:
    source = Rows()
    masked = SpanMasked(source, share, seed=1)
    read, expected = (
        [],
        1
        - (1 - share * 2 / 6)
        * (1 - share * 2 / 6 * 4 / 5)
        * (1 - share * 2 / 6 * 3 / 5)
        * (1 - share * 2 / 6 * 2 / 5)
        * (1 - share * 2 / 6 / 5),
    )
    for index in range(4):
        plain, batch = source.batch(index), masked.batch(index)
        changed = batch.input_ids != plain.input_ids
        assert torch.equal(batch.input_ids[changed], torch.full((int(changed.sum()),), MASK))
        assert not changed[plain.input_ids < SPECIAL].any()
        assert not changed[:, 64:].any()
        assert torch.equal(batch.labels, plain.labels)
        # The first few tokens can be reached by fewer spans.
        read.append(changed[:, 8:64][plain.input_ids[:, 8:64] >= SPECIAL].float().mean())
    assert float(torch.stack(read).mean()) == pytest.approx(expected, rel=0.1)


def test_the_same_batch_is_hidden_alike_and_others_are_not() -> None:
    masked = SpanMasked(Rows(), 0.2, seed=1)
    first = masked.batch(0).input_ids
    assert torch.equal(first, masked.batch(0).input_ids)
    where = first == MASK
    assert not torch.equal(where, masked.batch(1).input_ids == MASK)
    assert not torch.equal(where, SpanMasked(Rows(), 0.2, seed=2).batch(0).input_ids == MASK)
    assert masked.fingerprint() == {"data": "rows", "mask_spans": 0.2}
