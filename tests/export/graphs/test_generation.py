"""Compares generator and encoder graphs with NumPy's feedback loop; tokens have to be equal, not close."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from tests.export.checkpoints import TEXT_GENERATOR, VOCABULARY, make_checkpoint, make_encoder_decoder

from statewise.export import Exactness, PackageError, export_checkpoint, read_package, verify_package
from statewise.models import Checkpoint, generate_tokens, generate_values
from statewise.models.base import Array
from statewise.models.networks import CellName
from statewise.wire import EncodeSpec, GenerateSpec, TensorSpec, Vocabulary

STEPS = 20
CELLS = [
    pytest.param({"cell": "lstm"}, id="lstm"),
    pytest.param({"cell": "lstm", "layers": 2}, id="two-lstms"),
    pytest.param({"cell": "gru"}, id="gru-reset-before"),
    pytest.param({"cell": "gru", "layers": 3, "reset_after": True}, id="three-grus-reset-after"),
    pytest.param({"cell": "rnn", "activation": "sigmoid"}, id="rnn"),
]


def session(package: Path, file: str = "generate.onnx") -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(package / file, options, providers=["CPUExecutionProvider"])


def request(rows: int, size: int, rng: np.random.Generator) -> dict[str, Array]:
    """Rows that differ in everything a row can ask for; every third one has no stop token."""
    return {
        "remaining": rng.integers(0, STEPS + 5, rows).astype(np.int32),
        "noise": rng.random((STEPS, rows), np.float32),
        "temperature": rng.choice([0, 0.5, 1, 3], rows).astype(np.float32),
        "top_k": rng.choice([0, 1, 3, size, size + 5], rows).astype(np.int32),
        "stop": np.zeros(rows, np.int32),
    }


def picked(feed: dict[str, Array], rows: Sequence[int]) -> dict[str, Array]:
    return {name: array[:, rows] if name == "noise" else array[rows] for name, array in feed.items()}


def start(checkpoint: Checkpoint, rows: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """The state and the last output after a short prompt."""
    prompt = rng.integers(0, checkpoint.network.spec.input_size, (3, rows)).astype(np.int32)
    y, state = checkpoint.network.run(prompt)
    assert state is not None
    return state, y[-1]


@pytest.mark.parametrize("rows", [1, 64])
@pytest.mark.parametrize("cell", CELLS)
def test_tokens_equal_the_numpy_feedback_loop(tmp_path: Path, cell: dict[str, Any], rows: int) -> None:
    checkpoint = make_checkpoint(**TEXT_GENERATOR, **cell)
    rng = np.random.default_rng(rows)
    state, last = start(checkpoint, rows, rng)
    asked = request(rows, 7, rng)
    asked["remaining"][0] = STEPS
    noise, stop = asked["noise"], 0
    expected = generate_tokens(
        checkpoint.network,
        state,
        last,
        noise,
        temperature=asked["temperature"],
        top_k=asked["top_k"],
        stop=stop,
        remaining=asked["remaining"],
    )

    emitted, after = session(export_checkpoint(checkpoint, tmp_path)).run(None, {"state": state, **asked})

    np.testing.assert_array_equal(emitted, expected.tokens)
    np.testing.assert_allclose(after, expected.state, atol=1e-5 * np.abs(expected.state).max())


@pytest.mark.parametrize("cell", CELLS[:4])
def test_neither_neighbours_nor_cuts_change_a_bit(tmp_path: Path, cell: dict[str, Any]) -> None:
    checkpoint = make_checkpoint(**TEXT_GENERATOR, **cell)
    rng = np.random.default_rng(7)
    state, _ = start(checkpoint, 16, rng)
    asked = request(16, 7, rng)
    asked["remaining"][:] = STEPS
    asked["stop"][::3] = -1
    graph = session(export_checkpoint(checkpoint, tmp_path))
    together, after = graph.run(None, {"state": state, **asked})

    for row in range(16):
        one = [row]
        alone, alone_after = graph.run(None, {"state": state[one], **picked(asked, one)})
        np.testing.assert_array_equal(alone[:, 0], together[: len(alone), row])
        np.testing.assert_array_equal(alone_after[0], after[row])

    pieces, state_now, left = [], state, asked["remaining"].copy()
    for begin in range(0, STEPS, 7):
        part = {**asked, "noise": asked["noise"][begin : begin + 7], "remaining": left}
        said, state_now = graph.run(None, {"state": state_now, **part})
        pieces.append(said)
        stopped = (said == asked["stop"]).any(axis=0) & (asked["stop"] >= 0)
        left = np.where(stopped, 0, np.maximum(left - 7, 0)).astype(np.int32)
        if not left.any():
            break
    np.testing.assert_array_equal(np.concatenate(pieces), together)
    np.testing.assert_array_equal(state_now, after)


def test_a_step_after_generating_continues(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(**TEXT_GENERATOR)
    rng = np.random.default_rng(8)
    state, _ = start(checkpoint, 4, rng)
    package = export_checkpoint(checkpoint, tmp_path)
    asked = request(4, 7, rng) | {"remaining": np.full(4, 6, np.int32), "stop": np.full(4, -1, np.int32)}

    emitted, after = session(package).run(None, {"state": state, **asked})
    read = {"x": emitted, "lengths": np.full(4, 6, np.int32), "state": state}
    _, consumed = session(package, "model.onnx").run(None, read)

    np.testing.assert_array_equal(after, consumed)


def test_a_stop_token_is_emitted_and_not_consumed(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(**TEXT_GENERATOR)
    state, last = start(checkpoint, 1, np.random.default_rng(9))
    asked = picked(request(1, 7, np.random.default_rng(9)), [0]) | {"remaining": np.array([5], np.int32)}
    asked["temperature"][:] = 0
    asked["stop"][:] = last[0].argmax()

    emitted, after = session(export_checkpoint(checkpoint, tmp_path)).run(None, {"state": state, **asked})

    assert emitted.tolist() == [[last[0].argmax()]]
    np.testing.assert_array_equal(after, state)


def test_a_row_with_nothing_left_keeps_its_state(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(**TEXT_GENERATOR)
    rng = np.random.default_rng(10)
    state, _ = start(checkpoint, 2, rng)
    asked = request(2, 7, rng) | {"remaining": np.array([0, 3], np.int32), "stop": np.full(2, -1, np.int32)}

    emitted, after = session(export_checkpoint(checkpoint, tmp_path)).run(None, {"state": state, **asked})

    assert emitted[:, 0].tolist() == [-1, -1, -1]
    np.testing.assert_array_equal(after[0], state[0])
    assert (after[1] != state[1]).any()


@pytest.mark.parametrize("transform", ["identity", "sqrt"])
def test_a_forecast_is_fed_back_in_input_units(tmp_path: Path, transform: str) -> None:
    checkpoint = make_checkpoint(input_size=3, output_size=3, transform=transform, same_units=True)
    x = np.random.default_rng(11).uniform(0.5, 4, (5, 2, 3)).astype(np.float32)
    y, state = checkpoint.predict(x)
    assert state is not None
    expected, expected_state, _ = generate_values(checkpoint, state, y[-1], 6)

    emitted, after = session(export_checkpoint(checkpoint, tmp_path)).run(
        None, {"state": state, "remaining": np.array([6, 2], np.int32)}
    )

    np.testing.assert_allclose(emitted[:, 0], expected[:, 0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(emitted[:2, 1], expected[:2, 1], rtol=1e-4, atol=1e-5)
    assert not emitted[2:, 1].any()
    np.testing.assert_allclose(after[0], expected_state[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "fields",
    [
        {"output_size": 3},
        {"output_size": 5},  # inputs and outputs in different units
        {"output_size": 5, "residual": True},
        {"output_size": 5, "head": "sigmoid"},
        {"output_size": 5, "bidirectional": True},
        {"input_size": 9, "embedding_size": 4, "output_size": 9},
        {"input_size": 9, "embedding_size": 4, "output_size": 9, "head": "softmax", "labels": ("a",) * 9},
    ],
    ids=str,
)
def test_networks_whose_outputs_are_no_inputs_do_not_generate(tmp_path: Path, fields: dict[str, Any]) -> None:
    package = export_checkpoint(make_checkpoint(**fields), tmp_path)

    assert read_package(package).spec.generate is None
    assert [entry.name for entry in package.iterdir()] == ["model.onnx"]


def test_a_residual_network_generates_without_a_graph(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(input_size=3, output_size=3, residual=True, same_units=True)
    package = export_checkpoint(checkpoint, tmp_path)

    assert read_package(package).spec.generate == GenerateSpec(
        TensorSpec("emitted", "float32", (3,)), "x", graph=False
    )
    assert [entry.name for entry in package.iterdir()] == ["model.onnx"]
    assert verify_package(package).passed


def test_a_package_declares_how_it_generates(tmp_path: Path) -> None:
    checkpoint = replace(make_checkpoint(**TEXT_GENERATOR), vocabulary=VOCABULARY)
    spec = read_package(export_checkpoint(checkpoint, tmp_path)).spec

    assert spec.generate == GenerateSpec(
        TensorSpec("emitted", "int32", (), vocabulary_size=7), "x", sampled=True
    )
    assert spec.vocabulary == Vocabulary(
        tuple(VOCABULARY["tokens"]), case_folding="lower", end=0, conditions={"<x>": 7, "<y>": 8}
    )
    assert spec.encode is None


@pytest.mark.parametrize("learned", [False, True], ids=["zeros", "learned-initial-state"])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize(("both", "layers"), [(False, 1), (True, 1), (False, 2)], ids=str)
def test_an_encoder_graph_equals_the_numpy_encoder(
    tmp_path: Path, cell: CellName, both: bool, layers: int, learned: bool
) -> None:
    checkpoint = make_encoder_decoder(cell=cell, bidirectional=both, layers=layers, learned=learned)
    tokens = np.random.default_rng(12).integers(0, 6, (5, 4)).astype(np.int32)
    lengths = np.array([5, 1, 3, 2], np.int32)
    package = export_checkpoint(checkpoint, tmp_path)

    (state,) = session(package, "encode.onnx").run(None, {"x": tokens, "lengths": lengths})

    np.testing.assert_allclose(state, checkpoint.network.encode(tokens, lengths), atol=1e-6)
    assert read_package(package).spec.encode == EncodeSpec(
        (TensorSpec("x", "int32", (), vocabulary_size=6),),
        ("state_out",),
        "lengths",
        Vocabulary(tuple(VOCABULARY["tokens"]), case_folding="lower", end=0, conditions={"<x>": 7, "<y>": 8}),
    )


GENERATORS: dict[str, Callable[[], Checkpoint]] = {
    "text-generator": lambda: make_checkpoint(**TEXT_GENERATOR, layers=2),
    "encoder-decoder": lambda: make_encoder_decoder(bidirectional=True),
    "encoder-decoder-that-begins": lambda: make_encoder_decoder(bidirectional=True, learned=True),
    "encoder-decoder-one-way": lambda: make_encoder_decoder(layers=2, learned=True),
    "text-generator-that-begins": lambda: make_checkpoint(**TEXT_GENERATOR, learn_initial_state=True),
    "forecaster": lambda: make_checkpoint(input_size=3, output_size=3, same_units=True),
}


@pytest.mark.parametrize("from_checkpoint", [False, True], ids=["rebuilt", "from-the-checkpoint"])
@pytest.mark.parametrize("kind", GENERATORS)
def test_sound_packages_verify(tmp_path: Path, kind: str, from_checkpoint: bool) -> None:
    checkpoint = GENERATORS[kind]()
    report = verify_package(
        export_checkpoint(checkpoint, tmp_path), checkpoint=checkpoint if from_checkpoint else None
    )

    assert report.passed, report.checks
    assert report.exactness is Exactness.EXACT
    names = {check.name for check in report.checks}
    assert {"generate = NumPy", "generate in chunks = at once", "generate alone = batched"} <= names
    assert ("encode = NumPy" in names) == kind.startswith("encoder-decoder")


@pytest.mark.parametrize(
    ("file", "change", "failing"),
    [
        ("generate.onnx", lambda model: _nudge(model, "head.c"), "generate = NumPy"),
        ("generate.onnx", lambda model: _nudge(model, "layer0.B"), "generate = NumPy, state"),
        ("encode.onnx", lambda model: _nudge(model, "layer0.W"), "encode = NumPy"),
        ("generate.onnx", lambda model: _rename_input(model, "top_k"), "metadata"),
    ],
)
def test_flaws_of_generator_and_encoder_graphs_are_found(
    tmp_path: Path, file: str, change: Callable[[onnx.ModelProto], None], failing: str
) -> None:
    checkpoint = make_encoder_decoder()
    package = export_checkpoint(checkpoint, tmp_path)
    model = onnx.load(package / file)
    change(model)
    (package / file).write_bytes(model.SerializeToString())

    report = verify_package(package, checkpoint=checkpoint)

    assert failing in {check.name for check in report.checks if not check.passed}
    assert json.loads(json.dumps(report.to_dict()))["passed"] is False


def test_a_promised_graph_that_is_missing_is_an_error(tmp_path: Path) -> None:
    package = export_checkpoint(make_checkpoint(**TEXT_GENERATOR), tmp_path)
    (package / "generate.onnx").unlink()

    with pytest.raises(PackageError, match=r"expected a version folder with generate\.onnx"):
        read_package(package)


def _nudge(model: onnx.ModelProto, name: str) -> None:
    tensor = next(entry for entry in model.graph.initializer if entry.name == name)
    values = onnx.numpy_helper.to_array(tensor).copy()
    values.flat[0] += 3
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, name))


def _rename_input(model: onnx.ModelProto, name: str) -> None:
    entry = next(entry for entry in model.graph.input if entry.name == name)
    entry.name = "other"
    for node in model.graph.node:
        for index, used in enumerate(node.input):
            if used == name:
                node.input[index] = "other"
