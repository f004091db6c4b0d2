"""Reads model.toml, and compares its entries with those of the metadata."""

import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from tests.wire.strategies import specs

from statewise.wire import (
    MetadataError,
    ModelDeclaration,
    ModelSpec,
    StateDeclaration,
    StatePair,
    TensorDeclaration,
)

PAGE = Path(__file__).parents[2] / "docs/models.md"


@given(specs)
def test_all_metadata_are_a_declaration(spec: ModelSpec) -> None:
    for entries in (spec.inputs, spec.outputs):
        assume(len({entry.name for entry in entries}) == len(entries))
    declaration = ModelDeclaration.from_toml(spec.to_toml())
    assert [entry.name for entry in declaration.inputs] == [entry.name for entry in spec.inputs]
    assert [(entry.shape, entry.batch_axis) for entry in declaration.state] == [
        (pair.shape, pair.batch_axis) for pair in spec.state
    ]
    assert (declaration.vocabulary, declaration.generate) == (spec.vocabulary, spec.generate)


def test_the_page_lists_every_entry() -> None:
    listed = set(re.findall(r"`\[*(\w+)\]*`", PAGE.read_text()))
    for kind in (ModelDeclaration, TensorDeclaration, StateDeclaration):
        left_out = {entry.name for entry in fields(kind)} - listed
        assert not left_out, kind


def test_every_entry_is_optional() -> None:
    assert ModelDeclaration.from_toml("") == ModelDeclaration()


def test_the_example_of_the_page() -> None:
    (example,) = re.findall(r"^```toml\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert ModelDeclaration.from_toml(example) == ModelDeclaration(
        inputs=(
            TensorDeclaration("input", axes=("batch", 576), context=64),
            TensorDeclaration("sr", default=16000.0),
        ),
        outputs=(TensorDeclaration("output", axes=("batch", 1)),),
        state=(StateDeclaration("state", "stateN", axes=(2, "batch", 128)),),
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("inputs = 1", r"inputs: expected a list; got 1"),
        ("inputs = " + 5000 * "[", "no TOML: maximum recursion depth exceeded"),
        (
            '[[inputs]]\nname = "x"\naxes = [true]',
            r"inputs\[0\].axes\[0\]: expected text or an integer; got True",
        ),
        (
            '[[inputs]]\nname = "x"\naxes = [0]',
            r'inputs\[0\].axes: expected "batch", "time" or a positive size; got 0',
        ),
        (
            '[[inputs]]\nname = "x"\n[[inputs]]\nname = "x"',
            r"inputs\[1\].name: expected a name once; got 'x' again",
        ),
        ('[[outputs]]\nname = "y"\ncontext = 1', r"outputs\[0\].context: expected none for an output; got 1"),
        ('call_shapes = ["some"]', r"call_shapes\[0\]: expected one of one_to_one, .*; got 'some'"),
    ],
)
def test_an_entry_that_cannot_be_read_is_named(text: str, complaint: str) -> None:
    with pytest.raises(MetadataError, match=complaint):
        ModelDeclaration.from_toml(text)


STATE = '[[state]]\ninput = "s"\noutput = "t"\naxes = ["batch", 2, 2]\ninitial = '


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-1e30", -1e30),
        ("[1, 2, 3, 4]", (1.0, 2.0, 3.0, 4.0)),
        ("[[0, 0], [-1e30, 5]]", (0.0, 0.0, -1e30, 5.0)),
    ],
)
def test_an_initial_state_is_a_number_or_nested_lists_of_numbers(
    text: str, expected: float | tuple[float, ...]
) -> None:
    assert ModelDeclaration.from_toml(STATE + text).state[0].initial == expected


@pytest.mark.parametrize("text", ["[[1, 2], [3]]", "[[1, 2], 3]", '["a"]', "[[true]]"])
def test_an_initial_state_of_another_form_is_named(text: str) -> None:
    with pytest.raises(MetadataError, match=r"state\[0\]\.initial"):
        ModelDeclaration.from_toml(STATE + text)


def test_the_initial_state_has_the_state_s_shape_and_type() -> None:
    uneven = StatePair("s", "t", "float16", (2, 2), initial=(1.0, 2.0, 3.0, 4.0))

    assert uneven.initial_state().tolist() == [[1, 2], [3, 4]]
    assert uneven.initial_state().dtype == np.float16
    assert StatePair("s", "t", "int64", (2,), initial=3.0).initial_state().tolist() == [3, 3]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("\nleast_steps = 0", 2),
        ("# note\n\ncolour = 1", 3),
        ('[[inputs]]\nname = "x"\n\n[[inputs]]\nname = "y"\naxes = ["batch", 0]', 6),
        ('[[inputs]]\nname = "x"\n[[state]]\noutput = "y"', 3),  # what is absent has no line of its own
        ('[vocabulary]\ntokens = ["a"]\nbegin = 7', 3),
        ('vocabulary.tokens = ["a"]\nvocabulary.begin = 7', 2),
        ('[generate]\ninput = "x"\nsampled = false\nemitted = { name = "y", dtype = "odd", shape = [] }', 4),
        ('[[state]]\ninput = "s"\noutput = "t"\ninitial = [[1], [2, 3]]', 4),
        ("least_steps =\nbatch = 1", 1),
    ],
)
def test_a_mistake_is_told_with_its_line(text: str, line: int) -> None:
    with pytest.raises(MetadataError, match=rf"\((at )?line {line}\b"):
        ModelDeclaration.from_toml(text)
