"""Holds rows of unequal length one after another, without padding: the layout of requests and replies.

Runs use another layout, with rows side by side (`_padded.py`). Nothing here changes an array.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from statewise.service.base._types import Array, Indices
from statewise.wire import DTYPES, TensorSpec


def starts_of(lengths: NDArray[np.integer]) -> Indices:
    """Returns the index of each row's first element, [rows]."""
    starts = np.zeros(len(lengths), np.intp)
    np.cumsum(lengths[:-1], out=starts[1:])
    return starts


def offsets_in_rows(lengths: NDArray[np.integer]) -> Indices:
    """Computes every element's index in its own row, [sum(lengths)]: 0, 1, … of each row in turn."""
    return np.arange(int(lengths.sum()), dtype=np.intp) - np.repeat(starts_of(lengths), lengths)


def elements_of(rows: Indices, lengths: NDArray[np.integer]) -> Indices:
    """Computes the indices of the elements of `rows`, in their order; `lengths` are those of all rows."""
    own = lengths[rows]
    return np.repeat(starts_of(lengths)[rows], own) + offsets_in_rows(own)


@dataclass(frozen=True, eq=False)
class RaggedColumns:
    """One array for each of some tensors; all arrays hold the same rows.

    Attributes:
        tensors: Which tensors; says of each whether it has one element a time step, or one a row.
        arrays: In the order of `tensors`: per-step [sum(lengths), ...], others [rows, ...].
        lengths: Time steps of each row, [rows]; None: 1 each.
    """

    tensors: Sequence[TensorSpec]
    arrays: Sequence[Array]
    lengths: NDArray[np.integer] | None

    @classmethod
    def blank(cls, tensors: Sequence[TensorSpec], lengths: NDArray[np.integer]) -> Self:
        """Makes rows filled with each tensor's default, or with 0 where there is none."""
        time_steps = int(lengths.sum(dtype=np.int64))
        arrays = [
            np.full(
                (time_steps if tensor.per_step else len(lengths), *tensor.shape),
                tensor.default or 0,
                DTYPES[tensor.dtype],
            )
            for tensor in tensors
        ]
        return cls(tensors, arrays, lengths)

    @classmethod
    def concatenate(cls, parts: "Sequence[RaggedColumns]") -> "RaggedColumns":
        """Joins the rows of all parts, one part after another; at least one part, all of the same tensors.

        Either all parts have lengths, or none has.
        """
        if len(parts) == 1:
            return parts[0]
        arrays = [np.concatenate(arrays) for arrays in zip(*(part.arrays for part in parts), strict=True)]
        lengths = [part.lengths for part in parts if part.lengths is not None]
        return RaggedColumns(parts[0].tensors, arrays, np.concatenate(lengths) if lengths else None)

    @classmethod
    def unpad(
        cls,
        tensors: Sequence[TensorSpec],
        padded: Sequence[Array],
        lengths: NDArray[np.integer],
        columns: Indices,
    ) -> Self:
        """Returns rows of a padded batch, without the padding.

        Args:
            tensors: Which tensors.
            padded: In the order of `tensors`: per-step [T, batch, ...], others [batch, ...].
            lengths: Time steps of each row, [rows], at most T.
            columns: Where each row lies in the batch, [rows].
        """
        if len(lengths) == 1:  # a view
            row, steps = int(columns[0]), int(lengths[0])
            arrays = [
                array[:steps, row] if tensor.per_step else array[row : row + 1]
                for tensor, array in zip(tensors, padded, strict=True)
            ]
            return cls(tensors, arrays, lengths)
        index = offsets_in_rows(lengths), np.repeat(columns, lengths)
        arrays = [
            array[index] if tensor.per_step else array[columns]
            for tensor, array in zip(tensors, padded, strict=True)
        ]
        return cls(tensors, arrays, lengths)

    @cached_property
    def starts(self) -> Indices:
        """Index of each row's first element in the per-step arrays, [rows]. Needs `lengths`."""
        assert self.lengths is not None, "rows of one step each have no starts"
        return starts_of(self.lengths)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in self.arrays)

    @property
    def named(self) -> Mapping[str, Array]:
        """The arrays by the names of their tensors."""
        return {tensor.name: array for tensor, array in zip(self.tensors, self.arrays, strict=True)}

    def nonfinite_rows(self) -> Indices:
        """Finds the rows with a NaN or an infinite number. Usually none, and then cheap."""
        found: set[int] = set()
        for tensor, array in zip(self.tensors, self.arrays, strict=True):
            if array.dtype.kind != "f" or np.isfinite(array).all():
                continue
            elements = np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))
            if tensor.per_step and self.lengths is not None:
                elements = np.searchsorted(np.cumsum(self.lengths), elements, side="right")
            found.update(elements.tolist())
        return np.array(sorted(found), np.intp)

    def take(self, rows: Indices) -> "RaggedColumns":
        """Returns some of the rows, in the order of `rows`."""
        elements = rows if self.lengths is None else elements_of(rows, self.lengths)
        arrays = [
            array[elements if tensor.per_step else rows]
            for tensor, array in zip(self.tensors, self.arrays, strict=True)
        ]
        return RaggedColumns(self.tensors, arrays, None if self.lengths is None else self.lengths[rows])

    def pad(self, rows: Indices) -> list[Array]:
        """Returns some of the rows side by side: per-step [T, len(rows), ...], others [len(rows), ...].

        T is the longest of the rows, each of which has at least one time step. Shorter rows repeat their last
        element. Needs `lengths`.
        """
        assert self.lengths is not None, "rows of one step each are not ragged"
        if len(rows) == 1:  # a view
            row = int(rows[0])
            begin = int(self.starts[row]) if row else 0
            end = begin + int(self.lengths[row])
            return [
                array[begin:end, None] if tensor.per_step else array[row : row + 1]
                for tensor, array in zip(self.tensors, self.arrays, strict=True)
            ]
        lengths = self.lengths[rows]
        elements = np.minimum(np.arange(int(lengths.max()))[:, None], lengths - 1) + self.starts[rows]
        return [
            array.take(elements if tensor.per_step else rows, axis=0)
            for tensor, array in zip(self.tensors, self.arrays, strict=True)
        ]
