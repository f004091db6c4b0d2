"""Generation as messages, and back.

No decisions: what does not fit is refused in the words of `statewise.wire`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import ServiceError
from statewise.service.dataplane import GeneratedPart, GenerationInputs
from statewise.service.engine import Sampling
from statewise.service.inputs import RawSequences
from statewise.service.transport.messages import _responses as convert
from statewise.service.transport.messages._status import row_error
from statewise.v1 import sequence_pb2, tensor_pb2
from statewise.wire import Reason, pack_uint32, pack_uint64, to_tensor


def given(
    inputs: Mapping[str, tensor_pb2.Tensor], lengths: bytes, text: Sequence[str] | None
) -> RawSequences:
    """Sequences as they were sent. Raises ServiceError (BAD_TENSOR, BAD_REQUEST)."""
    return RawSequences(
        convert.arrays(inputs), convert.column_uint32(lengths, "lengths") if lengths else None, text
    )


def text_rows(message: tensor_pb2.TextRows, *, present: bool) -> Sequence[str] | None:
    """The texts of a field, or None where it is absent."""
    return message.rows if present else None


def start(request: sequence_pb2.GenerateRequest) -> GenerationInputs:
    """What rows read before they write. Raises ServiceError (BAD_TENSOR, BAD_REQUEST)."""
    return GenerationInputs(
        request.rows,
        given(
            request.condition,
            request.condition_lengths,
            text_rows(request.condition_text, present=request.HasField("condition_text")),
        ),
        given(
            request.prompt,
            request.prompt_lengths,
            text_rows(request.prompt_text, present=request.HasField("prompt_text")),
        ),
    )


def sampling(message: sequence_pb2.Sampling, rows: int) -> Sampling:
    """How values of rows are drawn. Raises ServiceError (BAD_REQUEST), naming field, expected and got."""
    temperature = _column("temperature", message.temperature, rows, np.float32, default=1)
    top_k = _column("top_k", message.top_k, rows, np.uint32, default=0)
    if not (np.isfinite(temperature) & (temperature >= 0)).all():
        raise _bad("temperature", f"finite numbers of at least 0; got {list(message.temperature)[:4]}")
    if len(message.top_k) and not top_k.all():
        raise _bad("top_k", "at least 1; got 0")
    # More than there are tokens is all of them.
    return Sampling(
        temperature,
        np.minimum(top_k, np.iinfo(np.int32).max).astype(np.int32),
        _column("seed", message.seed, rows, np.uint64, default=0),
    )


def generate_response(part: GeneratedPart) -> sequence_pb2.GenerateResponse:
    """What rows emitted, for who has no sessions."""
    response = sequence_pb2.GenerateResponse(errors=[row_error(one) for one in part.failures])
    _put(response, part)
    return response


def sessions_response(part: GeneratedPart) -> sequence_pb2.GenerateSessionsResponse:
    """What sessions emitted."""
    response = sequence_pb2.GenerateSessionsResponse(errors=[row_error(one) for one in part.failures])
    _put(response, part)
    if part.chunk is not None:
        response.positions = pack_uint64(part.chunk.positions)
    return response


def predict_response(part: GeneratedPart, *, version: int) -> sequence_pb2.PredictResponse:
    """What an encoder-decoder said, of whole rows."""
    response = sequence_pb2.PredictResponse(errors=[row_error(one) for one in part.failures], version=version)
    _put(response, part)
    return response


def _put(
    response: sequence_pb2.GenerateResponse
    | sequence_pb2.GenerateSessionsResponse
    | sequence_pb2.PredictResponse,
    part: GeneratedPart,
) -> None:
    grown = part.chunk
    if grown is None:
        return
    response.rows = pack_uint32(grown.rows)
    response.lengths = pack_uint32(grown.lengths)
    response.outputs[part.name].CopyFrom(to_tensor(grown.values))
    if part.text is not None:
        response.text.rows.extend(part.text)


def _column(
    name: str, values: Sequence[float], rows: int, dtype: type[np.generic], *, default: float
) -> NDArray[Any]:
    """One number a row, of none (the default), one for all, or one a row."""
    if len(values) not in (0, 1, rows):
        raise _bad(name, f"none, 1 or {rows} numbers; got {len(values)}")
    return np.resize(np.array(values or [default], dtype), rows)


def _bad(name: str, message: str) -> ServiceError:
    return ServiceError(Reason.BAD_REQUEST, f"sampling.{name}: expected {message}")
