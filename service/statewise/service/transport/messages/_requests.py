"""Reads requests: converts their fields to arrays, sequences and sampling options.

Decides nothing: a field that cannot be read is a ServiceError in the words of `statewise.wire`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import Array, ServiceError
from statewise.service.dataplane import Durability, GenerationInputs
from statewise.service.engine import Sampling
from statewise.service.inputs import RawSequences
from statewise.v1 import sequence_pb2, tensor_pb2
from statewise.wire import Reason, TensorError, from_tensor, unpack_uint32, unpack_uint64


def read_arrays(tensors: Mapping[str, tensor_pb2.Tensor], kind: str = "input") -> dict[str, Array]:
    """Returns tensors of a kind by name, as views of the message. Raises ServiceError (BAD_TENSOR)."""
    result: dict[str, Array] = {}
    for name in tensors:
        try:
            result[name] = from_tensor(tensors[name])
        except TensorError as error:
            raise ServiceError(Reason.BAD_TENSOR, f"{kind} {name!r}: {error}") from None
    return result


def read_uint64(column: bytes, name: str) -> NDArray[np.uint64]:
    """Returns a packed column. Raises ServiceError (BAD_REQUEST)."""
    try:
        return unpack_uint64(column)
    except TensorError as error:
        raise ServiceError(Reason.BAD_REQUEST, f"{name}: {error}") from None


def read_uint32(column: bytes, name: str) -> NDArray[np.uint32]:
    """Returns a packed column. Raises ServiceError (BAD_REQUEST)."""
    try:
        return unpack_uint32(column)
    except TensorError as error:
        raise ServiceError(Reason.BAD_REQUEST, f"{name}: {error}") from None


def read_deadline_s(request: Any, *, clock: Callable[[], float], remaining_s: float | None) -> float | None:
    """Returns the nearer of the call's end and the request's own timeout, on the clock; None: neither is set.

    Args:
        request: A message with a field `timeout`.
        clock: Seconds, monotonic.
        remaining_s: Seconds until the call ends; None: no end.
    """
    if request.HasField("timeout"):
        own_s = request.timeout.ToNanoseconds() / 1e9
        remaining_s = own_s if remaining_s is None else min(own_s, remaining_s)
    return None if remaining_s is None else clock() + remaining_s


def read_durability(number: int) -> Durability:
    """Returns the durability that a field asks for. Raises ServiceError (BAD_REQUEST)."""
    try:
        return Durability(number)
    except ValueError:
        raise ServiceError(
            Reason.BAD_REQUEST, f"durability: expected a value of the enum Durability; got {number}"
        ) from None


def read_sequences(
    inputs: Mapping[str, tensor_pb2.Tensor], lengths: bytes, text: Sequence[str] | None
) -> RawSequences:
    """Returns sequences as the client sent them. Raises ServiceError (BAD_TENSOR, BAD_REQUEST)."""
    return RawSequences(read_arrays(inputs), read_uint32(lengths, "lengths") if lengths else None, text)


def read_text(message: tensor_pb2.TextRows, *, present: bool) -> Sequence[str] | None:
    """Returns the texts of a field, or None where the field is absent."""
    return message.rows if present else None


def read_start(request: sequence_pb2.GenerateRequest) -> GenerationInputs:
    """Returns what every row starts from. Raises ServiceError (BAD_TENSOR, BAD_REQUEST)."""
    lengths = read_uint32(request.emitted_lengths, "emitted_lengths") if request.emitted_lengths else None
    return GenerationInputs(
        request.rows,
        read_sequences(
            request.condition,
            request.condition_lengths,
            read_text(request.condition_text, present=request.HasField("condition_text")),
        ),
        read_sequences(
            request.prompt,
            request.prompt_lengths,
            read_text(request.prompt_text, present=request.HasField("prompt_text")),
        ),
        None if lengths is None else _read_emitted(request, lengths),
        lengths,
        read_arrays(request.state, "state"),
        read_uint64(request.state_positions, "state_positions"),
    )


def _read_emitted(request: sequence_pb2.GenerateRequest, lengths: NDArray[np.uint32]) -> Array:
    """Returns the values that rows have emitted already. Raises ServiceError (BAD_TENSOR, BAD_REQUEST)."""
    arrays = list(read_arrays(request.emitted).values())
    if len(lengths) != request.rows or len(arrays) != 1 or arrays[0].ndim == 0:
        raise ServiceError(
            Reason.BAD_REQUEST,
            f"expected {request.rows} emitted_lengths and one tensor in emitted; "
            f"got {len(lengths)} and {len(arrays)}",
        )
    if len(arrays[0]) != lengths.sum(dtype=np.int64):
        raise ServiceError(
            Reason.BAD_TENSOR,
            f"emitted: expected {lengths.sum(dtype=np.int64)} values, as emitted_lengths says; "
            f"got {len(arrays[0])}",
        )
    return arrays[0]


def read_sampling(message: sequence_pb2.Sampling, rows: int) -> Sampling:
    """Returns sampling options of every row.

    Raises:
        ServiceError: BAD_REQUEST, naming the field, what was expected and what came.
    """
    temperature = _per_row("temperature", message.temperature, rows, np.float32, default=1)
    top_k = _per_row("top_k", message.top_k, rows, np.uint32, default=0)
    if not (np.isfinite(temperature) & (temperature >= 0)).all():
        raise _bad("temperature", f"finite numbers of at least 0; got {list(message.temperature)[:4]}")
    if len(message.top_k) and not top_k.all():
        raise _bad("top_k", "at least 1; got 0")
    # A top_k above the number of tokens selects all of them, so the cut to int32 changes nothing.
    return Sampling(
        temperature,
        np.minimum(top_k, np.iinfo(np.int32).max).astype(np.int32),
        _per_row("seed", message.seed, rows, np.uint64, default=0),
    )


def _per_row(
    name: str, values: Sequence[float], rows: int, dtype: type[np.generic], *, default: float
) -> NDArray[Any]:
    """[rows] numbers, from none (the default), one for all rows, or one a row."""
    if len(values) not in (0, 1, rows):
        raise _bad(name, f"none, 1 or {rows} numbers; got {len(values)}")
    return np.resize(np.array(values or [default], dtype), rows)


def _bad(name: str, message: str) -> ServiceError:
    return ServiceError(Reason.BAD_REQUEST, f"sampling.{name}: expected {message}")
