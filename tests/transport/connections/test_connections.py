"""Opens connections that send nothing, ping, or call too often: the server limits them, and others go on."""

import asyncio
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from pathlib import Path

import grpc
import pytest
from tests.helpers.attacks.bystander import connect_bystander
from tests.helpers.attacks.http2 import GOAWAY, MAX_CONCURRENT_STREAMS, PING, RST_STREAM, SETTINGS, Connection
from tests.helpers.caller import connect
from tests.helpers.models.small import SmallModels
from tests.helpers.server_process import ServerProcesses

from statewise.service.testing import running_server
from statewise.v1 import sequence_pb2 as pb


@contextmanager
def many_open_files(wanted: int) -> Iterator[int]:
    """Raises the limit for open files of this process and its children; gives the new limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, allowed), hard))
    try:
        yield allowed
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.long
async def test_five_thousand_connections_that_send_nothing(
    processes: ServerProcesses, small_models: SmallModels, capsys: pytest.CaptureFixture[str]
) -> None:
    """The server goes on beside them, and closes them when `handshake_s` has passed."""
    with many_open_files(5_500) as allowed, ExitStack() as sockets:
        server = processes.start(handshake_s=5)
        host, port = server.address.split(":")
        wanted = min(5_000, allowed - 500)
        async with connect_bystander(server.address, small_models) as bystander:
            files, memory = server.open_files, server.resident_bytes
            silent = []
            for number in range(wanted):
                silent.append(sockets.enter_context(socket.create_connection((host, int(port)), timeout=60)))
                if number % 500 == 0:
                    await bystander.steps()
            for _ in range(20):
                await bystander.steps()
            cost = (server.resident_bytes - memory) / wanted
            with capsys.disabled():
                print(f"\n{wanted} silent connections, {cost / 1024:.1f} KiB each")
            assert cost < 64 * 1024
            # The server sends its settings, then closes the connection.
            for one in silent:
                while await asyncio.to_thread(one.recv, 65_536):
                    pass
            await bystander.steps()
            while server.open_files > files:
                await bystander.steps()


async def _until_it_ends(connection: socket.socket) -> None:
    """Reads until the server closes the connection."""
    connection.setblocking(False)
    with suppress(ConnectionError):
        while await asyncio.get_running_loop().sock_recv(connection, 65_536):
            pass


async def test_more_connections_than_may_be_are_closed_as_they_come(
    processes: ServerProcesses, small_models: SmallModels
) -> None:
    server = processes.start(connections=20)
    host, port = server.address.split(":")
    async with connect_bystander(server.address, small_models) as bystander:
        with ExitStack() as sockets:
            opened = {
                asyncio.create_task(
                    _until_it_ends(sockets.enter_context(socket.create_connection((host, int(port)))))
                )
                for _ in range(60)
            }
            while len(opened) > 20:
                ended, opened = await asyncio.wait(opened, return_when=asyncio.FIRST_COMPLETED)
                for one in ended:
                    one.result()
            for one in opened:
                one.cancel()
            await asyncio.gather(*opened, return_exceptions=True)
        await bystander.steps()


async def test_who_pings_for_the_sake_of_it_is_hung_up_on(address: str, small_models: SmallModels) -> None:
    async with connect_bystander(address, small_models):
        with Connection(address) as attacker:
            attacker.send(PING, *(number.to_bytes(8, "big") for number in range(10)))
            frames = await asyncio.to_thread(lambda: list(attacker.frames()))
        assert any(frame.kind == GOAWAY and b"too_many_pings" in frame.payload for frame in frames)


async def test_one_connection_has_so_many_calls_at_once(
    processes: ServerProcesses, small_models: SmallModels
) -> None:
    server = processes.start(connection_calls=5)
    async with connect_bystander(server.address, small_models):
        with Connection(server.address) as attacker:
            told = next(frame for frame in attacker.frames() if frame.kind == SETTINGS)
            assert MAX_CONCURRENT_STREAMS + (5).to_bytes(4, "big") in told.payload
            # Calls beyond the limit are reset.
            for stream in range(1, 41, 2):
                attacker.call("/statewise.v1.SequenceService/SessionStream", stream)
            resets = (frame.stream for frame in attacker.frames() if frame.kind == RST_STREAM)
            assert len(set(islice(resets, 15))) == 15


async def test_connections_end_at_their_age_and_sessions_do_not(repository: Path) -> None:
    async with running_server(repository, connection_age_s=2.0, grace_s=0.1) as address:
        async with connect(address) as old:
            await old.open("steps", "a")
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                await old.stream.read()
            assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
        async with connect(address) as new:
            resume = pb.ResumeSessionsRequest(session_ids=["a"])
            assert not (await new.sequences.ResumeSessions(resume)).errors
