"""Yields generated values as they arrive, each once, to a caller that blocks and may stop early."""

from collections.abc import Generator
from contextlib import closing, suppress
from queue import Empty, SimpleQueue

from statewise.client._sync._shell import SyncShell
from statewise.client.requests import (
    CLOSE_TIMEOUT_S,
    GenerateRetries,
    answer_wait_s,
)
from statewise.client.sessions import SessionCore, SessionGeneration
from statewise.client.values import Failed, StatewiseError, Timeout, Unavailable, Value
from statewise.v1 import sequence_pb2

_Arrived = SimpleQueue[list[tuple[Value, int]] | None]


def generate(shell: SyncShell, retries: GenerateRetries) -> Generator[Value, None, None]:
    """Generates one sequence without a session. After a call breaks, the next one continues the values."""
    with closing(_responses(shell, retries)) as responses:
        for response in responses:
            for value, _ in retries.take(response):
                if not isinstance(value, str) or value:
                    yield value


def generate_in_session(
    shell: SyncShell, core: SessionCore, generation: SessionGeneration
) -> Generator[Value, None, None]:
    """Generates with a session; afterwards it is positioned just after the last value that was yielded."""
    arrived: _Arrived = SimpleQueue()
    pending_call = shell.submit(core.generate(generation, arrived.put))
    pending_call.future.add_done_callback(lambda _: arrived.put(None))
    wait_s = None if generation.timeout_s is None else answer_wait_s(generation.timeout_s)
    until_s = None if wait_s is None else shell.core.clock() + wait_s
    taken = 0
    try:
        while True:
            left_s = None if until_s is None else max(until_s - shell.core.clock(), 0.0)
            try:
                values = arrived.get(timeout=left_s)
            except Empty:
                raise Timeout(f"no answer within {generation.timeout_s:g} s") from None
            if values is None:
                break
            for value, count in values:
                taken += count
                if not isinstance(value, str) or value:
                    yield value
        pending_call.future.result()
    except Unavailable:
        raise  # the session's next operation finds out how far the generation came
    except BaseException:
        shell.abandon(pending_call)
        if not shell.core.multiplexer.closed:
            with suppress(StatewiseError):  # the session's next operation raises it again
                shell.operate(core.cut_short(generation, taken), CLOSE_TIMEOUT_S)
        raise


def _responses(
    shell: SyncShell, retries: GenerateRetries
) -> Generator[sequence_pb2.GenerateResponse, None, None]:
    """Yields the responses of a call, and after it breaks those of the next one."""
    while True:
        try:
            with closing(shell.responses("Generate", retries.request, retries.left_s)) as responses:
                yield from responses
            return
        except Failed as failed:
            status = failed.status
        shell.run(retries.again(status))
