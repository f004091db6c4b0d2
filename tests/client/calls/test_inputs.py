"""Reads inputs by rank, type and name, without a server."""

import numpy as np
import pytest

from statewise.client import InvalidInput, ModelInfo, TensorInfo
from statewise.client.values import Form, InputReader, Use


def reader(*inputs: TensorInfo, least_steps: int = 1) -> InputReader:
    model = ModelInfo(
        name="m",
        version=1,
        digest="",
        status="ready",
        failure="",
        is_default=True,
        exactness="exact",
        inputs=inputs,
        outputs=(),
        call_shapes=(),
        streamable=True,
        state_bytes=0,
        labels=(),
        vocabulary=None,
        generative=False,
        max_steps=0,
        notes={},
        least_steps=least_steps,
    )
    return InputReader(model)


VECTOR = TensorInfo("x", "float32", (3,), per_step=True)
TOKEN = TensorInfo("token", "int64", (), per_step=True)
IMAGE = TensorInfo("image", "float32", (2, 2), per_step=True)
RATE = TensorInfo("rate", "float32", (), per_step=False, default=16000.0)
SAMPLE = TensorInfo("features", "float32", (3,), per_step=False)


@pytest.mark.parametrize(
    ("spec", "shape", "use", "form", "steps", "stepwise"),
    [
        (VECTOR, (3,), Use.SESSION, Form.ONE, [1], True),
        (VECTOR, (5, 3), Use.SESSION, Form.ONE, [5], False),
        (VECTOR, (5, 3), Use.PREDICT, Form.ONE, [5], False),
        (VECTOR, (2, 5, 3), Use.PREDICT, Form.ARRAY, [5, 5], False),
        (VECTOR, (4, 3), Use.GROUP, Form.ARRAY, [1, 1, 1, 1], True),
        (VECTOR, (4, 5, 3), Use.GROUP, Form.ARRAY, [5, 5, 5, 5], False),
        (TOKEN, (), Use.SESSION, Form.ONE, [1], True),
        (TOKEN, (5,), Use.SESSION, Form.ONE, [5], False),
        (TOKEN, (5,), Use.PREDICT, Form.ONE, [5], False),
        (TOKEN, (2, 5), Use.PREDICT, Form.ARRAY, [5, 5], False),
        (TOKEN, (4,), Use.GROUP, Form.ARRAY, [1, 1, 1, 1], True),
        (IMAGE, (2, 2), Use.SESSION, Form.ONE, [1], True),
        (IMAGE, (5, 2, 2), Use.PREDICT, Form.ONE, [5], False),
        (SAMPLE, (3,), Use.PREDICT, Form.ONE, [1], True),
        (SAMPLE, (6, 3), Use.PREDICT, Form.ARRAY, [1] * 6, True),
    ],
)
def test_rank_tells_what_is_meant(
    spec: TensorInfo, shape: tuple[int, ...], use: Use, form: Form, steps: list[int], stepwise: bool
) -> None:
    value = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(spec.dtype)
    rows = reader(spec).read(value, use, count=4)
    assert (rows.form, rows.steps.tolist(), rows.stepwise) == (form, steps, stepwise)
    np.testing.assert_array_equal(rows.columns[0], value.reshape(-1, *spec.shape))


@pytest.mark.parametrize(
    ("spec", "value", "use", "form", "steps"),
    [
        (VECTOR, [[1, 2, 3], [4, 5, 6]], Use.SESSION, Form.ONE, [2]),
        (VECTOR, [[1, 2, 3], [4, 5, 6]], Use.PREDICT, Form.ONE, [2]),
        (VECTOR, [np.zeros((2, 3)), np.zeros((4, 3))], Use.PREDICT, Form.LIST, [2, 4]),
        (VECTOR, [[[1, 2, 3]], [[1, 2, 3], [4, 5, 6]]], Use.PREDICT, Form.LIST, [1, 2]),
        (VECTOR, (np.zeros((2, 3)), np.zeros((4, 3))), Use.GROUP, Form.LIST, [2, 4]),
        (VECTOR, [np.zeros(3), np.zeros(3)], Use.GROUP, Form.ARRAY, [1, 1]),
        (TOKEN, [1, 2, 3], Use.PREDICT, Form.ONE, [3]),
        (TOKEN, [[1, 2, 3], [4]], Use.PREDICT, Form.LIST, [3, 1]),
        (SAMPLE, [np.zeros(3), np.ones(3)], Use.PREDICT, Form.LIST, [1, 1]),
    ],
)
def test_a_list_is_ragged_where_its_elements_are_rows(
    spec: TensorInfo, value: object, use: Use, form: Form, steps: list[int]
) -> None:
    rows = reader(spec).read(value, use, count=2)
    assert (rows.form, rows.steps.tolist()) == (form, steps)


def test_several_inputs_are_a_dict_and_defaults_may_be_left_out() -> None:
    several = reader(VECTOR, TOKEN, RATE)
    x, token = np.ones((5, 3), np.float32), np.arange(5)
    rows = several.read({"token": token, "x": x}, Use.SESSION)
    np.testing.assert_array_equal(rows.columns[1], token)
    np.testing.assert_array_equal(rows.columns[2], [16000])
    rows = several.read({"token": token, "x": x, "rate": 8000}, Use.SESSION)
    np.testing.assert_array_equal(rows.columns[2], [8000])
    batch = several.read({"token": [token, token[:2]], "x": [x, x[:2]], "rate": [8000, 44100]}, Use.PREDICT)
    assert batch.steps.tolist() == [5, 2]
    np.testing.assert_array_equal(batch.columns[2], [8000, 44100])


def test_one_required_input_needs_no_dict() -> None:
    rows = reader(VECTOR, RATE).read(np.zeros((2, 3)), Use.SESSION)
    assert [column.shape for column in rows.columns] == [(2, 3), (1,)]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros(3), r"takes several inputs: expected a dict of \['x', 'token', 'rate'\]; got ndarray"),
        ({"x": np.zeros(3)}, r"\['token'\] missing"),
        ({"x": np.zeros(3), "token": 1, "z": 1}, r"got \['x', 'token', 'z'\]"),
        ({"x": np.zeros((4, 3)), "token": [1, 2]}, "the same number of time steps in every input"),
        ({"x": np.zeros((4, 3)), "token": 1}, "the same number of time steps in every input"),
        (
            {"x": np.zeros(3), "token": 1, "rate": [1, 2]},
            r"input 'rate'.*expected float32 \[\]; got float32 of",
        ),
    ],
)
def test_inputs_that_do_not_go_together_are_refused(value: object, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        reader(VECTOR, TOKEN, RATE).read(value, Use.SESSION)


def test_rows_must_be_equally_many_in_every_input() -> None:
    with pytest.raises(InvalidInput, match="expected 2 rows as in the first input; got 3"):
        reader(VECTOR, TOKEN).read({"x": np.zeros((2, 4, 3)), "token": np.zeros((3, 4), int)}, Use.PREDICT)


def test_the_fast_path_takes_exact_time_steps_only() -> None:
    fast = reader(VECTOR)
    x = np.arange(3, dtype=np.float32)
    assert fast.payload_of_step(x) == (x.tobytes(),)
    for other in (x.astype(np.float64), x[None], x.astype(">f4"), [0, 1, 2], x[:2], np.ma.array(x)):
        assert fast.payload_of_step(other) is None
    assert reader(VECTOR, TOKEN).payload_of_step(x) is None


@pytest.mark.parametrize(
    ("shape", "use", "got"),
    [((3,), Use.SESSION, "1"), ((3, 3), Use.PREDICT, "3"), ((2, 3), Use.GROUP, "1 at index 0")],
)
def test_rows_shorter_than_the_model_takes_are_refused(shape: tuple[int, ...], use: Use, got: str) -> None:
    windows = reader(VECTOR, least_steps=4)
    x = np.zeros(shape, np.float32)
    with pytest.raises(InvalidInput, match=rf"rows of at least 4 time steps \(its least_steps\); got {got}$"):
        windows.read(x, use, count=2)
    assert windows.payload_of_step(x) is None
    assert windows.rows_of_steps(x, 2) is None
    assert windows.column_of_sequence(x) is None
    assert windows.read(np.zeros((4, 3), np.float32), Use.SESSION).steps.tolist() == [4]
