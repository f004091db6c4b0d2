"""Generation as messages: what is asked for, and the values that come back piece by piece."""

from collections.abc import Iterator

import numpy as np

from statewise.client._info import ModelInfo
from statewise.client._inputs import InputReader, Use
from statewise.client._outputs import Value, read_outputs, rows_of
from statewise.v1 import sequence_pb2
from statewise.wire import pack_uint32, to_tensor, unpack_uint32


def sampling_of(*, temperature: float, top_k: int | None, seed: int) -> sequence_pb2.Sampling:
    """How values are drawn, the same for every row."""
    return sequence_pb2.Sampling(
        temperature=[temperature], top_k=[] if top_k is None else [top_k], seed=[seed]
    )


def generate_request(
    model: ModelInfo,
    *,
    prompt: object,
    condition: object,
    steps: int,
    sampling: sequence_pb2.Sampling,
) -> sequence_pb2.GenerateRequest:
    """One row to generate.

    Args:
        model: the version that generates.
        prompt: text, or one sequence as `predict` takes it; None: nothing.
        condition: what conditions the start, a dict by input name; None: nothing.
        steps: values emitted at most.
        sampling: how they are drawn.

    Raises:
        InvalidInput: a prompt that the model cannot take.
    """
    request = sequence_pb2.GenerateRequest(
        model=model.name, version=model.version, rows=1, steps=pack_uint32([steps]), sampling=sampling
    )
    if isinstance(prompt, str):
        request.prompt_text.rows.append(prompt)
    elif prompt is not None:
        rows = InputReader(model).read(prompt, Use.PREDICT)
        request.prompt_lengths = pack_uint32(rows.steps)
        for spec, column in zip(model.inputs, rows.columns, strict=True):
            request.prompt[spec.name].CopyFrom(to_tensor(column))
    if condition is not None:
        by_name = condition if isinstance(condition, dict) else {model.inputs[0].name: condition}
        for name, value in by_name.items():
            request.condition[name].CopyFrom(to_tensor(np.asarray(value)[None]))
    return request


def emitted(
    model: ModelInfo, piece: sequence_pb2.GenerateResponse | sequence_pb2.GenerateSessionsResponse
) -> Iterator[Value]:
    """The values of a piece of one row: its text where it has any, else one output a step."""
    if piece.text.rows:
        yield from (text for text in piece.text.rows if text)
        return
    steps = unpack_uint32(piece.lengths)
    if not len(steps):
        return
    outputs = read_outputs(model, piece.outputs, rows=len(steps), steps=int(steps.sum()))
    ones = np.ones(int(steps.sum()), np.uint32)
    yield from rows_of(model, outputs, ones, stepwise=True)
