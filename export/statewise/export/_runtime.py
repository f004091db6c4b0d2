"""A read graph in onnxruntime, for verification: one call, no batching, no sessions.

Not the server's engine. It never hands onnxruntime an empty batch, which kills the process, nor a row of
length 0, which would erase the row's state.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from statewise.export._errors import PackageError
from statewise.wire import ModelSpec

Array = NDArray[Any]

_LOG_FATAL = 4


class ReadGraph:
    """A loaded read graph.

    Args:
        content: The .onnx file's bytes.
        spec: What the graph declares.
        path: Named in errors.
        threads: Threads of onnxruntime for one operator.
        least_rows: Smaller batches are filled up with copies of their last row, as servers do for graphs
            that are inexact only in the one-row path of a matrix product.

    Raises:
        PackageError: onnxruntime cannot load the graph, or it has several inputs, outputs or states.
    """

    def __init__(
        self, content: bytes, spec: ModelSpec, *, path: Path, threads: int = 1, least_rows: int = 1
    ) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = _LOG_FATAL
        if len(spec.inputs) != 1 or len(spec.outputs) != 1 or len(spec.state) > 1:
            raise PackageError(
                path, "expected one input, one output and at most one state; the graph has more"
            )
        self._spec = spec
        self._path = path
        self._least_rows = least_rows
        self._outputs = [tensor.name for tensor in spec.outputs] + [pair.output for pair in spec.state]
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            # onnxruntime raises a dozen unrelated types, and plain RuntimeError.
            raise PackageError(path, f"onnxruntime cannot load it: {first_line(error)}") from None

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
        rows = len(lengths)
        # The last row again, as often as rows are missing.
        chosen = np.minimum(np.arange(max(rows, self._least_rows)), rows - 1)
        source = self._spec.inputs[0]
        feed: dict[str, Array] = {source.name: np.ascontiguousarray(_rows(x, source.per_step, chosen))}
        if self._spec.lengths is not None:
            feed[self._spec.lengths] = np.asarray(lengths, np.int32)[chosen]
        if state is not None:
            feed[self._spec.state[0].input] = np.ascontiguousarray(state[chosen])
        try:
            y, *after = self._session.run(self._outputs, feed)
        except Exception as error:
            raise PackageError(self._path, f"onnxruntime cannot run it: {first_line(error)}") from None
        y = _rows(y, self._spec.outputs[0].per_step, chosen[:rows])
        return y, after[0][:rows] if after else None


def _rows(array: Array, per_step: bool, chosen: Array) -> Array:
    """Rows of [T, B, ...] or [B, ...]."""
    return array[:, chosen] if per_step else array[chosen]


def first_line(error: Exception) -> str:
    """The first line of a message, for messages of one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
