"""Asks for retries of requests that never were: what another session left in memory answers nobody."""

import numpy as np
from tests.helpers.models.small import SmallModels
from tests.helpers.states import write_request
from tests.transport.owners.guarded import GuardedServer

from statewise.v1 import sequence_pb2 as pb
from statewise.wire import pack_uint64

NO_POSITION = 2**64 - 1
"""What the server itself notes where no request came before; added to the steps it is the position again."""
NOTHING = np.zeros((3, 3), np.float32)
"""Has the digest 0, which is noted where no request came before."""


async def test_the_state_that_a_closed_session_left_answers_no_other_owner(
    guarded: GuardedServer, small_models: SmallModels
) -> None:
    async with guarded.connect("ann") as ann, guarded.connect("bob") as bob:
        (victim,) = await ann.open("steps", "victim")
        await ann.step(victim, 0, np.full(3, 5, np.float32))
        await ann.ask(close=pb.CloseSessionsRequest(handles=pack_uint64([victim])))
        (own,) = await bob.open("steps", "own")
        reply = await bob.ask(step=bob.frame([(own, NO_POSITION)], NOTHING[:1]))
        assert [error.reason for error in reply.errors] == ["POSITION_MISMATCH"]
        alone, _ = small_models.find("steps").run(NOTHING[:1])
        assert (await bob.step(own, 0, NOTHING[0])).tobytes() == alone.tobytes()


async def test_what_was_before_a_written_or_rewound_state_answers_no_retry(guarded: GuardedServer) -> None:
    async with guarded.connect("ann") as ann:
        (handle,) = await ann.open("steps", "a")
        await ann.step(handle, 0, NOTHING[:2])
        await ann.step(handle, 2, NOTHING[0])
        rewind = pb.RewindSessionsRequest(handles=pack_uint64([handle]), positions=pack_uint64([2]))
        assert (await ann.ask(rewind=rewind)).sessions
        again = ann.frame([(handle, NO_POSITION)], NOTHING, steps=[3])
        reply = await ann.ask(step=again)
        assert [error.reason for error in reply.errors] == ["POSITION_MISMATCH"]
        state = {"state": np.ones((1, 16), np.float32)}
        written = await ann.ask(write_states=write_request([(handle, 2)], state, new_positions=[1]))
        assert written.sessions
        for steps in (1, 2):
            again = ann.frame([(handle, NO_POSITION)], NOTHING[:steps], steps=[steps])
            assert [error.reason for error in (await ann.ask(step=again)).errors] == ["POSITION_MISMATCH"]
