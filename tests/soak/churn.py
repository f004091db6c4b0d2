"""Opens, steps, copies, loses and ends sessions at random, and compares each with the graph run alone.

A caller records the inputs and outputs of each of its sessions. When a session ends, for any reason, its
inputs run once more, alone in onnxruntime, and have to give the same bits.
"""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from tests.helpers.arrays import Array
from tests.helpers.models.small import SmallModel

from statewise.v1 import sequence_pb2 as pb
from statewise.v1 import sequence_pb2_grpc
from statewise.v1.tensor_pb2 import RowError
from statewise.wire import from_tensor, pack_uint32, pack_uint64, to_tensor

Copied = pb.ForkSessionsResponse | pb.RestoreSessionsResponse
_SESSIONS = 40
"""The number of sessions that a caller keeps open; with copies up to half as many more."""
_ROWS = 32
_STEPS = (1, 1, 1, 1, 1, 2, 5, 9)
_LONG_STEPS = 3000
"""The length of a request that is cancelled; its steps do not count as steps of the run."""


class ChurnError(AssertionError):
    """The server gave a wrong answer."""


@dataclass(eq=False)
class Held:
    """A session as its caller knows it.

    Attributes:
        name: Its id.
        handle: Its current handle.
        inputs: Inputs of each request, [n, I].
        outputs: Outputs of each request, [n, O]; None where the reply was lost.
        used_s: When the last answered request was sent; the server used the session then or later.
        rewindable: Whether the last request can be rewound or repeated.
    """

    name: str
    handle: int
    used_s: float
    inputs: list[Array] = field(default_factory=list)
    outputs: list[Array | None] = field(default_factory=list)
    rewindable: bool = False

    @property
    def position(self) -> int:
        """Time steps consumed."""
        return sum(map(len, self.inputs))

    def twin(self, name: str, handle: int, used_s: float) -> "Held":
        """A copy of the session as the server makes one."""
        return Held(name, handle, used_s, list(self.inputs), list(self.outputs))


class ChurningCaller:
    """One connection, its sessions, and a generator of random operations.

    Args:
        number: Of the caller; the ids of its sessions begin with this number.
        address: HOST:PORT of the server.
        oracle: The model; it runs one sequence [T, I] alone.
        seed: Of the random operations.
        idle_timeout_s: The server's.
    """

    def __init__(
        self, number: int, address: str, *, oracle: SmallModel, seed: int, idle_timeout_s: float
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._number = number
        self._address = address
        self._oracle = oracle
        self._random = np.random.default_rng([seed, number])
        self._timeout_s = idle_timeout_s
        self._live: list[Held] = []
        self.abandoned: list[Held] = []
        """Sessions that were left without closing them."""
        self._names = 0
        self._asked_s = 0.0
        self._requests = 0
        self._connect()

    # --- the connection ---

    def _connect(self) -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        self._channel = grpc.aio.insecure_channel(self._address, options=options)
        self._stream = sequence_pb2_grpc.SequenceServiceStub(self._channel).SessionStream()

    async def _send(self, **operation: Any) -> int:
        self._requests += 1
        await self._stream.write(pb.SessionStreamRequest(request_id=self._requests, **operation))
        return self._requests

    async def _receive(self) -> pb.SessionStreamResponse:
        reply = await self._stream.read()
        if not isinstance(reply, pb.SessionStreamResponse):
            raise ChurnError("the stream has ended")
        return reply

    async def _ask(self, **operation: Any) -> Any:
        self._asked_s = time.monotonic()
        number = await self._send(**operation)
        reply = await self._receive()
        if reply.request_id != number or reply.WhichOneof("result") == "error":
            raise ChurnError(f"{operation} was answered by {reply}")
        return getattr(reply, str(reply.WhichOneof("result")))

    # --- random operations ---

    async def run(self, steps: int) -> None:
        """Takes at least so many steps, then closes all open sessions."""
        operations = [
            (self._open, 4),
            (self._step, 60),
            (self._again, 4),
            (self._close, 4),
            (self._fork, 3),
            (self._restore, 2),
            (self._rewind, 3),
            (self._resume, 3),
            (self._cancel, 1),
            (self._leave, 0.3),
            (self._abandon, 1.5),
            (self._return, 1),
        ]
        weights = np.array([weight for _, weight in operations])
        while self.counts["steps"] < steps:
            await operations[self._random.choice(len(operations), p=weights / weights.sum())][0]()
        await self._close(all_of_them=True)
        await self._channel.close()

    def _pick(self, most: int) -> list[Held]:
        count = min(len(self._live), int(self._random.integers(1, most + 1)))
        return (
            [self._live[i] for i in self._random.choice(len(self._live), count, replace=False)]
            if count
            else []
        )

    @property
    def _has_enough(self) -> bool:
        return len(self._live) > 1.5 * _SESSIONS

    def _fresh_name(self) -> str:
        self._names += 1
        return f"{self._number}-{self._names}"

    async def _open(self) -> None:
        names = [self._fresh_name() for _ in range(_SESSIONS - len(self._live))]
        if not names:
            return
        reply = await self._ask(open=pb.OpenSessionsRequest(model="steps", session_ids=names))
        if reply.errors or [one.session_id for one in reply.sessions] != names:
            raise ChurnError(f"opening failed: {reply.errors}")
        self._live += [Held(one.session_id, one.handle, self._asked_s) for one in reply.sessions]
        self.counts["opened"] += len(names)

    async def _step(self) -> None:
        picked = self._pick(_ROWS)
        if picked:
            inputs = self._inputs(picked)
            self._settle(picked, inputs, await self._ask(step=self._frame(picked, inputs)))

    async def _again(self) -> None:
        """Repeats the last requests: the answers are the same, and the sessions do not move."""
        picked = [one for one in self._pick(_ROWS) if one.rewindable and one.outputs[-1] is not None]
        if not picked:
            return
        inputs = [one.inputs[-1] for one in picked]
        positions = [one.position - len(one.inputs[-1]) for one in picked]
        reply = await self._ask(step=self._frame(picked, inputs, positions))
        answers = self._rows(picked, inputs, reply)
        for one, answer in answers.items():
            if answer.tobytes() != np.asarray(one.outputs[-1]).tobytes():
                raise ChurnError(f"session {one.name}: a repeated request was answered otherwise")
        self.counts["repeated"] += len(answers)

    async def _close(self, *, all_of_them: bool = False) -> None:
        picked = list(self._live) if all_of_them else self._pick(4)
        if picked:
            request = pb.CloseSessionsRequest(handles=pack_uint64([one.handle for one in picked]))
            if (await self._ask(close=request)).errors:
                raise ChurnError("closing failed")
            self._end(picked)
            self.counts["closed"] += len(picked)

    async def _fork(self) -> None:
        picked = self._pick(3)
        if not picked or self._has_enough:
            return
        names = [self._fresh_name() for _ in picked]
        handles = pack_uint64([one.handle for one in picked])
        reply = await self._ask(fork=pb.ForkSessionsRequest(handles=handles, session_ids=names))
        self._adopt(picked, names, reply)
        self.counts["forked"] += len(reply.sessions)

    async def _restore(self) -> None:
        picked = self._pick(2)
        if not picked or self._has_enough:
            return
        handles = pack_uint64([one.handle for one in picked])
        taken = await self._ask(snapshot=pb.SnapshotSessionsRequest(handles=handles))
        picked = self._without_failed(picked, taken.errors)
        if not picked:
            return
        names = [self._fresh_name() for _ in picked]
        reply = await self._ask(restore=pb.RestoreSessionsRequest(tokens=taken.tokens, session_ids=names))
        self._adopt(picked, names, reply)
        self.counts["restored"] += len(reply.sessions)

    async def _rewind(self) -> None:
        picked = [one for one in self._pick(4) if one.rewindable]
        if not picked:
            return
        request = pb.RewindSessionsRequest(
            handles=pack_uint64([one.handle for one in picked]),
            positions=pack_uint64([one.position - len(one.inputs[-1]) for one in picked]),
        )
        for one in self._without_failed(picked, (await self._ask(rewind=request)).errors):
            one.inputs.pop()
            one.outputs.pop()
            one.rewindable = False
            self.counts["rewound"] += 1

    async def _resume(self) -> None:
        picked = self._pick(4)
        if picked:
            await self._take_over(picked, lost=None)
            self.counts["resumed"] += len(picked)

    async def _cancel(self) -> None:
        """Cancels a long request at once; the reply says whether the request was applied."""
        picked = self._pick(2)
        if not picked:
            return
        inputs = [self._random.standard_normal((_LONG_STEPS, 3)).astype(np.float32) for _ in picked]
        self._asked_s = time.monotonic()
        asked = await self._send(step=self._frame(picked, inputs))
        await self._send(cancel=pb.CancelRequest(target_request_id=asked))
        replies = {reply.request_id: reply for reply in [await self._receive(), await self._receive()]}
        if replies[asked].WhichOneof("result") == "step":
            self._settle(picked, inputs, replies[asked].step, counted="late_to_cancel")
        elif "cancelled" in replies[asked].error.message:
            self.counts["cancelled"] += len(picked)
        else:
            raise ChurnError(f"a cancelled request was answered by {replies[asked]}")

    async def _leave(self) -> None:
        """Breaks the connection during a request; resuming the sessions tells whether it was applied."""
        picked = self._pick(_ROWS)
        if not picked:
            return
        inputs = self._inputs(picked)
        await self._send(step=self._frame(picked, inputs))
        self._stream.cancel()
        await self._channel.close()
        self._connect()
        await self._take_over(picked, lost=inputs)
        self.counts["left"] += 1

    async def _abandon(self) -> None:
        """Forgets sessions without closing them."""
        picked = self._pick(3)
        self._live = [one for one in self._live if one not in picked]
        self.abandoned += picked
        self.counts["abandoned"] += len(picked)

    async def _return(self) -> None:
        """Resumes sessions that were abandoned earlier: they go on, or have expired."""
        now_s = time.monotonic()
        old = [one for one in self.abandoned if self._random.random() < 0.5 or self._is_old(one, now_s)][:8]
        self.abandoned = [one for one in self.abandoned if one not in old]
        if old:
            self._live += old
            await self._take_over(old, lost=None)

    # --- parts of operations ---

    def _inputs(self, picked: Sequence[Held]) -> list[Array]:
        lengths = (
            self._random.choice(_STEPS, len(picked)) if self._random.random() < 0.3 else [1] * len(picked)
        )
        x = self._random.standard_normal((int(sum(lengths)), 3)).astype(np.float32)
        return np.split(x, np.cumsum(lengths)[:-1])

    def _frame(
        self, picked: Sequence[Held], inputs: Sequence[Array], positions: Sequence[int] | None = None
    ) -> pb.StepRequest:
        lengths = [len(x) for x in inputs]
        return pb.StepRequest(
            handles=pack_uint64([one.handle for one in picked]),
            positions=pack_uint64([one.position for one in picked] if positions is None else positions),
            steps=b"" if max(lengths) == 1 else pack_uint32(lengths),
            inputs={"x": to_tensor(np.concatenate(inputs))},
        )

    def _rows(
        self, picked: Sequence[Held], inputs: Sequence[Array], reply: pb.StepResponse
    ) -> dict[Held, Array]:
        """The answer of each session; those without one have expired."""
        failed = {error.row for error in reply.errors}
        answered = [
            (one, len(x))
            for row, (one, x) in enumerate(zip(picked, inputs, strict=True))
            if row not in failed
        ]
        self._without_failed(picked, reply.errors)
        if not answered:
            return {}
        ends = np.cumsum([length for _, length in answered])[:-1]
        pieces = np.split(from_tensor(reply.outputs["y"]), ends)
        for one, _ in answered:
            one.used_s = self._asked_s
        return {one: piece for (one, _), piece in zip(answered, pieces, strict=True)}

    def _settle(
        self,
        picked: Sequence[Held],
        inputs: Sequence[Array],
        reply: pb.StepResponse,
        *,
        counted: str = "steps",
    ) -> None:
        given = dict(zip(picked, inputs, strict=True))
        for one, answer in self._rows(picked, inputs, reply).items():
            one.inputs.append(given[one])
            one.outputs.append(answer)
            one.rewindable = True
            self.counts[counted] += len(answer)

    def _adopt(self, picked: list[Held], names: Sequence[str], reply: Copied) -> None:
        origin = dict(zip(names, picked, strict=True))
        self._without_failed(picked, reply.errors)
        for made in reply.sessions:
            source = origin[made.session_id]
            if made.position != source.position:
                raise ChurnError(f"session {source.name} was copied at another position")
            self._live.append(source.twin(made.session_id, made.handle, self._asked_s))

    async def _take_over(self, picked: list[Held], *, lost: Sequence[Array] | None) -> None:
        reply = await self._ask(resume=pb.ResumeSessionsRequest(session_ids=[one.name for one in picked]))
        by_name = {one.name: (one, None if lost is None else lost[row]) for row, one in enumerate(picked)}
        self._without_failed(picked, reply.errors)
        for taken in reply.sessions:
            one, unanswered = by_name[taken.session_id]
            one.handle = taken.handle
            one.used_s = self._asked_s
            if unanswered is not None and taken.position == one.position + len(unanswered):
                one.inputs.append(unanswered)
                one.outputs.append(None)
                one.rewindable = True
                self.counts["steps"] += len(unanswered)
            elif taken.position != one.position:
                raise ChurnError(f"session {one.name} is at {taken.position} and was left at {one.position}")

    def _without_failed(self, picked: Sequence[Held], errors: Sequence[RowError]) -> list[Held]:
        """The sessions without an error; the only permitted error is that a session was idle for too long."""
        gone = [picked[error.row] for error in errors]
        now_s = time.monotonic()
        for one, error in zip(gone, errors, strict=True):
            if error.reason not in ("SESSION_EXPIRED", "SESSION_NOT_FOUND") or not self._is_old(one, now_s):
                raise ChurnError(f"session {one.name}, used {now_s - one.used_s:.1f} s ago: {error}")
        self._end(gone)
        self.counts["expired"] += len(gone)
        return [one for one in picked if one not in gone]

    def _is_old(self, one: Held, now_s: float) -> bool:
        return now_s - one.used_s > 0.9 * self._timeout_s

    def _end(self, ended: Sequence[Held]) -> None:
        """Compares the answers of sessions with the graph run alone, and forgets the sessions."""
        self._live = [one for one in self._live if one not in ended]
        for one in ended:
            if not one.inputs:
                continue
            expected, _ = self._oracle.run(np.concatenate(one.inputs))
            begin = 0
            for got, given in zip(one.outputs, one.inputs, strict=True):
                if got is not None and got.tobytes() != expected[begin : begin + len(given)].tobytes():
                    raise ChurnError(f"session {one.name} answered otherwise than the graph alone")
                begin += len(given)
            self.counts["compared"] += sum(len(got) for got in one.outputs if got is not None)
