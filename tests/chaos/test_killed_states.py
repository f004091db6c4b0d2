"""Kills a server whose sessions were given states: they go on with the same bits from its store."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from tests.helpers.any_model import AnyModel, Inputs
from tests.helpers.caller import Caller, connect
from tests.helpers.generation import SamplingColumns, generate_sessions
from tests.helpers.models.every import STATEFUL, publish
from tests.helpers.models.generative import write_generative_models
from tests.helpers.server_process import ServerProcesses
from tests.helpers.states import open_in, read_states, tensors, write_request
from tests.service.stores.redis_server import RedisServer

from statewise.v1 import model_pb2, tensor_pb2
from statewise.v1 import sequence_pb2 as pb

pytestmark = pytest.mark.long

SELDOM_S = 1000.0
"""Between two checkpoints: nothing is stored unless a reply waits for it."""


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of models of every kind."""
    root = tmp_path_factory.mktemp("every")
    for name in STATEFUL:
        publish(name, root)
    write_generative_models(root)
    return root


@pytest.fixture
def servers(every: Path) -> Iterator[ServerProcesses]:
    """Starts servers of it, which end with the test."""
    with ExitStack() as running:
        yield ServerProcesses(every, running)


@dataclass(frozen=True)
class Left:
    """Sessions of one model that the killed server left behind, and what they do next.

    Attributes:
        ids: The session that a state was read from, one opened in it, one that it was written to.
        position: Where they stand.
        then: What they are stepped by.
        outputs: What comes of that.
        said: What they generate after it; empty: the model does not generate.
    """

    model: AnyModel
    ids: list[str]
    position: int
    then: Inputs
    outputs: list[bytes]
    said: bytes

    @classmethod
    async def by(cls, caller: Caller, name: str, random: np.random.Generator) -> "Left":
        """Leaves sessions of a model; a copy of them tells what they do next."""
        model = await AnyModel.of(caller, name)
        position = model.described.least_steps + 2
        ids = [f"{name} {kind}" for kind in ("read", "given", "written")]
        (original,) = await _open(caller, model, ids[0])
        await model.step(caller, [(original, 0)], [model.inputs(random, position)])
        read = await read_states(caller, original)
        await open_in(caller, name, read, ids[1])
        (written,) = await _open(caller, model, ids[2])
        request = write_request([(written, 0)], read.state, new_positions=read.positions)
        assert not (await caller.ask(write_states=request)).errors
        (copy,) = await open_in(caller, name, read, f"{name} copy")
        then = model.inputs(random, model.described.least_steps + 1)
        return cls(model, ids, position, then, *await _go_on(caller, model, copy, position, then))

    async def check(self, caller: Caller) -> None:
        """Lets them go on."""
        resumed = await caller.ask(resume=pb.ResumeSessionsRequest(session_ids=self.ids))
        assert [one.position for one in resumed.sessions] == [self.position] * 3, (self.ids, resumed)
        for session in resumed.sessions:
            found = await _go_on(caller, self.model, session.handle, self.position, self.then)
            assert found == (self.outputs, self.said), session.session_id


async def _open(caller: Caller, model: AnyModel, session_id: str) -> list[int]:
    request = pb.OpenSessionsRequest(model=model.described.name, session_ids=[session_id])
    if model.described.encoder_inputs:
        request.encoder_text.MergeFrom(tensor_pb2.TextRows(rows=["pqrst"]))
    return [session.handle for session in (await caller.ask(open=request)).sessions]


async def _go_on(
    caller: Caller, model: AnyModel, handle: int, position: int, then: Inputs
) -> tuple[list[bytes], bytes]:
    (outputs,) = await model.step(caller, [(handle, position)], [then])
    if not model.described.generative:
        return outputs, b""
    start = [(handle, position + model.steps_of(then))]
    said = await generate_sessions(caller, start, 6, SamplingColumns(seed=[5]))
    assert not said.errors
    return outputs, np.array(said.values[0]).tobytes()


async def _kill_and_check(servers: ServerProcesses, store: str) -> None:
    random = np.random.default_rng(9)
    server = servers.start(store=store, checkpoint_s=SELDOM_S, durability="reply")
    async with connect(server.address) as caller:
        listed = (await caller.models.ListModels(model_pb2.ListModelsRequest())).models
        names = sorted({model.name for model in listed if model.states and model.streamable})
        assert set(STATEFUL) < set(names)
        left = [await Left.by(caller, name, random) for name in names]
        own = tensors({"state": random.standard_normal((1, 44)).astype(np.float32)})
        for session_id in ("own", "own copy"):
            request = pb.OpenSessionsRequest(model="letters", session_ids=[session_id], state=own)
            (session,) = (await caller.ask(open=request)).sessions
        said = await generate_sessions(caller, [(session.handle, 0)], 6, SamplingColumns())
    server.kill()
    server = servers.start(store=store, checkpoint_s=SELDOM_S, durability="reply")
    async with connect(server.address) as caller:
        for one in left:
            await one.check(caller)
        # It has consumed nothing, and no begin token comes first: it was given a state of its own.
        (session,) = (await caller.ask(resume=pb.ResumeSessionsRequest(session_ids=["own"]))).sessions
        again = await generate_sessions(caller, [(session.handle, 0)], 6, SamplingColumns())
        assert (again.values, again.positions) == (said.values, said.positions)
    assert server.stop() == 0


async def test_given_states_survive_a_kill(servers: ServerProcesses, tmp_path: Path) -> None:
    await _kill_and_check(servers, f"sqlite:{tmp_path / 'sessions.db'}")


async def test_given_states_survive_a_kill_in_redis(servers: ServerProcesses, redis: RedisServer) -> None:
    await _kill_and_check(servers, redis.url)
