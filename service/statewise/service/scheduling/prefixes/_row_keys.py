"""Computes the keys of a sequence's chunks: cryptographic digests of all that the state behind a chunk
depends on.

Two sequences have a key in common only if owner, model, starting state, inputs of the row and all steps up to
the chunk's end are equal byte for byte. Nothing here compares rows.
"""

from collections.abc import Sequence
from hashlib import sha256

import numpy as np

from statewise.service.base import Array
from statewise.wire import TensorSpec


class RowKeys:
    """Computes keys for one graph.

    Every part of a key but the model's digest has a length that the graph's spec fixes, so that no two
    different rows are the same bytes.

    Args:
        inputs: Of the graph.
        digest: The model version's.
        chunk_steps: Time steps of a chunk; None: a row is one chunk, whatever its length.
        shared: Whether owners share what is known.
    """

    def __init__(
        self,
        inputs: Sequence[TensorSpec],
        *,
        digest: str,
        chunk_steps: int | None,
        shared: bool,
    ) -> None:
        self._per_step = [entry.per_step for entry in inputs]
        self._chunk_steps = chunk_steps
        self._shared = shared
        # sha256 rather than BLAKE2: processors have instructions for it, and it is twice as fast with them.
        self._model = sha256(f"{digest}\n".encode())

    def of_row(
        self, inputs: Sequence[Array], state: Sequence[Array], *, owner: int, steps: int, chunks: int
    ) -> list[bytes]:
        """Computes the keys of a row's first chunks, 32 bytes each.

        Args:
            inputs: The row's, in the spec's order: per-step [steps, ...], others [...].
            state: That the row starts from, in the spec's order, [...] each.
            owner: Number of the caller's owner.
            steps: Time steps of the row.
            chunks: How many keys.
        """
        running = self._model.copy()
        running.update((0 if self._shared else owner).to_bytes(8, "little"))
        for array in state:
            running.update(_bytes_of(array))
        for array, per_step in zip(inputs, self._per_step, strict=True):
            if not per_step:
                running.update(_bytes_of(array))
        sequences = [
            _bytes_of(array) for array, per_step in zip(inputs, self._per_step, strict=True) if per_step
        ]
        step_bytes = [len(sequence) // steps for sequence in sequences]
        if self._chunk_steps is None:
            running.update(steps.to_bytes(8, "little"))
        size = self._chunk_steps or steps
        keys = []
        for begin in range(0, chunks * size, size):
            for sequence, width in zip(sequences, step_bytes, strict=True):
                running.update(sequence[begin * width : (begin + size) * width])
            keys.append(running.digest())
        return keys


def _bytes_of(array: Array) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
