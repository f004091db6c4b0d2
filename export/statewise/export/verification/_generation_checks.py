"""Checks of the graphs beside the read graph: what is generated, and what an encoder leaves.

Not the read graph's checks (_verify). The reference of generation is the feedback loop of statewise.models;
a token that differs anywhere is a failure, however close its probability was.
"""

from dataclasses import replace

import numpy as np

from statewise.export.package import Package
from statewise.export.verification._differences import Array, difference
from statewise.export.verification._graph_runners import Draw, EncodeGraph, WriteGraph
from statewise.export.verification._random_batch import Sample, draw_sample
from statewise.export.verification._report import Check
from statewise.models import Checkpoint, generate_tokens, generate_values
from statewise.wire import GenerateSpec

_REMAINING = (24, 1, 17, 2, 24, 9, 5, 13)
_TEMPERATURES = (1.0, 0.0, 0.5, 2.0)
_TOP_K = (0, 3, 1)
_CUT = 7  # steps after which a generation is cut in two
_FORECAST_STEPS = 12


def draw_generation(package: Package, generate: GenerateSpec, rng: np.random.Generator) -> tuple[Array, Draw]:
    """States [B, S] to generate from, and ways of drawing that all differ."""
    pair = package.spec.state[0]
    rows = len(_REMAINING)
    words = package.spec.vocabulary
    end = words.end if words is not None and words.end is not None else 0
    return (
        rng.uniform(-1, 1, (rows, *pair.shape)).astype(pair.dtype),
        Draw(
            remaining=np.array(_REMAINING),
            noise=rng.random((max(_REMAINING), rows), np.float32),
            temperature=np.resize(np.array(_TEMPERATURES, np.float32), rows),
            top_k=np.resize(np.array(_TOP_K), rows),
            stop=np.where(np.arange(rows) % 2, end, -1),
        ),
    )


def check_generation(
    checkpoint: Checkpoint, package: Package, rng: np.random.Generator, *, bound: float
) -> list[Check]:
    """The write graph against the NumPy feedback loop."""
    generate = package.spec.generate
    assert generate is not None, "asked for by the caller"
    state, draw = draw_generation(package, generate, rng)
    rows = len(draw.remaining)
    if not generate.sampled:
        # A forecast that reads itself magnifies rounding, so it is not followed for long.
        draw = replace(draw, remaining=np.full(rows, _FORECAST_STEPS))
        x = rng.standard_normal((1, rows, *generate.emitted.shape)).astype(np.float32)
        y, state_now = checkpoint.predict(checkpoint.normalisation.outputs(x), None, state)
        assert state_now is not None, "a generative network is streamable"
        expected, expected_state, _ = generate_values(checkpoint, state_now, y[0], _FORECAST_STEPS)
        found, found_state = WriteGraph(package).run(state_now, draw)
        values = difference(expected, found)
        return [
            Check(
                "generate = NumPy", values < bound, f"{rows} rows, {len(found)} values each", values, bound
            ),
            _state_check(expected_state, found_state, bound),
        ]
    tokens = rng.integers(0, package.spec.inputs[0].vocabulary_size or 1, (1, rows)).astype(np.int32)
    y, state_now = checkpoint.network.run(tokens, None, state)
    assert state_now is not None, "a generative network is streamable"
    found, found_state = WriteGraph(package).run(state_now, draw)
    wanted = np.full_like(found, -1)
    states = np.empty_like(found_state)
    for stop in np.unique(draw.stop):
        chosen = np.flatnonzero(draw.stop == stop).tolist()
        part = draw.rows(chosen)
        said = generate_tokens(
            checkpoint.network,
            state_now[chosen],
            y[0][chosen],
            part.noise,
            temperature=part.temperature,
            top_k=part.top_k,
            stop=None if stop < 0 else int(stop),
            remaining=part.remaining,
        )
        wanted[: len(said.tokens), chosen] = said.tokens
        states[chosen] = said.state
    wrong = int((wanted != found).sum())
    detail = f"{int((found >= 0).sum())} tokens in {rows} rows, {wrong or 'none'} of them different"
    return [
        Check("generate = NumPy", not wrong, detail, float(wrong), 1.0),
        _state_check(states, found_state, bound),
    ]


def _state_check(expected: Array, found: Array, bound: float) -> Check:
    value = difference(expected, found)
    return Check("generate = NumPy, state", value < bound, f"{len(found)} rows", value, bound)


def check_encoder(checkpoint: Checkpoint, package: Package, sample: Sample, *, bound: float) -> list[Check]:
    """The encoder against NumPy's."""
    found = EncodeGraph(package).run(sample.x, sample.lengths)
    value = difference(checkpoint.network.encode(sample.x, sample.lengths), found)
    return [Check("encode = NumPy", value < bound, f"{len(found)} rows", value, bound)]


def encoder_sample(package: Package, rng: np.random.Generator) -> Sample:
    """Sequences for the encoder to read."""
    encode = package.spec.encode
    assert encode is not None, "asked for by the caller"
    spec = replace(package.spec, inputs=encode.inputs, lengths=encode.lengths, state=())
    return draw_sample(spec, None, rng)


def generation_differences(
    package: Package, state: Array, draw: Draw, *, least_rows: int
) -> dict[str, float]:
    """How far generating depends on how it is run: in two pieces, and beside other rows."""
    graphs = [WriteGraph(package, threads=threads, least_rows=least_rows) for threads in (1, 2)]
    emitted, after = graphs[0].run(state, draw)

    first, middle = graphs[0].run(
        state, replace(draw, remaining=np.minimum(draw.remaining, _CUT), noise=draw.noise[:_CUT])
    )
    left = draw.remaining - _CUT
    if package.spec.generate is not None and package.spec.generate.sampled:
        left[(first == draw.stop).any(axis=0) & (draw.stop >= 0)] = 0
    rest = replace(draw, remaining=np.maximum(left, 0), noise=draw.noise[_CUT:])
    second, end = graphs[0].run(middle, rest)
    pieces = np.concatenate([first, second])[: len(emitted)]
    in_pieces = max(difference(emitted, pieces), difference(after, end))

    beside = 0.0
    for row in range(len(draw.remaining)):
        for graph in graphs:
            own, own_after = graph.run(state[row : row + 1], draw.rows([row]))
            beside = max(beside, difference(emitted[: len(own), row], own[:, 0]))
            beside = max(beside, difference(after[row], own_after[0]))
    return {"generate in pieces = at once": in_pieces, "generate alone = batched": beside}


def encoder_difference(package: Package, sample: Sample, *, least_rows: int) -> float:
    """How far what the encoder leaves of a row depends on the rows beside it."""
    graphs = [EncodeGraph(package, threads=threads, least_rows=least_rows) for threads in (1, 2)]
    together = graphs[0].run(sample.x, sample.lengths)
    worst = 0.0
    for index in range(len(sample.lengths)):
        row = sample.row(index)
        for graph in graphs:
            worst = max(worst, difference(together[index], graph.run(row.x, row.lengths)[0]))
    return worst
