"""Sessions that are given the state and position of others go on with the same bits, for every model."""

from pathlib import Path

import numpy as np
import pytest
from tests.helpers.any_model import AnyModel, Inputs
from tests.helpers.caller import Caller, connect
from tests.helpers.models.every import STATEFUL, publish
from tests.helpers.states import open_in, read_states

from statewise.service.testing import running_server


@pytest.mark.parametrize("name", STATEFUL)
async def test_a_session_goes_on_as_the_one_that_its_state_was_read_from(
    name: str, tmp_path: Path, random: np.random.Generator
) -> None:
    """Alone and in groups: one after another, all in one frame, and beside the others in another order."""
    publish(name, tmp_path)
    async with running_server(tmp_path) as address, connect(address) as caller:
        model = await AnyModel.of(caller, name)
        lengths = [number + model.described.least_steps for number in (0, 4, 1, 9, 2)]
        then = [model.inputs(random, steps) for steps in [3 + lengths[0], *reversed(lengths)]]
        originals = await caller.open(name, *(f"original {row}" for row in range(6)))
        first = [model.inputs(random, steps) for steps in lengths]
        await model.step(caller, [(handle, 0) for handle in originals[:5]], first)
        lengths.append(0)
        read = await read_states(caller, *originals)
        assert read.positions == lengths
        alone = [
            (await open_in(caller, name, read.of_rows(slice(row, row + 1)), f"alone {row}"))[0]
            for row in range(6)
        ]
        together, mixed = [
            await open_in(caller, name, read, *(f"{kind} {row}" for row in range(6)))
            for kind in ("together", "mixed")
        ]
        frames = [
            [await _one(model, caller, handle, position, inputs)]
            for handle, position, inputs in zip(alone, lengths, then, strict=True)
        ]
        side_by_side = await model.step(
            caller,
            [*zip(mixed, lengths, strict=True), *zip(originals, lengths, strict=True)][::-1],
            [*then, *then][::-1],
        )
        expected = side_by_side[::-1][6:]
        assert side_by_side[::-1][:6] == expected
        assert [one[0] for one in frames] == expected
        assert await model.step(caller, list(zip(together, lengths, strict=True)), then) == expected
        after = [await read_states(caller, *handles) for handles in (originals, alone, together, mixed)]
        assert [one.bits() for one in after[1:]] == [after[0].bits()] * 3
        assert all(one.positions == after[0].positions for one in after)


async def _one(model: AnyModel, caller: Caller, handle: int, position: int, inputs: Inputs) -> list[bytes]:
    (outputs,) = await model.step(caller, [(handle, position)], [inputs])
    return outputs
