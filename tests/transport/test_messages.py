"""Sends messages that are huge, unpack to huge ones, or cannot be read: the server refuses them alone."""

import grpc
import pytest
from tests.helpers.attacks.bystander import connect_bystander
from tests.helpers.attacks.http2 import Connection
from tests.helpers.models.small import SmallModels
from tests.helpers.raw_calls import stream_stream, unary_unary
from tests.helpers.server_process import ServerProcesses

MIB = 1024 * 1024
STEP = "/statewise.v1.SequenceService/Step"


async def test_a_message_announced_as_huge_is_refused_before_it_comes(
    processes: ServerProcesses, small_models: SmallModels
) -> None:
    server = processes.start()
    async with connect_bystander(server.address, small_models):
        before = server.highest_bytes
        with Connection(server.address) as attacker:
            attacker.call(STEP)
            attacker.message(b"x" * 1000, announced=1 << 30)
            assert b"Received message larger than max (1073741824 vs. 4194304)" in attacker.trailers()
        assert server.highest_bytes - before < 4 * MIB


async def test_a_small_message_that_unpacks_to_a_huge_one_is_refused(
    processes: ServerProcesses, small_models: SmallModels
) -> None:
    server = processes.start()
    options = [("grpc.max_send_message_length", -1)]
    async with (
        connect_bystander(server.address, small_models),
        grpc.aio.insecure_channel(server.address, options=options) as channel,
    ):
        before = server.highest_bytes
        # The message has some 130 KB on the wire.
        with pytest.raises(grpc.aio.AioRpcError, match="Decompressed message larger than max") as refused:
            await unary_unary(channel, STEP)(bytes(128 * MIB), compression=grpc.Compression.Gzip)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert server.highest_bytes - before < 32 * MIB


async def test_metadata_has_a_bound(address: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        call = unary_unary(channel, "/statewise.v1.AdminService/GetServer")
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
        stream = stream_stream(channel, "/statewise.v1.SequenceService/SessionStream")()
        await stream.write(b"\xff" * 10)
        with pytest.raises(grpc.aio.AioRpcError, match="cannot be read") as refused:
            await stream.read()
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        await bystander.steps()
