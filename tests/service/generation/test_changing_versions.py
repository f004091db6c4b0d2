"""Opens sessions of an encoder-decoder while the version that serves changes: states are never mixed."""

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from tests.helpers.held_encoder import HeldEncoder, held_encoder

from statewise.service import ServiceError
from statewise.service.dataplane import InitialStates
from statewise.wire import Reason


@pytest.fixture
async def held(tmp_path: Path) -> AsyncIterator[HeldEncoder]:
    async with held_encoder(tmp_path) as held:
        yield held


async def test_a_session_begins_in_the_state_of_its_own_version(held: HeldEncoder) -> None:
    encoding = await held.begin(0)
    await held.dataplane.models.unload("speech", 2)
    held.go_on.set()
    encoded = await encoding
    (opened,), _ = await held.dataplane.sessions.open("speech", 0, ["a"], owner="", initial=encoded)
    assert opened.model.package.version == 1
    begun = opened.model.arena.read(held.dataplane.table.arena_index(0))
    for state, own in zip(begun, await held.states(1), strict=True):
        np.testing.assert_array_equal(state, own)


async def test_the_default_of_the_request_stays_while_it_serves(held: HeldEncoder) -> None:
    await held.dataplane.models.unload("speech", 2)
    encoding = await held.begin(0)
    await held.dataplane.models.load("speech", 2)
    held.go_on.set()
    encoded = await encoding
    (opened,), _ = await held.dataplane.sessions.open("speech", 0, ["a"], owner="", initial=encoded)
    assert opened.model.package.version == 1


async def test_a_version_that_is_gone_opens_nothing(held: HeldEncoder) -> None:
    encoding = await held.begin(2)
    await held.dataplane.models.unload("speech", 2)
    held.go_on.set()
    with pytest.raises(ServiceError, match="has no version 2; served are: 1") as failure:
        await encoding
    assert failure.value.reason is Reason.MODEL_NOT_FOUND
    assert not len(held.dataplane.table)


async def test_a_state_that_does_not_fit_leaves_no_session(held: HeldEncoder) -> None:
    model = held.dataplane.models.find("speech")
    wrong = InitialStates(model, [np.zeros((2, 3), np.float32) for _ in model.arena.pairs], {})
    opened, failures = await held.dataplane.sessions.open("speech", 0, ["a", "b"], owner="", initial=wrong)
    assert not opened
    assert [failure.reason for failure in failures] == [Reason.INTERNAL] * 2
    assert not len(held.dataplane.table)
    assert model.arena.used_rows == 0
