"""Runs the server's event loops: callbacks, timers, files, child processes, signals; idle and flooded."""

import asyncio
import os
import random
import signal
import socket
import sys
import threading
from asyncio.subprocess import PIPE
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import BytesValue
from tests.helpers.caller import connect
from tests.transport.calls.serving import SERVICE, WAIT_S, Seen, duplex, serving, unary

from statewise.service.testing import running_server
from statewise.service.transport import make_event_loop
from statewise.service.transport.calls import Call

ROUNDS = 1000
"""The loop looks at its queue five times a second by itself: so many wake-ups, all lost, end the test."""


@pytest.fixture(params=["queue", "aio"])
def transport(request: pytest.FixtureRequest) -> str:
    """How the server speaks gRPC."""
    return str(request.param)


@pytest.fixture
def run(transport: str) -> Iterator[Callable[[Coroutine[Any, Any, Any]], Any]]:
    """Runs a coroutine on a loop of the transport, in this thread, which is the main one."""
    with asyncio.Runner(loop_factory=partial(make_event_loop, transport)) as runner:
        yield runner.run


async def echo_all(call: Call) -> None:
    while (message := await call.receive()) is not None:
        await call.write(message)


def call_from_threads(loop: asyncio.AbstractEventLoop, *, threads: int, each: int) -> list[tuple[int, int]]:
    """Returns the calls, (thread, number), in the order in which the loop ran them."""
    ran: list[tuple[int, int]] = []
    done = threading.Event()

    def note(thread: int, number: int) -> None:
        ran.append((thread, number))
        if len(ran) == threads * each:
            done.set()

    def call(thread: int) -> None:
        for number in range(each):
            loop.call_soon_threadsafe(note, thread, number)

    callers = [threading.Thread(target=call, args=(number,)) for number in range(threads)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert done.wait(WAIT_S)
    return ran


def check_order(ran: list[tuple[int, int]], *, threads: int, each: int) -> None:
    for thread in range(threads):
        assert [number for of, number in ran if of == thread] == list(range(each))


def test_callbacks_of_many_threads_run_in_order(run: Any) -> None:
    async def called() -> list[tuple[int, int]]:
        loop = asyncio.get_running_loop()
        return await asyncio.to_thread(call_from_threads, loop, threads=8, each=500)

    check_order(run(called()), threads=8, each=500)


def test_callbacks_of_many_threads_run_in_order_while_calls_flood_the_loop(transport: str) -> None:
    loops: list[asyncio.AbstractEventLoop] = []
    flooded = threading.Barrier(4)
    enough = threading.Event()

    async def flood(call: Call) -> None:
        loops.append(asyncio.get_running_loop())
        await echo_all(call)

    def requests() -> Iterator[bytes]:
        while not enough.is_set():
            yield b"x"

    def pour() -> None:
        with grpc.insecure_channel(server.address) as channel:
            calling: Any = channel.stream_stream(f"/{SERVICE}/Flood")
            responses = calling(requests())
            assert next(responses) == b"x"
            flooded.wait(WAIT_S)
            assert set(responses) <= {b"x"}

    with serving(transport, duplex("Flood", flood)) as server:
        pouring = [threading.Thread(target=pour) for _ in range(3)]
        for thread in pouring:
            thread.start()
        flooded.wait(WAIT_S)
        ran = call_from_threads(loops[0], threads=4, each=200)
        enough.set()
        for thread in pouring:
            thread.join()
    check_order(ran, threads=4, each=200)


def test_every_callback_of_a_thread_wakes_an_idle_loop(run: Any) -> None:
    async def woken() -> None:
        loop = asyncio.get_running_loop()

        def ping() -> None:
            for _ in range(ROUNDS):
                answered = threading.Event()
                loop.call_soon_threadsafe(answered.set)
                assert answered.wait(WAIT_S)

        await asyncio.to_thread(ping)

    run(woken())


def test_timers_run_in_order_and_cancelled_ones_do_not(run: Any) -> None:
    async def timed() -> None:
        loop = asyncio.get_running_loop()
        ran: list[int] = []
        now_s = loop.time()
        numbers = random.Random(7).sample(range(300), 300)
        timers = {number: loop.call_at(now_s + 0.001 * number, ran.append, number) for number in numbers}
        for number in range(0, 300, 7):
            timers[number].cancel()
        await asyncio.sleep(0.35)
        assert ran == [number for number in range(300) if number % 7]

    run(timed())


def test_a_file_is_reported_once_for_each_time_it_is_ready(run: Any) -> None:
    async def watched() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        read: list[bytes] = []
        done = asyncio.Event()

        def readable() -> None:
            read.append(ours.recv(1))  # raises, and is logged, where nothing is there
            if len(read) == ROUNDS:
                loop.remove_reader(ours.fileno())
                done.set()
            elif len(read) % 3 == 0:
                theirs.send(b"abc")

        failures: list[Any] = []
        loop.set_exception_handler(lambda _, context: failures.append(context))
        with ours, theirs:
            loop.add_reader(ours.fileno(), readable)
            theirs.send(b"abc")
            await done.wait()
            assert b"".join(read) == (b"abc" * ROUNDS)[:ROUNDS]
            theirs.send(b"z")
            await next_file(loop)
            assert len(read) == ROUNDS
        assert not failures

    run(watched())


async def next_file(loop: asyncio.AbstractEventLoop) -> None:
    """Waits until the loop has reported a file that becomes ready now."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ready = asyncio.Event()
        loop.add_reader(ours.fileno(), ready.set)
        theirs.send(b"x")
        await ready.wait()
        loop.remove_reader(ours.fileno())


def test_a_writer_that_is_removed_in_its_callback_is_called_once(run: Any) -> None:
    async def watched() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            for _ in range(50):
                calls: list[int] = []
                called = asyncio.Event()

                def writable(calls: list[int] = calls, called: asyncio.Event = called) -> None:
                    calls.append(1)
                    loop.remove_writer(ours.fileno())
                    called.set()

                loop.add_writer(ours.fileno(), writable)
                await called.wait()
                await next_file(loop)
                assert calls == [1]

    run(watched())


def test_a_file_with_the_number_of_one_that_was_ready_and_is_closed_stays_watched(run: Any) -> None:
    """The first file becomes ready, and is removed and closed before the loop has looked."""

    async def watched() -> None:
        loop = asyncio.get_running_loop()
        for _ in range(100):
            first, first_peer = socket.socketpair()
            number = first.fileno()
            loop.add_reader(number, lambda: None)
            first_peer.send(b"x")
            for _ in range(100):
                os.sched_yield()  # a thread that watches files finds the first one
            loop.remove_reader(number)
            second, second_peer = socket.socketpair()
            os.dup2(second.fileno(), number)
            ready = asyncio.Event()
            loop.add_reader(number, ready.set)
            await asyncio.sleep(0.001)
            assert not ready.is_set()
            second_peer.send(b"x")
            await ready.wait()
            loop.remove_reader(number)
            for file in (first, first_peer, second, second_peer):
                file.close()

    run(watched())


@pytest.mark.parametrize("thread", ["main", "other"])
def test_child_processes_are_read_and_awaited(transport: str, thread: str) -> None:
    double = "import sys; print(int(sys.stdin.read()) * 2); sys.exit(3)"

    async def child(number: int) -> tuple[bytes, int | None]:
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", double, stdin=PIPE, stdout=PIPE)
        output, _ = await process.communicate(b"%d" % number)
        return output, process.returncode

    async def children() -> list[tuple[bytes, int | None]]:
        return await asyncio.gather(*(child(number) for number in range(4)))

    def run_them() -> None:
        with asyncio.Runner(loop_factory=partial(make_event_loop, transport)) as runner:
            results.extend(runner.run(children()))

    results: list[tuple[bytes, int | None]] = []
    if thread == "main":
        run_them()
    else:
        other = threading.Thread(target=run_them)
        other.start()
        other.join()
    assert results == [(b"%d\n" % (2 * number), 3) for number in range(4)]


def test_every_signal_wakes_an_idle_loop(run: Any) -> None:
    async def signalled() -> None:
        loop = asyncio.get_running_loop()
        got = threading.Semaphore(0)
        loop.add_signal_handler(signal.SIGUSR1, got.release)

        def ping() -> None:
            for _ in range(ROUNDS):
                os.kill(os.getpid(), signal.SIGUSR1)
                assert got.acquire(timeout=WAIT_S)

        await asyncio.to_thread(ping)
        loop.remove_signal_handler(signal.SIGUSR1)

    run(signalled())


def test_a_failing_callback_of_a_calls_end_is_logged_and_calls_go_on(
    transport: str, caplog: pytest.LogCaptureFixture
) -> None:
    seen = Seen()

    def fail() -> None:
        raise OSError("the end of the call")

    async def one(_: bytes, call: Call) -> Any:
        call.on_end(fail)
        call.on_end(lambda: seen("over"))
        return BytesValue()

    with (
        serving(transport, unary("One", one)) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        calling: Any = channel.unary_unary(f"/{SERVICE}/One")
        for _ in range(3):
            assert calling(b"x") == b""
        if transport == "queue":  # grpc.aio forgets the callbacks after a failing one
            assert [seen.next() for _ in range(3)] == ["over"] * 3
    assert "the end of the call" in caplog.text


async def test_two_servers_of_one_loop_start_and_stop_by_themselves(repository: Path) -> None:
    async with running_server(repository) as first, connect(first) as caller:
        async with running_server(repository) as second, connect(second) as other:
            assert len(await caller.open("steps", "a", "b")) == 2
            assert len(await other.open("steps", "a", "b")) == 2
        assert len(await caller.open("steps", "c")) == 1


def open_files() -> set[str]:
    return {
        f"{number} {os.path.realpath(f'/proc/self/fd/{number}')}" for number in os.listdir("/proc/self/fd")
    }


def test_many_loops_one_after_another_leave_no_thread_and_no_file(transport: str) -> None:
    def serve_once() -> None:
        with (
            serving(transport, duplex("Echo", echo_all)) as server,
            grpc.insecure_channel(server.address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel,
        ):
            calling: Any = channel.stream_stream(f"/{SERVICE}/Echo")
            assert list(calling(iter([b"x"]))) == [b"x"]

    for _ in range(3):
        serve_once()  # gRPC keeps some threads and files for later
    threads, files = set(threading.enumerate()), open_files()
    for _ in range(15):
        serve_once()
    assert len(open_files()) <= len(files) + 4, open_files() - files
    names = {thread.name for thread in set(threading.enumerate()) - threads}
    assert not {name for name in names if name.startswith(("statewise", "asyncio", "test"))}
