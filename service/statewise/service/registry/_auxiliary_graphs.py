"""Loads and tests the graphs of a version beside its read graph: the generator and the encoder.

Both are described like read graphs, so the same engine runs all three.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import ServiceError
from statewise.service.engine import (
    DecodeLoop,
    DecodeProfile,
    Engine,
    EngineProfile,
    GraphDecodeLoop,
    GraphLayout,
    HostDecodeLoop,
    Optimisation,
    RecallingEngine,
    TimeBudget,
    generator_spec,
    profile_decode_loop,
    profile_engine,
)
from statewise.service.inputs import Codec
from statewise.service.packages import ServablePackage, check_graph
from statewise.service.registry._inspection import VersionProfiles
from statewise.wire import CallShape, EncodeSpec, GenerateSpec, ModelSpec, Reason, TensorSpec

_DEFAULT_STEPS = 100
"""Values that a row emits at most, where neither its request nor the model says."""


class MakeEngine(Protocol):
    """Loads a graph; raises EngineError."""

    def __call__(
        self,
        path: Path,
        spec: ModelSpec,
        layout: GraphLayout | None = None,
        /,
        *,
        optimisation: Optimisation = Optimisation.ALL,
    ) -> Engine:
        """Loads the graph; arguments as of Engine."""


@dataclass(frozen=True)
class GeneratorGraph:
    """Feeds a model's outputs back: generate.onnx, or a loop around the read graph.

    Attributes:
        decode_loop: Runs it.
        profile: What a run costs, and whether rows share runs.
        stop: The token that ends a row; None: no token does.
    """

    decode_loop: DecodeLoop
    profile: DecodeProfile
    stop: int | None

    @property
    def spec(self) -> GenerateSpec:
        """What the generator emits, and how."""
        return self.decode_loop.spec

    def step_limits(self, requested: NDArray[np.uint32], rows: int) -> NDArray[np.uint32]:
        """Returns the most values that each row emits, [rows].

        Args:
            requested: One number a row, one for all rows, or none: the model's own limit, else 100.
            rows: Number of rows.

        Raises:
            ServiceError: BAD_REQUEST.
        """
        if not len(requested):
            requested = np.array([self.spec.step_limit or _DEFAULT_STEPS], np.uint32)
        if len(requested) not in (1, rows):
            raise ServiceError(
                Reason.BAD_REQUEST, f"steps: expected 1 or {rows} numbers; got {len(requested)}"
            )
        if not requested.all():
            raise ServiceError(Reason.BAD_REQUEST, "steps: expected at least 1 a row; got 0")
        return np.broadcast_to(requested, rows)


@dataclass(frozen=True)
class EncoderGraph:
    """An encoder: sequences in, one state each out, in the order of the model's states.

    Attributes:
        engine: Runs it; its spec is that of a many-to-one model whose outputs are the states.
        profile: What a run costs, and whether rows share runs.
        codec: Turns text into the encoder's tokens; None: the encoder takes no text.
        appends_end: Whether the end token follows each text.
    """

    engine: Engine
    profile: EngineProfile
    codec: Codec | None
    appends_end: bool


@dataclass(frozen=True)
class AuxiliaryGraphs:
    """The graphs beside the read graph.

    Attributes:
        generator: None: the model does not generate.
        encoder: None: sessions begin at the initial value of each state.
        codec: Text of the read graph and the generator; None: the model has no vocabulary.
    """

    generator: GeneratorGraph | None
    encoder: EncoderGraph | None
    codec: Codec | None


def load_auxiliary_graphs(
    package: ServablePackage,
    engine: Engine,
    make_engine: MakeEngine,
    *,
    budget: TimeBudget,
    profiles: VersionProfiles | None,
) -> AuxiliaryGraphs:
    """Loads the graphs that a package has beside its read graph, and tests them unless profiles are known.

    Args:
        package: The package.
        engine: Its read graph, loaded and tested.
        make_engine: Loads a graph.
        budget: How long tests may take.
        profiles: Of an earlier test of the same files on this machine.

    Raises:
        ServiceError: PACKAGE_INVALID: a graph is missing, or is not what the metadata says.
        EngineError: a graph cannot be loaded or run.
    """
    spec = package.spec
    codec = None if spec.vocabulary is None else Codec(spec.vocabulary)
    generator = encoder = None
    if spec.encode is None and CallShape.ENCODER_DECODER in spec.call_shapes:
        raise _invalid(package, "model.onnx", "an encoder-decoder; expected the metadata of its encoder")
    if spec.generate is not None:
        problem = _feedback_problem(spec, spec.generate)
        if problem:
            raise _invalid(package, "model.onnx", f"generate: {problem}")
        decode_loop = _decode_loop(package, spec.generate, engine, make_engine)
        stop = spec.vocabulary.end if spec.vocabulary is not None and spec.generate.sampled else None
        known = None if profiles is None else profiles.decode
        if known is None:
            decode_loop, decode_profile = profile_decode_loop(decode_loop, engine, budget=budget)
        else:
            decode_loop, decode_profile = decode_loop.with_minimum_rows(known.minimum_rows), known
        generator = GeneratorGraph(decode_loop, decode_profile, stop)
    if spec.encode is not None:
        encode_engine = make_engine(*_graph(package, "encode.onnx", encode_spec(spec, spec.encode)), None)
        profile = None if profiles is None else profiles.encoder
        if profile is None:
            encode_engine, profile = profile_engine(encode_engine, budget=budget)
        else:
            encode_engine = encode_engine.with_minimum_rows(profile.minimum_rows)
        words = spec.encode.vocabulary
        ends = spec.encode.append_end
        if ends and (words is None or words.end is None):
            raise _invalid(package, "encode.onnx", "append_end: expected a vocabulary with an end token")
        encoder = EncoderGraph(encode_engine, profile, None if words is None else Codec(words), ends)
    return AuxiliaryGraphs(generator, encoder, codec)


def encode_spec(spec: ModelSpec, encode: EncodeSpec) -> ModelSpec:
    """Returns the spec of encode.onnx, as that of a many-to-one read graph."""
    return ModelSpec(
        inputs=encode.inputs,
        outputs=tuple(
            TensorSpec(name, pair.dtype, pair.shape, per_step=False)
            for name, pair in zip(encode.state, spec.state, strict=True)
        ),
        state=(),
        call_shapes=(CallShape.MANY_TO_ONE,),
        lengths=encode.lengths,
    )


def _decode_loop(
    package: ServablePackage, generate: GenerateSpec, engine: Engine, make_engine: MakeEngine
) -> DecodeLoop:
    if not generate.graph:
        assert isinstance(engine, RecallingEngine), "load_engine chooses so"
        return HostDecodeLoop(engine, generate)
    graph = _graph(package, "generate.onnx", generator_spec(package.spec, generate))
    return GraphDecodeLoop(make_engine(*graph, None), generate)


def _graph(package: ServablePackage, file: str, spec: ModelSpec) -> tuple[Path, ModelSpec]:
    path = package.folder / file
    check_graph(f"{package.name}/{package.version}/{file}", path, spec)
    return path, spec


def _feedback_problem(spec: ModelSpec, generate: GenerateSpec) -> str:
    """Returns why the model's outputs cannot be its next inputs as declared; empty: they can."""
    fed = next((entry for entry in spec.inputs if entry.name == generate.input), None)
    if fed is None or not fed.per_step or fed.shape != generate.emitted.shape:
        return f"expected a per-step input {generate.input!r} of shape {list(generate.emitted.shape)}"
    lacking = [entry.name for entry in spec.inputs if entry is not fed and entry.default is None]
    if lacking:
        return f"expected a default for every other input; {', '.join(lacking)} has none"
    if spec.least_steps > 1:
        return f"expected a model that runs single steps; least_steps is {spec.least_steps}"
    if not spec.streamable:
        return "expected a state that is carried from value to value; the model has none"
    words = spec.vocabulary
    size = generate.emitted.vocabulary_size
    if words is not None and generate.sampled and (size is None or size > len(words.tokens)):
        return f"expected emitted values below {len(words.tokens)}, the size of the vocabulary; got {size}"
    if generate.graph:
        return ""
    last = spec.outputs[0]
    wanted = (size,) if generate.sampled else generate.emitted.shape
    if not last.per_step or last.shape != wanted:
        return f"expected a first output of shape {list(wanted)} at every step; got {list(last.shape)}"
    return ""


def _invalid(package: ServablePackage, file: str, message: str) -> ServiceError:
    return ServiceError(Reason.PACKAGE_INVALID, f"{package.name}/{package.version}/{file}: {message}")
