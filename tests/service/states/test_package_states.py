"""Begins sessions in the initial states that packages carry: as arrays, as files, learned; also in part."""

from pathlib import Path

import numpy as np
import pytest
from tests.helpers.arrays import Array
from tests.helpers.caller import Caller, connect
from tests.helpers.models.foreign import lstm
from tests.helpers.models.foreign.model import F, H
from tests.helpers.states import open_in, read_states, tensors

from statewise.export import export_checkpoint
from statewise.models import Checkpoint, Network, NetworkSpec
from statewise.service.testing import running_server
from statewise.v1 import model_pb2
from statewise.v1 import sequence_pb2 as pb
from statewise.wire import from_tensor, pack_uint32, to_tensor

H0 = np.linspace(-1, 1, H).astype(np.float32)
C0 = np.linspace(2, -2, H).astype(np.float32)
PARTS = 'parts = [{ name = "left", offset = 0, size = 3 }, { name = "right", offset = 3, size = 5 }]'


def _publish(folder: Path, *, file: bool) -> None:
    """Writes an LSTM that begins in H0 and C0, which stand in its model.toml, or in files beside it."""
    model, toml = lstm(), lstm().toml
    for name, values in (("h0", H0), ("c0", C0)):
        numbers = f'"{name}.npy"' if file else str([values.tolist()])
        more = f"initial = {numbers}\n{PARTS if name == 'c0' else ''}\n"
        toml = toml.replace(f'input = "{name}"\n', f'input = "{name}"\n{more}')
    model.publish(folder, toml=toml)
    if file:
        np.save(folder / "h0.npy", H0.reshape(1, H))
        np.save(folder / "c0.npy", C0.astype(np.float64))


async def _predict(caller: Caller, x: Array, **state: Array) -> bytes:
    request = pb.PredictRequest(
        model="cell", lengths=pack_uint32([len(x)]), inputs={"x": to_tensor(x)}, state=tensors(state)
    )
    parts = [from_tensor(part.outputs["y"]) async for part in caller.sequences.Predict(request)]
    return np.concatenate(parts).tobytes()


@pytest.mark.parametrize("file", [False, True])
async def test_a_package_says_where_its_sessions_begin(
    tmp_path: Path, random: np.random.Generator, *, file: bool
) -> None:
    _publish(tmp_path / "cell" / "1", file=file)
    x = random.standard_normal((6, F)).astype(np.float32)
    whole = {"h0": H0.reshape(1, 1, H), "c0": C0.reshape(1, 1, H)}
    async with running_server(tmp_path) as address, connect(address) as caller:
        (handle,) = await caller.open("cell", "own")
        read = await read_states(caller, handle)
        assert {name: array.tobytes() for name, array in read.state.items()} == {
            name: array.tobytes() for name, array in whole.items()
        }
        (given,) = await open_in(caller, "cell", read, "given")
        y = (await caller.step(handle, 0, x)).tobytes()
        assert (await caller.step(given, 0, x)).tobytes() == y
        assert y == await _predict(caller, x) == await _predict(caller, x, **whole)
        # What a request does not name begins as the package says: another state, the rest of a state.
        zeros = np.zeros((1, 1, H), np.float32)
        assert await _predict(caller, x, h0=zeros) == await _predict(caller, x, h0=zeros, c0=whole["c0"])
        left, joined = np.full((1, 3), 0.25, np.float32), whole["c0"].copy()
        joined[0, 0, :3] = left
        in_part = await _predict(caller, x, left=left)
        assert in_part == await _predict(caller, x, h0=whole["h0"], c0=joined) != y


async def test_a_state_is_named_whole_or_by_its_parts(tmp_path: Path) -> None:
    _publish(tmp_path / "cell" / "1", file=False)
    async with running_server(tmp_path) as address, connect(address) as caller:
        x = np.zeros((1, F), np.float32)
        with pytest.raises(Exception, match="state 'c0' is named whole and by its part 'left'"):
            await _predict(caller, x, c0=np.zeros((1, 1, H), np.float32), left=np.zeros((1, 3), np.float32))
        with pytest.raises(Exception, match=r"state 'left': expected shape \[1, 3\]; got \[1, 4\]"):
            await _predict(caller, x, left=np.zeros((1, 4), np.float32))
        with pytest.raises(Exception, match="no state 'up'; expected: 'h0', 'left', 'right', 'c0'"):
            await _predict(caller, x, up=np.zeros((1, 4), np.float32))


async def test_a_learned_state_is_where_sessions_begin(tmp_path: Path, random: np.random.Generator) -> None:
    spec = NetworkSpec(
        input_size=F, output_size=2, hidden_size=5, layers=2, cell="lstm", learn_initial_state=True
    )
    fresh = Network.initialise(spec, rng=random)
    values = {name: value + np.float32(0.5) for name, value in fresh.parameters.items()}
    export_checkpoint(Checkpoint(network=Network(spec, values)), tmp_path, name="cell")
    async with running_server(tmp_path) as address, connect(address) as caller:
        (handle,) = await caller.open("cell", "own")
        read = await read_states(caller, handle)
        state = read.state["state"][0]
        for name, offset, size in spec.memory_parts():
            assert state[offset : offset + size].tobytes() == values[f"initial.{name}"].tobytes()
        assert state.any()


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ('[{ name = "a", offset = 6, size = 3 }]', "'a': expected elements from 0 to 7; got 6 to 8"),
        ('[{ name = "a", offset = -1, size = 3 }]', "'a': expected elements from 0 to 7; got -1 to 1"),
        (
            '[{ name = "a", offset = 0, size = 1 }, { name = "a", offset = 1, size = 1 }]',
            "expected different names; got 'a' twice",
        ),
    ],
)
async def test_parts_lie_in_their_state(tmp_path: Path, parts: str, words: str) -> None:
    model = lstm()
    model.publish(
        tmp_path / "cell" / "1", toml=model.toml.replace('input = "h0"\n', f'input = "h0"\nparts = {parts}\n')
    )
    async with running_server(tmp_path) as address, connect(address) as caller:
        (told,) = (await caller.models.ListModels(model_pb2.ListModelsRequest())).models
        assert f"state 'h0': parts: {words}" in told.failure
