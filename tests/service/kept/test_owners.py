"""Keeps an owner's checkpoints from every other owner: no call reaches, counts or names them."""

from pathlib import Path

import grpc
import numpy as np
import pytest
from tests.helpers.caller import connect
from tests.helpers.errors import only_reason_of
from tests.service.kept.calls import fork, made, make, names, only_error, opened, packed, rewind

from statewise.service.auth import Scope, add_token
from statewise.service.testing import running_server
from statewise.v1 import admin_pb2, sequence_pb2


async def test_another_owner_reaches_no_checkpoint(repository: Path, tmp_path: Path) -> None:
    callers = tmp_path / "callers.toml"
    tokens = [add_token(callers, owner, [Scope.SESSION]) for owner in ("ann", "bob")]
    async with (
        running_server(repository=repository, callers=callers, session_checkpoints=1) as address,
        connect(address, token=tokens[0]) as ann,
        connect(address, token=tokens[1]) as bob,
    ):
        (hers,) = await opened(ann, "a")
        (his,) = await opened(bob, "a")
        await ann.step(hers.handle, 0, np.ones(3, np.float32))
        await made(ann, hers.handle, "p")
        reply = await make(bob, hers.handle, "q")
        assert [error.reason for error in reply.errors] == ["SESSION_NOT_FOUND"]
        assert only_error(await rewind(bob, hers.handle, to="p")).reason == "SESSION_NOT_FOUND"
        assert only_error(await rewind(bob, his.handle, to="p")).reason == "CHECKPOINT_NOT_FOUND"
        copy = sequence_pb2.ForkSessionsRequest(
            handles=packed(hers.handle, his.handle), session_ids=["b", "c"], checkpoints=["p"]
        )
        copied = await bob.ask(fork=copy)
        assert [error.reason for error in copied.errors] == ["SESSION_NOT_FOUND", "CHECKPOINT_NOT_FOUND"]
        listed = await bob.ask(
            list_checkpoints=sequence_pb2.ListCheckpointsRequest(handles=packed(hers.handle, his.handle))
        )
        assert [list(session.checkpoints) for session in listed.sessions] == [[]]
        await bob.ask(
            delete_checkpoints=sequence_pb2.DeleteCheckpointsRequest(handles=packed(hers.handle), names=["p"])
        )
        with pytest.raises(grpc.RpcError) as refusal:
            await bob.admin.GetSession(admin_pb2.GetSessionRequest(session_id="a", owner="ann"))
        assert only_reason_of(refusal.value) == "PERMISSION_DENIED"
        await made(bob, his.handle, "his")
        assert await names(ann, hers.handle) == ["p"]
        assert (await fork(ann, hers.handle, "copy", at="p")).position == 1
