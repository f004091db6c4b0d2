"""Steps a session while others misbehave, and compares every answer with the model run alone."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from tests.helpers.caller import Caller, connect
from tests.helpers.models.small import SmallModel, SmallModels


class Bystander:
    """A caller who steps one session."""

    def __init__(self, caller: Caller, model: SmallModel) -> None:
        self.caller, self._model = caller, model
        self._x = np.random.default_rng(3).standard_normal((10_000, 3)).astype(np.float32)
        self._handle = 0
        self._position = 0

    async def steps(self) -> None:
        """Makes one more step and compares the answer with the oracle's."""
        if not self._handle:
            (self._handle,) = await self.caller.open("steps", "bystander")
        self._position += 1
        y = await self.caller.step(self._handle, self._position - 1, self._x[self._position - 1])
        expected, _ = self._model.run(self._x[: self._position])
        np.testing.assert_allclose(y[0], expected[-1], rtol=1e-6)


@asynccontextmanager
async def connect_bystander(
    address: str, small_models: SmallModels, **options: Any
) -> AsyncIterator[Bystander]:
    """Connects a bystander, which steps once before and once after; keywords as for `connect`."""
    async with connect(address, **options) as caller:
        connected = Bystander(caller, small_models.find("steps"))
        await connected.steps()
        yield connected
        await connected.steps()
