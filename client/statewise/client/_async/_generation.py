"""Generation by awaiting: values as they come, each once, and what is done when the caller leaves early."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

from statewise.client._async._shell import AsyncShell
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


async def generate(
    shell: AsyncShell, request: sequence_pb2.GenerateRequest, cursor: OutputCursor, timeout_s: float | None
) -> AsyncGenerator[Value, None]:
    """One sequence without a session. A call that breaks off is made again, and goes on where it was."""
    retries = GenerateRetries(request, cursor, shell.core.call_retry_policy(timeout_s))
    while True:
        try:
            async with aclosing(shell.responses("Generate", request, retries.left_s)) as pieces:
                async for piece in pieces:
                    for value, _ in read_generated(piece, cursor, retries.subject):
                        if not isinstance(value, str) or value:
                            yield value
            return
        except Failed as failed:
            status = failed.status
        await shell.run(retries.again(status))


async def generate_in_session(
    shell: AsyncShell, core: SessionCore, generation: SessionGeneration
) -> AsyncGenerator[Value, None]:
    """What a session emits. Left early, the session stands behind the last value that was taken."""
    coming: asyncio.Queue[list[tuple[Value, int]] | None] = asyncio.Queue()
    pending_call = shell.core.multiplexer.submit(core.generate(generation, coming.put_nowait))
    future: asyncio.Future[None] = pending_call.future
    future.add_done_callback(lambda _: coming.put_nowait(None))
    wait_s = None if generation.timeout_s is None else answer_wait_s(generation.timeout_s)
    until_s = None if wait_s is None else asyncio.get_running_loop().time() + wait_s
    taken = 0
    try:
        while True:
            try:
                async with asyncio.timeout_at(until_s):
                    values = await coming.get()
            except TimeoutError:
                raise Timeout(f"no answer within {generation.timeout_s:g} s") from None
            if values is None:
                break
            for value, count in values:
                taken += count
                if not isinstance(value, str) or value:
                    yield value
        await future
    except Unavailable:
        raise  # what became of it is for the session's next operation to find out
    except BaseException:
        future.cancel()
        shell.core.multiplexer.abandon(pending_call)
        if not shell.core.multiplexer.closed:
            with suppress(StatewiseError):  # the next operation of the session is told
                await shell.operate(core.cut_short(generation, taken), CLOSE_TIMEOUT_S)
        raise
