"""Computes a 64-bit digest of each row of a request, to distinguish a retry from a new request.

The digest is not cryptographic: it guards against mistakes of callers, who only reach their own sessions.
Equal inputs have equal digests on every machine. The method is
multilinear hashing modulo 2**64 with odd coefficients, which notices every change of a single word; the
coefficients come from SplitMix64 (Steele, Lea and Flood 2014).
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import offsets_in_rows, starts_of


@lru_cache(maxsize=256)
def _coefficients(count: int, stream: int) -> NDArray[np.uint64]:
    """Returns the first `count` odd pseudo-random words of the sequence number `stream`."""
    counter = np.arange(1, count + 1, dtype=np.uint64) + np.uint64(stream << 48)
    z = counter * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    words = (z ^ (z >> np.uint64(31))) | np.uint64(1)
    words.flags.writeable = False
    return words


def _words(rows: NDArray[Any]) -> NDArray[np.uint64]:
    """Views [N, ...] as [N, words], in the widest words of 1 to 8 bytes that divide a row's bytes evenly."""
    flat = np.ascontiguousarray(rows).reshape(len(rows), -1)
    row_bytes = flat.shape[1] * flat.itemsize
    for word in (np.dtype(np.uint64), np.dtype(np.uint32), np.dtype(np.uint16), np.dtype(np.uint8)):
        if row_bytes % word.itemsize == 0:
            return flat.view(word).astype(np.uint64, copy=False)
    raise AssertionError("every size is a multiple of 1")


def digest_rows(
    inputs: Sequence[NDArray[Any]],
    *,
    per_step: Sequence[bool],
    steps: NDArray[np.uint32] | None,
) -> NDArray[np.uint64]:
    """Computes the digest of each row of a request, uint64 [rows].

    Args:
        inputs: Per-step inputs [sum(steps), ...], others [rows, ...].
        per_step: Which inputs are per-step.
        steps: Time steps of each row, not all 0; None: 1 each. The digest of a row of 0 steps means nothing.
    """
    digest: NDArray[np.uint64] | None = None
    for number, (array, by_step) in enumerate(zip(inputs, per_step, strict=True)):
        words = _words(array)
        if by_step and steps is not None:
            values = np.einsum("nw,w->n", words, _coefficients(words.shape[1], 2 * number))
            weights = _coefficients(_table_size(int(steps.max())), 2 * number + 1)[offsets_in_rows(steps)]
            values = np.add.reduceat(values * weights, np.minimum(starts_of(steps), len(values) - 1))
        else:
            values = words.dot(_row_coefficients(words.shape[1], number, by_step=by_step))
        digest = values if digest is None else digest * np.uint64(3) + values
    assert digest is not None, "a model has at least one input"
    return digest


@lru_cache(maxsize=256)
def _row_coefficients(count: int, number: int, *, by_step: bool) -> NDArray[np.uint64]:
    """Returns the coefficients of a row without a time axis, or of one step with the step's weight."""
    words = _coefficients(count, 2 * number)
    return words * _coefficients(_table_size(1), 2 * number + 1)[0] if by_step else words


def _table_size(steps: int) -> int:
    """Rounds up to a power of two, so that few tables serve all lengths."""
    return 1 << max(6, (steps - 1).bit_length())
