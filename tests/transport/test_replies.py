"""Sends replies: encoded by hand, without a task each, on a loop that wakes once for many bytes."""

import asyncio
import socket

import numpy as np
import pytest
from tests.helpers.arrays import Array
from tests.helpers.held_call import HeldCall

from statewise.service.transport.aio import AioEventLoop
from statewise.service.transport.messages import encode_step
from statewise.service.transport.servicers._message_sender import MessageSender
from statewise.v1 import sequence_pb2
from statewise.wire import fill_tensor, from_tensor


@pytest.mark.parametrize("shape", [(1, 3), (300, 64), (2, 5, 7), (1,)])
@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.float16])
def test_an_encoded_reply_is_what_protobuf_writes(shape: tuple[int, ...], dtype: type) -> None:
    output: Array = np.random.default_rng(1).integers(0, 9, shape).astype(dtype)
    for number in (1, 2**40):
        response = sequence_pb2.SessionStreamResponse(request_id=number)
        fill_tensor(response.step.outputs["y"], output)
        assert encode_step(number, "y", output) == response.SerializeToString()


def test_an_encoded_reply_of_a_view_has_the_views_elements() -> None:
    output = np.arange(24, dtype=np.float32).reshape(4, 6)[:, ::2]
    response = sequence_pb2.SessionStreamResponse.FromString(encode_step(3, "y", output))
    np.testing.assert_array_equal(from_tensor(response.step.outputs["y"]), output)


async def test_a_sender_sends_in_order_one_at_a_time_until_abandoned() -> None:
    call = HeldCall()
    waited: list[bytes] = []
    sender = MessageSender(call, sent=lambda: waited.append(call.begun[-1]))
    for message in (b"a", b"b", b"c"):
        sender.post(message)
    assert call.begun == [b"a"], "begun in the turn in which it is posted"
    assert (sender.waiting, sender.busy) == (2, True)
    flushed = asyncio.create_task(sender.flush())
    for _ in range(3):
        await asyncio.sleep(0)
        assert not flushed.done()
        call.take()
    await flushed
    assert call.begun == [b"a", b"b", b"c"]
    assert waited == [b"b", b"c"]
    sender.post(b"d")
    sender.post(b"e")
    sender.abandon()
    call.take()
    sender.post(b"f")
    assert call.begun == [b"a", b"b", b"c", b"d"]
    assert (sender.waiting, sender.busy) == (0, False)


def test_the_servers_loop_is_woken_once_by_many_bytes_and_again_by_later_ones() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, asyncio.Runner(loop_factory=AioEventLoop) as runner:
        ours.setblocking(False)
        calls: list[int] = []

        async def wait() -> None:
            loop = asyncio.get_running_loop()
            called = asyncio.Event()

            def ready() -> None:
                calls.append(1)
                called.set()

            loop.add_reader(ours, ready)
            for _ in range(2):
                called.clear()
                theirs.send(b"x" * 100)
                await called.wait()
            for _ in range(3):
                await asyncio.sleep(0)
            loop.remove_reader(ours)

        runner.run(wait())
    assert len(calls) == 2
