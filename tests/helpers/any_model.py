"""Steps sessions of any model, with inputs made up from its signature."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tests.helpers.arrays import Array
from tests.helpers.caller import Caller

from statewise.v1 import model_pb2, tensor_pb2
from statewise.v1 import sequence_pb2 as pb
from statewise.wire import DTYPES, from_tensor, pack_uint32, pack_uint64, to_tensor

Inputs = dict[str, Array]
"""Inputs of one row: per-step ones [T, ...], others [...]."""


@dataclass(frozen=True)
class AnyModel:
    """A model of a server, and how its sessions are stepped."""

    described: model_pb2.Model

    @classmethod
    async def of(cls, caller: Caller, name: str) -> "AnyModel":
        """Asks the server what the model is."""
        return cls((await caller.models.GetModel(model_pb2.GetModelRequest(name=name))).model)

    def inputs(self, random: np.random.Generator, steps: int) -> Inputs:
        """Makes up the inputs of one row; inputs that have a default are left out."""
        return {
            entry.name: self._values(random, entry, steps)
            for entry in self.described.inputs
            if not entry.HasField("default_value")
        }

    def _values(self, random: np.random.Generator, entry: model_pb2.TensorSpec, steps: int) -> Array:
        dtype = DTYPES[tensor_pb2.DataType.Name(entry.dtype).removeprefix("DATA_TYPE_").lower()]
        shape = (steps, *entry.shape) if entry.per_step else tuple(entry.shape)
        if dtype.kind == "f":
            return random.standard_normal(shape).astype(dtype)
        return random.integers(1, len(self.described.vocabulary.tokens) or 3, shape).astype(dtype)

    def request(self, sessions: Sequence[tuple[int, int]], rows: Sequence[Inputs]) -> pb.StepRequest:
        """A step of sessions given as (handle, position), each with its own steps."""
        per_step = {entry.name: entry.per_step for entry in self.described.inputs}
        joined = {
            name: np.concatenate([row[name] for row in rows])
            if per_step[name]
            else np.stack([row[name] for row in rows])
            for name in rows[0]
        }
        return pb.StepRequest(
            handles=pack_uint64([handle for handle, _ in sessions]),
            positions=pack_uint64([position for _, position in sessions]),
            steps=pack_uint32([self.steps_of(row) for row in rows]),
            inputs={name: to_tensor(array) for name, array in joined.items()},
        )

    def steps_of(self, row: Inputs) -> int:
        """Time steps of a row."""
        per_step = [entry.name for entry in self.described.inputs if entry.per_step and entry.name in row]
        return len(row[per_step[0]])

    async def step(
        self, caller: Caller, sessions: Sequence[tuple[int, int]], rows: Sequence[Inputs]
    ) -> list[list[bytes]]:
        """Steps sessions in one frame; gives the bits of each session's outputs."""
        reply = await caller.ask(step=self.request(sessions, rows))
        assert isinstance(reply, pb.StepResponse), reply
        assert not reply.errors, reply.errors
        ends = np.cumsum([self.steps_of(row) for row in rows])[:-1]
        found: list[list[bytes]] = [[] for _ in rows]
        for entry in self.described.outputs:
            whole = from_tensor(reply.outputs[entry.name])
            pieces = np.split(whole, ends) if entry.per_step else list(whole)
            for bits, own in zip(found, pieces, strict=True):
                bits.append(own.tobytes())
        return found
