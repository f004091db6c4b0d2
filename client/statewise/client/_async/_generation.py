"""Yields generated values as they arrive, each once, to a caller that awaits and may stop early."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

from statewise.client._async._shell import AsyncShell
from statewise.client.requests import (
    CLOSE_TIMEOUT_S,
    GenerateRetries,
    answer_wait_s,
)
from statewise.client.sessions import SessionCore, SessionGeneration
from statewise.client.values import Failed, StatewiseError, Timeout, Unavailable, Value
from statewise.v1 import sequence_pb2


async def generate(shell: AsyncShell, retries: GenerateRetries) -> AsyncGenerator[Value, None]:
    """Generates one sequence without a session. After a call breaks, the next one continues the values."""
    async with aclosing(_responses(shell, retries)) as responses:
        async for response in responses:
            for value, _ in retries.take(response):
                if not isinstance(value, str) or value:
                    yield value


async def generate_in_session(
    shell: AsyncShell, core: SessionCore, generation: SessionGeneration
) -> AsyncGenerator[Value, None]:
    """Generates with a session; afterwards it is positioned just after the last value that was yielded."""
    arrived: asyncio.Queue[list[tuple[Value, int]] | None] = asyncio.Queue()
    pending_call = shell.core.multiplexer.submit(core.generate(generation, arrived.put_nowait))
    future: asyncio.Future[None] = pending_call.future
    future.add_done_callback(lambda _: arrived.put_nowait(None))
    wait_s = None if generation.timeout_s is None else answer_wait_s(generation.timeout_s)
    until_s = None if wait_s is None else asyncio.get_running_loop().time() + wait_s
    taken = 0
    try:
        while True:
            try:
                async with asyncio.timeout_at(until_s):
                    values = await arrived.get()
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
        raise  # the session's next operation finds out how far the generation came
    except BaseException:
        future.cancel()
        shell.core.multiplexer.abandon(pending_call)
        if not shell.core.multiplexer.closed:
            with suppress(StatewiseError):  # the session's next operation raises it again
                await shell.operate(core.cut_short(generation, taken), CLOSE_TIMEOUT_S)
        raise


async def _responses(
    shell: AsyncShell, retries: GenerateRetries
) -> AsyncGenerator[sequence_pb2.GenerateResponse, None]:
    """Yields the responses of a call, and after it breaks those of the next one."""
    while True:
        try:
            async with aclosing(shell.responses("Generate", retries.request, retries.left_s)) as responses:
                async for response in responses:
                    yield response
            return
        except Failed as failed:
            status = failed.status
        await shell.run(retries.again(status))
