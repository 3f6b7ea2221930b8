"""Cross entropy of the output layer without the whole matrix of logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# Positions whose logits exist at one time. At a vocabulary of 4,096 a chunk is 16 MB,
# which stays in the processor's cache; smaller chunks multiply matrices less well.
CHUNK = 1024


def _chunk(
    features: Tensor, weight: Tensor, labels: Tensor, smoothing: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss sum and gradients of one chunk.

    Args:
        features: (positions, hidden) in the matrices' dtype.
        weight: (vocab, hidden), same dtype.
        labels: (positions,), negative where there is no target.
        smoothing: share of the target probability spread evenly over the vocabulary.

    Returns:
        Sum of the negative log-likelihood (without smoothing), gradient by features
        (positions, hidden), gradient by weight (vocab, hidden) in float32.
    """
    logits = (features @ weight.T).float()  # (positions, vocab)
    is_target = labels >= 0
    # A comparison with every column compiles to plain vector code; gather does not.
    hit = torch.arange(logits.shape[-1], device=logits.device) == labels[:, None]
    normalizer = torch.logsumexp(logits, dim=-1, keepdim=True)
    chosen = torch.where(hit, logits, 0.0).sum(-1)
    nll = torch.where(is_target, normalizer[:, 0] - chosen, 0.0).sum()
    # d loss / d logits = softmax - target distribution
    gradient = torch.exp(logits - normalizer)
    if smoothing:
        gradient = gradient - smoothing / logits.shape[-1]
    gradient = torch.where(hit, gradient - (1 - smoothing), gradient)
    gradient = torch.where(is_target[:, None], gradient, 0.0).to(features.dtype)
    return nll, gradient @ weight, (gradient.T @ features).float()


_compiled_chunk = torch.compile(_chunk, dynamic=False)


class _LinearCrossEntropy(torch.autograd.Function):
    """Computes the gradients chunk by chunk already in the forward pass.

    PyTorch's own `linear_cross_entropy` with chunking was tried: on a CPU it takes
    twice as long, and under bfloat16 it rounds the loss to three digits.
    """

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        labels: Tensor,
        smoothing: float,
        dtype: torch.dtype,
        compiled: bool,
    ) -> Tensor:
        chunk = _compiled_chunk if compiled else _chunk
        x, w = features.to(dtype), weight.to(dtype)
        by_features = torch.empty_like(features)
        by_weight = torch.zeros_like(weight, dtype=torch.float32)
        total = torch.zeros((), device=features.device)
        for start in range(0, x.shape[0], CHUNK):
            part = slice(start, start + CHUNK)
            nll, dx, dw = chunk(x[part], w, labels[part], smoothing)
            total += nll
            by_features[part] = dx
            by_weight += dw
        ctx.save_for_backward(by_features, by_weight)
        return total

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        (scale,) = outputs
        by_features, by_weight = ctx.saved_tensors
        return by_features * scale, by_weight * scale, None, None, None, None


def linear_cross_entropy(
    features: Tensor,
    weight: Tensor,
    labels: Tensor,
    *,
    label_smoothing: float = 0.0,
    dtype: torch.dtype = torch.float32,
    compiled: bool = False,
) -> Tensor:
    """Sum over the targets of -log softmax(features @ weight.T)[label], in nats.

    The value leaves label smoothing out, so that it stays comparable; the gradient
    is that of the smoothed loss (Szegedy et al. 2016).

    Args:
        features: (positions, hidden).
        weight: (vocab, hidden).
        labels: (positions,) int64; negative where there is no target.
        label_smoothing: share of the target spread over the vocabulary, 0 for none.
        dtype: what the matrices are multiplied in; sums are float32.
        compiled: fuse the element-wise work (worth it in runs of minutes).
    """
    loss: Tensor = _LinearCrossEntropy.apply(
        features, weight, labels, label_smoothing, dtype, compiled
    )  # type: ignore[no-untyped-call]
    return loss
