"""Runs whole sequences through both clients: the graph run alone is the oracle."""

from pathlib import Path

import numpy as np
import pytest
from tests.client.clients import Clients
from tests.client.samples import sequences
from tests.helpers.arrays import Floats
from tests.helpers.models.small import SmallModels

from statewise.client import (
    Client,
    InvalidInput,
    LimitReached,
    ModelNotFound,
    PartialFailure,
)
from statewise.service.testing import server_in_thread


def test_one_sequence_is_the_model_run_alone(client: Client, small_models: SmallModels, x: Floats) -> None:
    np.testing.assert_array_equal(client.predict("steps", x), small_models.find("steps").run(x)[0])
    np.testing.assert_array_equal(client.predict("last", x), small_models.find("last").run(x)[0])
    np.testing.assert_array_equal(client.predict("both", x), small_models.find("both").run(x)[0])


def test_a_list_is_a_ragged_batch(client: Client, small_models: SmallModels) -> None:
    rows = sequences(5, 1, 12, 5)
    for name in ("steps", "last"):
        outputs = client.predict(name, rows)
        assert isinstance(outputs, list)
        for row, output in zip(rows, outputs, strict=True):
            np.testing.assert_array_equal(output, small_models.find(name).run(row)[0])


def test_an_array_with_one_more_axis_is_a_batch(client: Client) -> None:
    batch = np.stack(sequences(6, 6, 6))
    assert client.predict("steps", batch).shape == (3, 6, 2)
    assert client.predict("last", batch).shape == (3, 2)
    np.testing.assert_array_equal(client.predict("steps", batch)[1], client.predict("steps", batch[1]))


def test_versions_are_chosen_by_number(client: Client, small_models: SmallModels, x: Floats) -> None:
    np.testing.assert_array_equal(
        client.predict("steps", x, version=1), small_models.find("steps", 1).run(x)[0]
    )


def test_float64_and_nested_lists_are_converted(client: Client, x: Floats) -> None:
    expected = client.predict("steps", x)
    np.testing.assert_array_equal(client.predict("steps", x.astype(np.float64)), expected)
    np.testing.assert_array_equal(client.predict("steps", x.tolist()), expected)
    np.testing.assert_array_equal(client.predict("steps", {"x": x}), expected)


def test_outputs_belong_to_the_caller(client: Client, x: Floats) -> None:
    output = client.predict("steps", x)
    output += 1
    assert output.flags.writeable


def test_more_than_one_message_is_split_and_put_back_in_order(
    repository: Path, clients: Clients, small_models: SmallModels
) -> None:
    rows = sequences(*[3000] * 9, 1, 7)
    with server_in_thread(repository, message_bytes=64 * 1024) as address:
        client = clients.connect(address)
        outputs = client.predict("last", rows)
        with pytest.raises(LimitReached, match="at most 5118 time steps a row"):
            client.predict("last", np.zeros((6000, 3)))
    for row, output in zip(rows, outputs, strict=True):
        np.testing.assert_array_equal(output, small_models.find("last").run(row)[0])


def test_bad_rows_fail_alone(client: Client, small_models: SmallModels) -> None:
    rows = sequences(4, 4, 4)
    rows[1][2, 0] = np.nan
    with pytest.raises(
        PartialFailure, match=r"1 of 3 rows failed, first row 1.*got a missing value"
    ) as caught:
        client.predict("steps", rows)
    assert isinstance(caught.value.errors[1], InvalidInput)
    assert caught.value.outputs[1] is None
    for row in (0, 2):
        np.testing.assert_array_equal(caught.value.outputs[row], small_models.find("steps").run(rows[row])[0])


def test_the_failure_of_a_lone_sequence_is_raised_itself(client: Client, x: Floats) -> None:
    x[3, 1] = np.inf
    with pytest.raises(InvalidInput, match="finite"):
        client.predict("steps", x)


def test_a_missing_value_among_thousands_has_its_place(client: Client) -> None:
    batch = np.zeros((4000, 5, 3))
    batch[3217, 4, 1] = np.nan
    with pytest.raises(PartialFailure, match="1 of 4000 rows failed, first row 3217") as caught:
        client.predict("steps", batch)
    (error,) = caught.value.errors.values()
    told = "input 'x': expected finite numbers; got a missing value (nan) at step 4, column 1"
    assert str(error) == told
    ragged = [np.zeros((steps, 3)) for steps in (2, 5, 3, 4)]
    ragged[1][4, 1] = ragged[3][3, 2] = -np.inf
    with pytest.raises(PartialFailure) as caught:
        client.predict("steps", ragged)
    assert {row: str(error).split("got ")[1] for row, error in caught.value.errors.items()} == {
        1: "-inf at step 4, column 1",
        3: "-inf at step 3, column 2",
    }


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.zeros(3), r"expected float32 \[T, 3\] \(one sequence\).*got float32 of shape \[3\]"),
        (np.zeros((4, 2)), r"expected float32 \[T, 3\].*got float32 of shape \[4, 2\]"),
        (np.zeros((0, 3)), r"at least one time step; got shape \[0, 3\]"),
        ([], "at least one row; got an empty list"),
        ([np.zeros((2, 3)), np.zeros((0, 3))], r"at least one time step; got shape \[0, 3\] at index 1"),
        ([np.zeros((2, 3)), np.zeros((2, 4))], r"got float32 of shape \[2, 4\] at index 1"),
        (np.zeros((2, 3), np.complex64), "expected numbers; got elements of type complex64"),
        (np.full((2, 3), "a"), r"expected numbers; got text \('a'\)"),
        (np.full((2, 3), None), r"got a missing value \(None\) at step 0, column 0"),
        ("text", "has no vocabulary"),
        ({"y": np.zeros((2, 3))}, r"expected inputs \['x'\]; got \['y'\]"),
    ],
)
def test_what_does_not_fit_is_named(client: Client, value: object, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        client.predict("steps", value)


def test_an_unknown_model_or_version(client: Client, x: Floats) -> None:
    with pytest.raises(ModelNotFound, match=r"'nowhere'.*models\(\) lists") as caught:
        client.predict("nowhere", x)
    assert caught.value.model == "nowhere"
    with pytest.raises(ModelNotFound) as caught:
        client.predict("steps", x, version=9)
    assert caught.value.version == 9
