"""Plans the reading of many sessions' states as one matrix, in as many calls as it takes."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from statewise.client.core._catalogue import Catalogue
from statewise.client.requests import ClientOptions, Plan, call
from statewise.client.retries import QUESTION_RULES
from statewise.client.values import (
    InternalError,
    InvalidInput,
    ModelInfo,
    RequestLimits,
    States,
    Subject,
    check_ids,
    check_model,
    check_states_known,
    column_names,
)
from statewise.v1 import admin_pb2
from statewise.wire import DTYPES, from_tensor, unpack_uint64

# Of a row: its position, and an id at its longest.
_ROW_BYTES = 160


def read_state_matrix(
    options: ClientOptions,
    catalogue: Catalogue,
    name: str,
    session_ids: Sequence[str] | None,
    version: int | None,
    timeout_s: float | None,
) -> Plan[States]:
    """Reads the states of the caller's own sessions of one version; `session_ids`: None: of all.

    Raises:
        InvalidInput: the model keeps no state, or these are no ids.
    """
    check_model(name, version)
    if session_ids is not None:
        check_ids(session_ids)
    model = yield from catalogue.describe(name, version, timeout_s)
    check_states_known(model)
    if not model.states:
        raise InvalidInput(f"model {name!r} keeps no state: expected one with sessions")
    limits = RequestLimits.for_predict((yield from catalogue.limits(timeout_s)), model)
    columns = column_names(model.states)
    most = max(1, min(limits.rows, limits.bytes // (8 * len(columns) + _ROW_BYTES)))
    pages = []
    for request in _requests(model, session_ids, most):
        token = None
        while token != "":
            request.page_token = token or ""
            page = yield from call(
                options, "GetStates", request, timeout_s, Subject("", name, version), rules=QUESTION_RULES
            )
            pages.append(page)
            token = page.next_page_token
    matrices = [from_tensor(page.states) for page in pages if page.session_ids]
    if any(matrix.shape[1:] != (len(columns),) for matrix in matrices):
        raise InternalError(f"a reply whose states are no rows of {len(columns)} numbers")
    return States(
        model=model.name,
        version=model.version,
        ids=tuple(session_id for page in pages for session_id in page.session_ids),
        positions=np.concatenate([unpack_uint64(page.positions) for page in pages]),
        matrix=np.concatenate(matrices) if matrices else np.empty((0, len(columns)), _element_type(model)),
        columns=columns,
    )


def _element_type(model: ModelInfo) -> np.dtype[Any]:
    """Returns the type that the server gives a matrix: that of all states, else float64 or int64."""
    types = {np.dtype(DTYPES[state.dtype]) for state in model.states}
    return types.pop() if len(types) == 1 else np.result_type(*types, np.int64)


def _requests(
    model: ModelInfo, session_ids: Sequence[str] | None, most: int
) -> Iterator[admin_pb2.GetStatesRequest]:
    if session_ids is None:
        yield admin_pb2.GetStatesRequest(model=model.name, version=model.version)
        return
    for begin in range(0, len(session_ids), most):
        chosen = session_ids[begin : begin + most]
        yield admin_pb2.GetStatesRequest(model=model.name, version=model.version, session_ids=chosen)
