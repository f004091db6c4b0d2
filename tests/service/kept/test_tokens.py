"""Takes named checkpoints and the number of kept requests out in snapshots, and brings them back."""

import hashlib
import hmac
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.helpers.caller import Caller, connect
from tests.helpers.errors import info_in
from tests.helpers.models.small import SmallModels
from tests.service.kept.calls import kept, made, names, opened, packed, rewound

from statewise.service.testing import running_server
from statewise.v1 import sequence_pb2
from statewise.wire import unpack_uint64

Array = np.ndarray
KEY = "k" * 16


@pytest.fixture
def x(random: np.random.Generator) -> Array:
    return random.standard_normal((12, 3)).astype(np.float32)


async def taken(caller: Caller, *handles: int, checkpoints: bool = True) -> tuple[list[bytes], list[int]]:
    """Tokens of sessions, and the bytes of checkpoints in each."""
    request = sequence_pb2.SnapshotSessionsRequest(handles=packed(*handles), checkpoints=checkpoints)
    reply = await caller.ask(snapshot=request)
    assert not reply.errors
    return list(reply.tokens), unpack_uint64(reply.checkpoint_bytes).tolist()


async def restore(
    caller: Caller, token: bytes, session_id: str = "r"
) -> sequence_pb2.RestoreSessionsResponse:
    """Asks for a session to be opened from a token."""
    request = sequence_pb2.RestoreSessionsRequest(tokens=[token], session_ids=[session_id])
    reply = await caller.ask(restore=request)
    assert isinstance(reply, sequence_pb2.RestoreSessionsResponse)
    return reply


def header_of(token: bytes) -> dict[str, object]:
    """The readable part of a token."""
    _, _, size, _ = struct.unpack_from("<4s4sIQ", token)
    fields: dict[str, object] = json.loads(token[20 : 20 + size])
    return fields


async def test_a_token_brings_checkpoints_to_another_server_with_origin_and_time(
    repository: Path, small_models: SmallModels, x: Array
) -> None:
    expected = small_models.find("steps").run(x)[0]
    async with running_server(repository, snapshot_key=KEY) as address, connect(address) as caller:
        (session,) = await opened(caller, "a", keep=3)
        early = await made(caller, session.handle, "früh")
        await caller.step(session.handle, 0, x[:5])
        late = await made(caller, session.handle, "late")
        await caller.step(session.handle, 5, x[5:7])
        (token,), (size,) = await taken(caller, session.handle)
        (plain,), _ = await taken(caller, session.handle, checkpoints=False)
    assert size == early.size_bytes + late.size_bytes
    assert len(token) == len(plain) + size + len(f', "checkpoint_bytes": {size}')
    assert (header_of(token)["checkpoint_bytes"], header_of(token)["keep"]) == (size, 3)
    async with running_server(repository, snapshot_key=KEY) as address, connect(address) as caller:
        (session,) = (await restore(caller, token)).sessions
        assert (session.position, session.keep, kept(session)) == (7, 3, [])
        listed = await caller.ask(
            list_checkpoints=sequence_pb2.ListCheckpointsRequest(handles=packed(session.handle))
        )
        assert list(listed.sessions[0].checkpoints) == [early, late]
        assert (await caller.step(session.handle, 7, x[7:])).tobytes() == expected[7:].tobytes()
        await rewound(caller, session.handle, to="late")
        assert (await caller.step(session.handle, 5, x[5:])).tobytes() == expected[5:].tobytes()
        await rewound(caller, session.handle, to="früh")
        assert (await caller.step(session.handle, 0, x)).tobytes() == expected.tobytes()
        (session,) = (await restore(caller, plain, "plain")).sessions
        assert (session.keep, await names(caller, session.handle)) == (3, [])


async def test_plain_tokens_are_byte_for_byte_what_they_were(repository: Path, x: Array) -> None:
    async with running_server(repository, snapshot_key=KEY) as address, connect(address) as caller:
        (session,) = await opened(caller, "a")
        await caller.step(session.handle, 0, x[:2])
        await made(caller, session.handle, "p")
        (token,), sizes = await taken(caller, session.handle, checkpoints=False)
        assert sizes == []
        header = header_of(token)
        assert list(header) == ["owner", "model", "version", "digest", "position"]
        raw = json.dumps(header).encode()
        state = token[20 + len(raw) : -32]
        name = hmac.new(KEY.encode(), b"name of the key", hashlib.sha256).digest()[:4]
        front = struct.pack("<4s4sIQ", b"SWS1", name, len(raw), len(state)) + raw + state
        assert token == front + hmac.new(KEY.encode(), front, hashlib.sha256).digest()


async def test_every_altered_byte_of_a_token_with_checkpoints_is_noticed(repository: Path, x: Array) -> None:
    async with running_server(repository, snapshot_key=KEY) as address, connect(address) as caller:
        (session,) = await opened(caller, "a")
        await made(caller, session.handle, "p")
        (token,), _ = await taken(caller, session.handle)
        broken = [token[:at] + bytes([token[at] ^ 1]) + token[at + 1 :] for at in range(len(token))]
        broken += [token[:-1], token + b"x", b"SWS1" + token[4:]]
        request = sequence_pb2.RestoreSessionsRequest(
            tokens=broken, session_ids=[f"r{number}" for number in range(len(broken))]
        )
        reply = await caller.ask(restore=request)
        assert not reply.sessions
        assert {error.reason for error in reply.errors} == {"BAD_SNAPSHOT"}


async def test_a_token_of_a_later_release_is_refused_in_words(repository: Path) -> None:
    async with running_server(repository, snapshot_key=KEY) as address, connect(address) as caller:
        (session,) = await opened(caller, "a")
        (token,), _ = await taken(caller, session.handle)
        header = header_of(token)
        begin = 20 + len(json.dumps(header).encode())
        raw, state = json.dumps({**header, "colour": 1}).encode(), token[begin:-32]
        signed = token[:8] + struct.pack("<IQ", len(raw), len(state)) + raw + state
        forged = signed + hmac.new(KEY.encode(), signed, hashlib.sha256).digest()
        (error,) = (await restore(caller, forged)).errors
        assert error.reason == "BAD_SNAPSHOT"
        assert "release" in error.message


async def test_a_server_that_allows_less_refuses_the_token(repository: Path) -> None:
    async with running_server(repository, snapshot_key=KEY) as address, connect(address) as caller:
        many, deep = await opened(caller, "many", keep=2), await opened(caller, "deep", keep=9)
        for name in ("p", "q"):
            await made(caller, many[0].handle, name)
        tokens, _ = await taken(caller, many[0].handle, deep[0].handle)
    less: dict[str, Any] = {"session_keep": 2, "session_checkpoints": 1, "snapshot_key": KEY}
    async with running_server(repository, **less) as address, connect(address) as caller:
        reasons = [(await restore(caller, token)).errors[0].reason for token in tokens]
        assert reasons == ["BYTES_LIMIT", "BAD_REQUEST"]


async def test_tokens_that_are_longer_than_a_message_are_refused(repository: Path) -> None:
    async with (
        running_server(repository, message_bytes=2**16, snapshot_key=KEY) as address,
        connect(address) as caller,
    ):
        handles = [one.handle for one in await opened(caller, *(f"s{number}" for number in range(12)))]
        for number in range(64):
            request = sequence_pb2.CreateCheckpointsRequest(
                handles=packed(*handles), names=[f"{number:0100}"]
            )
            assert not (await caller.ask(create_checkpoints=request)).errors
        longest = sequence_pb2.SnapshotSessionsRequest(handles=packed(*handles), checkpoints=True)
        assert info_in(await caller.ask(snapshot=longest)).reason == "BYTES_LIMIT"
        (token,), (size,) = await taken(caller, handles[0])
        assert len(token) > size > 64 * 100
