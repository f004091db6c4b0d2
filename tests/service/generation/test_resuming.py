"""Resumes generations that broke off: the rest follows the values that were emitted before."""

from typing import Any

import grpc
import numpy as np
import pytest
from tests.helpers.caller import Caller
from tests.helpers.generation import Generated, SamplingColumns, generate

from statewise.v1.tensor_pb2 import TextRows
from statewise.wire import pack_uint32, to_tensor

STEPS = 40
PROMPT = {"prompt": {"x": to_tensor(np.ones((2, 3), np.float32))}, "prompt_lengths": pack_uint32([2])}


async def resumed(
    caller: Caller, model: str, whole: Generated, lengths: list[int], **asked: Any
) -> Generated:
    """Generates the rest of rows of which `lengths` values have come."""
    values = [value for row, length in enumerate(lengths) for value in whole.values[row][:length]]
    dtype = np.float32 if model == "wave" else np.int32
    return await generate(
        caller,
        model,
        emitted={"e": to_tensor(np.array(values, dtype))},
        emitted_lengths=pack_uint32(lengths),
        **asked,
    )


@pytest.mark.parametrize("model", ["letters", "letters_outside"])
async def test_rows_go_on_where_they_stood(caller: Caller, model: str) -> None:
    asked: dict[str, Any] = {
        "rows": 4,
        "steps": STEPS,
        "settings": SamplingColumns(temperature=[0.9], seed=[3, 4, 5, 6]),
        "prompt_text": TextRows(rows=["bad", "", "cab", "a"]),
    }
    whole = await generate(caller, model, **asked)
    ends = [len(whole.values[row]) for row in range(4)]
    for lengths in ([0, 0, 0, 1], [1, 2, 3, 4], [end - 1 for end in ends], ends):
        rest = await resumed(caller, model, whole, lengths, **asked)
        assert rest.errors == {}
        for row, length in enumerate(lengths):
            assert rest.values.get(row, []) == whole.values[row][length:]
            assert whole.text[row].endswith(rest.text.get(row, ""))


async def test_real_values_go_on(caller: Caller) -> None:
    asked: dict[str, Any] = {"rows": 1, "steps": STEPS, **PROMPT}
    whole = await generate(caller, "wave", **asked)
    rest = await resumed(caller, "wave", whole, [17], **asked)
    np.testing.assert_array_equal(rest.values[0], whole.values[0][17:])


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"emitted_lengths": pack_uint32([5])}, "expected at most the 4 steps of row 0; got 5"),
        ({"emitted_lengths": pack_uint32([2])}, "expected 2 values, as emitted_lengths says; got 5"),
        ({"emitted_lengths": pack_uint32([5, 0])}, "expected 1 emitted_lengths"),
        ({"emitted_lengths": pack_uint32([5]), "emitted": {}}, "one tensor in emitted; got 1 and 0"),
        (
            {"emitted_lengths": pack_uint32([1]), "emitted": {"e": to_tensor(np.zeros(1, np.float32))}},
            "emitted: expected int32; got float32",
        ),
    ],
)
async def test_what_cannot_be_resumed_is_refused(caller: Caller, fields: dict[str, Any], why: str) -> None:
    emitted = {"e": to_tensor(np.ones(5, np.int32))}
    with pytest.raises(grpc.aio.AioRpcError, match=why):
        await generate(caller, "letters", rows=1, steps=4, **{"emitted": emitted, **fields})
