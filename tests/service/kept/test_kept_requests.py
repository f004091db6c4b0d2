"""Takes sessions back to the states from before their last requests, as many of them as they keep."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from tests.helpers.caller import Caller, connect
from tests.helpers.errors import info_in
from tests.helpers.models.small import SmallModels
from tests.service.kept.calls import current, fork, kept, only_error, opened, rewind, rewound

from statewise.v1 import admin_pb2, sequence_pb2
from statewise.wire import from_tensor

Array = np.ndarray


@dataclass
class Reference:
    """What a session that keeps so many requests has consumed, and where it can be taken back to.

    Attributes:
        keep: How many requests it keeps.
        seen: What it has consumed.
        before: Positions from before its last requests, the earliest first.
    """

    keep: int
    seen: list[Array] = field(default_factory=list)
    before: list[int] = field(default_factory=list)

    def step(self, x: Array) -> None:
        self.before = [*self.before, len(self.seen)][-self.keep :]
        self.seen += list(x)

    def rewind(self, position: int) -> None:
        self.seen = self.seen[:position]
        self.before = [one for one in self.before if one < position]


async def test_a_session_goes_back_to_each_position_that_it_keeps_and_on_from_there_to_the_same_bits(
    caller: Caller, small_models: SmallModels, random: np.random.Generator
) -> None:
    x = random.standard_normal((12, 3)).astype(np.float32)
    whole = small_models.find("steps").run(x)[0]
    (session,) = await opened(caller, "a", keep=5)
    assert (session.keep, kept(session)) == (5, [])
    for back in range(7, 12):
        position = session.position
        while position < 12:
            await caller.step(session.handle, position, x[position])
            position += 1
        session = await rewound(caller, session.handle, back)
        assert session.position == back
        assert kept(session) == list(range(7, back))
        y = await caller.step(session.handle, back, x[back:])
        assert y.tobytes() == whole[back:].tobytes()
        session = await rewound(caller, session.handle, back)
        if back > 7:
            session = await rewound(caller, session.handle, 7)
        assert kept(session) == []


async def test_random_requests_and_rewinds_equal_the_reference(
    caller: Caller, small_models: SmallModels, random: np.random.Generator
) -> None:
    """Single steps, chunks and frames; sessions that keep different numbers are in one frame."""
    keeps = [1, 2, 2, 7, 64, 1]
    references = [Reference(keep) for keep in keeps]
    handles = [(await opened(caller, f"{number}", keep=keep))[0].handle for number, keep in enumerate(keeps)]
    oracle = small_models.find("steps")

    async def step(rows: list[int], steps: list[int]) -> None:
        x = [random.standard_normal((count, 3)).astype(np.float32) for count in steps]
        sessions = [(handles[row], len(references[row].seen)) for row in rows]
        y = await caller.ask(step=caller.frame(sessions, np.concatenate(x), steps=steps))
        assert not y.errors
        for row, chunk in zip(rows, x, strict=True):
            references[row].step(chunk)
        expected = [
            oracle.run(np.stack(references[row].seen))[0][-count:]
            for row, count in zip(rows, steps, strict=True)
        ]
        assert from_tensor(y.outputs["y"]).tobytes() == np.concatenate(expected).tobytes()

    for _ in range(150):
        match random.integers(4):
            case 0:
                await step([int(random.integers(len(keeps)))], [1])
            case 1:
                await step([int(random.integers(len(keeps)))], [int(random.integers(1, 5))])
            case 2:
                rows = random.permutation(len(keeps))[: random.integers(2, len(keeps) + 1)].tolist()
                await step(rows, [1] * len(rows))
            case _:
                row = int(random.integers(len(keeps)))
                reference = references[row]
                if reference.before:
                    reference.rewind(int(random.choice(reference.before)))
                    session = await rewound(caller, handles[row], len(reference.seen))
                    assert (session.position, kept(session)) == (len(reference.seen), reference.before)
    for row, reference in enumerate(references):
        session = await current(caller, f"{row}")
        assert (session.keep, kept(session)) == (reference.keep, reference.before)


async def test_a_rewind_that_is_sent_again_changes_nothing(
    caller: Caller, random: np.random.Generator
) -> None:
    (session,) = await opened(caller, "a", keep=4)
    for position in range(6):
        await caller.step(session.handle, position, np.zeros(3, np.float32))
    first = await rewound(caller, session.handle, 3)
    again = await rewound(caller, session.handle, 3)
    assert (again.position, kept(again), again.epoch) == (3, [2], first.epoch)
    assert first.epoch == session.epoch + 1


async def test_retries_and_failed_rows_push_nothing_out(caller: Caller) -> None:
    x = np.ones(3, np.float32)
    (session,) = await opened(caller, "a", keep=3)
    for position in range(5):
        await caller.step(session.handle, position, x)
    for _ in range(3):
        await caller.step(session.handle, 4, x)
    nan = caller.frame([(session.handle, 5)], np.full((1, 3), np.nan, np.float32))
    assert len((await caller.ask(step=nan)).errors) == 1
    wrong = caller.frame([(session.handle, 2)], x[None])
    assert len((await caller.ask(step=wrong)).errors) == 1
    assert kept(await current(caller, "a")) == [2, 3, 4]


async def test_a_position_that_is_not_kept_is_refused_by_name(caller: Caller) -> None:
    (session,) = await opened(caller, "a", keep=2)
    unused = only_error(await rewind(caller, session.handle, 2**64 - 1))
    assert (unused.reason, unused.position) == ("POSITION_MISMATCH", 0)
    for position in range(4):
        await caller.step(session.handle, position, np.ones(3, np.float32))
    error = only_error(await rewind(caller, session.handle, 1))
    assert (error.reason, error.position) == ("POSITION_MISMATCH", 4)
    assert "one that is kept: 2, 3; got 1" in error.message
    assert only_error(await rewind(caller, session.handle, 2**64 - 1)).reason == "POSITION_MISMATCH"


async def test_copies_keep_as_many_requests_and_none_of_the_originals(caller: Caller) -> None:
    (session,) = await opened(caller, "a", keep=3)
    for position in range(4):
        await caller.step(session.handle, position, np.ones(3, np.float32))
    twin = await fork(caller, session.handle, "b")
    assert (twin.position, twin.keep, kept(twin)) == (4, 3, [])
    for position in range(4, 9):
        await caller.step(twin.handle, position, np.ones(3, np.float32))
    assert kept(await current(caller, "b")) == [6, 7, 8]
    assert kept(await current(caller, "a")) == [1, 2, 3]


async def test_a_session_that_is_taken_over_keeps_the_number_that_it_has(caller: Caller) -> None:
    await opened(caller, "a", keep=3)
    (again,) = await opened(caller, "a", keep=9)
    assert (again.created, again.keep) == (False, 3)
    info = (await caller.admin.GetSession(admin_pb2.GetSessionRequest(session_id="a"))).session
    assert info.keep == 3


@pytest.mark.parametrize("keep", [65, 2**32 - 1])
async def test_more_requests_than_may_be_kept_are_refused(address: str, keep: int) -> None:
    async with connect(address) as caller:
        request = sequence_pb2.OpenSessionsRequest(model="steps", session_ids=["a"], keep=keep)
        error = info_in(await caller.ask(open=request))
        assert error.reason == "BAD_REQUEST"
