"""What people and machines do to a server that is in reach: nothing lost, nothing leaked, server alive.

The server runs in a process of its own where its memory or its open files are read. Beside an attack a caller
goes on stepping a session, and its answers are compared with the model run alone.
"""

import asyncio
import itertools
import json
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tests.helpers.attacks.bystander import connect_bystander
from tests.helpers.attacks.http2 import GOAWAY, MAX_CONCURRENT_STREAMS, PING, RST_STREAM, SETTINGS, Connection
from tests.helpers.caller import Caller, connect
from tests.helpers.models.small import SmallModels

from statewise.service.testing import running_server
from statewise.v1 import admin_pb2, model_pb2
from statewise.v1 import sequence_pb2 as pb
from statewise.wire import pack_uint32, to_tensor

MIB = 1024 * 1024
SERVE = """
import json, sys
from statewise.service import Settings, serve
serve(Settings(**json.loads(sys.argv[1])), ready=sys.stdout)
"""
STEP = "/statewise.v1.SequenceService/Step"


class Process:
    """A server in a process of its own."""

    def __init__(self, child: "subprocess.Popen[str]") -> None:
        self.child = child
        assert child.stdout is not None
        self.address = child.stdout.readline().removeprefix("listening on ").strip()

    @property
    def resident_bytes(self) -> int:
        """Memory it holds now."""
        pages = int(Path(f"/proc/{self.child.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize()

    @property
    def highest_bytes(self) -> int:
        """The most memory it has ever held."""
        status = Path(f"/proc/{self.child.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024

    @property
    def open_files(self) -> int:
        return len(os.listdir(f"/proc/{self.child.pid}/fd"))


Serve = Callable[..., Process]


@pytest.fixture
def serve(repository: Path) -> Iterator[Serve]:
    """serve(**settings) -> a server of the small models that the test does not outlive."""
    with ExitStack() as stack:

        def start(**settings: Any) -> Process:
            told = json.dumps(
                {"repository": str(repository), "listen": "127.0.0.1:0", "grace_s": 5, **settings}
            )
            child = stack.enter_context(
                subprocess.Popen([sys.executable, "-c", SERVE, told], stdout=subprocess.PIPE, text=True)
            )
            stack.callback(child.kill)
            return Process(child)

        yield start


# --- messages ---


async def test_a_message_announced_as_huge_is_refused_before_it_comes(
    serve: Serve, small_models: SmallModels
) -> None:
    server = serve()
    async with connect_bystander(server.address, small_models):
        before = server.highest_bytes
        with Connection(server.address) as attacker:
            attacker.call(STEP)
            attacker.message(b"x" * 1000, announced=1 << 30)
            assert b"Received message larger than max (1073741824 vs. 4194304)" in attacker.trailers()
        assert server.highest_bytes - before < 4 * MIB


async def test_a_small_message_that_unpacks_to_a_huge_one_is_refused(
    serve: Serve, small_models: SmallModels
) -> None:
    server = serve()
    options = [("grpc.max_send_message_length", -1)]
    async with (
        connect_bystander(server.address, small_models),
        grpc.aio.insecure_channel(server.address, options=options) as channel,
    ):
        before = server.highest_bytes
        # Some 130 KB on the wire.
        with pytest.raises(grpc.aio.AioRpcError, match="Decompressed message larger than max") as refused:
            await channel.unary_unary(STEP)(bytes(128 * MIB), compression=grpc.Compression.Gzip)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert server.highest_bytes - before < 32 * MIB


async def test_metadata_has_a_bound(address: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.unary_unary("/statewise.v1.AdminService/GetServer")
        assert await call(b"", metadata=[("note", "x" * 14_000)])
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(b"", metadata=[("note", "x" * 20_000)])
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_what_is_no_message_is_an_error_of_its_stream_alone(
    address: str, small_models: SmallModels
) -> None:
    async with (
        connect_bystander(address, small_models) as bystander,
        grpc.aio.insecure_channel(address) as channel,
    ):
        stream = channel.stream_stream("/statewise.v1.SequenceService/SessionStream")()
        await stream.write(b"\xff" * 10)
        with pytest.raises(grpc.aio.AioRpcError, match="cannot be read") as refused:
            await stream.read()
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        await bystander.steps()


# --- connections ---


@contextmanager
def many_open_files(wanted: int) -> Iterator[int]:
    """Lets this process, and those it starts, have that many files open; gives how many it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, allowed), hard))
    try:
        yield allowed
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_five_thousand_connections_that_send_nothing(
    serve: Serve, small_models: SmallModels, capsys: Any
) -> None:
    """They are served beside, and are gone when their time to say something is up."""
    with many_open_files(5_500) as allowed, ExitStack() as sockets:
        server = serve(handshake_s=5)
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
            # The server hangs up: everything it had to say, then the end.
            for one in silent:
                while await asyncio.to_thread(one.recv, 65_536):
                    pass
            await bystander.steps()
            while server.open_files > files:
                await bystander.steps()


async def test_more_connections_than_may_be_are_closed_as_they_come(
    serve: Serve, small_models: SmallModels
) -> None:
    server = serve(connections=20)
    host, port = server.address.split(":")
    async with connect_bystander(server.address, small_models) as bystander:
        with ExitStack() as sockets:
            opened = [
                sockets.enter_context(socket.create_connection((host, int(port)), timeout=0.2))
                for _ in range(60)
            ]
            ended = 0
            for one in opened:
                try:
                    while await asyncio.to_thread(one.recv, 65_536):
                        pass
                    ended += 1
                except ConnectionError:
                    ended += 1
                except TimeoutError:
                    pass  # one of those that may stay
        assert ended >= 60 - 20
        await bystander.steps()


async def test_who_pings_for_the_sake_of_it_is_hung_up_on(address: str, small_models: SmallModels) -> None:
    async with connect_bystander(address, small_models):
        with Connection(address) as attacker:
            attacker.send(PING, *(number.to_bytes(8, "big") for number in range(10)))
            frames = await asyncio.to_thread(lambda: list(attacker.frames()))
        assert any(frame.kind == GOAWAY and b"too_many_pings" in frame.payload for frame in frames)


async def test_one_connection_has_so_many_calls_at_once(serve: Serve, small_models: SmallModels) -> None:
    server = serve(connection_calls=5)
    async with connect_bystander(server.address, small_models):
        with Connection(server.address) as attacker:
            told = next(frame for frame in attacker.frames() if frame.kind == SETTINGS)
            assert MAX_CONCURRENT_STREAMS + (5).to_bytes(4, "big") in told.payload
            # Who does not keep to it gets no further.
            for stream in range(1, 41, 2):
                attacker.call("/statewise.v1.SequenceService/SessionStream", stream)
            refused: set[int] = set()
            for frame in attacker.frames():
                if frame.kind == RST_STREAM:
                    refused.add(frame.stream)
                    if len(refused) == 15:
                        break
            assert len(refused) == 15


async def test_connections_end_at_their_age_and_sessions_do_not(repository: Path) -> None:
    async with running_server(repository, connection_age_s=0.5, grace_s=0.1) as address:
        async with connect(address) as old:
            await old.open("steps", "a")
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                await old.stream.read()
            assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
        async with connect(address) as new:
            resume = pb.ResumeSessionsRequest(session_ids=["a"])
            assert not (await new.sequences.ResumeSessions(resume)).errors


async def test_streams_are_bounded(repository: Path) -> None:
    async with (
        running_server(repository, streams=2) as address,
        connect(address) as one,
        connect(address) as two,
        connect(address) as three,
    ):
        await one.open("steps", "a")
        await two.open("steps", "b")
        with pytest.raises(grpc.aio.AioRpcError, match="2 streams are open") as refused:
            await three.open("steps", "c")
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await two.stream.done_writing()
        assert await two.stream.read() is grpc.aio.EOF
        async with connect(address) as four:
            await four.open("steps", "c")


# --- readers ---


async def test_a_stream_that_is_never_read_holds_a_bounded_number_of_replies_and_is_given_up(
    serve: Serve, small_models: SmallModels
) -> None:
    server = serve(stall_s=1.0, stream_requests=8)
    big = np.zeros((100_000, 3), np.float32)
    async with (
        connect_bystander(server.address, small_models) as bystander,
        connect(server.address) as attacker,
    ):
        (handle,) = await attacker.open("steps", "a")
        memory = server.resident_bytes
        frame = attacker.frame([(handle, 0)], big, steps=[len(big)])

        async def write_on() -> None:
            for number in itertools.count(1_000):
                await attacker.stream.write(pb.SessionStreamRequest(request_id=number, step=frame))

        attack = asyncio.create_task(write_on())
        watching = bystander.caller.admin.WatchStats(admin_pb2.WatchStatsRequest())
        most = 0
        async for stats in watching:
            most = max(most, server.resident_bytes - memory)
            await bystander.steps()
            if stats.streams == 1:
                break
        watching.cancel()
        attack.cancel()
        # 8 requests of 1.2 MB and their replies of 0.8 MB, and what gRPC and the allocator keep.
        assert 0 < most < 96 * MIB


LONG = pb.PredictRequest(
    model="steps",
    lengths=pack_uint32([20_000] * 10),
    inputs={"x": to_tensor(np.zeros((200_000, 3), np.float32))},
)
"""Takes 2.4 MB of inputs and gives 1.6 MB of outputs."""


NARROW = {"http2.lookahead_bytes": 1024, "http2.bdp_probe": 0}
"""A client with room for little that it has not asked for."""


async def test_predictions_that_are_never_read_leave_memory_flat(
    serve: Serve, small_models: SmallModels
) -> None:
    """Of 160 four fit, and the others are told to wait; all of them would be 640 MB."""
    server = serve(prediction_bytes=16 * MIB)
    async with (
        connect_bystander(server.address, small_models) as bystander,
        connect(server.address, **NARROW) as attacker,
    ):
        memory = server.resident_bytes
        stuck: set[asyncio.Task[grpc.StatusCode]] = set()
        for _ in range(32):
            codes = {asyncio.create_task(attacker.sequences.Predict(LONG).code()) for _ in range(5)}
            ended: set[asyncio.Task[grpc.StatusCode]] = set()
            while len(ended) < (5 if stuck else 1):
                done, codes = await asyncio.wait(codes, return_when=asyncio.FIRST_COMPLETED)
                ended |= done
            assert {code.result() for code in ended} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
            stuck |= codes
            await bystander.steps()
        assert server.resident_bytes - memory < 256 * MIB
        for code in stuck:
            code.cancel()


async def test_predictions_that_are_never_read_are_given_up(serve: Serve) -> None:
    server = serve(stall_s=0.5, prediction_bytes=5 * MIB)
    async with connect(server.address, **NARROW) as attacker, connect(server.address) as honest:
        call = attacker.sequences.Predict(LONG)
        await call.initial_metadata()
        rows = refused = 0
        while not rows:
            try:
                async for part in honest.sequences.Predict(LONG):
                    rows += len(part.rows) // 4
            except grpc.aio.AioRpcError:
                refused += 1
        assert rows == 10
        assert refused


async def test_a_refused_request_is_let_go_at_once(serve: Serve) -> None:
    """Not when Python next looks for cycles: requests are large, and there may be many until then."""
    server = serve()
    request = pb.PredictRequest(model="nobody", lengths=LONG.lengths, inputs=LONG.inputs)
    async with connect(server.address) as caller:
        for round_ in range(2):
            if round_:
                memory = server.resident_bytes
            for _ in range(100):
                assert await caller.sequences.Predict(request).code() is grpc.StatusCode.NOT_FOUND
        assert server.resident_bytes - memory < 24 * MIB


# --- the repository ---


@pytest.mark.parametrize(
    "name",
    [
        "..",
        ".",
        "",
        "../steps",
        "steps/../steps",
        "/etc",
        "steps/1",
        "steps\0",
        "..\\..",
        "%2e%2e",
        "x" * 50_000,
    ],
)
async def test_names_lead_nowhere_but_into_the_repository(caller: Caller, name: str) -> None:
    for ask in (
        lambda: caller.models.LoadModel(model_pb2.LoadModelRequest(name=name)),
        lambda: caller.models.UnloadModel(model_pb2.UnloadModelRequest(name=name)),
        lambda: caller.models.GetModel(model_pb2.GetModelRequest(name=name)),
        lambda: caller.models.LoadModel(model_pb2.LoadModelRequest(name="steps", version=2**32 - 1)),
        lambda: caller.sequences.OpenSessions(pb.OpenSessionsRequest(model=name, session_ids=["a"])),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await ask()
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
