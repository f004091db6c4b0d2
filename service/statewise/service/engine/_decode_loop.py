"""Feeds a model its own output: inside the graph written for that, or step by step from outside.

Both loops follow `GenerateSpec` and give the same values. No seeds, texts or sessions: numbers and states
come in and go out, and a run that fails has changed nothing. Loops are immutable and may run in several
threads.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import Array, padded_shape
from statewise.service.engine._engine import Engine
from statewise.service.engine._sampling import draw_tokens
from statewise.wire import DTYPES, CallShape, GenerateSpec, ModelSpec, StatePair, TensorSpec

NOTHING = -1
"""Stands in the place of a token for rows that have ended."""

_REMAINING = TensorSpec("remaining", "int32", (), per_step=False)
_SAMPLING = (
    TensorSpec("noise", "float32", ()),
    TensorSpec("temperature", "float32", (), per_step=False),
    TensorSpec("top_k", "int32", (), per_step=False),
    TensorSpec("stop", "int32", (), per_step=False),
)


@dataclass(frozen=True, slots=True)
class Draw:
    """How many values rows emit, and how the values are drawn.

    Attributes:
        steps: N, values at most.
        remaining: int32 [rows], values that each row still emits.
        noise: float32 [N, rows], uniform in [0, 1).
        temperature: float32 [rows], as in `Sampling`.
        top_k: int32 [rows], as in `Sampling`.
        stop: int32 [rows], the token that ends a row: emitted and not consumed; -1: none.

    All but `steps` and `remaining` are unused for real values.
    """

    steps: int
    remaining: NDArray[np.int32]
    noise: NDArray[np.float32]
    temperature: NDArray[np.float32]
    top_k: NDArray[np.int32]
    stop: NDArray[np.int32]

    def rows(self, chosen: slice) -> "Draw":
        """Returns some of the rows."""
        return Draw(
            self.steps,
            self.remaining[chosen],
            self.noise[:, chosen],
            self.temperature[chosen],
            self.top_k[chosen],
            self.stop[chosen],
        )


class DecodeLoop(Protocol):
    """Generates from states."""

    @property
    def spec(self) -> GenerateSpec:
        """What the loop emits."""

    @property
    def engine(self) -> Engine:
        """Runs the graph of the loop; `minimum_rows` decides whether a single row is exact."""

    def with_minimum_rows(self, rows: int) -> "DecodeLoop":
        """Returns the same loop, whose engine fills runs up to so many rows."""

    def run(self, state: Sequence[Array], draw: Draw) -> tuple[Array, list[Array]]:
        """Emits values.

        Args:
            state: [rows, ...] for each state that sessions keep.
            draw: How many values rows emit, and how.

        Returns:
            Values [N', rows, *shape], N' being the values of the row that went on for longest; NOTHING, or 0
            for real values, where a row had ended. And the states after the values.

        Raises:
            EngineError: onnxruntime failed.
        """


class GraphDecodeLoop:
    """The loop inside generate.onnx.

    Args:
        engine: The graph, loaded as `generator_spec` describes it.
        spec: What the graph emits.
    """

    def __init__(self, engine: Engine, spec: GenerateSpec) -> None:
        self.engine = engine
        self.spec = spec

    def with_minimum_rows(self, rows: int) -> "GraphDecodeLoop":
        """See DecodeLoop."""
        return GraphDecodeLoop(self.engine.with_minimum_rows(rows), self.spec)

    def run(self, state: Sequence[Array], draw: Draw) -> tuple[Array, list[Array]]:
        """See DecodeLoop."""
        inputs: list[Array] = [draw.remaining]
        if self.spec.sampled:
            inputs += [draw.noise, draw.temperature, draw.top_k, draw.stop]
        outputs, after = self.engine.run(inputs, np.ones(len(draw.remaining), np.int32), state)
        return outputs[0], after


class HostDecodeLoop:
    """The loop around model.onnx, which runs one step at a time.

    Args:
        engine: The read graph, which keeps its last output among its states.
        spec: What the loop emits.
    """

    def __init__(self, engine: "RecallingEngine", spec: GenerateSpec) -> None:
        self.engine = engine
        self.spec = spec
        self._inputs = engine.spec.inputs

    def with_minimum_rows(self, rows: int) -> "HostDecodeLoop":
        """See DecodeLoop."""
        return HostDecodeLoop(self.engine.with_minimum_rows(rows), self.spec)

    def run(self, state: Sequence[Array], draw: Draw) -> tuple[Array, list[Array]]:
        """See DecodeLoop."""
        spec = self.spec
        now = [array.copy() for array in state]
        left = draw.remaining.copy()
        shape = (draw.steps, len(left), *spec.emitted.shape)
        emitted = np.full(shape, NOTHING if spec.sampled else 0, DTYPES[spec.emitted.dtype])
        for step in range(draw.steps):
            going = np.flatnonzero(left > 0)
            if not len(going):
                return emitted[:step], now
            values = now[-1][going]
            if spec.sampled:
                temperature, top_k = draw.temperature[going], draw.top_k[going]
                values = draw_tokens(values, draw.noise[step, going], temperature, top_k)
            emitted[step, going] = values
            consumes = values != draw.stop[going] if spec.sampled else np.ones(len(going), np.bool_)
            left[going] = np.where(consumes, left[going] - 1, 0)
            now = self._consume(now, going[consumes], emitted[step])
        return emitted, now

    def _consume(self, state: list[Array], rows: NDArray[np.intp], values: Array) -> list[Array]:
        """The states after some rows have consumed their values, [all rows, ...]; may write into `state`."""
        if not len(rows):
            return state
        inputs, lengths = self._step_inputs(values[rows]), np.ones(len(rows), np.int32)
        if len(rows) == len(values):
            return self.engine.run(inputs, lengths, state)[1]
        _, after = self.engine.run(inputs, lengths, [array[rows] for array in state])
        for kept, array in zip(state, after, strict=True):
            kept[rows] = array
        return state

    def _step_inputs(self, values: Array) -> list[Array]:
        """One time step of every input: `values` for the one that is fed back, defaults for the others."""
        return [
            values[None].astype(DTYPES[entry.dtype], copy=False)
            if entry.name == self.spec.input
            else np.full(padded_shape(entry, len(values), 1), entry.default, DTYPES[entry.dtype])
            for entry in self._inputs
        ]


class RecallingEngine(Engine):
    """A read graph that counts its last output among its states, for models that are fed back from outside.

    So copying or restoring a session's state also copies or restores what the session generates from.
    Arguments as of Engine.
    """

    def __init__(self, path: Path, spec: ModelSpec, *rest: Any, **options: Any) -> None:
        super().__init__(path, spec, *rest, **options)
        last = spec.outputs[0]
        name = "last"
        while name in {pair.input for pair in spec.state}:
            name += "_"
        self.spec = replace(spec, state=(*spec.state, StatePair(name, name, last.dtype, last.shape)))

    def run(
        self, inputs: Sequence[Array], lengths: NDArray[np.int32], state: Sequence[Array]
    ) -> tuple[list[Array], list[Array]]:
        """Runs a batch like `Engine.run`; ignores the last state's input."""
        outputs, successors = super().run(inputs, lengths, state[:-1])
        last = outputs[0][lengths - 1, np.arange(len(lengths))]
        return outputs, [*successors, last]


def load_engine(path: Path, spec: ModelSpec, *rest: Any, **options: Any) -> Engine:
    """Loads a read graph, or another graph described like one. Arguments and errors as of Engine."""
    fed_from_outside = spec.generate is not None and not spec.generate.graph
    return (RecallingEngine if fed_from_outside else Engine)(path, spec, *rest, **options)


def generator_spec(spec: ModelSpec, generate: GenerateSpec) -> ModelSpec:
    """Describes generate.onnx like a read graph: takes one value a row, gives values a step."""
    return ModelSpec(
        inputs=(_REMAINING, *_SAMPLING) if generate.sampled else (_REMAINING,),
        outputs=(generate.emitted,),
        state=spec.state,
        call_shapes=(CallShape.ONE_TO_MANY,),
    )
