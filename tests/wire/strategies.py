"""Draws specifications and arrays for property tests."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from statewise.wire import (
    DTYPES,
    CallShape,
    EncodeSpec,
    GenerateSpec,
    ModelSpec,
    StatePair,
    StatePart,
    TensorSpec,
    Vocabulary,
)

words = st.text(max_size=8)
shapes = st.lists(st.integers(1, 2**40), max_size=4).map(tuple)
dtypes = st.sampled_from(sorted(DTYPES))
numbers = st.integers(0, 3) | st.none()
tensors = st.builds(
    TensorSpec,
    name=words,
    dtype=dtypes,
    shape=shapes,
    per_step=st.booleans(),
    default=st.none() | st.floats(allow_nan=False),
    vocabulary_size=st.none() | st.integers(1, 10**6),
)
parts = st.builds(StatePart, name=words, offset=st.integers(0, 31), size=st.integers(1, 32))
uniform_states = st.builds(
    StatePair,
    input=words,
    output=words,
    dtype=dtypes,
    shape=st.lists(st.integers(8, 2**40), min_size=2, max_size=4).map(tuple),
    batch_axis=st.integers(0, 2),
    initial=st.floats(allow_nan=False),
    parts=st.lists(parts, max_size=3, unique_by=lambda part: part.name).map(tuple),
)
uneven_states = st.builds(
    StatePair,
    input=words,
    output=words,
    dtype=dtypes,
    shape=st.just((2, 3)),
    initial=st.lists(st.floats(allow_nan=False), min_size=6, max_size=6).map(tuple),
)
states = uniform_states | uneven_states
vocabularies = st.builds(
    Vocabulary,
    tokens=st.lists(words, min_size=4, max_size=6).map(tuple),
    separator=words,
    case_folding=st.sampled_from(["", "upper", "lower"]),
    unknown=numbers,
    begin=numbers,
    end=numbers,
    pad=numbers,
    conditions=st.dictionaries(words, st.integers(0, 3), max_size=2),
)
encoders = st.builds(
    EncodeSpec,
    inputs=st.lists(tensors, min_size=1, max_size=2).map(tuple),
    state=st.lists(words, max_size=2).map(tuple),
    lengths=st.none() | words,
    vocabulary=st.none() | vocabularies,
)
generators = st.builds(
    GenerateSpec,
    emitted=tensors,
    input=words,
    sampled=st.booleans(),
    step_limit=st.none() | st.integers(1, 10**6),
    graph=st.booleans(),
)
specs = st.builds(
    ModelSpec,
    inputs=st.lists(tensors, min_size=1, max_size=3).map(tuple),
    outputs=st.lists(tensors, min_size=1, max_size=3).map(tuple),
    state=st.lists(states, max_size=2).map(tuple),
    call_shapes=st.lists(st.sampled_from(CallShape), min_size=1, max_size=3, unique=True).map(tuple),
    lengths=st.none() | words,
    labels=st.lists(words, max_size=3).map(tuple),
    vocabulary=st.none() | vocabularies,
    encode=st.none() | encoders,
    generate=st.none() | generators,
    least_steps=st.integers(1, 100),
    notes=st.dictionaries(words, words, max_size=3),
)


def arrays(*, max_dims: int, max_side: int) -> st.SearchStrategy[np.ndarray]:
    """Arrays of every element type that the wire has."""
    return st.sampled_from(sorted(DTYPES)).flatmap(
        lambda name: hnp.arrays(
            DTYPES[name], hnp.array_shapes(min_dims=0, max_dims=max_dims, min_side=0, max_side=max_side)
        )
    )
