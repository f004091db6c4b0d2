"""Calls for kept requests and named checkpoints, by the contract alone."""

import numpy as np
from tests.helpers.caller import Caller

from statewise.v1 import sequence_pb2, tensor_pb2
from statewise.wire import pack_uint64, unpack_uint64

Array = np.ndarray


def packed(*numbers: int) -> bytes:
    """One column of a request."""
    return pack_uint64(list(numbers))


def kept(session: sequence_pb2.Session) -> list[int]:
    """Positions that a session can be taken back to, as the server says."""
    positions: list[int] = unpack_uint64(session.kept_positions).tolist()
    return positions


def only_error(reply: "sequence_pb2.RewindSessionsResponse") -> tensor_pb2.RowError:
    """The error of the one row of a reply."""
    assert not reply.sessions
    (error,) = reply.errors
    return error


async def opened(
    caller: Caller, *ids: str, keep: int = 0, model: str = "steps"
) -> list[sequence_pb2.Session]:
    """Opens sessions that keep so many requests."""
    request = sequence_pb2.OpenSessionsRequest(model=model, session_ids=ids, keep=keep)
    reply = await caller.ask(open=request)
    assert not reply.errors
    return list(reply.sessions)


async def current(caller: Caller, session_id: str) -> sequence_pb2.Session:
    """A session as it is now, with a new handle."""
    reply = await caller.ask(resume=sequence_pb2.ResumeSessionsRequest(session_ids=[session_id]))
    (session,) = reply.sessions
    assert isinstance(session, sequence_pb2.Session)
    return session


async def rewind(
    caller: Caller, handle: int, position: int | None = None, *, to: str = ""
) -> sequence_pb2.RewindSessionsResponse:
    """Asks for a session to be taken back."""
    request = sequence_pb2.RewindSessionsRequest(
        handles=packed(handle),
        positions=b"" if position is None else packed(position),
        checkpoints=[to] if to else [],
    )
    reply = await caller.ask(rewind=request)
    assert isinstance(reply, sequence_pb2.RewindSessionsResponse)
    return reply


async def rewound(
    caller: Caller, handle: int, position: int | None = None, *, to: str = ""
) -> sequence_pb2.Session:
    """Takes a session back."""
    reply = await rewind(caller, handle, position, to=to)
    assert not reply.errors, reply.errors
    (session,) = reply.sessions
    return session


async def make(
    caller: Caller, handle: int, name: str, position: int | None = None
) -> sequence_pb2.CreateCheckpointsResponse:
    """Asks for a checkpoint of a session."""
    request = sequence_pb2.CreateCheckpointsRequest(
        handles=packed(handle), names=[name], positions=b"" if position is None else packed(position)
    )
    reply = await caller.ask(create_checkpoints=request)
    assert isinstance(reply, sequence_pb2.CreateCheckpointsResponse)
    return reply


async def made(caller: Caller, handle: int, name: str) -> sequence_pb2.Checkpoint:
    """Makes a checkpoint of a session."""
    reply = await make(caller, handle, name)
    assert not reply.errors, reply.errors
    (checkpoint,) = reply.checkpoints
    return checkpoint


async def names(caller: Caller, handle: int) -> list[str]:
    """The names of a session's checkpoints, in the order in which they were made."""
    reply = await caller.ask(list_checkpoints=sequence_pb2.ListCheckpointsRequest(handles=packed(handle)))
    assert not reply.errors, reply.errors
    (session,) = reply.sessions
    return [one.name for one in session.checkpoints]


async def fork(caller: Caller, handle: int, session_id: str, *, at: str = "") -> sequence_pb2.Session:
    """Copies a session."""
    request = sequence_pb2.ForkSessionsRequest(
        handles=packed(handle), session_ids=[session_id], checkpoints=[at] if at else []
    )
    reply = await caller.ask(fork=request)
    assert not reply.errors, reply.errors
    (session,) = reply.sessions
    assert isinstance(session, sequence_pb2.Session)
    return session
