"""Opens sessions of an encoder-decoder while the version that serves changes: states are never mixed."""

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tests.helpers.arrays import Array
from tests.helpers.models.generative import write_two_transducers

from statewise.service import ServiceError, Settings
from statewise.service.assembly import build_dataplane
from statewise.service.dataplane import CancellationToken, Dataplane, EncodedStates, Generator
from statewise.service.inputs import RawSequences
from statewise.wire import Reason

SPOKEN = RawSequences(text=["pqrst"])


class HeldRuns:
    """A thread for the runs of models that waits, and the behaviour of a server that uses it."""

    def __init__(self, dataplane: Dataplane, go_on: threading.Event) -> None:
        self.dataplane = dataplane
        self.go_on = go_on

    async def encode_meanwhile(self, version: int) -> asyncio.Task[EncodedStates | None]:
        """Begins to encode; returns once the encoder's run waits."""
        generator = Generator(self.dataplane)
        encoding = asyncio.create_task(generator.encode("speech", version, SPOKEN, 1, CancellationToken()))
        scheduler = self.dataplane.models.find("speech", version).encoder_scheduler
        assert scheduler is not None
        for _ in range(10):
            await asyncio.sleep(0)
        assert scheduler.queued_steps
        return encoding

    async def states(self, version: int) -> list[Array]:
        """The states that a version computes."""
        encoded = await Generator(self.dataplane).encode("speech", version, SPOKEN, 1, CancellationToken())
        assert encoded is not None
        return list(encoded.state)


@pytest.fixture
async def held(tmp_path: Path) -> AsyncIterator[HeldRuns]:
    write_two_transducers(tmp_path)
    with ThreadPoolExecutor(1) as executor:
        settings = Settings(repository=tmp_path, load_in_child=False, inline_s=0)
        dataplane = build_dataplane(settings, executor=executor)
        await dataplane.models.load_all()
        go_on = threading.Event()
        executor.submit(go_on.wait, 60)
        try:
            yield HeldRuns(dataplane, go_on)
        finally:
            go_on.set()


async def test_a_session_begins_in_the_state_of_its_own_version(held: HeldRuns) -> None:
    encoding = await held.encode_meanwhile(0)
    await held.dataplane.models.unload("speech", 2)
    held.go_on.set()
    encoded = await encoding
    (opened,), _ = await held.dataplane.sessions.open("speech", 0, ["a"], owner="", encoded=encoded)
    assert opened.model.package.version == 1
    begun = opened.model.arena.read(held.dataplane.table.arena_index(0))
    for state, own in zip(begun, await held.states(1), strict=True):
        np.testing.assert_array_equal(state, own[0])


async def test_the_default_of_the_request_stays_while_it_serves(held: HeldRuns) -> None:
    await held.dataplane.models.unload("speech", 2)
    encoding = await held.encode_meanwhile(0)
    await held.dataplane.models.load("speech", 2)
    held.go_on.set()
    encoded = await encoding
    (opened,), _ = await held.dataplane.sessions.open("speech", 0, ["a"], owner="", encoded=encoded)
    assert opened.model.package.version == 1


async def test_a_version_that_is_gone_opens_nothing(held: HeldRuns) -> None:
    encoding = await held.encode_meanwhile(2)
    await held.dataplane.models.unload("speech", 2)
    held.go_on.set()
    with pytest.raises(ServiceError, match="has no version 2; served are: 1") as failure:
        await encoding
    assert failure.value.reason is Reason.MODEL_NOT_FOUND
    assert not len(held.dataplane.table)


async def test_a_state_that_does_not_fit_leaves_no_session(held: HeldRuns) -> None:
    model = held.dataplane.models.find("speech")
    wrong = EncodedStates(model, [np.zeros((2, 3), np.float32) for _ in model.arena.pairs], {})
    opened, failures = await held.dataplane.sessions.open("speech", 0, ["a", "b"], owner="", encoded=wrong)
    assert not opened
    assert [failure.reason for failure in failures] == [Reason.INTERNAL] * 2
    assert not len(held.dataplane.table)
    assert model.arena.used_rows == 0
