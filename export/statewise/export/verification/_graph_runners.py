"""The graphs of a package in onnxruntime, for verification: one call, no batching, no sessions.

Not the server's engine. It never hands onnxruntime an empty batch, which kills the process, nor a row of
length 0, which would erase the row's state.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from statewise.export.base import PackageError, limited_run
from statewise.export.graphs import NOISE, REMAINING, STOP, TEMPERATURE, TOP_K
from statewise.export.package import ENCODE_GRAPH, READ_GRAPH, WRITE_GRAPH, Package

Array = NDArray[Any]

_LOG_FATAL = 4


class LoadedGraph:
    """One graph of a package, loaded; tensors come and go with the axis that rows lie along.

    Args:
        package: The package.
        file: Which of its graphs.
        threads: Threads of onnxruntime for one operator.
        least_rows: Smaller batches are filled up with copies of their last row, as servers do for graphs
            that are inexact only in the one-row path of a matrix product.

    Raises:
        PackageError: onnxruntime cannot load the graph.
    """

    def __init__(self, package: Package, file: str, *, threads: int = 1, least_rows: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = _LOG_FATAL
        self._path = package.path
        self._least_rows = least_rows
        try:
            self._session = onnxruntime.InferenceSession(
                package.files[file].content, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            # onnxruntime raises a dozen unrelated types, and plain RuntimeError.
            raise PackageError(package.path, f"onnxruntime cannot load {file}: {first_line(error)}") from None

    def run(
        self, rows: int, inputs: dict[str, tuple[Array, int]], outputs: Sequence[tuple[str, int]]
    ) -> list[Array]:
        """Runs the graph.

        Args:
            rows: B.
            inputs: Arrays by name, each with its batch axis.
            outputs: Names, each with its batch axis.

        Raises:
            ValueError: an empty batch.
            PackageError: onnxruntime fails.
        """
        if rows < 1:
            raise ValueError("expected at least one row; got none")
        # The last row again, as often as rows are missing.
        chosen = np.minimum(np.arange(max(rows, self._least_rows)), rows - 1)
        feed = {
            name: np.ascontiguousarray(array.take(chosen, axis)) for name, (array, axis) in inputs.items()
        }
        try:
            with limited_run() as options:
                found = self._session.run([name for name, _ in outputs], feed, options)
        except Exception as error:
            raise PackageError(self._path, f"onnxruntime cannot run it: {first_line(error)}") from None
        return [array.take(chosen[:rows], axis) for array, (_, axis) in zip(found, outputs, strict=True)]


class ReadGraph:
    """The read graph of a package. Arguments and errors as of LoadedGraph.

    Raises:
        PackageError: the graph has several inputs, outputs or states, too.
    """

    def __init__(self, package: Package, *, threads: int = 1, least_rows: int = 1) -> None:
        spec = package.spec
        if len(spec.inputs) != 1 or len(spec.outputs) != 1 or len(spec.state) > 1:
            raise PackageError(
                package.path, "expected one input, one output and at most one state; the graph has more"
            )
        self._spec = spec
        self._graph = LoadedGraph(package, READ_GRAPH, threads=threads, least_rows=least_rows)
        self._outputs = [(tensor.name, int(tensor.per_step)) for tensor in spec.outputs]
        self._outputs += [(pair.output, pair.batch_axis) for pair in spec.state]

    def run(self, x: Array, lengths: Array, state: Array | None) -> tuple[Array, Array | None]:
        """Runs the graph.

        Args:
            x: [T, B, ...], or [B, ...] for a one-to-one graph.
            lengths: int [B], each at least 1.
            state: [B, S], or None for a graph without state.

        Returns:
            y [T, B, O] or [B, O], and the state after each row's last valid step (or None).

        Raises:
            ValueError: an empty batch, or a length below 1.
            PackageError: onnxruntime fails.
        """
        if not len(lengths) or min(lengths) < 1:
            raise ValueError(f"expected at least one row, of at least one step; got lengths {list(lengths)}")
        source = self._spec.inputs[0]
        inputs = {source.name: (x, int(source.per_step))}
        if self._spec.lengths is not None:
            inputs[self._spec.lengths] = (np.asarray(lengths, np.int32), 0)
        if state is not None:
            inputs[self._spec.state[0].input] = (state, self._spec.state[0].batch_axis)
        y, *after = self._graph.run(len(lengths), inputs, self._outputs)
        return y, after[0] if after else None


class EncodeGraph:
    """The encoder of a package. Arguments and errors as of LoadedGraph."""

    def __init__(self, package: Package, *, threads: int = 1, least_rows: int = 1) -> None:
        assert package.spec.encode is not None, "asked for by the caller"
        self._spec = package.spec.encode
        self._graph = LoadedGraph(package, ENCODE_GRAPH, threads=threads, least_rows=least_rows)

    def run(self, x: Array, lengths: Array) -> Array:
        """The state [B, S] that x [T, B, ...] of these lengths [B] leaves."""
        inputs = {self._spec.inputs[0].name: (x, 1)}
        if self._spec.lengths is not None:
            inputs[self._spec.lengths] = (np.asarray(lengths, np.int32), 0)
        return self._graph.run(len(lengths), inputs, [(name, 0) for name in self._spec.state])[0]


@dataclass(frozen=True)
class Draw:
    """How values are drawn, a number a row; `noise` [N, B]."""

    remaining: Array
    noise: Array
    temperature: Array
    top_k: Array
    stop: Array

    def rows(self, chosen: Sequence[int]) -> "Draw":
        """Some of the rows."""
        return Draw(
            self.remaining[chosen],
            self.noise[:, chosen],
            self.temperature[chosen],
            self.top_k[chosen],
            self.stop[chosen],
        )


class WriteGraph:
    """The write graph of a package. Arguments and errors as of LoadedGraph."""

    def __init__(self, package: Package, *, threads: int = 1, least_rows: int = 1) -> None:
        assert package.spec.generate is not None, "asked for by the caller"
        self._spec = package.spec.generate
        self._state = package.spec.state[0]
        self._graph = LoadedGraph(package, WRITE_GRAPH, threads=threads, least_rows=least_rows)

    def run(self, state: Array, draw: Draw) -> tuple[Array, Array]:
        """The values emitted [N, B, ...] from a state [B, S], and the state after them."""
        inputs = {
            self._state.input: (state, self._state.batch_axis),
            REMAINING: (draw.remaining.astype(np.int32), 0),
        }
        if self._spec.sampled:
            inputs[NOISE] = (draw.noise.astype(np.float32), 1)
            inputs[TEMPERATURE] = (draw.temperature.astype(np.float32), 0)
            inputs[TOP_K] = (draw.top_k.astype(np.int32), 0)
            inputs[STOP] = (draw.stop.astype(np.int32), 0)
        outputs = [(self._spec.emitted.name, 1), (self._state.output, self._state.batch_axis)]
        emitted, after = self._graph.run(len(draw.remaining), inputs, outputs)
        return emitted, after


def first_line(error: Exception) -> str:
    """The first line of a message, for messages of one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
