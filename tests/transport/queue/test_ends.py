"""Ends loops and processes in unusual ways, in programs of their own: none may block or crash."""

import subprocess
import sys
import textwrap

import pytest

BEGIN = """
import asyncio, os, signal, sys, threading
import grpc
from statewise.service.transport import make_event_loop
"""


def outcome(program: str, *, status: int = 0, wait_s: float = 60.0) -> tuple[str, str]:
    """Runs a program to its end. Returns what it wrote to standard output and to standard error."""
    ended = subprocess.run(
        [sys.executable, "-c", BEGIN + textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=wait_s,
        check=False,
    )
    assert ended.returncode == status, ended.stderr
    return ended.stdout, ended.stderr


def test_a_forked_child_that_goes_on_with_the_loop_is_refused_and_the_parent_goes_on() -> None:
    program = """
    async def fork():
        child = os.fork()
        await asyncio.sleep(0)
        return child

    try:
        with asyncio.Runner(loop_factory=lambda: make_event_loop("queue")) as runner:
            child = runner.run(fork())
            assert os.waitpid(child, 0)[1] == 0
            runner.run(asyncio.sleep(0.01))
            print("the parent goes on", flush=True)
    except RuntimeError as error:
        print("the child:", error, flush=True)
        os._exit(0)
    """
    output, _ = outcome(program)
    assert output.splitlines() == [
        "the child: a process that serves was forked: gRPC's queue stays with the parent process",
        "the parent goes on",
    ]


@pytest.mark.long
@pytest.mark.parametrize("transport", ["queue", "aio"])
def test_a_loop_that_is_closed_before_its_server_stops_ends(transport: str) -> None:
    program = """
    from statewise.service.telemetry import Statistics
    from statewise.service.transport.aio import AioServer
    from statewise.service.transport.calls import CallServer, Gate, Method, OpenCalls
    from statewise.service.transport.queue import QueueServer

    async def wait(call):
        await call.write(b"begun")
        await asyncio.Event().wait()

    async def serve():
        calls = CallServer(Gate(None), OpenCalls(10), Statistics())
        make = QueueServer if TRANSPORT == "queue" else AioServer
        server = make(calls, [Method("test", "Wait", wait, None, responds_once=False)], [])
        port = server.open_port("127.0.0.1:0", None)
        await server.start()
        channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        call = channel.stream_stream("/test/Wait")(iter(()))
        assert await asyncio.to_thread(next, call) == b"begun"
        return server, channel, call

    with asyncio.Runner(loop_factory=lambda: make_event_loop(TRANSPORT)) as runner:
        server, channel, call = runner.run(serve())
    print("closed", flush=True)
    KEEP
    channel.close()
    """
    for keep in ("pass", "del server"):
        output, _ = outcome(program.replace("TRANSPORT", repr(transport)).replace("KEEP", keep))
        assert output == "closed\n"


@pytest.mark.parametrize("transport", ["queue", "aio"])
def test_threads_that_call_a_loop_while_it_closes_harm_nothing(transport: str) -> None:
    program = """
    def call(loop):
        waiting = threading.Semaphore(100)  # a loop is not to drown in calls before it closes
        try:
            while True:
                waiting.acquire(timeout=0.001)
                loop.call_soon_threadsafe(waiting.release)
        except RuntimeError as error:
            assert "closed" in str(error), error

    for _ in range(6):
        loop = make_event_loop(TRANSPORT)
        callers = [threading.Thread(target=call, args=(loop,)) for _ in range(2)]
        for caller in callers:
            caller.start()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        for caller in callers:
            caller.join()
        loop._write_to_self()
    print("ended")
    """
    assert outcome(program.replace("TRANSPORT", repr(transport))) == ("ended\n", "")


def test_handlers_of_signals_may_call_the_loop_at_any_moment() -> None:
    """Python runs a handler between any two operations of a thread, also between those that wake the loop."""
    program = """
    loop = make_event_loop("queue")
    got = []

    def handle(*_):
        got.append(1)
        loop.call_soon_threadsafe(int)

    async def call():
        while len(got) < 3000:
            loop.call_soon_threadsafe(int)
            await asyncio.sleep(0)
        signal.setitimer(signal.ITIMER_REAL, 0)

    signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.0001)
    loop.run_until_complete(call())
    loop.close()
    print("ended")
    """
    assert outcome(program) == ("ended\n", "")
