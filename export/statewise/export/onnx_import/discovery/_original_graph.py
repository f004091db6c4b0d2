"""Runs a foreign graph as it was found, one row at a time: the reference that an import is compared with.

Shares no code with the wrapped graph: NumPy exchanges the axes here, and a loop in Python runs the steps.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from statewise.export.base import OPTIMISATION_LEVELS, Array, SourceError, run_options
from statewise.export.onnx_import.discovery._graph_tensor import GraphAxes, TensorAxes
from statewise.export.onnx_import.discovery._tensor_roles import TensorRoles

_RUN_LIMIT_S = 60.0  # of a run of a few steps
_LOG_FATAL = 4


class OriginalGraph:
    """A loaded foreign graph.

    Args:
        path: Named in errors.
        content: The serialised model.
        optimisation: A level of OPTIMISATION_LEVELS.

    Raises:
        SourceError: onnxruntime cannot load the graph.
    """

    def __init__(self, path: Path, content: bytes, optimisation: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = _LOG_FATAL
        options.graph_optimization_level = OPTIMISATION_LEVELS[optimisation]
        try:
            self._session: Any = onnxruntime.InferenceSession(
                content, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise SourceError(path, f"onnxruntime cannot load it: {first_line(error)}") from None
        self._inputs = {entry.name for entry in self._session.get_inputs()}
        self._outputs = {entry.name for entry in self._session.get_outputs()}

    def run(self, feed: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """Runs the graph; raises what onnxruntime raises. Inputs that the graph does not have are left
        out.
        """
        known = {name: np.asarray(array, order="C") for name, array in feed.items() if name in self._inputs}
        with run_options(_RUN_LIMIT_S) as options:
            found: list[Array] = self._session.run(list(outputs), known, options)
        return found

    def run_row(
        self, roles: TensorRoles, axes: GraphAxes, inputs: Sequence[Array], state: Sequence[Array], steps: int
    ) -> tuple[list[Array], list[Array]]:
        """Runs one row.

        Args:
            roles: Roles of the graph's inputs and outputs.
            axes: Axes of the graph's inputs and outputs.
            inputs: [T, ...], or [...] where an input has no time axis and the graph takes many steps.
            state: [...], one for each of the roles' states.
            steps: T.

        Returns:
            Outputs [T, ...] or [...], and states [...]; no states where the graph hides them.
        """
        if not axes.one_step:
            return self._run_once(roles, axes, inputs, state, steps)
        every = []
        for step in range(steps):
            outputs, state = self._run_once(roles, axes, [array[step] for array in inputs], state, 1)
            every.append(outputs)
        return [np.stack(values) for values in zip(*every, strict=True)], list(state)

    def _run_once(
        self, roles: TensorRoles, axes: GraphAxes, inputs: Sequence[Array], state: Sequence[Array], steps: int
    ) -> tuple[list[Array], list[Array]]:
        feed = {
            entry.name: entry.to_foreign(_with_rows(entry, array))
            for entry, array in zip((*axes.inputs, *axes.state), (*inputs, *state), strict=True)
        }
        if roles.lengths is not None:
            feed[roles.lengths.name] = np.full(1, steps, roles.lengths.dtype)
        names = [entry.name for entry in axes.outputs] + [
            match.output.name for match in roles.state if match.output.name in self._outputs
        ]
        found = self.run(feed, names)
        back = [
            _without_rows(entry, entry.to_package(array))
            for entry, array in zip((*axes.outputs, *axes.state), found, strict=False)
        ]
        return back[: len(axes.outputs)], back[len(axes.outputs) :]


def _with_rows(axes: TensorAxes, array: Array) -> Array:
    """Returns a row's array with an axis for a batch of one, where the tensor has a batch axis."""
    return array if axes.batch is None else np.expand_dims(array, axes.order.index(axes.batch))


def _without_rows(axes: TensorAxes, array: Array) -> Array:
    return array if axes.batch is None else array.squeeze(axes.order.index(axes.batch))


def first_line(error: Exception) -> str:
    """Returns the first line of an error's message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
