"""Proves that a wrapped graph computes what its file computes, before anything is published.

The wrapped graph runs as servers run it: in batches of two sizes, of sequences of two lengths, at once and
in chunks. The reference is the file, one row at a time (`_original_graph`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from statewise.export.base import Array, PackageError, SourceError
from statewise.export.onnx_import.discovery import (
    AxesError,
    GraphAxes,
    OriginalGraph,
    TensorRoles,
    TrialSizes,
    first_line,
)
from statewise.export.package import READ_GRAPH, Package, check_graph, metadata_problems
from statewise.export.verification import (
    RandomBatch,
    ReadGraphRunner,
    ReadResult,
    batch_difference,
    draw_batch,
    largest_difference,
    relative_difference,
    results_without_numbers,
    run_batch,
    spec_bound,
    step_difference,
    with_finite_results,
)
from statewise.wire import ModelSpec


@dataclass(frozen=True)
class Reference:
    """The file that an import must agree with.

    Attributes:
        graph: The file's graph, before its state was exposed.
        roles: Roles of the graph's inputs and outputs.
        axes: Axes of the graph's inputs and outputs.
        initial: Initial states by the names of state inputs.
    """

    graph: OriginalGraph
    roles: TensorRoles
    axes: GraphAxes
    initial: Mapping[str, Array]

    def row(self, batch: RandomBatch, row: int) -> tuple[list[Array], list[Array]]:
        """Returns outputs and states of one row of a batch."""
        alone = batch.row(row)
        inputs = [
            array[:, 0] if tensor.per_step else array[0]
            for tensor, array in zip(batch.spec.inputs, alone.inputs, strict=True)
        ]
        states = self._states(alone)
        try:
            return self.graph.run_row(self.roles, self.axes, inputs, states, int(alone.lengths[0]))
        except Exception as error:
            raise AxesError(f"onnxruntime cannot run the graph: {first_line(error)}") from None

    def _states(self, alone: RandomBatch) -> list[Array]:
        """Returns the states of a batch of one, in the order and shape of the file's."""
        parts = {
            part.name: array[0][part.offset : part.offset + part.size]
            for pair, array in zip(alone.spec.state, alone.state, strict=True)
            for part in pair.parts
        }
        return [
            parts.get(state.name, self.initial[state.name]).reshape(state.shape) for state in self.axes.state
        ]


def prove(package: Package, reference: Reference, sizes: TrialSizes) -> bool:
    """Compares a package with its file; returns whether both give NaN for some of the inputs drawn.

    Raises:
        AxesError: they differ, the package cannot run, or an output or state is NaN throughout, so that
            nothing could be compared.
    """
    seen_nan = False
    try:
        check_graph(Path(READ_GRAPH), package.files[READ_GRAPH].model)
        if problems := metadata_problems(package):
            raise AxesError(problems[0])
        runner = ReadGraphRunner(package)
        for seed, (rows, steps) in enumerate(zip(sizes.rows, sizes.steps, strict=True)):
            lengths = [steps - row % 2 * (package.spec.lengths is not None) for row in range(rows)]
            drawn = draw_batch(package.spec, None, np.random.default_rng(seed), lengths=tuple(lengths))
            batch = with_finite_results(runner, drawn)
            found = run_batch(runner, batch)
            _compare(found, batch, reference)
            seen_nan |= batch is not drawn or any(
                np.isnan(array).any() for array in (*found.outputs, *found.state)
            )
            if missing := results_without_numbers(batch, found):
                raise AxesError(
                    f"{', '.join(missing)}: NaN for all inputs that were tried, so nothing can be compared "
                    "with the file; begin a state otherwise (--initial STATE=NUMBER or FILE), or leave an "
                    "output out (--output with the names of the others)"
                )
    except PackageError as error:
        raise AxesError(str(error)) from None
    return seen_nan


def steps_agree(package: Package, sizes: TrialSizes) -> bool:
    """Returns whether a sequence gives the same in chunks as at once, so that sessions can be served."""
    batch = draw_batch(package.spec, None, np.random.default_rng(0), lengths=(sizes.steps[0],))
    runner = ReadGraphRunner(package)
    return step_difference(runner, with_finite_results(runner, batch)) < spec_bound(package.spec)


def rows_are_independent(package: Package) -> bool:
    """Returns whether a row gives the same bits alone, also run as two, and beside others."""
    batch = draw_batch(package.spec, None, np.random.default_rng(0), lengths=(3,) * 8)
    for least_rows in (1, 2):
        runner = ReadGraphRunner(package, least_rows=least_rows)
        if batch_difference([runner], with_finite_results(runner, batch)) == 0:
            return True
    return False


def refuse_chance(path: Path, reference: Reference, spec: ModelSpec) -> None:
    """Refuses a file that gives other results for the same inputs.

    Raises:
        SourceError: no import could agree with it.
    """
    batch = draw_batch(spec, None, np.random.default_rng(0), lengths=(3,))
    first, second = (reference.row(batch, 0) for _ in range(2))
    if not largest_difference([*first[0], *first[1]], [*second[0], *second[1]]) < spec_bound(spec):
        raise SourceError(
            path,
            "expected the same results for the same inputs; the graph draws random numbers: export it for "
            "inference (model.eval()), or make the noise an input",
        )


def _compare(found: ReadResult, batch: RandomBatch, reference: Reference) -> None:
    bound = spec_bound(batch.spec)
    rows = len(batch.lengths)
    for row in sorted({0, 1, rows // 2, rows - 2, rows - 1}):  # a large graph takes long for every row
        steps = int(batch.lengths[row])
        outputs, states = reference.row(batch, row)
        for tensor, expected, actual in zip(batch.spec.outputs, outputs, found.outputs, strict=True):
            mine = actual[:steps, row] if tensor.per_step else actual[row]
            difference = relative_difference(expected, mine)
            if not difference < bound:
                raise AxesError(
                    f"output {tensor.name!r} of a row in a batch differs from the row run alone, by "
                    f"{difference:.2g} of the largest value (shapes {[*expected.shape]}, {[*mine.shape]})"
                )
        if states and batch.spec.state:
            flat = {
                state.name: array.ravel() for state, array in zip(reference.axes.state, states, strict=True)
            }
            joined = [np.concatenate([flat[part.name] for part in pair.parts]) for pair in batch.spec.state]
            difference = largest_difference(joined, [array[row] for array in found.state])
            if not difference < bound:
                raise AxesError(
                    f"the state of a row in a batch differs from the row run alone ({difference:.2g})"
                )
