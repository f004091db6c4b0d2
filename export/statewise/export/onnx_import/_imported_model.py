"""Reads an ONNX file from elsewhere and turns it into a graph and metadata as packages have them.

The file is untrusted: checks come before anything else, and only files in its folder are opened. The
package's model.toml records the findings, each state with its evidence.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx

from statewise.export.base import Array, SourceError
from statewise.export.onnx_import._free_rows import free_rows, with_sizes_of
from statewise.export.onnx_import._graph_preparation import (
    prepare_graph,
    refuse_fixed_steps,
    without_the_rest,
)
from statewise.export.onnx_import._import_proof import (
    Reference,
    prove,
    refuse_chance,
    rows_are_independent,
    steps_agree,
)
from statewise.export.onnx_import._input_windows import add_windows
from statewise.export.onnx_import._state_exposure import expose_state
from statewise.export.onnx_import._wrapped_graph import GraphWrapper
from statewise.export.onnx_import.discovery import (
    AxesError,
    AxisChoice,
    GraphAxes,
    ImportOptions,
    OriginalGraph,
    TensorAxes,
    TensorRoles,
    TrialSizes,
    axis_choices,
    complete_axes,
    find_roles,
)
from statewise.export.package import MODEL_TOML, READ_GRAPH, GraphFile, Package
from statewise.wire import BATCH, TIME


@dataclass(frozen=True)
class ImportedModel:
    """A foreign graph in the form of packages.

    Attributes:
        package: The wrapped graph, with its metadata.
        reasons: Findings for people: the evidence for each state, and how the graph runs.
        withdrawn_sessions: The graph has states, and gives other results in chunks than at once.
    """

    package: Package
    reasons: tuple[str, ...]
    withdrawn_sessions: bool = False

    def files(self) -> dict[str, bytes]:
        """Returns the package's files, by name."""
        comments = "".join(f"# {reason}\n" for reason in self.reasons)
        return {
            READ_GRAPH: self.package.files[READ_GRAPH].content,
            MODEL_TOML: (comments + "\n" + self.package.spec.to_toml()).encode(),
        }


def read_onnx(file: Path, options: ImportOptions, optimisation: str) -> dict[str, bytes]:
    """Reads a foreign graph, wraps it, and proves that the wrapped graph computes what the file computes.

    Args:
        file: The .onnx file.
        options: What the user says about the graph.
        optimisation: A level of OPTIMISATION_LEVELS, for onnxruntime.

    Returns:
        The package's files, by name.

    Raises:
        PackageError: the file is no sound ONNX file.
        SourceError: roles or axes of its inputs and outputs stay open; naming what was found and what
            decides.
    """
    return find_model(file, options, optimisation).files()


def find_model(
    file: Path, options: ImportOptions, optimisation: str, *, frees_rows: bool = True
) -> ImportedModel:
    """Finds the model of a foreign graph. Arguments and errors as of `read_onnx`.

    `frees_rows`: a graph of one row is changed to take many, where that gives the same bits in any batch.
    """
    model, reasons = prepare_graph(file, options)
    options, windows = add_windows(file, model, options)
    reasons += windows
    original = model
    if options.expose_state:
        model, exposed = expose_state(file, model)
        reasons += exposed
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    roles = find_roles(file, inferred.graph, options)
    refuse_fixed_steps(file, inferred.graph, roles, options)
    model, original = without_the_rest(model, roles), without_the_rest(original, roles)
    notes = {"imported_from": file.name}
    if optimisation != "all":
        reasons.append(
            "onnxruntime crashes on the file at its highest level of optimisation; "
            f"this import ran it at {optimisation!r}"
        )
    # A graph that starts from zeros is no reference for other initial states.
    reference = model if options.initial else original
    for freed in free_rows(model, roles) if frees_rows else ():
        try:
            freed_roles = with_sizes_of(freed, roles)
            found = _Search(file, freed, reference, freed_roles, options, notes, optimisation).many_rows()
        except SourceError:
            continue  # what is wrong with the file itself comes up below
        if found is not None:
            reasons.append(
                "the graph took one row; its batch was made free: the rows of a batch run together"
            )
            return replace(found, reasons=(*reasons, *found.reasons))
    found = _Search(file, model, reference, roles, options, notes, optimisation).first()
    return replace(found, reasons=(*reasons, *found.reasons))


class _Search:
    """Tries the possible axes, likeliest first, until the package agrees with the file."""

    def __init__(
        self,
        file: Path,
        model: onnx.ModelProto,
        reference: onnx.ModelProto,
        roles: TensorRoles,
        options: ImportOptions,
        notes: dict[str, str],
        optimisation: str,
    ) -> None:
        self._file = file
        self._model = model
        self._roles = roles
        self._options = options
        self._notes = notes
        self._optimisation = optimisation
        self._graph = OriginalGraph(file, model.SerializeToString(), optimisation)
        self._original = self._graph
        if model.graph != reference.graph:
            self._original = OriginalGraph(file, reference.SerializeToString(), optimisation)
        self._sizes = TrialSizes(model.graph)

    def first(self) -> ImportedModel:
        """Returns the first choice of axes that agrees."""
        reasons: list[str] = []
        for choice in axis_choices(self._file, self._roles, dict(self._options.axes)):
            try:
                return self._imported(choice)
            except AxesError as error:
                reasons.append(str(error))
        # The likeliest choice comes first; a single row is the last resort.
        reason = reasons[0] if reasons else "no axes of the inputs fit those of the states"
        raise SourceError(
            self._file,
            f"{reason}; say which axes are batch and time (--axes INPUT=batch,time,...), or write model.toml",
        )

    def many_rows(self) -> ImportedModel | None:
        """Returns the first choice with many rows in a run, if no row depends on the others."""
        for choice in axis_choices(self._file, self._roles, dict(self._options.axes)):
            if choice.one_row:
                return None
            try:
                found = self._imported(choice)
            except AxesError:
                continue
            if rows_are_independent(found.package):
                return found
        return None

    def _imported(self, choice: AxisChoice) -> ImportedModel:
        axes = complete_axes(self._graph, self._roles, choice, self._sizes)
        _check_declared_outputs(axes, self._options)
        initial = {
            state.name: _initial_state(self._file, state, self._options.initial.get(state.name, 0.0))
            for state in axes.state
        }
        package, seen_nan = self._proven(GraphWrapper(self._model, self._roles, axes, initial))
        reasons = _reasons(self._roles, axes, initial)
        if seen_nan:
            reasons.append(
                "some results are NaN for some of the inputs that were tried, in the file and in the package "
                "alike; if that is not meant, a state has to begin otherwise (--initial STATE=NUMBER or FILE)"
            )
        withdrawn = bool(package.spec.state) and not steps_agree(package, self._sizes)
        if withdrawn:
            roles = self._roles.without_sessions()
            package, _ = self._proven(GraphWrapper(self._model, roles, axes, initial))
            reasons.append(
                "sequences give other results in chunks than at once, as graphs do that read backwards: "
                "the model is Predict-only, without sessions"
            )
        return ImportedModel(package, tuple(reasons), withdrawn)

    def _proven(self, wrapper: GraphWrapper) -> tuple[Package, bool]:
        """Makes the package of a wrapped graph, which agrees with the file, and whether NaN came up."""
        spec = wrapper.spec(self._notes)
        model = wrapper.wrap(spec)
        graph = GraphFile(model.SerializeToString(deterministic=True), model)
        package = Package(self._file, {READ_GRAPH: graph}, spec, None, self._optimisation)
        roles, axes = wrapper.roles, wrapper.axes
        known = Reference(self._original, roles, axes, wrapper.initial)
        refuse_chance(self._file, known, spec)
        return package, prove(package, known, self._sizes)


def _check_declared_outputs(axes: GraphAxes, options: ImportOptions) -> None:
    """Raises AxesError for an output whose axes are not those that the user gives."""
    for output in axes.outputs:
        declared = options.axes.get(output.name)
        if declared is None:
            continue
        found = [
            BATCH if axis == output.batch else TIME if axis == output.time else int(size)
            for axis, size in enumerate(output.tensor.sizes)
        ]
        same = len(found) == len(declared) and all(
            one == other or (one == 1 and isinstance(other, str))
            for one, other in zip(found, declared, strict=True)
        )
        if not same:
            raise AxesError(
                f"output {output.name!r}: expected axes {list(declared)}; the graph gives {found}"
            )


def _initial_state(file: Path, state: TensorAxes, value: float | Array) -> Array:
    """Returns the state of a new session, [*shape]."""
    array, dtype = np.asarray(value), np.dtype(state.tensor.dtype)
    if array.size == np.prod(state.shape):
        array = array.reshape(state.shape)
    try:
        whole = np.broadcast_to(array, state.shape).astype(dtype)
    except ValueError:
        raise SourceError(
            file,
            f"initial {state.name!r}: expected shape {list(state.shape)}; got {list(array.shape)}",
        ) from None
    return whole


def _reasons(roles: TensorRoles, axes: GraphAxes, initial: dict[str, Array]) -> list[str]:
    reasons = list(roles.notes)
    for match in roles.state:
        values = np.unique(initial[match.input.name])
        begin = "zeros" if not values.any() else f"{values[0]:g}" if len(values) == 1 else "the given array"
        reasons.append(f"state {match.input.name} -> {match.output.name}: {match.reason}; begins as {begin}")
    for source in axes.inputs:
        found = [
            f"{word} is axis {axis}"
            for word, axis in (("time", source.time), ("batch", source.batch))
            if axis is not None
        ]
        reasons.append(
            f"input {source.name} {list(source.tensor.sizes)}: {', '.join(found) or 'one row, one step'}"
        )
    if axes.one_row:
        reasons.append("the graph takes one row: rows of a batch run one after another, inside the graph")
    if axes.one_step:
        sizes = ", ".join(f"{source.name} {list(source.shape)}" for source in axes.inputs)
        reasons.append(f"the graph takes one step ({sizes}): steps run one after another, inside the graph")
    if axes.least_steps > 1:
        reasons.append(f"the graph runs sequences of at least {axes.least_steps} steps")
    if roles.predict_only:
        reasons.append("the model is Predict-only, without sessions, as you chose")
    return reasons
