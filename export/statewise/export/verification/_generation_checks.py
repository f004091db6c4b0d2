"""Checks generator and encoder graphs: against NumPy, in chunks, and beside other rows.

The reference of generation is the feedback loop of statewise.models. A token that differs anywhere fails the
check, however close its probability was.
"""

from dataclasses import replace

import numpy as np

from statewise.export.base import Array
from statewise.export.package import Package
from statewise.export.verification._differences import relative_difference
from statewise.export.verification._graph_runners import EncoderRunner, GeneratorFeed, GeneratorRunner
from statewise.export.verification._random_batch import RandomBatch, draw_batch
from statewise.export.verification._report import Check
from statewise.models import Checkpoint, generate_tokens, generate_values
from statewise.wire import GenerateSpec

_REMAINING = (24, 1, 17, 2, 24, 9, 5, 13)
_TEMPERATURES = (1.0, 0.0, 0.5, 2.0)
_TOP_K = (0, 3, 1)
_CUT = 7  # steps after which a generation is cut in two
_FORECAST_STEPS = 12  # a forecast that reads itself magnifies rounding, so the check follows few steps


def draw_generator_feed(
    package: Package, generate: GenerateSpec, rng: np.random.Generator
) -> tuple[Array, GeneratorFeed]:
    """Draws states [B, S] to generate from, and settings that differ from row to row."""
    pair = package.spec.state[0]
    rows = len(_REMAINING)
    words = package.spec.vocabulary
    end = words.end if words is not None and words.end is not None else 0
    return (
        rng.uniform(-1, 1, (rows, *pair.shape)).astype(pair.dtype),
        GeneratorFeed(
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
    """Checks the generator graph against the NumPy feedback loop."""
    generate = package.spec.generate
    assert generate is not None, "the caller has looked"
    state, feed = draw_generator_feed(package, generate, rng)
    if generate.sampled:
        return _check_tokens(checkpoint, package, state, feed, rng, bound=bound)
    return _check_values(checkpoint, package, generate, state, feed, rng, bound=bound)


def _check_values(
    checkpoint: Checkpoint,
    package: Package,
    generate: GenerateSpec,
    state: Array,
    feed: GeneratorFeed,
    rng: np.random.Generator,
    *,
    bound: float,
) -> list[Check]:
    rows = len(feed.remaining)
    feed = replace(feed, remaining=np.full(rows, _FORECAST_STEPS))
    x = rng.standard_normal((1, rows, *generate.emitted.shape)).astype(np.float32)
    y, state_now = checkpoint.predict(checkpoint.normalisation.outputs(x), None, state)
    assert state_now is not None, "a generative network is streamable"
    expected, expected_state, _ = generate_values(checkpoint, state_now, y[0], _FORECAST_STEPS)
    found, found_state = GeneratorRunner(package).run(state_now, feed)
    values = relative_difference(expected, found)
    return [
        Check("generate = NumPy", values < bound, f"{rows} rows, {len(found)} values each", values, bound),
        _check_state(expected_state, found_state, bound),
    ]


def _check_tokens(
    checkpoint: Checkpoint,
    package: Package,
    state: Array,
    feed: GeneratorFeed,
    rng: np.random.Generator,
    *,
    bound: float,
) -> list[Check]:
    rows = len(feed.remaining)
    tokens = rng.integers(0, package.spec.inputs[0].vocabulary_size or 1, (1, rows)).astype(np.int32)
    y, state_now = checkpoint.network.run(tokens, None, state)
    assert state_now is not None, "a generative network is streamable"
    found, found_state = GeneratorRunner(package).run(state_now, feed)
    expected = np.full_like(found, -1)
    expected_state = np.empty_like(found_state)
    # The loop in NumPy has one stop token for all rows.
    for stop in np.unique(feed.stop):
        chosen = np.flatnonzero(feed.stop == stop).tolist()
        part = feed.rows(chosen)
        generated = generate_tokens(
            checkpoint.network,
            state_now[chosen],
            y[0][chosen],
            part.noise,
            temperature=part.temperature,
            top_k=part.top_k,
            stop=None if stop < 0 else int(stop),
            remaining=part.remaining,
        )
        expected[: len(generated.tokens), chosen] = generated.tokens
        expected_state[chosen] = generated.state
    wrong = int((expected != found).sum())
    detail = f"{int((found >= 0).sum())} tokens in {rows} rows, {wrong or 'none'} of them different"
    return [
        Check("generate = NumPy", not wrong, detail, float(wrong), 1.0),
        _check_state(expected_state, found_state, bound),
    ]


def _check_state(expected: Array, found: Array, bound: float) -> Check:
    value = relative_difference(expected, found)
    return Check("generate = NumPy, state", value < bound, f"{len(found)} rows", value, bound)


def draw_encoder_batch(package: Package, rng: np.random.Generator) -> RandomBatch:
    """Draws sequences for the encoder."""
    encode = package.spec.encode
    assert encode is not None, "the caller has looked"
    spec = replace(package.spec, inputs=encode.inputs, lengths=encode.lengths, state=())
    return draw_batch(spec, None, rng)


def check_encoder(
    checkpoint: Checkpoint, package: Package, batch: RandomBatch, *, bound: float
) -> list[Check]:
    """Checks the encoder graph against the encoder in NumPy."""
    found = EncoderRunner(package).run(batch.x, batch.lengths)
    value = relative_difference(checkpoint.network.encode(batch.x, batch.lengths), found)
    return [Check("encode = NumPy", value < bound, f"{len(found)} rows", value, bound)]


def generation_differences(
    package: Package, state: Array, feed: GeneratorFeed, *, least_rows: int
) -> dict[str, float]:
    """Returns how far a generation depends on being cut in two, and on the rows beside it."""
    graphs = [GeneratorRunner(package, threads=threads, least_rows=least_rows) for threads in (1, 2)]
    emitted, after = graphs[0].run(state, feed)

    first, middle = graphs[0].run(
        state, replace(feed, remaining=np.minimum(feed.remaining, _CUT), noise=feed.noise[:_CUT])
    )
    left = feed.remaining - _CUT
    if package.spec.generate is not None and package.spec.generate.sampled:
        left[(first == feed.stop).any(axis=0) & (feed.stop >= 0)] = 0
    rest = replace(feed, remaining=np.maximum(left, 0), noise=feed.noise[_CUT:])
    second, end = graphs[0].run(middle, rest)
    chunks = np.concatenate([first, second])[: len(emitted)]
    in_chunks = max(relative_difference(emitted, chunks), relative_difference(after, end))

    alone = 0.0
    for row in range(len(feed.remaining)):
        for graph in graphs:
            own, own_after = graph.run(state[row : row + 1], feed.rows([row]))
            alone = max(alone, relative_difference(emitted[: len(own), row], own[:, 0]))
            alone = max(alone, relative_difference(after[row], own_after[0]))
    return {"generate in chunks = at once": in_chunks, "generate alone = batched": alone}


def encoder_difference(package: Package, batch: RandomBatch, *, least_rows: int) -> float:
    """Returns how far the state that the encoder computes for a row depends on the rows beside it."""
    graphs = [EncoderRunner(package, threads=threads, least_rows=least_rows) for threads in (1, 2)]
    together = graphs[0].run(batch.x, batch.lengths)
    worst = 0.0
    for index in range(len(batch.lengths)):
        row = batch.row(index)
        for graph in graphs:
            worst = max(worst, relative_difference(together[index], graph.run(row.x, row.lengths)[0]))
    return worst
