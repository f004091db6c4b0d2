"""Computes the keys of a sequence's chunks: cryptographic digests of all that the state behind a chunk
depends on, as far as somebody asks.

Two sequences have a key in common only if owner, model, starting state, inputs of the row and all steps up to
the chunk's end are equal byte for byte. Nothing here compares rows.
"""

from collections.abc import Sequence
from hashlib import sha256

import numpy as np

from statewise.service.base import Array
from statewise.service.scheduling.prefixes._owned_arrays import owned
from statewise.wire import TensorSpec


class RowHash:
    """The keys of one row, 32 bytes each.

    Every part of a key but the model's digest has a length that the graph's spec fixes, so that no two
    different rows are the same bytes.

    Args:
        specs: The graph's inputs.
        digest: The model version's.
        inputs: The row's, in the order of `specs`: per-step [steps, ...], others [...].
        state: That the row starts from, in the spec's order, [...] each.
        owner: Number of the owner; 0: owners share what is known.
        steps: Time steps of the row.
        chunk_steps: Time steps of a chunk; None: the row is one chunk, whatever its length.
    """

    __slots__ = ("_keys", "_running", "_sequences", "_size")

    def __init__(
        self,
        specs: Sequence[TensorSpec],
        digest: str,
        inputs: Sequence[Array],
        state: Sequence[Array],
        *,
        owner: int,
        steps: int,
        chunk_steps: int | None,
    ) -> None:
        # SHA-256 rather than BLAKE2: processors have instructions for it, and it is twice as fast with them.
        self._running = sha256(f"{digest}\n".encode())
        self._running.update(owner.to_bytes(8, "little"))
        for array in state:
            self._running.update(_bytes_of(array))
        pairs = list(zip(inputs, specs, strict=True))
        for array, entry in pairs:
            if not entry.per_step:
                self._running.update(_bytes_of(array))
        if chunk_steps is None:
            self._running.update(steps.to_bytes(8, "little"))
        self._size = chunk_steps or steps
        self._sequences = [array for array, entry in pairs if entry.per_step]
        self._keys: list[bytes] = []

    def keys(self, chunks: int) -> Sequence[bytes]:
        """Returns the keys of the first chunks, as many as the row has or fewer."""
        for begin in range(len(self._keys) * self._size, chunks * self._size, self._size):
            for sequence in self._sequences:
                self._running.update(_bytes_of(sequence[begin : begin + self._size]))
            self._keys.append(self._running.digest())
        return self._keys[:chunks]

    def own(self, steps: int) -> int:
        """Lets go of all but the first steps, and of what else holds them in memory; returns their bytes."""
        self._sequences = [owned(sequence[:steps]) for sequence in self._sequences]
        return sum(sequence.nbytes for sequence in self._sequences)


def _bytes_of(array: Array) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
