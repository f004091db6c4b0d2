"""Runs one graph in onnxruntime: (inputs, state) -> (outputs, state).

No gRPC, no asyncio, no sessions. An engine is immutable and may run in several threads at once. An empty
batch or an empty row never reaches onnxruntime: the first would end the process, the second would erase a
state.
"""

from collections.abc import Sequence
from copy import copy
from enum import StrEnum
from pathlib import Path
from typing import Self

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from statewise.service.base import Array, take_padded
from statewise.service.engine._adapters import ForeignSession
from statewise.service.engine._layout import GraphLayout
from statewise.service.engine._load_errors import why_not_loaded
from statewise.wire import ModelSpec


class EngineError(Exception):
    """onnxruntime could not load or run the graph. What it says of a run is for the log alone."""


PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
"""onnxruntime's names for what a graph can run on."""


class Optimisation(StrEnum):
    """How far onnxruntime rewrites a graph when it loads the graph; the most first."""

    ALL = "all"
    EXTENDED = "extended"
    BASIC = "basic"
    NONE = "none"


_LEVELS = {
    Optimisation.ALL: ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    Optimisation.EXTENDED: ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    Optimisation.BASIC: ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    Optimisation.NONE: ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}


def check_provider(provider: str) -> None:
    """Raises EngineError where onnxruntime lacks the provider: it would silently run on the CPU."""
    available = ort.get_available_providers()
    if PROVIDERS[provider] not in available:
        raise EngineError(
            f"execution_provider = {provider!r}: expected one of {', '.join(available)}; "
            f"{PROVIDERS[provider]} needs onnxruntime-gpu"
        )


class Engine:
    """One loaded graph.

    Args:
        path: The .onnx file.
        spec: What the graph's inputs and outputs mean.
        layout: Where batch and time lie, for a graph that is not in the form of packages.
        intra_op_threads: Threads within one run.
        provider: What the graph runs on, one of PROVIDERS.
        optimisation: How far onnxruntime rewrites the graph.

    Raises:
        EngineError: onnxruntime cannot load the file, or does not have the provider.
    """

    def __init__(
        self,
        path: Path,
        spec: ModelSpec,
        layout: GraphLayout | None = None,
        *,
        intra_op_threads: int = 1,
        provider: str = "cpu",
        optimisation: Optimisation = Optimisation.ALL,
    ) -> None:
        check_provider(provider)
        options = ort.SessionOptions()
        options.graph_optimization_level = _LEVELS[optimisation]
        options.intra_op_num_threads = intra_op_threads
        options.inter_op_num_threads = 1
        # Waiting threads would spin through the pauses between the steps of a stream.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            session = ort.InferenceSession(str(path), options, providers=[PROVIDERS[provider]])
        except Exception as error:
            why = why_not_loaded(error)
            raise EngineError(f"{path.name}: onnxruntime cannot load it: {why}") from error
        self._session = session if layout is None else ForeignSession(session, spec, layout)
        self.spec = spec
        self._minimum_rows = 1
        self._input_names = [entry.name for entry in spec.inputs]
        self._state_names = [pair.input for pair in spec.state]
        self._output_names = [entry.name for entry in spec.outputs] + [pair.output for pair in spec.state]

    @property
    def minimum_rows(self) -> int:
        """Runs of fewer rows are filled up with copies of the last row (see `profile_engine`)."""
        return self._minimum_rows

    def with_minimum_rows(self, rows: int) -> Self:
        """Returns the same loaded graph, whose runs are filled up to so many rows."""
        engine = copy(self)
        engine._minimum_rows = rows
        return engine

    def run(
        self, inputs: Sequence[Array], lengths: NDArray[np.int32], state: Sequence[Array]
    ) -> tuple[list[Array], list[Array]]:
        """Runs a batch from given states.

        Args:
            inputs: In the spec's order; per-step ones time-major [T, B, ...], others [B, ...].
            lengths: Time steps of each row, [B], each from 1 to T.
            state: In the spec's order, [B, ...].

        Returns:
            Outputs ([T, B, ...] or [B, ...]; past a row's length they mean nothing) and successor states.

        Raises:
            ValueError: no rows, or a row without steps.
            EngineError: onnxruntime failed.
        """
        rows = len(lengths)
        if rows == 0 or not lengths.all():
            raise ValueError("a run has at least one row, and each row at least one time step")
        missing = self._minimum_rows - rows
        if missing > 0:
            inputs = [
                _fill(array, 1 if entry.per_step else 0, missing)
                for array, entry in zip(inputs, self.spec.inputs, strict=True)
            ]
            lengths = _fill(lengths, 0, missing)
            state = [_fill(array, 0, missing) for array in state]
        feeds: dict[str, Array] = dict(zip(self._input_names, inputs, strict=True))
        feeds.update(zip(self._state_names, state, strict=True))
        if self.spec.lengths is not None:
            feeds[self.spec.lengths] = lengths
        try:
            results = self._session.run(self._output_names, feeds)
        except Exception as error:
            raise EngineError(str(error)) from error
        outputs = results[: len(self.spec.outputs)]
        successors = results[len(self.spec.outputs) :]
        if missing > 0:
            outputs = take_padded(self.spec.outputs, outputs, slice(0, rows))
            successors = [array[:rows] for array in successors]
        return outputs, successors


def _fill(array: Array, axis: int, missing: int) -> Array:
    last = np.take(array, [-1], axis=axis)
    return np.concatenate([array, np.repeat(last, missing, axis=axis)], axis=axis)
