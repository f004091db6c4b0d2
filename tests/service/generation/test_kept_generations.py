"""Takes generations back, one by one and to a name, and generates the same values again."""

import numpy as np
import pytest
from tests.helpers.caller import Caller
from tests.helpers.generation import SamplingColumns, generate_sessions, oracle_of
from tests.service.kept.calls import kept, made, opened, rewound

X = 7


@pytest.mark.parametrize("model", ["chatter", "chatter_outside"])
async def test_generations_are_taken_back_and_give_the_same_values_again(caller: Caller, model: str) -> None:
    """In the graph, and by a loop outside whose last output is one more state."""
    settings = SamplingColumns(seed=[5])
    expected = oracle_of(model).tokens([X], 8, settings, 0)
    (session,) = await opened(caller, "a", keep=4, model=model)
    handle = session.handle
    await caller.ask(step=caller.frame([(handle, 0)], np.array([X], np.int32)))
    for done in (0, 2, 4, 6):
        said = await generate_sessions(caller, [(handle, 1 + done)], 2, settings)
        assert said.values[0] == expected[done : done + 2]
        if done == 2:
            await made(caller, handle, "half")
    for back in (6, 2, 0):
        session = await rewound(caller, handle, 1 + back)
        assert kept(session) == [position for position in (1, 3, 5) if position < 1 + back]
        said = await generate_sessions(caller, [(handle, 1 + back)], 8 - back, settings)
        assert said.values[0] == expected[back:]
        session = await rewound(caller, handle, 1 + back)
    await rewound(caller, handle, to="half")
    said = await generate_sessions(caller, [(handle, 5)], 4, settings)
    assert said.values[0] == expected[4:]
