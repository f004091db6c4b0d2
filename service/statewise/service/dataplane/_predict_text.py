"""Predicts from texts: turns them into tokens, and runs these like any other sequences."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

import numpy as np

from statewise.service.base import RowFailure
from statewise.service.dataplane._dataplane import Dataplane
from statewise.service.dataplane._prediction import PredictPart
from statewise.service.dataplane.states import consumed_nothing
from statewise.service.inputs import GivenStates, RawSequences, tokenize_sequences
from statewise.service.registry import LoadedModel
from statewise.wire import Reason


async def predict_texts(
    dataplane: Dataplane,
    model: LoadedModel,
    texts: Sequence[str],
    *,
    owner: str,
    deadline_s: float | None,
    given: GivenStates | None = None,
) -> AsyncGenerator[PredictPart]:
    """Predicts like `Dataplane.predict`, for one text a row; each starts with the model's begin token.

    No begin token is put in front of a row that the request gives a state.

    Raises:
        ServiceError: WRONG_CALL where the model has no vocabulary; else as `Dataplane.predict`.
    """
    dataplane.limits.check_size(len(texts), None)
    rows, raw = len(texts), RawSequences(text=texts)
    empty = np.ones(rows, np.bool_)
    if given is not None:
        empty = consumed_nothing(model, np.zeros(rows, np.uint64), given.unchanged())
    sequences = tokenize_sequences(model.package.spec, model.auxiliary.codec, raw, rows=rows, begin=empty)
    failures = dict(sequences.failures)
    for row in np.flatnonzero(sequences.lengths == 0).tolist():
        failures.setdefault(row, "the text is empty; expected at least one symbol")
    if failures:
        refused = [RowFailure(row, Reason.BAD_TENSOR, why) for row, why in sorted(failures.items())]
        yield PredictPart.of_failures(refused)
    good = np.setdiff1d(np.arange(len(texts)), list(failures))
    if not len(good):
        return
    inputs = sequences.columns.take(good).named
    lengths = sequences.lengths[good]
    predicted = dataplane.predict(
        model,
        lengths,
        inputs,
        owner=owner,
        deadline_s=deadline_s,
        given=None if given is None else given.take(good),
    )
    async with aclosing(predicted) as parts:
        async for part in parts:
            failed = [replace(failure, row=int(good[failure.row])) for failure in part.failures]
            yield replace(part, rows=good[part.rows], failures=failed)
