"""Reads model.toml, and compares its entries with those of the metadata."""

import re
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import assume, given
from tests.wire.strategies import specs

from statewise.wire import MetadataError, ModelDeclaration, ModelSpec, StateDeclaration, TensorDeclaration

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
