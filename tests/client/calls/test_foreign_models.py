"""Steps and predicts with models that others exported: their inputs and outputs go by name."""

from collections.abc import Iterator

import numpy as np
import pytest
from tests.helpers.models.foreign import MODELS

from statewise.client import Client, InvalidInput
from statewise.service.testing import server_in_thread


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    root = tmp_path_factory.mktemp("foreign")
    for name in ("one_row", "several", "frame"):
        MODELS[name]().publish(root / name / "1")
    with server_in_thread(root) as address, Client(address) as client:
        yield client


def test_an_input_with_a_default_need_not_be_named(client: Client) -> None:
    samples = np.random.default_rng(1).standard_normal((6, 3)).astype(np.float32)
    expected = MODELS["one_row"]().alone([{"frame": sample} for sample in samples])["speech"]
    with client.session("one_row") as session:
        assert np.shape(session.step(samples[0])) == ()
        np.testing.assert_array_equal(session.step(samples[1:5]), expected[1:5])
        assert session.step({"frame": samples[5], "sr": 2}) == expected[5]


def test_several_inputs_and_outputs_go_by_name(client: Client) -> None:
    with client.session("several") as session:
        y = session.step({"x": np.ones((2, 3), np.float32), "token": [2, 1]})
        assert {name: value.shape for name, value in y.items()} == {"y": (2, 3), "likeliest": (2,)}
        with pytest.raises(InvalidInput, match="'token': expected tokens from 0 to 3"):
            session.step({"x": np.ones(3, np.float32), "token": 4})
        with pytest.raises(InvalidInput, match=r"\['token'\] missing"):
            session.step({"x": np.ones(3, np.float32)})


def test_groups_and_whole_sequences_take_what_a_step_takes(client: Client) -> None:
    frames = np.random.default_rng(2).standard_normal((3, 5, 4)).astype(np.float32)
    expected = [MODELS["frame"]().alone([{"frame": frame} for frame in row])["y"] for row in frames]
    with client.sessions("frame", count=3) as group:
        steps = [group.step(frames[:, t]) for t in range(5)]
    np.testing.assert_array_equal(np.stack(steps, axis=1), expected)
    np.testing.assert_array_equal(np.stack(client.predict("frame", list(frames))), expected)
