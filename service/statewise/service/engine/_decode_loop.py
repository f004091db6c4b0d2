"""Feeding a model its own output: in the graph that was written for it, or step by step from outside.

Both do what `GenerateSpec` says and give the same values. No seeds, texts or sessions: numbers and states
come in and go out, and a run that fails has changed nothing. Immutable; may run in several threads.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import Array
from statewise.service.engine._engine import Engine
from statewise.service.engine._sampling import draw_tokens
from statewise.wire import DTYPES, CallShape, GenerateSpec, ModelSpec, StatePair, TensorSpec

NOTHING = -1
"""Stands where a row that had ended would have drawn a token."""

_REMAINING = TensorSpec("remaining", "int32", (), per_step=False)
_SAMPLING = (
    TensorSpec("noise", "float32", ()),
    TensorSpec("temperature", "float32", (), per_step=False),
    TensorSpec("top_k", "int32", (), per_step=False),
    TensorSpec("stop", "int32", (), per_step=False),
)


@dataclass(frozen=True, slots=True)
class Draw:
    """What rows emit, and how.

    Attributes:
        steps: N, values at most.
        remaining: int32 [rows], values that each row still emits.
        noise: float32 [N, rows], uniform in [0, 1). The others: as in `Sampling`; unused for real values.
        temperature: float32 [rows].
        top_k: int32 [rows].
        stop: int32 [rows]: emitted, not consumed, and ends its row; -1: none.
    """

    steps: int
    remaining: NDArray[np.int32]
    noise: NDArray[np.float32]
    temperature: NDArray[np.float32]
    top_k: NDArray[np.int32]
    stop: NDArray[np.int32]

    def rows(self, chosen: slice) -> "Draw":
        """Some of the rows."""
        return Draw(
            self.steps,
            self.remaining[chosen],
            self.noise[:, chosen],
            self.temperature[chosen],
            self.top_k[chosen],
            self.stop[chosen],
        )


class DecodeLoop(Protocol):
    """What generates."""

    @property
    def spec(self) -> GenerateSpec:
        """What is emitted."""

    @property
    def engine(self) -> Engine:
        """Whose `minimum_rows` decides whether lone rows are exact."""

    def run(self, state: Sequence[Array], draw: Draw) -> tuple[Array, list[Array]]:
        """Lets rows emit.

        Args:
            state: [rows, ...] for each state that sessions keep.
            draw: What they emit, and how.

        Returns:
            Values [N', rows, *shape], N' being those of the row that went on for longest; NOTHING, or 0 for
            real values, where a row had ended. And the states after them.

        Raises:
            EngineError: onnxruntime failed.
        """


class GraphDecodeLoop:
    """The loop within generate.onnx.

    Args:
        engine: The graph, loaded as `write_spec` describes it.
        spec: What it emits.
    """

    def __init__(self, engine: Engine, spec: GenerateSpec) -> None:
        self.engine = engine
        self.spec = spec

    def run(self, state: Sequence[Array], draw: Draw) -> tuple[Array, list[Array]]:
        """See Feedback."""
        inputs: list[Array] = [draw.remaining]
        if self.spec.sampled:
            inputs += [draw.noise, draw.temperature, draw.top_k, draw.stop]
        outputs, after = self.engine.run(inputs, np.ones(len(draw.remaining), np.int32), state)
        return outputs[0], after


class HostDecodeLoop:
    """The loop around model.onnx.

    Args:
        engine: The read graph, which keeps its last output among its states.
        spec: What is emitted.
    """

    def __init__(self, engine: "RecallingEngine", spec: GenerateSpec) -> None:
        self.engine: Engine = engine
        self.spec = spec
        self._inputs = engine.spec.inputs

    def run(self, state: Sequence[Array], draw: Draw) -> tuple[Array, list[Array]]:
        """See Feedback."""
        spec = self.spec
        now = [array.copy() for array in state]
        left = draw.remaining.copy()
        shape = (draw.steps, len(left), *spec.emitted.shape)
        emitted = np.full(shape, NOTHING if spec.sampled else 0, DTYPES[spec.emitted.dtype])
        for step in range(draw.steps):
            going = np.flatnonzero(left > 0)
            if not len(going):
                return emitted[:step], now
            last = now[-1][going]
            if spec.sampled:
                last = draw_tokens(last, draw.noise[step, going], draw.temperature[going], draw.top_k[going])
            emitted[step, going] = last
            consumes = last != draw.stop[going] if spec.sampled else np.ones(len(going), np.bool_)
            left[going] = np.where(consumes, left[going] - 1, 0)
            going = going[consumes]
            if len(going):
                inputs = self._fed_back(emitted[step, going])
                whole = len(going) == len(left)
                before = now if whole else [array[going] for array in now]
                _, after = self.engine.run(inputs, np.ones(len(going), np.int32), before)
                if whole:
                    now = after
                else:
                    for kept, new in zip(now, after, strict=True):
                        kept[going] = new
        return emitted, now

    def _fed_back(self, values: Array) -> list[Array]:
        """One time step of every input: the values, and defaults."""
        rows = len(values)
        return [
            values[None].astype(DTYPES[entry.dtype], copy=False)
            if entry.name == self.spec.input
            else np.full((1, rows, *entry.shape) if entry.per_step else (rows, *entry.shape), entry.default)
            .astype(DTYPES[entry.dtype])
            for entry in self._inputs
        ]  # fmt: skip


class RecallingEngine(Engine):
    """A read graph that counts its last output among its states, for models that are fed back from outside.

    So whoever copies, keeps or restores a session's state keeps what it generates from. Arguments as of
    Engine.
    """

    def __init__(self, path: Path, spec: ModelSpec, *rest: Any, **options: Any) -> None:
        super().__init__(path, spec, *rest, **options)
        last = spec.outputs[0]
        self.spec = replace(spec, state=(*spec.state, StatePair("last", "last", last.dtype, last.shape)))

    def run(
        self, inputs: Sequence[Array], lengths: NDArray[np.int32], state: Sequence[Array]
    ) -> tuple[list[Array], list[Array]]:
        """As of Engine; the last state's input is not looked at."""
        outputs, successors = super().run(inputs, lengths, state[:-1])
        last = outputs[0][lengths - 1, np.arange(len(lengths))]
        return outputs, [*successors, last]


def load_engine(path: Path, spec: ModelSpec, *rest: Any, **options: Any) -> Engine:
    """The read graph of a model, or another graph described like one. Arguments and errors as of Engine."""
    outside = spec.generate is not None and not spec.generate.graph
    return (RecallingEngine if outside else Engine)(path, spec, *rest, **options)


def write_spec(spec: ModelSpec, generate: GenerateSpec) -> ModelSpec:
    """The graph generate.onnx, described like a read graph: one value a row in, values a step out."""
    return ModelSpec(
        inputs=(_REMAINING, *_SAMPLING) if generate.sampled else (_REMAINING,),
        outputs=(generate.emitted,),
        state=spec.state,
        call_shapes=(CallShape.ONE_TO_MANY,),
    )
