"""Losses of the output layer without the whole matrix of logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# Positions whose logits exist at one time. At a vocabulary of 4,096 they take 8 MB,
# which stays in the processor's cache; smaller chunks multiply matrices less well.
CHUNK = 512


def _chunk(
    features: Tensor, weight: Tensor, labels: Tensor, smoothing: float, learn_weight: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Loss sum and gradients of one chunk.

    Args:
        features: (positions, hidden) in the matrices' dtype.
        weight: (vocab, hidden), same dtype.
        labels: (positions,), negative where there is no target.
        smoothing: share of the target probability spread evenly over the vocabulary.
        learn_weight: whether the gradient by weight is wanted.

    Returns:
        Sum of the negative log-likelihood (without smoothing), gradient by features
        (positions, hidden), gradient by weight (vocab, hidden), both in that dtype.
    """
    is_target = labels >= 0
    columns = labels.clamp_min(0)[:, None]
    probabilities = torch.softmax(features @ weight.T, -1, dtype=torch.float32)
    # Below 1e-38 (87 nats) float32 has no numbers.
    chosen = probabilities.gather(1, columns)[:, 0].clamp_min(1e-38)
    nll = chosen.log().neg().masked_fill(~is_target, 0.0).sum()
    # d loss / d logits = softmax - target distribution
    if smoothing:
        probabilities -= smoothing / weight.shape[0]
    hit = torch.full_like(columns, smoothing - 1, dtype=torch.float32)
    probabilities.scatter_add_(1, columns, hit)
    gradient = probabilities.to(features.dtype).mul_(is_target[:, None])
    return nll, gradient @ weight, gradient.T @ features if learn_weight else None


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
    ) -> Tensor:
        x, w = features.to(dtype), weight.to(dtype)
        by_features = torch.empty_like(features)
        learn_weight = ctx.needs_input_grad[1]
        by_weight = torch.zeros_like(weight, dtype=torch.float32) if learn_weight else None
        total = torch.zeros((), device=features.device)
        for start in range(0, x.shape[0], CHUNK):
            part = slice(start, start + CHUNK)
            nll, dx, dw = _chunk(x[part], w, labels[part], smoothing, learn_weight)
            total += nll
            by_features[part] = dx
            if by_weight is not None and dw is not None:
                by_weight += dw
        ctx.save_for_backward(by_features, by_weight)
        return total

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        (scale,) = outputs
        by_features, by_weight = ctx.saved_tensors
        weight_gradient = None if by_weight is None else by_weight * scale
        return by_features * scale, weight_gradient, None, None, None


def linear_cross_entropy(
    features: Tensor,
    weight: Tensor,
    labels: Tensor,
    *,
    label_smoothing: float = 0.0,
    dtype: torch.dtype = torch.float32,
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
    """
    loss: Tensor = _LinearCrossEntropy.apply(features, weight, labels, label_smoothing, dtype)  # type: ignore[no-untyped-call]
    return loss


class _LinearLogProbabilities(torch.autograd.Function):
    """Multiplies each chunk again in the backward pass: what its gradient is scaled by, which
    differs from position to position, is not known before."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, labels: Tensor, dtype: torch.dtype
    ) -> Tensor:
        x, w = features.to(dtype), weight.to(dtype)
        found = torch.empty(labels.shape, device=x.device)
        for start in range(0, x.shape[0], CHUNK):
            part = slice(start, start + CHUNK)
            logits = (x[part] @ w.T).float()  # (positions, vocab)
            chosen = logits.gather(1, labels[part, None])[:, 0]
            found[part] = chosen - logits.logsumexp(-1)
        ctx.save_for_backward(x, w, labels)
        ctx.dtypes = features.dtype, weight.dtype
        return found

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        (scale,) = outputs
        x, w, labels = ctx.saved_tensors
        by_features = torch.empty_like(x)
        learn_weight = ctx.needs_input_grad[1]
        by_weight = torch.zeros(w.shape, device=w.device) if learn_weight else None
        for start in range(0, x.shape[0], CHUNK):
            part = slice(start, start + CHUNK)
            # d log p(label) / d logits = one-hot(label) - softmax
            gradient = torch.softmax(x[part] @ w.T, -1, dtype=torch.float32)
            gradient *= -scale[part, None]
            gradient.scatter_add_(1, labels[part, None], scale[part, None])
            rounded = gradient.to(x.dtype)
            by_features[part] = rounded @ w
            if by_weight is not None:
                by_weight += rounded.T @ x[part]
        of_features, of_weight = ctx.dtypes
        weight_gradient = None if by_weight is None else by_weight.to(of_weight)
        return by_features.to(of_features), weight_gradient, None, None


def linear_log_probabilities(
    features: Tensor, weight: Tensor, labels: Tensor, *, dtype: torch.dtype = torch.float32
) -> Tensor:
    """log softmax(features @ weight.T)[label] of every position, in nats: (positions,) float32.

    Args:
        features: (positions, hidden).
        weight: (vocab, hidden).
        labels: (positions,) int64, all of them tokens.
        dtype: what the matrices are multiplied in; sums are float32.
    """
    found: Tensor = _LinearLogProbabilities.apply(features, weight, labels, dtype)  # type: ignore[no-untyped-call]
    return found
