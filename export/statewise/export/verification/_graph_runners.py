"""Runs the graphs of a package in onnxruntime for verification, one call at a time.

Unlike the server's engine, knows no batching and no sessions. Refuses an empty batch, which kills the process
in onnxruntime, and a row of length 0, which would erase the row's state.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime

from statewise.export.base import OPTIMISATION_LEVELS, Array, PackageError, run_options
from statewise.export.graphs import NOISE, REMAINING, STOP, TEMPERATURE, TOP_K
from statewise.export.package import ENCODER_GRAPH, GENERATOR_GRAPH, READ_GRAPH, Package

_LOG_FATAL = 4


class GraphRunner:
    """Runs one graph of a package; every call names the batch axis of each tensor.

    Args:
        package: The package.
        file: Name of the graph's file.
        threads: Threads of onnxruntime for one operator.
        least_rows: Smaller batches are filled up with copies of their last row. Servers do so for graphs that
            are inexact only because a matrix product of one row takes another path.

    Raises:
        PackageError: onnxruntime cannot load the graph.
    """

    def __init__(self, package: Package, file: str, *, threads: int = 1, least_rows: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = _LOG_FATAL
        options.graph_optimization_level = OPTIMISATION_LEVELS[package.optimisation]
        self._path = package.path
        self._least_rows = least_rows
        try:
            self._session = onnxruntime.InferenceSession(
                package.files[file].content, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            # onnxruntime raises a dozen unrelated types, and plain RuntimeError.
            raise PackageError(
                package.path, f"onnxruntime cannot load {file}: {_first_line(error)}"
            ) from None

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
        chosen = np.minimum(np.arange(max(rows, self._least_rows)), rows - 1)
        feed = {
            name: np.ascontiguousarray(array.take(chosen, axis)) for name, (array, axis) in inputs.items()
        }
        try:
            with run_options() as options:
                found = self._session.run([name for name, _ in outputs], feed, options)
        except Exception as error:
            raise PackageError(self._path, f"onnxruntime cannot run it: {_first_line(error)}") from None
        return [array.take(chosen[:rows], axis) for array, (_, axis) in zip(found, outputs, strict=True)]


class ReadGraphRunner:
    """Runs the read graph of a package. Arguments as of GraphRunner.

    Raises:
        PackageError: onnxruntime cannot load the graph.
    """

    def __init__(self, package: Package, *, threads: int = 1, least_rows: int = 1) -> None:
        spec = self._spec = package.spec
        self._graph = GraphRunner(package, READ_GRAPH, threads=threads, least_rows=least_rows)
        self._outputs = [(tensor.name, int(tensor.per_step)) for tensor in spec.outputs]
        self._outputs += [(pair.output, pair.batch_axis) for pair in spec.state]

    def run(
        self, inputs: Sequence[Array], lengths: Array, state: Sequence[Array]
    ) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        """Runs the graph.

        Args:
            inputs: [T, B, ...], or [B, ...] where an input is not per step; one for each of the spec's.
            lengths: int [B], each at least 1.
            state: [B, ...]; one for each of the spec's.

        Returns:
            The outputs, [T, B, ...] or [B, ...], and the states after each row's last valid step.

        Raises:
            ValueError: an empty batch, or a length below 1.
            PackageError: onnxruntime fails.
        """
        if not len(lengths) or min(lengths) < 1:
            raise ValueError(f"expected at least one row, of at least one step; got lengths {list(lengths)}")
        spec = self._spec
        feed = {
            tensor.name: (array, int(tensor.per_step))
            for tensor, array in zip(spec.inputs, inputs, strict=True)
        }
        if spec.lengths is not None:
            feed[spec.lengths] = (np.asarray(lengths, np.int32), 0)
        for pair, array in zip(spec.state, state, strict=True):
            feed[pair.input] = (np.moveaxis(array, 0, pair.batch_axis), pair.batch_axis)
        found = self._graph.run(len(lengths), feed, self._outputs)
        after = zip(spec.state, found[len(spec.outputs) :], strict=True)
        return (
            tuple(found[: len(spec.outputs)]),
            tuple(np.moveaxis(array, pair.batch_axis, 0) for pair, array in after),
        )


class EncoderRunner:
    """Runs the encoder graph of a package. Arguments and errors as of GraphRunner."""

    def __init__(self, package: Package, *, threads: int = 1, least_rows: int = 1) -> None:
        assert package.spec.encode is not None, "the caller has looked"
        self._spec = package.spec.encode
        self._graph = GraphRunner(package, ENCODER_GRAPH, threads=threads, least_rows=least_rows)

    def run(self, x: Array, lengths: Array) -> Array:
        """Returns the state [B, S] after x [T, B, ...] of these lengths [B]."""
        inputs = {self._spec.inputs[0].name: (x, 1)}
        if self._spec.lengths is not None:
            inputs[self._spec.lengths] = (np.asarray(lengths, np.int32), 0)
        return self._graph.run(len(lengths), inputs, [(name, 0) for name in self._spec.state])[0]


@dataclass(frozen=True)
class GeneratorFeed:
    """How many values to generate and how to draw them, [B] each; `noise` [N, B]."""

    remaining: Array
    noise: Array
    temperature: Array
    top_k: Array
    stop: Array

    def rows(self, chosen: Sequence[int]) -> "GeneratorFeed":
        """Returns some of the rows."""
        return GeneratorFeed(
            self.remaining[chosen],
            self.noise[:, chosen],
            self.temperature[chosen],
            self.top_k[chosen],
            self.stop[chosen],
        )


class GeneratorRunner:
    """Runs the generator graph of a package. Arguments and errors as of GraphRunner."""

    def __init__(self, package: Package, *, threads: int = 1, least_rows: int = 1) -> None:
        assert package.spec.generate is not None, "the caller has looked"
        self._spec = package.spec.generate
        self._state = package.spec.state[0]
        self._graph = GraphRunner(package, GENERATOR_GRAPH, threads=threads, least_rows=least_rows)

    def run(self, state: Array, feed: GeneratorFeed) -> tuple[Array, Array]:
        """Returns the values [N, B, ...] emitted from a state [B, S], and the state after them."""
        inputs = {
            self._state.input: (state, self._state.batch_axis),
            REMAINING: (feed.remaining.astype(np.int32), 0),
        }
        if self._spec.sampled:
            inputs[NOISE] = (feed.noise.astype(np.float32), 1)
            inputs[TEMPERATURE] = (feed.temperature.astype(np.float32), 0)
            inputs[TOP_K] = (feed.top_k.astype(np.int32), 0)
            inputs[STOP] = (feed.stop.astype(np.int32), 0)
        outputs = [(self._spec.emitted.name, 1), (self._state.output, self._state.batch_axis)]
        emitted, after = self._graph.run(len(feed.remaining), inputs, outputs)
        return emitted, after


def _first_line(error: Exception) -> str:
    """Returns the first line of an error's message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
