"""Chooses the rows of a group's step, cuts their input into requests, and joins the results."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from statewise.client.values import (
    Array,
    InputBytes,
    ModelInfo,
    RequestLimits,
    Rows,
    StatewiseError,
    elements_of,
    read_outputs,
    row_bytes,
    wrong,
)
from statewise.v1 import sequence_pb2


@dataclass(frozen=True, slots=True)
class GroupRequest:
    """Rows that travel in one request."""

    rows: NDArray[np.intp]
    """Indices in the group."""
    steps: NDArray[np.uint32]
    """Time steps of each row."""
    columns: tuple[bytes, ...]
    """In the order of the model's inputs: the rows' bytes, one after another."""

    def payloads(self, model: ModelInfo) -> list[InputBytes]:
        """Returns the inputs of each row."""
        by_input = [
            row_bytes(column, self.steps, per_step=spec.per_step)
            for spec, column in zip(model.inputs, self.columns, strict=True)
        ]
        return list(zip(*by_input, strict=True))

    def subset(self, model: ModelInfo, indices: NDArray[np.intp]) -> "GroupRequest":
        """Returns some rows of the request, by their index in it."""
        payloads = self.payloads(model)
        columns = tuple(
            b"".join(column) for column in zip(*(payloads[index] for index in indices.tolist()), strict=True)
        )
        return GroupRequest(self.rows[indices], self.steps[indices], columns)


@dataclass(slots=True)
class GroupResult:
    """The outputs of a request's rows."""

    outputs: list[Array]
    """In the order of the model's outputs: those of all rows, zeros for rows that failed."""
    errors: dict[int, StatewiseError]
    """By index in the request."""

    @classmethod
    def failed(cls, request: GroupRequest, error: StatewiseError, model: ModelInfo) -> "GroupResult":
        """Makes the result of rows that all failed for the same reason."""
        total = int(request.steps.sum())
        outputs = [
            np.zeros((total if spec.per_step else len(request.rows), *spec.shape), spec.dtype)
            for spec in model.outputs
        ]
        return cls(outputs, dict.fromkeys(range(len(request.rows)), error))


def choose_rows(everything: NDArray[np.intp], index: object) -> NDArray[np.intp]:
    """Returns the rows of a group that a caller's index names; None: all.

    Raises:
        InvalidInput: no such rows, none at all, or one twice.
    """
    if index is None:
        return everything
    try:
        picked = index if isinstance(index, slice) else np.asarray(index)
        chosen = everything[picked] if isinstance(picked, slice) or picked.size else everything[:0]
    except (IndexError, TypeError, ValueError, OverflowError, RuntimeError):
        expected = f"a slice, a mask or a list of indices into {len(everything)} sessions"
        raise wrong("index", expected, index) from None
    if chosen.ndim != 1 or not len(chosen):
        raise wrong("index", "at least one session, in one dimension", index)
    if len(np.unique(chosen)) != len(chosen):
        raise wrong("index", "every session at most once", index)
    return chosen


def cut_requests(
    model: ModelInfo, request_limits: RequestLimits, chosen: NDArray[np.intp], rows: Rows
) -> Iterator[GroupRequest]:
    """Yields the requests for some rows of a group, in order.

    Args:
        model: the version that runs.
        request_limits: of one request.
        chosen: indices of the rows in the group.
        rows: their input.

    Raises:
        LimitReached: a row alone does not fit into a request.
    """
    ends = np.cumsum(rows.steps, dtype=np.int64)
    for begin, end in request_limits.bounds(rows.steps):
        first = int(ends[begin - 1]) if begin else 0
        columns = tuple(
            (column[first : ends[end - 1]] if spec.per_step else column[begin:end]).tobytes()
            for spec, column in zip(model.inputs, rows.columns, strict=True)
        )
        yield GroupRequest(chosen[begin:end], rows.steps[begin:end], columns)


def join_results(requests: Sequence[GroupRequest], results: Sequence[GroupResult]) -> GroupResult:
    """Joins the results of consecutive requests to the result of one."""
    if len(results) == 1:
        return results[0]
    outputs = [np.concatenate(arrays) for arrays in zip(*(result.outputs for result in results), strict=True)]
    errors: dict[int, StatewiseError] = {}
    begin = 0
    for request, result in zip(requests, results, strict=True):
        errors.update((begin + index, error) for index, error in result.errors.items())
        begin += len(request.rows)
    return GroupResult(outputs, errors)


def outputs_of_good_rows(
    model: ModelInfo, request: GroupRequest, reply: sequence_pb2.StepResponse, failed: Sequence[int]
) -> tuple[NDArray[np.intp], list[Array]]:
    """Returns the indices of the rows that did not fail, and all rows' outputs, zeros for failed rows."""
    good = np.setdiff1d(np.arange(len(request.rows)), failed)
    elements = elements_of(good, request.steps)
    read = read_outputs(model, reply.outputs, rows=len(good), steps=len(elements))
    total = int(request.steps.sum())
    outputs = []
    for spec, array in zip(model.outputs, read, strict=True):
        length = total if spec.per_step else len(request.rows)
        whole = np.zeros((length, *array.shape[1:]), array.dtype)
        whole[elements if spec.per_step else good] = array
        outputs.append(whole)
    return good, outputs
