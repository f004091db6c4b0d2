"""Steps sessions of foreign graphs, which have other inputs than the small models."""

from collections.abc import Mapping, Sequence

import numpy as np
from tests.helpers.arrays import Array
from tests.helpers.caller import Caller

from statewise.v1 import sequence_pb2
from statewise.wire import (
    from_tensor,
    pack_uint32,
    pack_uint64,
    to_tensor,
)

Steps = Sequence[Mapping[str, Array]]
"""Samples of one session, by input."""


def request(sessions: Sequence[tuple[int, int]], rows: Sequence[Steps]) -> sequence_pb2.StepRequest:
    """A step of sessions given as (handle, position), each with its own steps."""
    names = rows[0][0].keys()
    return sequence_pb2.StepRequest(
        handles=pack_uint64([handle for handle, _ in sessions]),
        positions=pack_uint64([position for _, position in sessions]),
        steps=pack_uint32([len(steps) for steps in rows]),
        inputs={name: to_tensor(np.stack([s[name] for steps in rows for s in steps])) for name in names},
    )


async def advance(
    caller: Caller, sessions: Sequence[tuple[int, int]], rows: Sequence[Steps]
) -> dict[str, Array]:
    reply = await caller.ask(step=request(sessions, rows))
    assert not reply.errors, reply.errors
    return {name: from_tensor(tensor) for name, tensor in reply.outputs.items()}
