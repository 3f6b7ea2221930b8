"""Generating with a cache gives what computing everything anew gives."""

import pytest
import torch

from chatgpt_cli.model.kv_cache import KVCache
from chatgpt_cli.model.transformer import AttentionKind
from tests.model.test_transformer import CHOICES, KINDS, build, tokens

CAUSAL = [name for name, choice in CHOICES.items() if choice.get("causal", True)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CAUSAL)
@pytest.mark.parametrize("pieces", [[12], [1] * 12, [5, 1, 1, 4, 1]])
def test_pieces_with_a_cache_equal_the_whole(
    name: str, kind: AttentionKind, pieces: list[int]
) -> None:
    model = build(**CHOICES[name])
    model.set_attention(kind)
    cache = KVCache(model.config, 3, 12)
    with torch.no_grad():
        parts = [model(part, cache=cache) for part in tokens().split(pieces, dim=1)]
        torch.testing.assert_close(torch.cat(parts, 1), model(tokens()), atol=1e-5, rtol=1e-5)
    assert cache.length == 12


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CAUSAL)
def test_rows_of_unequal_length(name: str, kind: AttentionKind) -> None:
    model = build(**CHOICES[name])
    model.set_attention(kind)
    ids, lengths = tokens(3, 12), [3, 7, 5]
    cache = KVCache(model.config, 3, 11)
    padded = torch.zeros(3, 7, dtype=torch.int64)
    for row, length in enumerate(lengths):
        padded[row, :length] = ids[row, :length]

    with torch.no_grad():
        expected = [model(ids[row : row + 1]) for row in range(3)]
        hidden = model(padded, cache=cache)
        cache.set_lengths(lengths)
        steps = []
        for step in range(4):
            now = torch.stack([ids[row, n + step] for row, n in enumerate(lengths)])
            steps.append(model(now[:, None], cache=cache))
            if step == 1:  # row 1 leaves
                cache.keep_rows([0, 2], [3 + 2, 5 + 2])
                ids, lengths = ids[[0, 2]], [3, 5]
    for row, length in enumerate([3, 7, 5]):
        torch.testing.assert_close(hidden[row, :length], expected[row][0, :length])
        for step in range(2):
            torch.testing.assert_close(steps[step][row, 0], expected[row][0, length + step])
    for kept_row, (row, length) in enumerate([(0, 3), (2, 5)]):
        for step in (2, 3):
            torch.testing.assert_close(steps[step][kept_row, 0], expected[row][0, length + step])


def test_a_full_cache_and_a_wrong_use_are_refused() -> None:
    model = build()
    cache = KVCache(model.config, 3, 4)
    with pytest.raises(ValueError, match="5 tokens do not fit into a cache of 4"):
        model(tokens(3, 5), cache=cache)
    with pytest.raises(ValueError, match="without segments"):
        model(tokens(3, 4), cache=cache, segment_ids=torch.ones(3, 4))
    with pytest.raises(ValueError, match="causal"):
        build(**CHOICES["bert"])(tokens(3, 4), cache=cache)
