"""Computes losses with their gradients, and the activations of heads, over scores [..., O].

A loss is the mean over the counted entries, and its gradient is the gradient of this mean: zero at every
entry that does not count.
"""

from __future__ import annotations

import numpy as np

from statewise.models.base import Array, Floats, Integers


def softmax(scores: Floats) -> Floats:
    """Computes exp(s) / sum exp(s) over the last axis, shifted by the maximum so that it cannot overflow."""
    result: Floats = scores - scores.max(axis=-1, keepdims=True)
    np.exp(result, out=result)
    result /= result.sum(axis=-1, keepdims=True)
    return result


def sigmoid(scores: Floats) -> Floats:
    """Computes 1 / (1 + exp(-s)) by tanh, which cannot overflow."""
    result: Floats = np.tanh(scores * 0.5)
    result *= 0.5
    result += 0.5
    return result


def cross_entropy(
    scores: Floats, targets: Integers, counted: Array | None = None, *, smoothing: float = 0.0
) -> tuple[float, Floats]:
    """Computes softmax cross-entropy in nats; its gradient with respect to the scores is softmax(s) - target.

    Args:
        scores: [..., O].
        targets: Class numbers, shaped [...].
        counted: Booleans, shaped [...]; None counts every entry.
        smoothing: Share of the target spread evenly over all classes (Szegedy et al. 2016).

    Returns:
        The mean over the counted entries, and its gradient [..., O].
    """
    mask = _mask(scores, targets.shape, counted)
    share = smoothing / scores.shape[-1]
    shifted = scores - scores.max(axis=-1, keepdims=True)
    exps = np.exp(shifted)
    total = exps.sum(axis=-1, keepdims=True)
    log_p = shifted - np.log(total)
    index = np.where(mask > 0, targets, 0)[..., None]
    picked = np.take_along_axis(log_p, index, axis=-1)[..., 0]
    entropy = -((1 - smoothing) * picked + share * log_p.sum(axis=-1))
    count = mask.sum()
    d = exps / total
    d -= share
    np.put_along_axis(d, index, np.take_along_axis(d, index, axis=-1) - (1 - smoothing), axis=-1)
    d *= (mask / count)[..., None]
    return float((entropy * mask).sum() / count), d


def binary_cross_entropy(
    scores: Floats, targets: Array, counted: Array | None = None
) -> tuple[float, Floats]:
    """Computes sigmoid cross-entropy in nats; its gradient with respect to the scores is sigma(s) - target.

    Args:
        scores: [..., O].
        targets: 0 to 1, shaped [..., O].
        counted: Booleans, shaped [...]; None counts every entry.

    Returns:
        The mean over the counted entries and their O outputs, and its gradient [..., O].
    """
    mask = _mask(scores, scores.shape[:-1], counted)[..., None]
    count = mask.sum() * scores.shape[-1]
    # log(1 + exp(s)) - s * target
    loss = np.logaddexp(scores.dtype.type(0), scores) - scores * targets
    d = (sigmoid(scores) - targets) * (mask / count)
    return float((loss * mask).sum() / count), d.astype(scores.dtype, copy=False)


def squared_error(scores: Floats, targets: Floats, counted: Array | None = None) -> tuple[float, Floats]:
    """Computes half the mean squared difference; its gradient is the difference over the count.

    Args:
        scores: [..., O].
        targets: [..., O].
        counted: Booleans, shaped [...]; None counts every entry.

    Returns:
        The mean over the counted entries and their O outputs, and its gradient [..., O].
    """
    mask = _mask(scores, scores.shape[:-1], counted)[..., None]
    count = mask.sum() * scores.shape[-1]
    difference = np.where(mask > 0, scores - targets, 0)
    return float(0.5 * np.square(difference).sum() / count), (difference / count).astype(
        scores.dtype, copy=False
    )


def _mask(scores: Floats, shape: tuple[int, ...], counted: Array | None) -> Floats:
    if counted is None:
        return np.ones(shape, scores.dtype)
    if counted.shape != shape:
        raise ValueError(f"counted: expected shape {shape}, got {counted.shape}")
    if not counted.any():
        raise ValueError("counted: expected at least one entry that counts")
    return counted.astype(scores.dtype)
