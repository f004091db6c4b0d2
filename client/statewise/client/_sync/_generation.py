"""Generation by blocking: values as they come, each once, and what is done when the caller leaves early."""

from collections.abc import Iterator
from contextlib import closing, suppress
from queue import Empty, SimpleQueue

from statewise.client._sync._shell import SyncShell
from statewise.client.requests import (
    CLOSE_TIMEOUT_S,
    GenerateRetries,
    OutputCursor,
    answer_wait_s,
    read_generated,
)
from statewise.client.sessions import SessionCore, SessionGeneration
from statewise.client.values import Failed, StatewiseError, Timeout, Unavailable, Value
from statewise.v1 import sequence_pb2

_Coming = SimpleQueue[list[tuple[Value, int]] | None]


def generate(
    shell: SyncShell, request: sequence_pb2.GenerateRequest, cursor: OutputCursor, timeout_s: float | None
) -> Iterator[Value]:
    """One sequence without a session. A call that breaks off is made again, and goes on where it was."""
    retries = GenerateRetries(request, cursor, shell.core.call_retry_policy(timeout_s))
    while True:
        try:
            with closing(shell.responses("Generate", request, retries.left_s)) as pieces:
                for piece in pieces:
                    for value, _ in read_generated(piece, cursor, retries.subject):
                        if not isinstance(value, str) or value:
                            yield value
            return
        except Failed as failed:
            status = failed.status
        shell.run(retries.again(status))


def generate_in_session(
    shell: SyncShell, core: SessionCore, generation: SessionGeneration
) -> Iterator[Value]:
    """What a session emits. Left early, the session stands behind the last value that was taken."""
    coming: _Coming = SimpleQueue()
    pending_call = shell.submit(core.generate(generation, coming.put))
    pending_call.future.add_done_callback(lambda _: coming.put(None))
    wait_s = None if generation.timeout_s is None else answer_wait_s(generation.timeout_s)
    until_s = None if wait_s is None else shell.core.clock() + wait_s
    taken = 0
    try:
        while True:
            left_s = None if until_s is None else max(until_s - shell.core.clock(), 0.0)
            try:
                values = coming.get(timeout=left_s)
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
        raise  # what became of it is for the session's next operation to find out
    except BaseException:
        shell.abandon(pending_call)
        if not shell.core.multiplexer.closed:
            with suppress(StatewiseError):  # the next operation of the session is told
                shell.operate(core.cut_short(generation, taken), CLOSE_TIMEOUT_S)
        raise
