"""Reads the sequences from which encoders compute initial states."""

import numpy as np

from statewise.service.base import Array, ServiceError, ServiceLimits
from statewise.service.inputs import RawSequences, TokenizedSequences, tokenize_sequences
from statewise.service.registry import LoadedModel
from statewise.wire import Reason


def encoder_input(
    model: LoadedModel, raw: RawSequences, rows: int, limits: ServiceLimits
) -> TokenizedSequences:
    """Reads the encoder's input sequences; each row has at least one time step, or a failure.

    Raises:
        ServiceError: WRONG_CALL where there is no encoder; BAD_TENSOR, BAD_REQUEST; BYTES_LIMIT, unless every
            row fails anyway.
    """
    encoder = model.auxiliary.encoder
    if encoder is None:
        raise ServiceError(
            Reason.WRONG_CALL, f"model {model.package.name!r} has no encoder: leave its inputs out"
        )
    spec = encoder.engine.spec
    if not raw:
        names = ", ".join(repr(entry.name) for entry in spec.inputs)
        raise ServiceError(
            Reason.BAD_TENSOR, f"the encoder's input is missing: expected {names} as the condition"
        )
    if raw.text is None and raw.lengths is None:
        raw = _flattened(raw, rows)
    source = tokenize_sequences(spec, encoder.codec, raw, rows=rows, end=encoder.appends_end)
    for row in np.flatnonzero(source.lengths == 0).tolist():
        source.failures.setdefault(row, "the encoder's input has 0 time steps; expected at least 1")
    if source.lengths.any():
        limits.check_size(rows, source.lengths)
    return source


def _flattened(raw: RawSequences, rows: int) -> RawSequences:
    """Views tensors [rows, T, ...] as rows of T steps each, one after another."""
    flat: dict[str, Array] = {}
    lengths = set()
    for name, array in raw.inputs.items():
        if array.ndim < 2 or len(array) != rows:
            raise ServiceError(
                Reason.BAD_TENSOR,
                f"input {name!r}: expected shape [{rows}, time steps, ...]; got {list(array.shape)}",
            )
        lengths.add(array.shape[1])
        flat[name] = array.reshape(-1, *array.shape[2:])
    if len(lengths) > 1:
        raise ServiceError(Reason.BAD_TENSOR, f"expected inputs of equal length; got {sorted(lengths)}")
    return RawSequences(flat, np.full(rows, lengths.pop(), np.uint32))
