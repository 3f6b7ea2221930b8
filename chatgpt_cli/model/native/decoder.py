"""A packed model as the compiled code sees it."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from chatgpt_cli.model.kv_cache import KVCache
from chatgpt_cli.model.native import library as native
from chatgpt_cli.model.native.linear import NativeLinear
from chatgpt_cli.model.scores import NextScores

if TYPE_CHECKING:
    from chatgpt_cli.model.inference import InferenceModel, LayerWeights, NormWeights

_ACTIVATIONS = {"gelu": 0, "swiglu": 1, "geglu": 2}


class NativeDecoder:
    """A few tokens more in a cache, in one call. The model must outlive it unchanged."""

    def __init__(self, library: ctypes.CDLL, model: InferenceModel) -> None:
        config = model.config
        self._library = library
        self._vocab = config.vocab_size
        # Pointers do not keep alive what they point to.
        self._layers = (native.Layer * config.num_layers)(*map(_layer, model.layers))
        self._weights = model
        self._model = native.Model(
            hidden=config.hidden_size,
            heads=config.num_heads,
            kv_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            intermediate=config.intermediate_size,
            layer_count=config.num_layers,
            activation=_ACTIVATIONS[config.mlp],
            qk_eps=config.norm_eps if config.qk_norm else -1.0,
            embedding_is_bfloat16=model.embedding.dtype == torch.bfloat16,
            embedding=model.embedding.data_ptr(),
            positions=_pointer(model.positions),
            rotations=_pointer(model.rotations),
            layers=self._layers,
            norm=_norm(model.norm),
            head=_linear(model.head).matrix,
        )

    def __call__(
        self, cache: KVCache, ids: Sequence[int], rows: Sequence[int], slots: Sequence[int]
    ) -> NextScores:
        """What comes after each token; keys and values go to the cache.

        Args:
            cache: what was read before.
            ids: the tokens.
            rows: the row of the cache that each belongs to.
            slots: its place there; of tokens in one row, one after the other.

        Raises:
            IndexError: for a token that is not in the vocabulary, or a full cache.
        """
        count = len(ids)
        if min(ids) < 0 or max(ids) >= self._vocab or max(slots) >= cache.slots:
            raise IndexError("no such token, or no slot left")
        found = NextScores(
            torch.empty(count, self._vocab),
            torch.empty(count, dtype=torch.int64),
            torch.empty(count),
        )
        scores = native.Scores(
            found.logits.data_ptr(), found.best.data_ptr(), found.total.data_ptr()
        )
        numbers = ctypes.c_int64 * count
        several = len(set(rows)) < count
        tokens = native.Tokens(numbers(*ids), numbers(*rows), numbers(*slots), count, several)
        narrow = cache.store.dtype == torch.bfloat16
        store = native.Cache(cache.store.data_ptr(), narrow, cache.store.shape[1], cache.slots)
        self._library.decode(
            ctypes.byref(self._model), ctypes.byref(store), ctypes.byref(tokens),
            ctypes.byref(scores), torch.get_num_threads(),
        )  # fmt: skip
        return found


def _layer(layer: LayerWeights) -> native.Layer:
    up = _linear(layer.up)
    half = up.outputs // 2
    gated = layer.kind != "gelu"
    return native.Layer(
        norm=_norm(layer.norm),
        mlp_norm=_norm(layer.mlp_norm),
        qkv=_linear(layer.qkv).matrix,
        out=_linear(layer.out).matrix,
        gate=up.rows(0, half) if gated else native.Matrix(),
        up=up.rows(half, half) if gated else up.matrix,
        down=_linear(layer.down).matrix,
        gain=layer.gain.data_ptr(),
    )


def _norm(norm: NormWeights) -> native.Norm:
    return native.Norm(norm.rms, norm.weight.data_ptr(), _pointer(norm.bias), norm.eps)


def _linear(linear: object) -> NativeLinear:
    assert isinstance(linear, NativeLinear)
    return linear


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
