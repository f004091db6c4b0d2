"""Sends steps twice, late and in another order, by the contract alone, and kills the server in between.

A step is applied at its position only, and once: whatever else arrives is refused, or is a retry of the last
request, with the same bits. CHAOS_REQUESTS and CHAOS_SEED make it longer, or repeat it.
"""

import asyncio
import os
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tests.helpers.arrays import Floats
from tests.helpers.caller import Caller, connect
from tests.helpers.server_process import ServerProcesses

from statewise.client import Client
from statewise.v1 import sequence_pb2
from statewise.wire import from_tensor, unpack_uint64

pytestmark = pytest.mark.long

SESSIONS = 4
REQUESTS = int(os.environ.get("CHAOS_REQUESTS", "120"))
"""Of each session."""
SEED = int(os.environ.get("CHAOS_SEED", "0")) or int.from_bytes(os.urandom(4))
SIZES = (1, 1, 1, 2, 7, 60)
"""Time steps of a request: single steps run by another way than many."""
PARTS = 2
"""Servers that are killed, one after the other."""
UNDER_WAY = 8
"""Requests of a stream that are not answered yet."""
VOID = {"SESSION_NOT_FOUND", "SESSION_MOVED", "SESSION_EXPIRED"}


class Requests:
    """The requests of one session, and which of them the server has applied.

    Args:
        name: Id of the session.
        seed: Decides inputs and sizes.
    """

    def __init__(self, name: str, seed: int) -> None:
        random = np.random.default_rng(seed)
        self.name = name
        self.handle = 0
        self.ends = np.cumsum(random.choice(SIZES, REQUESTS)).tolist()
        self.x: Floats = random.standard_normal((self.ends[-1], 3)).astype(np.float32)
        self.y: Floats = np.empty(0, np.float32)
        self.applied = 0
        """Requests that were applied."""
        self.durable = 0
        """The highest durable position that an answer has told."""
        self.most = 0
        """Requests that may be applied when the server is killed."""

    def span(self, number: int) -> slice:
        """Time steps of a request."""
        return slice(self.ends[number - 1] if number else 0, self.ends[number])

    def arrives(self, number: int) -> bytes | str:
        """The answer to a request that arrives now: its outputs, or the reason why it is refused."""
        if number not in (self.applied - 1, self.applied):
            return "POSITION_MISMATCH"
        self.applied = self.most = number + 1
        return self.y[self.span(number)].tobytes()

    def next(self, random: np.random.Generator) -> list[int]:
        """Requests to send: the next one, perhaps after others, perhaps more than once."""
        number = self.applied
        way = int(random.integers(5))
        last = REQUESTS - 1
        if way == 0:
            return [number, number]
        if way == 1:
            return [min(number + 1, last), number]
        if way == 2:
            return [number, min(number + 1, last), number]
        if way == 3:
            return [int(random.integers(number + 1)), number]
        return [number]

    def resumed(self, session: sequence_pb2.Session) -> None:
        """Takes the handle and the position after a kill: no less than was told to be stored."""
        assert session.position >= self.durable
        self.handle = session.handle
        self.applied = [0, *self.ends[: self.most]].index(session.position)


def message(rows: Sequence[tuple[Requests, int]]) -> sequence_pb2.StepRequest:
    """A message of one request of each of these sessions."""
    spans = [requests.span(number) for requests, number in rows]
    x = np.concatenate([requests.x[span] for (requests, _), span in zip(rows, spans, strict=True)])
    places = [(requests.handle, span.start) for (requests, _), span in zip(rows, spans, strict=True)]
    return Caller.frame(places, x, steps=[span.stop - span.start for span in spans])


def outcomes(reply: sequence_pb2.StepResponse, rows: Sequence[tuple[Requests, int]]) -> list[bytes | str]:
    """What a reply says of each row: outputs or reason. Notes what it tells to be stored."""
    reasons = {error.row: error.reason for error in reply.errors}
    y = from_tensor(reply.outputs["y"]) if len(reasons) < len(rows) else np.empty(0)
    durable = deque(unpack_uint64(reply.durable_positions).tolist())
    assert len(durable) == len(rows) - len(reasons)
    found: list[bytes | str] = []
    for row, (requests, number) in enumerate(rows):
        if row in reasons:
            found.append(reasons[row])
            continue
        span = requests.span(number)
        steps = span.stop - span.start
        found.append(y[:steps].tobytes())
        y = y[steps:]
        requests.durable = max(requests.durable, durable.popleft())
    return found


class Sender:
    """Sends requests of sessions over two connections.

    Args:
        callers: The connections.
        sessions: The sessions.
        random: Decides the order.
    """

    def __init__(
        self, callers: Sequence[Caller], sessions: Sequence[Requests], random: np.random.Generator
    ) -> None:
        self._callers = callers
        self._sessions = sessions
        self._random = random
        self._left: set[asyncio.Task[None]] = set()

    async def by_stream(self, until: int, *, to_the_end: bool) -> None:
        """Sends until so many are applied, several before the first is answered.

        Args:
            until: Requests of each session.
            to_the_end: Whether to wait for the last answers.
        """
        caller, random = self._callers[0], self._random
        waiting = {requests.name: deque[int]() for requests in self._sessions}
        expected: dict[int, tuple[list[tuple[Requests, int]], list[bytes | str]]] = {}
        done = False
        while not done:
            rows = []
            for requests in self._sessions:
                queue = waiting[requests.name]
                if not queue and requests.applied < until:
                    queue.extend(requests.next(random))
                if queue and random.integers(4):
                    rows.append((requests, queue.popleft()))
            if rows:
                answers = [requests.arrives(number) for requests, number in rows]
                expected[await caller.send(step=message(rows))] = rows, answers
            done = not any(waiting.values()) and all(one.applied >= until for one in self._sessions)
            while len(expected) > UNDER_WAY or (done and to_the_end and expected):
                reply = await caller.receive()
                rows, answers = expected.pop(reply.request_id)
                assert outcomes(reply.step, rows) == answers

    async def by_calls(self, until: int, *, to_the_end: bool) -> None:
        """Sends as `by_stream`, in calls, of which several are under way for each session."""
        sending = [asyncio.create_task(self._call(one, until)) for one in self._sessions]
        when = asyncio.ALL_COMPLETED if to_the_end else asyncio.FIRST_COMPLETED
        done, self._left = await asyncio.wait(sending, return_when=when)
        for one in done:
            await one

    async def end(self) -> None:
        """Waits for the calls whose server was killed."""
        for one in self._left:
            with suppress(grpc.aio.AioRpcError):
                await one

    async def _call(self, requests: Requests, until: int) -> None:
        while requests.applied < until:
            numbers = requests.next(self._random)
            requests.most = max(numbers) + 1
            told = await asyncio.gather(*(self._step(requests, number) for number in numbers))
            for number, outcome in zip(numbers, told, strict=True):
                if outcome != "POSITION_MISMATCH":
                    assert outcome == requests.y[requests.span(number)].tobytes()
                    requests.applied = max(requests.applied, number + 1)

    async def _step(self, requests: Requests, number: int) -> bytes | str:
        caller = self._callers[int(self._random.integers(len(self._callers)))]
        rows = [(requests, number)]
        (outcome,) = outcomes(await caller.sequences.Step(message(rows)), rows)
        return outcome


async def begin_anew(caller: Caller, sessions: Sequence[Requests]) -> None:
    """Takes sessions over after a kill. Earlier handles are void, the last request gives the same bits.

    A session of which nothing was told to be stored may be gone; then it begins at position 0.
    """
    names = [requests.name for requests in sessions]
    reply = await caller.ask(open=sequence_pb2.OpenSessionsRequest(model="steps", session_ids=names))
    assert not reply.errors
    for requests, session in zip(sessions, reply.sessions, strict=True):
        number = max([0, *requests.ends].index(session.position) - 1, 0)
        void = message([(requests, number)])
        requests.resumed(session)
        (refused,) = outcomes(await caller.ask(step=void), [(requests, number)])
        assert refused in VOID
        (again,) = outcomes(await caller.ask(step=message([(requests, number)])), [(requests, number)])
        assert again == requests.arrives(number)


@pytest.mark.parametrize("way", ["stream", "calls"])
@pytest.mark.parametrize("durability", ["interval", "reply"])
async def test_steps_that_arrive_twice_late_and_in_another_order(
    servers: ServerProcesses, tmp_path: Path, way: str, durability: str
) -> None:
    print(f"CHAOS_SEED={SEED}")
    chosen: dict[str, Any] = {
        "store": f"sqlite:{tmp_path / 'sessions.db'}",
        "checkpoint_s": 0.03,
        "durability": durability,
    }
    server = servers.start(**chosen)
    sessions = [Requests(f"s{number}", SEED + number) for number in range(SESSIONS)]
    with Client(server.address) as client:
        for requests in sessions:
            requests.y = client.predict("steps", requests.x)
    random = np.random.default_rng(SEED)
    handles: list[int] = []
    for part in range(1, PARTS + 1):
        async with connect(server.address) as one, connect(server.address) as other:
            if not handles:
                handles = await one.open("steps", *(requests.name for requests in sessions))
                for requests, handle in zip(sessions, handles, strict=True):
                    requests.handle = handle
            else:
                await begin_anew(one, sessions)
            sender = Sender([one, other], sessions, random)
            send = sender.by_stream if way == "stream" else sender.by_calls
            await send(REQUESTS * part // PARTS, to_the_end=part == PARTS)
            server.kill()
            await sender.end()
        server = servers.start(**chosen)
    with Client(server.address) as client:
        for requests in sessions:
            position = client.resume(requests.name).position
            assert requests.durable <= position <= requests.ends[-1]
            assert position == requests.ends[-1] or durability == "interval"
