"""Texts as whole sequences: to tokens, and through the dataplane like any other."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

import numpy as np

from statewise.service.base import RowFailure, elements_of
from statewise.service.dataplane._dataplane import Dataplane, PredictPart
from statewise.service.inputs import RawSequences, tokenize_sequences
from statewise.service.registry import LoadedModel
from statewise.wire import Reason


async def predict_texts(
    dataplane: Dataplane, model: LoadedModel, texts: Sequence[str], *, owner: str, deadline_s: float | None
) -> AsyncGenerator[PredictPart]:
    """As `Dataplane.predict`, of one text a row, each behind the model's begin token.

    Raises:
        ServiceError: WRONG_CALL where the model has no vocabulary; else as `Dataplane.predict`.
    """
    dataplane.limits.check_size(len(texts), None)
    spec = model.package.spec
    sequences = tokenize_sequences(
        spec, model.auxiliary.codec, RawSequences(text=texts), rows=len(texts), begin=True
    )
    lengths, failures = sequences.lengths, dict(sequences.failures)
    for row in np.flatnonzero(lengths == 0).tolist():
        failures.setdefault(row, "the text is empty; expected at least one symbol")
    if failures:
        refused = [RowFailure(row, Reason.BAD_TENSOR, why) for row, why in sorted(failures.items())]
        yield PredictPart(np.empty(0, np.intp), lengths[:0], (), refused)
    good = np.setdiff1d(np.arange(len(texts)), list(failures))
    if not len(good):
        return
    elements = elements_of(good, lengths)
    inputs = {
        entry.name: array[elements if entry.per_step else good]
        for entry, array in zip(spec.inputs, sequences.inputs, strict=True)
    }
    predicted = dataplane.predict(model, lengths[good], inputs, owner=owner, deadline_s=deadline_s)
    async with aclosing(predicted) as parts:
        async for part in parts:
            failed = [replace(one, row=int(good[one.row])) for one in part.failures]
            yield replace(part, rows=good[part.rows], failures=failed)
