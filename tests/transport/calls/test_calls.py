"""Makes every kind of call on either transport: both give a behaviour and a client the same."""

import asyncio
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, wrappers_pb2
from google.protobuf.message import DecodeError
from google.protobuf.wrappers_pb2 import BytesValue
from google.rpc import code_pb2
from grpc_status import rpc_status
from tests.helpers.attacks.http2 import Connection
from tests.transport.calls.serving import (
    MESSAGE_BYTES,
    SERVICE,
    WAIT_S,
    Seen,
    duplex,
    serving,
    streaming,
    unary,
)

from statewise.service.base import ServiceError
from statewise.service.transport.calls import Call, CallError, methods_of
from statewise.wire import Reason


@pytest.fixture(params=["queue", "aio"])
def transport(request: pytest.FixtureRequest) -> str:
    """How the server speaks gRPC."""
    return str(request.param)


def channel_to(address: str) -> grpc.Channel:
    """A connection of its own."""
    return grpc.insecure_channel(
        address, options=[("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
    )


def one(channel: grpc.Channel, name: str) -> Any:
    """Calls a method with one request and one response, as bytes."""
    return channel.unary_unary(f"/{SERVICE}/{name}")


def many(channel: grpc.Channel, name: str) -> Any:
    """Calls a method with one request and many responses."""
    return channel.unary_stream(f"/{SERVICE}/{name}")


def both(channel: grpc.Channel, name: str) -> Any:
    """Calls a method in which both sides stream."""
    return channel.stream_stream(f"/{SERVICE}/{name}")


async def echo(request: bytes, _: Call) -> BytesValue:
    return BytesValue(value=request)


async def echo_all(call: Call) -> None:
    while (message := await call.receive()) is not None:
        await call.write(message)


def test_one_request_has_one_response(transport: str) -> None:
    with serving(transport, unary("Echo", echo)) as server, channel_to(server.address) as channel:
        for size in (0, 1, 50_000):
            assert BytesValue.FromString(one(channel, "Echo")(bytes(size))).value == bytes(size)


def test_a_behaviour_sends_responses_in_order(transport: str) -> None:
    async def count(request: bytes, call: Call) -> None:
        for number in range(int(request)):
            await call.write(b"%d" % number, stall_s=WAIT_S)

    with serving(transport, streaming("Count", count)) as server, channel_to(server.address) as channel:
        assert list(many(channel, "Count")(b"300")) == [b"%d" % number for number in range(300)]
        assert list(many(channel, "Count")(b"0")) == []


def test_both_sides_stream_until_the_client_has_said_everything(transport: str) -> None:
    messages = [b"%d" % number * (number + 1) for number in range(300)]
    with serving(transport, duplex("Echo", echo_all)) as server, channel_to(server.address) as channel:
        assert list(both(channel, "Echo")(iter(messages))) == messages
        assert list(both(channel, "Echo")(iter(()))) == []


def test_compressed_messages_are_read(transport: str) -> None:
    with serving(transport, unary("Echo", echo)) as server, channel_to(server.address) as channel:
        answer = one(channel, "Echo")(bytes(1000), compression=grpc.Compression.Gzip)
    assert BytesValue.FromString(answer).value == bytes(1000)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ServiceError(Reason.QUEUE_FULL, "full", retry_after_s=1.5), "RESOURCE_EXHAUSTED", "full"),
        (CallError(code_pb2.NOT_FOUND, "no such thing: ä"), "NOT_FOUND", "no such thing: ä"),
        (OSError("secret detail"), "INTERNAL", None),
    ],
)
def test_a_failure_is_a_status(transport: str, error: Exception, code: str, message: str | None) -> None:
    async def fail(_: bytes, __: Call) -> None:
        raise error

    async def fail_late(call: Call) -> None:
        await call.write(b"first")
        raise error

    methods = (unary("One", fail), streaming("Many", fail), duplex("Both", fail_late))
    with serving(transport, *methods) as server, channel_to(server.address) as channel:
        for calling in (
            lambda: one(channel, "One")(b""),
            lambda: list(many(channel, "Many")(b"")),
            lambda: list(both(channel, "Both")(iter([b"x"]))),
        ):
            with pytest.raises(grpc.RpcError) as failed:
                calling()
            failure: Any = failed.value
            assert failure.code().name == code
            assert "secret" not in failure.details()
            if message is not None:
                assert failure.details() == message
                status = rpc_status.from_call(failure)
                assert status is not None
                assert status.message == message


def test_a_request_that_cannot_be_decoded_is_the_callers_fault(transport: str) -> None:
    def decode(_: bytes) -> Any:
        raise DecodeError("not a message")

    method = unary("Echo", echo, decode=decode)
    with serving(transport, method) as server, channel_to(server.address) as channel:
        call = one(channel, "Echo").future(b"x")
        assert call.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "the request cannot be read" in call.details()


def test_calls_of_unknown_methods_are_refused(transport: str) -> None:
    with serving(transport, unary("Echo", echo)) as server, channel_to(server.address) as channel:
        for path in (f"/{SERVICE}/Nothing", "/x", "/ä/ö"):
            unknown: tuple[Any, Any] = channel.unary_unary(path), channel.stream_stream(path)
            for call in (unknown[0].future(b""), unknown[1](iter([b"x"]))):
                assert call.code() is grpc.StatusCode.UNIMPLEMENTED
        assert one(channel, "Echo")(b"x")


def test_a_method_that_a_newer_contract_adds_does_not_keep_a_server_from_starting(transport: str) -> None:
    described = descriptor_pb2.FileDescriptorProto(name="newer.proto", package="test", syntax="proto3")
    described.dependency.append(wrappers_pb2.DESCRIPTOR.name)
    service = described.service.add(name="Calls")
    for name in ("Echo", "Added"):
        kind = ".google.protobuf.BytesValue"
        service.method.add(name=name, input_type=kind, output_type=kind)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(described.SerializeToString())

    async def echo_value(request: Any, _: Call) -> BytesValue:
        return BytesValue(value=request.value)

    methods = methods_of(pool.FindServiceByName(SERVICE), SimpleNamespace(Echo=echo_value))
    with serving(transport, *methods) as server, channel_to(server.address) as channel:
        assert one(channel, "Added").future(b"").code() is grpc.StatusCode.UNIMPLEMENTED
        assert one(channel, "Echo")(BytesValue(value=b"x").SerializeToString())


def test_calls_beyond_the_limit_are_refused_and_do_not_stay_counted(transport: str) -> None:
    with (
        serving(transport, duplex("Echo", echo_all), calls=1) as server,
        channel_to(server.address) as channel,
    ):
        for _ in range(3):
            going_on = threading.Event()

            def requests(until: threading.Event = going_on) -> Iterator[bytes]:
                yield b"x"
                until.wait(WAIT_S)

            first = both(channel, "Echo")(requests())
            assert next(first) == b"x"
            with pytest.raises(grpc.RpcError, match="1 calls are open"):
                list(both(channel, "Echo")(iter([b"x"])))
            going_on.set()
            assert list(first) == []


def test_a_behaviour_sees_who_calls_and_until_when(transport: str) -> None:
    seen = Seen()

    async def look(_: bytes, call: Call) -> BytesValue:
        seen((dict(call.metadata), call.peer(), call.certificate_names(), call.remaining_s()))
        return BytesValue()

    metadata = (("x-request-id", "7"), ("x-some-bin", b"\xff\x00"))
    with serving(transport, unary("Look", look)) as server, channel_to(server.address) as channel:
        one(channel, "Look")(b"", metadata=metadata, timeout=1000)
        one(channel, "Look")(b"")
    found, peer, names, remaining_s = seen.next()
    assert found.items() >= dict(metadata).items()
    assert peer.startswith("ipv4:127.0.0.1:")
    assert names == []
    assert 900 < remaining_s < 1100  # gRPC may add some time for its own
    assert seen.next()[3] is None


@pytest.mark.parametrize("way", ["the client cancels", "the deadline passes", "a message is too large"])
def test_a_call_that_ends_early_cancels_its_behaviour_and_is_no_end_of_requests(
    transport: str, way: str
) -> None:
    seen = Seen()

    async def wait(call: Call) -> None:
        call.on_end(lambda: seen("over"))
        try:
            await call.receive()
            await call.write(b"begun")
            seen(await call.receive())
        except asyncio.CancelledError:
            seen("cancelled")
            raise

    going_on = threading.Event()

    def requests() -> Iterator[bytes]:
        yield b"x"
        if way == "a message is too large":
            yield bytes(MESSAGE_BYTES + 1)
        going_on.wait(WAIT_S)

    with serving(transport, duplex("Wait", wait)) as server, channel_to(server.address) as channel:
        call = both(channel, "Wait")(requests(), timeout=0.5 if way == "the deadline passes" else None)
        if way != "the deadline passes":
            assert next(call) == b"begun"
        if way == "the client cancels":
            call.cancel()
        with pytest.raises(grpc.RpcError):
            list(call)
        events = [seen.next(), seen.next()]
        going_on.set()
    events += seen.rest()
    assert "over" in events
    # grpc.aio reads the same from a client that has left as from one that has said everything.
    assert set(events) - {"over"} <= ({"cancelled", None} if transport == "aio" else {"cancelled"})


def test_a_client_that_takes_nothing_is_left(transport: str) -> None:
    seen = Seen()

    async def pour(_: bytes, call: Call) -> None:
        call.on_end(lambda: seen("over"))
        while True:
            await call.write(bytes(1 << 20), stall_s=0.05)

    with serving(transport, streaming("Pour", pour)) as server, channel_to(server.address) as channel:
        call = many(channel, "Pour")(b"")
        assert len(next(call)) == 1 << 20
        assert seen.next() == "over"
        if transport == "aio":
            call.cancel()  # grpc.aio cannot end a call whose message is not taken; the client has to
        with pytest.raises(grpc.RpcError):
            list(call)


def test_a_client_that_does_not_take_its_only_response_is_left() -> None:
    """By the queue; grpc.aio offers no way to end such a call."""
    seen = Seen()

    async def large(_: bytes, call: Call) -> BytesValue:
        call.on_end(lambda: seen("over"))
        return BytesValue(value=bytes(1 << 20))

    with (
        serving("queue", unary("Large", large), stall_s=0.05) as server,
        Connection(server.address) as connection,
    ):
        connection.call(f"/{SERVICE}/Large")
        connection.message(b"x", announced=1)
        assert seen.next() == "over"


def test_callbacks_and_tasks_of_a_call_run_in_its_context(transport: str) -> None:
    """A message is handled in the context of the call that it came by, whatever else runs."""
    from contextvars import ContextVar

    number: ContextVar[int] = ContextVar("number")
    calls = iter(range(1000))

    async def numbered(call: Call) -> None:
        number.set(next(calls))
        own = number.get()
        done = asyncio.Event()

        def received(message: bytes | None) -> None:
            assert number.get() == own
            if message is None:
                done.set()
                return
            call.send(message, sent)

        def sent() -> None:
            assert number.get() == own
            call.read(received)

        call.read(received)
        await done.wait()

    with serving(transport, duplex("Echo", numbered)) as server, channel_to(server.address) as channel:
        open_calls = [both(channel, "Echo")(iter([b"a", b"b"])) for _ in range(20)]
        assert [list(call) for call in open_calls] == [[b"a", b"b"]] * 20


def test_a_server_that_stops_lets_calls_finish_within_the_grace_period(transport: str) -> None:
    seen = Seen()
    go_on = threading.Event()

    async def wait(request: bytes, call: Call) -> BytesValue:
        call.on_end(lambda: seen("over"))
        seen("begun")
        await asyncio.to_thread(go_on.wait, WAIT_S)
        return BytesValue(value=request)

    with serving(transport, unary("Wait", wait)) as server, channel_to(server.address) as channel:
        answer = one(channel, "Wait").future(b"x")
        assert seen.next() == "begun"
        stopping = threading.Thread(target=server.stop, args=(WAIT_S,))
        stopping.start()
        go_on.set()
        assert BytesValue.FromString(answer.result(timeout=WAIT_S)).value == b"x"
        stopping.join(WAIT_S)
        assert seen.next() == "over"


def test_a_server_that_stops_cancels_calls_after_the_grace_period_and_leaves_no_thread(
    transport: str,
) -> None:
    seen = Seen()
    before = set(threading.enumerate())

    async def wait(call: Call) -> None:
        call.on_end(lambda: seen("over"))
        await call.receive()
        await call.write(b"begun")
        await asyncio.Event().wait()

    going_on = threading.Event()

    def requests() -> Iterator[bytes]:
        yield b"x"
        going_on.wait(WAIT_S)

    with serving(transport, duplex("Wait", wait)) as server, channel_to(server.address) as channel:
        calls = [both(channel, "Wait")(requests()) for _ in range(20)]
        assert [next(call) for call in calls] == [b"begun"] * 20
        server.stop(0.05)
        assert [seen.next() for _ in calls] == ["over"] * 20
        going_on.set()
    new = set(threading.enumerate()) - before
    left = [thread for thread in new if thread.name.startswith(("statewise", "asyncio", "test"))]
    for thread in left:  # those of earlier tests may be about to end
        thread.join(WAIT_S)
    assert not [thread.name for thread in left if thread.is_alive()]
