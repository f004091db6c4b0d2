"""Sessions under faults at any moment, without a transport: nothing lost, nothing twice, nothing hanging.

A server of a few lines keeps the contract: its model adds up its inputs. Inputs are distinct powers of two,
so a sum says exactly which inputs went in, and an input that went in twice cannot hide.
"""

import itertools
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from google.rpc import error_details_pb2
from hypothesis import example, given, settings
from hypothesis import strategies as st

from statewise.client import Overloaded, PartialFailure, SessionLost, SessionMoved, Unavailable
from statewise.client.bulk import sample_of
from statewise.client.core import ClientCore
from statewise.client.requests import ClientOptions, GenerateOptions, Wait
from statewise.client.sessions import GroupCore, SessionCore, SessionGeneration
from statewise.client.stream import OperationRunner, StreamConnection
from statewise.client.values import Failed, Status
from statewise.v1 import admin_pb2, model_pb2, sequence_pb2, tensor_pb2
from statewise.wire import (
    Reason,
    from_tensor,
    pack_uint32,
    pack_uint64,
    to_tensor,
    unpack_uint32,
    unpack_uint64,
)

MODEL = model_pb2.Model(
    name="sum",
    version=1,
    digest="d",
    exactness=model_pb2.EXACTNESS_EXACT,
    inputs=[model_pb2.TensorSpec(name="x", dtype=tensor_pb2.DATA_TYPE_INT64, per_step=True)],
    outputs=[model_pb2.TensorSpec(name="y", dtype=tensor_pb2.DATA_TYPE_INT64, per_step=True)],
    streamable=True,
    generative=True,
    emitted=model_pb2.TensorSpec(name="e", dtype=tensor_pb2.DATA_TYPE_INT64, per_step=True),
)
END = 6
"""The value that ends a generation: emitted, not consumed."""


def emitted(position: int, total: int, steps: int, seed: int) -> list[int]:
    """What the model emits; each value but the end is added up like an input."""
    values: list[int] = []
    while len(values) < steps and END not in values:
        values.append((total + position + seed) % 7)
        total += values[-1]
        position += 1
    return values


RESET = Status("UNAVAILABLE", message="connection reset")
OVERSIZED = Status("RESOURCE_EXHAUSTED", message="Received message larger than max")


@dataclass
class Held:
    """A session as the server has it."""

    handle: int
    position: int = 0
    total: int = 0
    before: tuple[int, int, tuple[object, ...]] | None = None
    """Position, total and input of the last request."""


class Server:
    """Keeps the contract of open, resume, step, generate, rewind and close, and nothing else."""

    def __init__(self) -> None:
        self.sessions: dict[str, Held] = {}
        self.checkpoints: dict[str, tuple[int, int]] = {}
        """Position and total that a killed server would still have."""
        self.messages: list[sequence_pb2.SessionStreamRequest] = []
        self._handle = 0

    def forget(self) -> None:
        """As a server that was killed: what its store has is still there, at the position it was stored."""
        self.sessions = {
            name: Held(0, position, total) for name, (position, total) in self.checkpoints.items()
        }

    def store(self) -> None:
        """Stores every session as it stands."""
        self.checkpoints = {name: (held.position, held.total) for name, held in self.sessions.items()}

    def void(self) -> None:
        """As another replica on the same store: it has the sessions, but knows no handle."""
        for held in self.sessions.values():
            held.handle = 0

    def answer(self, request: sequence_pb2.SessionStreamRequest) -> list[sequence_pb2.SessionStreamResponse]:
        self.messages.append(request)
        operation = request.WhichOneof("operation")
        found = getattr(self, f"_{operation}")(getattr(request, operation))
        return [
            sequence_pb2.SessionStreamResponse(request_id=request.request_id, **{operation: reply})
            for reply in (found if isinstance(found, list) else [found])
        ]

    def _open(self, request: Any) -> Any:
        for session_id in request.session_ids:
            self.sessions.setdefault(session_id, Held(0))
        return sequence_pb2.OpenSessionsResponse(sessions=[self._taken(i) for i in request.session_ids])

    def _resume(self, request: Any) -> Any:
        reply = sequence_pb2.ResumeSessionsResponse()
        for row, session_id in enumerate(request.session_ids):
            if session_id in self.sessions:
                reply.sessions.append(self._taken(session_id))
            else:
                reply.errors.add(row=row, code=5, reason="SESSION_NOT_FOUND", message="not open")
        return reply

    def _close(self, request: Any) -> Any:
        gone = set(unpack_uint64(request.handles).tolist())
        for name in [name for name, held in self.sessions.items() if held.handle in gone]:
            del self.sessions[name]
            self.checkpoints.pop(name, None)
        return sequence_pb2.CloseSessionsResponse()

    def _cancel(self, request: Any) -> Any:
        return sequence_pb2.CancelResponse()

    def _rewind(self, request: Any) -> Any:
        held = self._held(int(unpack_uint64(request.handles)[0]))
        reply = sequence_pb2.RewindSessionsResponse()
        if held is None:
            reply.errors.add(code=5, reason="SESSION_NOT_FOUND", message="no such handle")
            return reply
        if held.position != int(unpack_uint64(request.positions)[0]):
            assert held.before is not None
            held.position, held.total, _ = held.before
        held.before = None
        return reply

    def _generate(self, request: Any) -> Any:
        held = self._held(int(unpack_uint64(request.handles)[0]))
        position = int(unpack_uint64(request.positions)[0])
        steps, seed = int(unpack_uint32(request.steps)[0]), request.sampling.seed[0]
        reply = sequence_pb2.GenerateSessionsResponse(done=True)
        if held is None:
            reply.errors.add(code=5, reason="SESSION_NOT_FOUND", message="no such handle")
            return reply
        if not self._admit(held, position, ("generated", steps, seed)):
            reply.errors.add(code=9, reason="POSITION_MISMATCH", message="elsewhere", position=held.position)
            return reply
        values = emitted(held.position, held.total, steps, seed)
        pieces = []
        for begin in range(0, len(values), 2):
            piece = values[begin : begin + 2]
            consumed = [value for value in piece if value != END]
            held.position += len(consumed)
            held.total += sum(consumed)
            pieces.append(
                sequence_pb2.GenerateSessionsResponse(
                    rows=pack_uint32([0]),
                    lengths=pack_uint32([len(piece)]),
                    positions=pack_uint64([held.position]),
                    done=begin + 2 >= len(values),
                )
            )
            pieces[-1].outputs["e"].CopyFrom(to_tensor(np.array(piece, np.int64)))
        return pieces

    def _held(self, handle: int) -> Held | None:
        return next((held for held in self.sessions.values() if held.handle == handle), None)

    def _admit(self, held: Held, position: int, mine: tuple[object, ...]) -> bool:
        """Whether a request may run: from where the session stands, or as its last one once more."""
        if position != held.position:
            before = held.before
            if before is None or before[0] != position or before[2] != mine:
                return False
            held.position, held.total = before[0], before[1]
        held.before = (held.position, held.total, mine)
        return True

    def _step(self, request: Any) -> Any:
        handles = unpack_uint64(request.handles).tolist()
        steps = unpack_uint32(request.steps).tolist() or [1] * len(handles)
        x = from_tensor(request.inputs["x"]).tolist()
        reply = sequence_pb2.StepResponse()
        y: list[int] = []
        durable: list[int] = []
        positions = unpack_uint64(request.positions).tolist()
        for row, (handle, position, count) in enumerate(zip(handles, positions, steps, strict=True)):
            mine, x = tuple(x[:count]), x[count:]
            held = self._held(handle)
            if held is None:
                reply.errors.add(row=row, code=5, reason="SESSION_NOT_FOUND", message="no such handle")
                continue
            if not self._admit(held, position, mine):
                reason = "POSITION_MISMATCH"
                reply.errors.add(row=row, code=9, reason=reason, message="elsewhere", position=held.position)
                continue
            name = next(name for name, other in self.sessions.items() if other is held)
            durable.append(self.checkpoints.get(name, (0, 0))[0])
            y.extend((held.total + np.cumsum(mine)).tolist())
            held.position += count
            held.total += sum(mine)
        reply.outputs["y"].CopyFrom(to_tensor(np.array(y, np.int64)))
        reply.durable_positions = pack_uint64(durable)
        return reply

    def _taken(self, session_id: str) -> sequence_pb2.Session:
        self._handle += 1
        held = self.sessions[session_id]
        held.handle = self._handle
        return sequence_pb2.Session(
            session_id=session_id,
            handle=held.handle,
            model="sum",
            version=1,
            digest="d",
            position=held.position,
            durable_position=self.checkpoints.get(session_id, (0, 0))[0],
        )


@dataclass
class World:
    """A client core, a server, and everything between them, moved one event at a time."""

    replay_bytes: int = 1 << 20
    retry_for_s: float = 1e9
    server: Server = field(default_factory=Server)
    replies: deque[tuple[StreamConnection, Any]] = field(default_factory=deque)
    timers: deque[Callable[[], None]] = field(default_factory=deque)
    stream: StreamConnection | None = None
    now_s: float = 0.0
    connections: int = 0

    def __post_init__(self) -> None:
        ids = iter(f"session {number}" for number in range(1000))
        self.core = ClientCore(
            self,
            ClientOptions(
                timeout_s=None,
                retry_for_s=self.retry_for_s,
                replay_bytes=self.replay_bytes,
                clock=lambda: self.now_s,
                random=lambda: 0.5,
                new_id=lambda: next(ids),
            ),
        )

    # The port.

    def connect(self, stream: StreamConnection) -> None:
        self.connections += 1
        self.stream = stream

    def wake(self, stream: StreamConnection) -> None:
        pass

    def after(self, delay_s: float, callback: Callable[[], None]) -> None:
        def fire() -> None:
            self.now_s += delay_s
            callback()

        self.timers.append(fire)

    def future(self) -> Any:
        return Future()

    # Events. Each says whether there was anything to do.

    def send(self) -> bool:
        """One message reaches the server, and its reply sets out."""
        message = self.stream.take() if self.stream else None
        if message is None or self.stream is None:
            return False
        request = sequence_pb2.SessionStreamRequest.FromString(message)
        self.replies.extend((self.stream, reply) for reply in self.server.answer(request))
        return True

    def deliver(self) -> bool:
        """One reply reaches the client."""
        if not self.replies:
            return False
        self.core.multiplexer.receive(*self.replies.popleft())
        return True

    def cut(self, status: Status = RESET) -> bool:
        """The connection goes, with every reply on its way."""
        stream, self.stream = self.stream, None
        self.replies.clear()
        if stream is not None:
            self.core.multiplexer.broken(stream, status)
        return stream is not None

    def kill(self) -> bool:
        """The server goes, with everything it knew."""
        self.server.forget()
        return self.cut()

    def store(self) -> bool:
        """The server stores what it has."""
        self.server.store()
        return True

    def move(self) -> bool:
        """The connection goes, and the next one ends at another replica."""
        self.server.void()
        return self.cut()

    def wait(self) -> bool:
        """The next timer runs out."""
        if not self.timers:
            return False
        self.timers.popleft()()
        return True

    def settle(self) -> None:
        """Until nothing moves any more."""
        while self.send() or self.deliver() or self.wait():
            pass

    def run(self, plan: Any) -> Any:
        """Carries a plan out, with nothing going wrong."""
        outcome = None
        while True:
            try:
                effect = plan.send(outcome)
            except StopIteration as stop:
                return stop.value
            outcome = self._performed(effect)

    def submit(self, operation: Any) -> OperationRunner[Any]:
        return self.core.multiplexer.submit(operation)

    def session(self) -> SessionCore:
        core: SessionCore = self.run(self.core.sessions.open("sum", None, None, None))
        return core

    def group(self, count: int) -> GroupCore:
        core: GroupCore = self.run(
            self.core.groups.open(
                "sum", count=count, session_ids=None, condition=None, version=None, timeout_s=None
            )
        )
        return core

    def _performed(self, effect: Any) -> Any:
        if hasattr(effect, "operation"):
            pending_call = self.submit(effect.operation)
            self.settle()
            return pending_call.future.result(0)
        if effect.method == "GetServer":
            return admin_pb2.GetServerResponse(store="sqlite")
        assert effect.method == "GetModel"
        return model_pb2.GetModelResponse(model=MODEL)


EVENTS = st.sampled_from(
    ["send", "deliver", "cut", "kill", "store", "move", "wait", "step", "chunk", "abandon"]
)


@given(
    events=st.lists(st.tuples(EVENTS, st.integers(0, 2)), max_size=60),
    retry_for_s=st.sampled_from([0.0, 0.05, 1e9]),
)
@settings(deadline=None, max_examples=400)
def test_sessions_lose_nothing_and_apply_nothing_twice(
    events: list[tuple[str, int]], retry_for_s: float
) -> None:
    world = World(retry_for_s=retry_for_s)
    sessions = [world.session() for _ in range(3)]
    asked: list[list[tuple[OperationRunner[Any], int]]] = [[], [], []]
    bits = [0, 0, 0]
    abandoned: set[int] = set()
    for event, chosen in events:
        if event in ("step", "chunk"):
            count = 1 if event == "step" else 3
            values = [1 << (bits[chosen] + place) for place in range(count)]
            bits[chosen] += count
            value = np.array(values[0] if count == 1 else values, np.int64)
            asked[chosen].append((world.submit(sessions[chosen].step(value)), sum(values)))
        elif event == "abandon":
            waiting = [
                pending_call
                for pending_call, _ in asked[chosen]
                if not pending_call.future.done() and id(pending_call) not in abandoned
            ]
            if waiting:
                abandoned.add(id(waiting[-1]))
                world.core.multiplexer.abandon(waiting[-1])
        else:
            getattr(world, event)()
    world.settle()
    world.core.multiplexer.retry_for_s = 1e9
    # Whose caller left or gave up: applied or not, but never in part, and counted.
    open_ended = abandoned | {
        id(pending_call)
        for pending_call, _ in itertools.chain(*asked)
        if pending_call.future.done() and isinstance(pending_call.future.exception(0), Unavailable)
    }
    for session, pending_calls in zip(sessions, asked, strict=True):
        last = world.submit(session.step(np.int64(1 << 62)))
        world.settle()
        final = int(last.future.result(0)) - (1 << 62)
        position = 0
        for pending_call, value in pending_calls:
            count = value.bit_count()
            if id(pending_call) not in open_ended:
                asked_before = final & ((value & -value) - 1)
                assert np.atleast_1d(pending_call.future.result(0))[-1] == asked_before + value
            applied = final & value
            assert applied in ((0, value) if id(pending_call) in open_ended else (value,))
            position += count if applied else 0
        assert final.bit_length() <= sum(value.bit_count() for _, value in pending_calls)
        assert session.remote.position == position + 1


@given(
    events=st.lists(st.tuples(EVENTS, st.integers(1, 7)), max_size=50),
    retry_for_s=st.sampled_from([0.0, 0.05, 1e9]),
)
@settings(deadline=None, max_examples=300)
def test_groups_lose_nothing_and_apply_nothing_twice(
    events: list[tuple[str, int]], retry_for_s: float
) -> None:
    world = World(retry_for_s=retry_for_s)
    group = world.group(3)
    bit = 0
    asked: list[tuple[OperationRunner[Any], Any, int]] = []
    abandoned: set[int] = set()
    for event, mask in events:
        if event in ("step", "chunk"):
            rows = np.flatnonzero([mask & 1, mask & 2, mask & 4])
            count = 1 if event == "step" else 2
            values = np.int64(1) << np.arange(bit, bit + count)
            bit += count
            batch = np.tile(values, (len(rows), 1))
            pending_call = world.submit(group.step(batch[:, 0] if count == 1 else batch, rows))
            asked.append((pending_call, rows, int(values.sum())))
        elif event == "abandon":
            waiting = [id(pending_call) for pending_call, *_ in asked if not pending_call.future.done()]
            for pending_call, *_ in asked:
                if id(pending_call) == next(iter(set(waiting[-1:]) - abandoned), None):
                    abandoned.add(id(pending_call))
                    world.core.multiplexer.abandon(pending_call)
        else:
            getattr(world, event)()
    world.settle()
    world.core.multiplexer.retry_for_s = 1e9
    last = world.submit(group.step(np.full(3, 1 << 62), None))
    world.settle()
    final = last.future.result(0) - (1 << 62)
    for pending_call, rows, value in asked:
        if id(pending_call) in abandoned or isinstance(
            pending_call.future.exception(0), PartialFailure | Unavailable
        ):
            assert set((final[rows] & value).tolist()) <= {0, value}
        else:
            lowest = value & -value
            outputs = pending_call.future.result(0).reshape(len(rows), -1)
            np.testing.assert_array_equal(outputs[:, -1], (final[rows] & (lowest - 1)) + value)
            assert set((final[rows] & value).tolist()) == {value}
    np.testing.assert_array_equal(group.positions, [int(total).bit_count() + 1 for total in final])


GENERATING = st.sampled_from(
    ["send", "deliver", "cut", "kill", "store", "move", "wait", "step", "generate", "generate"]
)


@given(
    events=st.lists(st.tuples(GENERATING, st.integers(1, 9)), max_size=60),
    replay_bytes=st.sampled_from([1 << 20, 2000]),
)
@settings(deadline=None, max_examples=400)
def test_generations_give_each_value_once_and_are_applied_once(
    events: list[tuple[str, int]], replay_bytes: int
) -> None:
    world = World(replay_bytes=replay_bytes)
    session = world.session()
    asked: list[tuple[OperationRunner[Any], int, list[int] | None]] = []
    for event, number in events:
        if event == "step":
            asked.append((world.submit(session.step(np.int64(number))), number, None))
        elif event == "generate":
            values: list[int] = []
            asked.append(
                (world.submit(session.generate(a_run(session, number), taking(values))), number, values)
            )
        else:
            getattr(world, event)()
    world.settle()
    position = total = 0
    for pending_call, number, given_values in asked:
        if isinstance(pending_call.future.exception(0), SessionLost):
            return  # what it had consumed is not all held any more, and the caller was told
        if given_values is None:
            total += number
            position += 1
            assert pending_call.future.result(0) == total
        else:
            pending_call.future.result(0)
            expected = emitted(position, total, number, seed=number)
            assert given_values == expected
            consumed = [value for value in expected if value != END]
            position += len(consumed)
            total += sum(consumed)
    assert session.remote.position == position
    last = world.submit(session.step(np.int64(1)))
    world.settle()
    if not isinstance(last.future.exception(0), SessionLost):
        assert last.future.result(0) == total + 1


@given(
    before=st.lists(st.sampled_from(["send", "deliver", "cut", "wait", "kill"]), max_size=12),
    after=st.lists(st.sampled_from(["send", "deliver", "cut", "wait", "kill"]), max_size=12),
    taken=st.integers(0, 9),
)
# The recovery is broken off between the opening and the replay.
@example(
    before=["kill", "wait", "send", "deliver", "send", "deliver", "send"], after=["deliver", "cut"], taken=0
)
@settings(deadline=None, max_examples=400)
def test_a_generation_left_early_is_one_of_what_was_taken(
    before: list[str], after: list[str], taken: int
) -> None:
    world = World()
    session = world.session()
    world.submit(session.step(np.int64(5)))
    world.settle()
    values: list[int] = []
    run = a_run(session, 9)
    pending_call = world.submit(session.generate(run, taking(values)))
    for event in before:
        getattr(world, event)()
    world.core.multiplexer.abandon(pending_call)
    taken = min(taken, len(values))
    cut = world.submit(session.cut_short(run, taken))
    for event in after:
        getattr(world, event)()
    world.settle()
    cut.future.result(0)
    consumed = [value for value in values[:taken] if value != END]
    assert session.remote.position == 1 + len(consumed)
    last = world.submit(session.step(np.int64(1)))
    world.settle()
    assert last.future.result(0) == 5 + sum(consumed) + 1


def a_run(session: SessionCore, number: int) -> SessionGeneration:
    return SessionGeneration.of(
        session.model, GenerateOptions(number, 1.0, None, number), text=False, timeout_s=None
    )


def taking(values: list[int]) -> Callable[[list[tuple[Any, int]]], None]:
    return lambda pieces: values.extend(int(value) for value, _ in pieces)


def test_steps_of_the_same_moment_leave_in_one_message() -> None:
    world = World()
    sessions = [world.session() for _ in range(100)]
    del world.server.messages[:]
    pending_calls = [world.submit(session.step(np.int64(number))) for number, session in enumerate(sessions)]
    world.settle()
    assert len(world.server.messages) == 1
    assert [int(pending_call.future.result(0)) for pending_call in pending_calls] == list(range(100))


def test_a_session_steps_in_the_order_it_was_asked() -> None:
    world = World()
    session = world.session()
    pending_calls = [world.submit(session.step(np.int64(1 << number))) for number in range(10)]
    world.settle()
    assert [int(pending_call.future.result(0)) for pending_call in pending_calls] == [
        (2 << number) - 1 for number in range(10)
    ]


def test_a_step_given_up_before_it_was_sent_is_not_applied() -> None:
    world = World()
    session = world.session()
    first, second = (world.submit(session.step(np.int64(1 << bit))) for bit in (0, 1))
    world.core.multiplexer.abandon(second)
    world.settle()
    last = world.submit(session.step(np.int64(4)))
    world.settle()
    assert (int(first.future.result(0)), int(last.future.result(0))) == (1, 5)


def test_a_lone_step_given_up_after_it_was_sent_is_cancelled() -> None:
    world = World()
    session = world.session()
    pending_call = world.submit(session.step(np.int64(1)))
    world.send()
    world.core.multiplexer.abandon(pending_call)
    world.settle()
    sent = world.server.messages[-1]
    assert sent.WhichOneof("operation") == "cancel"
    assert sent.cancel.target_request_id == world.server.messages[-2].request_id


def test_a_replay_is_few_messages() -> None:
    world = World()
    session = world.session()
    for _ in range(500):
        pending_call = world.submit(session.step(np.int64(1)))
        world.settle()
    world.kill()
    del world.server.messages[:]
    pending_call = world.submit(session.step(np.int64(1)))
    world.settle()
    assert int(pending_call.future.result(0)) == 501
    assert [message.WhichOneof("operation") for message in world.server.messages] == (
        ["step", "resume", "open", "step", "step", "step"]
    )


def test_connections_are_spaced() -> None:
    world = World(retry_for_s=10)
    session = world.session()
    pending_call = world.submit(session.step(np.int64(1)))
    world.connections = 0
    while not pending_call.future.done():
        assert world.cut() or world.wait()
    assert isinstance(pending_call.future.exception(), Unavailable)
    assert 10 <= world.now_s < 13
    assert world.connections < 15


def test_questions_after_a_model_that_is_being_loaded_are_spaced() -> None:
    world = World(retry_for_s=10)
    tries = 0

    def refuse(request: Any) -> Any:
        nonlocal tries
        tries += 1
        response = sequence_pb2.SessionStreamResponse(request_id=request.request_id)
        response.error.code = 14
        response.error.details.add().Pack(error_details_pb2.ErrorInfo(reason="MODEL_LOADING"))
        return [response]

    world.server.answer = refuse  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        world.session()
    assert 10 <= world.now_s < 13
    assert tries < 15


def test_bulk_work_waits_for_no_longer_than_the_client_has_patience() -> None:
    world = World(retry_for_s=10)
    scoring, answer = world.run(
        world.core.sequences.scoring("sum", start=0, version=None, labels=False, timeout_s=None)
    )
    scoring.offer(sample_of(0, np.ones(3, np.int64)))
    world.now_s += 1  # nobody else comes
    plan = answer(scoring.take())
    full = Failed(Status("RESOURCE_EXHAUSTED", Reason.QUEUE_FULL, "the queue is full", retry_after_s=3600))

    def wait() -> None:
        effect = next(plan)
        while True:
            if isinstance(effect, Wait):
                world.now_s += effect.delay_s
                effect = plan.send(None)
            else:
                effect = plan.throw(full)

    with pytest.raises(Overloaded, match="the queue is full"):
        wait()
    assert world.now_s == pytest.approx(1 + 10)


def test_a_server_that_drains_gets_no_more_requests() -> None:
    world = World()
    session = world.session()
    old = world.stream
    assert old is not None
    pending_call = world.submit(session.step(np.int64(1)))
    world.send()
    news = sequence_pb2.SessionStreamResponse()
    news.draining.SetInParent()
    world.core.multiplexer.receive(old, news)
    second = world.submit(session.step(np.int64(2)))
    assert old.take() is None
    assert old.retired
    world.settle()
    assert (int(pending_call.future.result(0)), int(second.future.result(0))) == (1, 3)
    assert world.stream is not old


def test_a_refused_frame_is_sent_again_row_by_row() -> None:
    world = World()
    sessions = [world.session() for _ in range(3)]
    answer = world.server.answer

    def refuse_together(request: Any) -> Any:
        if request.HasField("step") and len(request.step.handles) > 8:
            response = sequence_pb2.SessionStreamResponse(request_id=request.request_id)
            response.error.code = 3
            return [response]
        return answer(request)

    world.server.answer = refuse_together  # type: ignore[method-assign]
    pending_calls = [world.submit(session.step(np.int64(7))) for session in sessions]
    world.settle()
    assert [int(pending_call.future.result(0)) for pending_call in pending_calls] == [7, 7, 7]


def test_a_reply_that_makes_no_sense_fails_its_rows_alone() -> None:
    world = World()
    session = world.session()
    pending_call = world.submit(session.step(np.int64(1)))
    assert world.stream is not None
    message = world.stream.take()
    assert message is not None
    request_id = sequence_pb2.SessionStreamRequest.FromString(message).request_id
    nonsense = sequence_pb2.SessionStreamResponse(request_id=request_id)
    nonsense.step.outputs["y"].CopyFrom(to_tensor(np.zeros(7)))
    world.core.multiplexer.receive(world.stream, nonsense)
    with pytest.raises(Exception, match="makes no sense"):
        pending_call.future.result(0)


@pytest.mark.parametrize("connected", [True, False])
def test_closing_settles_everything(connected: bool) -> None:
    world = World()
    session, group, idle = world.session(), world.group(2), world.session()
    if not connected:
        world.submit(idle.step(np.int64(1)))
        world.cut()
    waiting = [world.submit(session.step(np.int64(1))) for _ in range(3)]
    world.send()
    waiting.append(world.submit(group.step(np.ones(2, np.int64), None)))
    world.core.multiplexer.close()
    for pending_call in [*waiting, world.submit(session.step(np.int64(1)))]:
        with pytest.raises(Unavailable, match="client is closed"):
            pending_call.future.result(0)


def test_what_cannot_be_replayed_is_lost_and_never_wrong() -> None:
    world = World(replay_bytes=1000)
    short, long = world.session(), world.session()
    for session, steps in ((short, 3), (long, 30)):
        for _ in range(steps):
            world.submit(session.step(np.int64(1)))
            world.settle()
    world.kill()
    kept, lost = world.submit(short.step(np.int64(1))), world.submit(long.step(np.int64(1)))
    world.settle()
    assert int(kept.future.result(0)) == 4
    assert isinstance(lost.future.exception(0), SessionLost)


def test_a_session_somebody_else_took_is_not_taken_back() -> None:
    world = World()
    session = world.session()
    step = world.server._step

    def moved(request: Any) -> Any:
        reply = sequence_pb2.StepResponse()
        reply.errors.add(row=0, code=10, reason="SESSION_MOVED", message="resumed elsewhere")
        return reply

    world.server._step = moved  # type: ignore[method-assign]
    world.cut()
    pending_call = world.submit(session.step(np.int64(1)))
    world.settle()
    assert isinstance(pending_call.future.exception(0), SessionMoved)
    world.server._step = step  # type: ignore[method-assign]
    assert not any(message.HasField("resume") for message in world.server.messages)


def test_a_message_that_ends_the_stream_twice_is_over_the_limit() -> None:
    world = World()
    session, other = world.session(), world.session()
    pending_call = world.submit(session.step(np.int64(1)))
    world.send()
    world.cut(OVERSIZED)
    innocent = world.submit(other.step(np.int64(1)))
    world.wait()
    assert world.stream is not None
    while world.stream.take() is not None:
        pass
    world.cut(OVERSIZED)
    world.settle()
    with pytest.raises(Exception, match="larger than max"):
        pending_call.future.result(0)
    assert int(innocent.future.result(0)) == 1


def test_the_messages_are_what_the_contract_says() -> None:
    world = World()
    session = world.session()
    world.submit(session.step(np.array([5, 6], np.int64)))
    world.settle()
    sent = world.server.messages[-1].step
    assert sent.handles == pack_uint64([world.server.sessions["session 0"].handle])
    assert unpack_uint64(sent.positions).tolist() == [0]
    assert unpack_uint32(sent.steps).tolist() == [2]
    assert from_tensor(sent.inputs["x"]).tolist() == [5, 6]


@pytest.mark.parametrize("many", [False, True])
def test_a_refusal_of_the_second_try_says_nothing_about_the_first(many: bool) -> None:
    world = World()
    session: Any = world.group(1) if many else world.session()

    def step(value: int) -> OperationRunner[Any]:
        x = np.int64(value)
        return world.submit(session.step(x[None], None) if many else session.step(x))

    first = step(1)
    world.send()  # applied
    world.cut()  # and the reply lost
    answer = world.server._step

    def too_late(request: Any) -> Any:
        reply = sequence_pb2.StepResponse()
        reply.errors.add(row=0, code=4, reason="DEADLINE", message="too late")
        return reply

    world.server._step = too_late  # type: ignore[method-assign]
    world.settle()
    assert first.future.exception(0) is not None
    world.server._step = answer  # type: ignore[method-assign]
    second = step(2)
    world.settle()
    assert int(np.ravel(second.future.result(0))[0]) == 3
