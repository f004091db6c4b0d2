"""Finds batch and time in foreign graphs: a wrong axis is never published."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tests.export.foreign_graphs import (
    HIDDEN,
    INPUTS,
    ForeignGraph,
    constant,
    lstm_weights,
    make,
    run_package,
    sequence,
    tensor,
)

from statewise.export import SourceError, import_onnx, read_package

STATE: list[Any] = [1, "B", HIDDEN]


def classifier(classes: int) -> ForeignGraph:
    """x [T, B, 3], the scores of the classes after the last step."""
    nodes = [
        helper.make_node("LSTM", ["x", "W", "R", "b", "", "h", "c"], ["", "h2", "c2"], hidden_size=HIDDEN),
        helper.make_node("Squeeze", ["h2", "zero"], ["last"]),
        helper.make_node("MatMul", ["last", "V"], ["scores"]),
    ]
    return make(
        nodes,
        [tensor("x", ["T", "B", INPUTS]), tensor("h", STATE), tensor("c", STATE)],
        [tensor("scores", ["B", classes]), tensor("h2", STATE), tensor("c2", STATE)],
        [*lstm_weights(), constant("zero", values=np.array([0])), constant("V", HIDDEN, classes)],
    )


@pytest.mark.parametrize("classes", [2, 3, 5, 7, 11, 13, 17, 19, 23])
def test_as_many_classes_as_any_trial_size_are_no_axis_of_time_or_batch(tmp_path: Path, classes: int) -> None:
    foreign = classifier(classes)
    package = import_onnx(foreign.save(tmp_path / "m.onnx"), tmp_path / "repository")
    x = sequence(rows=2)

    scores, _ = run_package(package, x)

    zeros = np.zeros((1, 2, HIDDEN), np.float32)
    np.testing.assert_allclose(scores, foreign.run({"x": x, "h": zeros, "c": zeros})["scores"], atol=1e-6)
    (output,) = read_package(package).spec.outputs
    assert (output.shape, output.per_step) == ((classes,), False)


def head(
    nodes: list[onnx.NodeProto], output: onnx.ValueInfoProto, *constants: onnx.TensorProto
) -> ForeignGraph:
    """A batch-first LSTM with its state, and an output made from its outputs y_t [T, B, 8]."""
    return make(
        [
            helper.make_node("Transpose", ["x"], ["x_t"], perm=[1, 0, 2]),
            helper.make_node(
                "LSTM", ["x_t", "W", "R", "b", "", "h", "c"], ["Y", "h2", "c2"], hidden_size=HIDDEN
            ),
            helper.make_node("Squeeze", ["Y", "one"], ["y_t"]),
            *nodes,
        ],
        [tensor("x", ["B", "T", INPUTS]), tensor("h", STATE), tensor("c", STATE)],
        [output, tensor("h2", STATE), tensor("c2", STATE)],
        [*lstm_weights(), constant("one", values=np.array([1])), *constants],
    )


def test_an_output_with_fewer_steps_than_the_input_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Slice", ["y_t", "two", "end", "zero"], ["y"])]
    foreign = head(
        nodes,
        tensor("y", ["L", "B", HIDDEN]),
        constant("two", values=np.array([2])),
        constant("end", values=np.array([2**40])),
        constant("zero", values=np.array([0])),
    )

    with pytest.raises(SourceError, match=r"'y'.*a value for every step.*--output") as refusal:
        import_onnx(foreign.save(tmp_path / "m.onnx"), tmp_path / "repository")
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "repository").exists()


def test_an_output_that_mixes_rows_is_computed_for_each_row_alone(tmp_path: Path) -> None:
    """The mean over all rows has no batch axis; a row's own mean is what a caller of one row gets."""
    foreign = head(
        [helper.make_node("ReduceMean", ["y_t"], ["y"], axes=[1], keepdims=0)], tensor("y", ["T", HIDDEN])
    )
    package = import_onnx(foreign.save(tmp_path / "m.onnx"), tmp_path / "repository")
    x = sequence(rows=3)

    y, _ = run_package(package, x)

    zeros = np.zeros((1, 1, HIDDEN), np.float32)
    for row in range(3):
        alone = foreign.run({"x": x[:, row][None], "h": zeros, "c": zeros})
        np.testing.assert_allclose(y[:, row], alone["y"], atol=1e-6)
    assert "the graph takes one row" in (package / "model.toml").read_text()


def test_an_output_can_be_left_out(tmp_path: Path) -> None:
    """The mean over rows is left out, and rows share runs again."""
    nodes = [
        helper.make_node("ReduceMean", ["y_t"], ["mean"], axes=[1], keepdims=0),
        helper.make_node("Identity", ["y_t"], ["y"]),
    ]
    foreign = head(nodes, tensor("y", ["T", "B", HIDDEN]))
    foreign.model.graph.output.append(tensor("mean", ["T", HIDDEN]))
    package = import_onnx(foreign.save(tmp_path / "m.onnx"), tmp_path / "repository", outputs=["y"])
    text = (package / "model.toml").read_text()

    assert [entry.name for entry in read_package(package).spec.outputs] == ["y"]
    assert "output mean is left out" in text
    assert "the graph takes one row" not in text


def swapped(names: list[Any]) -> ForeignGraph:
    """A running sum over axis 1 of x [a, b], from a state [a]; only runs can tell the axes apart."""
    nodes = [
        helper.make_node("CumSum", ["x", "one"], ["sums"]),
        helper.make_node("Unsqueeze", ["total", "ones"], ["column"]),
        helper.make_node("Add", ["sums", "column"], ["y"]),
        helper.make_node("Gather", ["y", "last"], ["total_out"], axis=1),
    ]
    return make(
        nodes,
        [tensor("x", names), tensor("total", [names[0]])],
        [tensor("y", names), tensor("total_out", [names[0]])],
        [
            constant("one", values=np.array(1)),
            constant("ones", values=np.array([1])),
            constant("last", values=np.array(-1)),
        ],
    )


@pytest.mark.parametrize("names", [["rows", "cols"], [None, None], ["B", "T"]], ids=str)
def test_axes_without_known_names_are_told_apart_by_runs(tmp_path: Path, names: list[str | None]) -> None:
    package = import_onnx(swapped(names).save(tmp_path / "m.onnx"), tmp_path / "repository")
    x = sequence(rows=3)[..., 0]

    y, (total,) = run_package(package, x)

    np.testing.assert_allclose(y, np.cumsum(x, axis=0), atol=1e-5)
    np.testing.assert_allclose(total, x.sum(axis=0)[:, None], atol=1e-5)


def test_names_that_mislead_are_refused_and_the_user_can_say_better(tmp_path: Path) -> None:
    file = swapped(["T", "B"]).save(tmp_path / "m.onnx")
    package = import_onnx(
        file,
        tmp_path / "repository",
        axes={"x": ["batch", "time"], "total": ["batch"]},
    )

    y, _ = run_package(package, x := sequence(rows=3)[..., 0])

    np.testing.assert_allclose(y, np.cumsum(x, axis=0), atol=1e-5)


def test_a_third_free_size_is_named_with_the_option_that_fixes_it(tmp_path: Path) -> None:
    nodes = [helper.make_node("Add", ["x", "s"], ["s_out"]), helper.make_node("Neg", ["s_out"], ["y"])]
    free: list[Any] = ["B", "K", "M"]
    foreign = make(
        nodes, [tensor("x", ["B", "T", "K"]), tensor("s", free)], [tensor("y", free), tensor("s_out", free)]
    )
    file = foreign.save(tmp_path / "m.onnx")

    with pytest.raises(SourceError, match=r"--size \w+=N"):
        import_onnx(file, tmp_path / "repository", state={"s": "s_out"})


def test_a_fixed_size_is_a_feature(tmp_path: Path) -> None:
    """x [B, K] and s [B, K], K any number."""
    nodes = [helper.make_node("Add", ["x", "s"], ["s_out"]), helper.make_node("Neg", ["s_out"], ["y"])]
    free: list[Any] = ["B", "K"]
    foreign = make(nodes, [tensor("x", free), tensor("s", free)], [tensor("y", free), tensor("s_out", free)])
    file = foreign.save(tmp_path / "m.onnx")

    spec = read_package(import_onnx(file, tmp_path / "repository", sizes={"K": 4})).spec

    assert spec.inputs[0].shape == (4,)
    with pytest.raises(SourceError, match="size 'Q': expected one of 'B', 'K'"):
        import_onnx(file, tmp_path / "repository", sizes={"Q": 4})


def test_an_operator_of_ten_steps_is_refused(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("LSTM", ["x", "W", "R", "b", "", "h", "c"], ["Y", "h2", "c2"], hidden_size=HIDDEN),
        helper.make_node("Squeeze", ["Y", "one"], ["y"]),
    ]
    foreign = make(
        nodes,
        [tensor("x", [10, "batch_size", INPUTS]), tensor("h", STATE), tensor("c", STATE)],
        [tensor("y", [10, "batch_size", HIDDEN]), tensor("h2", STATE), tensor("c2", STATE)],
        [*lstm_weights(), constant("one", values=np.array([1]))],
    )

    with pytest.raises(SourceError, match=r"reads 10 steps in every run.*--axes"):
        import_onnx(foreign.save(tmp_path / "m.onnx"), tmp_path / "repository")


def test_a_state_of_one_row_beside_free_rows_of_data(tmp_path: Path) -> None:
    """x [batch, 3] and h [1, 1, 8]: rows run one after another."""
    nodes = [
        helper.make_node("Unsqueeze", ["x", "zero"], ["x_row"]),
        helper.make_node(
            "LSTM", ["x_row", "W", "R", "b", "", "h", "c"], ["", "h2", "c2"], hidden_size=HIDDEN
        ),
        helper.make_node("Squeeze", ["h2", "zero"], ["y"]),
    ]
    one: list[Any] = [1, 1, HIDDEN]
    foreign = make(
        nodes,
        [tensor("x", ["batch", INPUTS]), tensor("h", one), tensor("c", one)],
        [tensor("y", ["batch", HIDDEN]), tensor("h2", one), tensor("c2", one)],
        [*lstm_weights(), constant("zero", values=np.array([0]))],
        check=False,
    )
    package = import_onnx(foreign.save(tmp_path / "m.onnx"), tmp_path / "repository")
    x = sequence(rows=2)

    y, _ = run_package(package, x)

    for row in range(2):
        h = c = np.zeros((1, 1, HIDDEN), np.float32)
        for step in range(len(x)):
            result = foreign.run({"x": x[step, row][None], "h": h, "c": c})
            h, c = result["h2"], result["c2"]
            np.testing.assert_allclose(y[step, row], result["y"][0], atol=1e-6)


def test_a_scalar_counter_is_a_state(tmp_path: Path) -> None:
    """n [] counts steps; x [B, 3] has rows, so rows run one after another."""
    nodes = [
        helper.make_node("Add", ["n", "one"], ["n_out"]),
        helper.make_node("Cast", ["n_out"], ["count"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["x", "count"], ["y"]),
    ]
    foreign = make(
        nodes,
        [tensor("x", ["B", INPUTS]), tensor("n", [], TensorProto.INT64)],
        [tensor("y", ["B", INPUTS]), tensor("n_out", [], TensorProto.INT64)],
        [constant("one", values=np.array(1))],
    )
    package = import_onnx(foreign.save(tmp_path / "m.onnx"), tmp_path / "repository")
    x = sequence(rows=2)

    y, (n,) = run_package(package, x)

    np.testing.assert_allclose(y, x * np.arange(1, 7, dtype=np.float32)[:, None, None], atol=1e-6)
    assert n.tolist() == [[6]] * 2


def test_a_graph_that_draws_random_numbers_is_refused(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("RandomNormalLike", ["x"], ["noise"]),
        helper.make_node("Add", ["x", "noise"], ["noisy"]),
        helper.make_node("Add", ["noisy", "s"], ["s_out"]),
        helper.make_node("Neg", ["s_out"], ["y"]),
    ]
    row: list[Any] = ["B", INPUTS]
    foreign = make(nodes, [tensor("x", row), tensor("s", row)], [tensor("y", row), tensor("s_out", row)])

    with pytest.raises(SourceError, match="the graph draws random numbers"):
        import_onnx(foreign.save(tmp_path / "m.onnx"), tmp_path / "repository")


def test_a_cache_that_grows_is_refused(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Concat", ["past", "x"], ["present"], axis=1),
        helper.make_node("ReduceMean", ["present"], ["y"], axes=[1], keepdims=1),
    ]
    foreign = make(
        nodes,
        [tensor("x", ["B", 1, INPUTS]), tensor("past", ["B", "P", INPUTS])],
        [tensor("y", ["B", 1, INPUTS]), tensor("present", ["B", "P1", INPUTS])],
    )
    file = foreign.save(tmp_path / "m.onnx")

    with pytest.raises(SourceError, match="--size P=N"):
        import_onnx(file, tmp_path / "repository", state={"past": "present"})
    with pytest.raises(SourceError, match="a cache that grows cannot be a state"):
        import_onnx(file, tmp_path / "repository", state={"past": "present"}, sizes={"P": 4})
