"""Imports PyTorch's weights; the oracles are PyTorch, where installed, and its documented equations."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from statewise.export import SourceError, UnsupportedNetwork, import_torch, read_package, verify_package
from statewise.models.base import Array

INPUTS, HIDDEN, OUTPUTS = 4, 6, 3
GATES = {"RNN": 1, "LSTM": 4, "GRU": 3}
STACKS = [(layers, both) for layers in (1, 2, 3) for both in (False, True)]


def write_safetensors(path: Path, arrays: Mapping[str, Array], **extra: object) -> Path:
    header, data = {"__metadata__": {"format": "pt"}, **extra}, b""
    for name, array in arrays.items():
        raw = np.ascontiguousarray(array).tobytes()
        dtype = {"float32": "F32", "float64": "F64", "float16": "F16", "int64": "I64"}[array.dtype.name]
        offsets = [len(data), len(data) + len(raw)]
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": offsets}
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def weights(
    kind: str,
    *,
    layers: int = 1,
    both: bool = False,
    module: str = "rnn.",
    linear: str | None = "fc.",
    seed: int = 0,
) -> dict[str, Array]:
    """Names and shapes as of torch.nn, values random."""
    rng = np.random.default_rng(seed)
    rows, directions = GATES[kind] * HIDDEN, 2 if both else 1
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in range(layers):
        width = INPUTS if layer == 0 else HIDDEN * directions
        for suffix in ("", "_reverse")[:directions]:
            name = f"l{layer}{suffix}"
            shapes |= {
                f"{module}weight_ih_{name}": (rows, width),
                f"{module}weight_hh_{name}": (rows, HIDDEN),
            }
            shapes |= {f"{module}bias_ih_{name}": (rows,), f"{module}bias_hh_{name}": (rows,)}
    if linear is not None:
        shapes |= {f"{linear}weight": (OUTPUTS, HIDDEN * directions), f"{linear}bias": (OUTPUTS,)}
    return {name: rng.uniform(-0.6, 0.6, shape).astype(np.float32) for name, shape in shapes.items()}


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def torch_step(
    kind: str, x: Array, h: Array, c: Array, w: Mapping[str, Array], name: str
) -> tuple[Array, Array]:
    """One step as the pages of torch.nn.RNN, LSTM and GRU define it, in their notation."""
    W_i, W_h = w[f"rnn.weight_ih_{name}"], w[f"rnn.weight_hh_{name}"]
    i, r = x @ W_i.T + w[f"rnn.bias_ih_{name}"], h @ W_h.T + w[f"rnn.bias_hh_{name}"]
    if kind == "RNN":
        return np.tanh(i + r), c
    if kind == "LSTM":
        i_t, f_t, g_t, o_t = np.split(i + r, 4, axis=-1)
        c = sigmoid(f_t) * c + sigmoid(i_t) * np.tanh(g_t)
        return sigmoid(o_t) * np.tanh(c), c
    (i_r, i_z, i_n), (h_r, h_z, h_n) = np.split(i, 3, axis=-1), np.split(r, 3, axis=-1)
    n_t = np.tanh(i_n + sigmoid(i_r + h_r) * h_n)
    z_t = sigmoid(i_z + h_z)
    return (1 - z_t) * n_t + z_t * h, c


def torch_forward(kind: str, x: Array, w: Mapping[str, Array], layers: int, both: bool) -> Array:
    for layer in range(layers):
        sides = []
        for suffix in ("", "_reverse")[: 2 if both else 1]:
            h = c = np.zeros((x.shape[1], HIDDEN))
            steps = []
            for x_t in x[::-1] if suffix else x:
                h, c = torch_step(kind, x_t, h, c, w, f"l{layer}{suffix}")
                steps.append(h)
            sides.append(np.array(steps[::-1] if suffix else steps))
        x = np.concatenate(sides, axis=-1)
    return x @ w["fc.weight"].T + w["fc.bias"]


def run(package: Path, x: Array, tokens: bool = False) -> Array:
    session = onnxruntime.InferenceSession(package / "model.onnx", providers=["CPUExecutionProvider"])
    rows = x.shape[1]
    feed = {"x": x if tokens else x.astype(np.float32), "lengths": np.full(rows, len(x), np.int32)}
    spec = read_package(package).spec
    if spec.state:
        feed["state"] = np.zeros((rows, *spec.state[0].shape), np.float32)
    (y,) = session.run(["y"], feed)
    return np.asarray(y)


@pytest.mark.parametrize(("layers", "both"), STACKS)
@pytest.mark.parametrize("kind", GATES)
def test_graphs_compute_the_documented_equations(tmp_path: Path, kind: str, layers: int, both: bool) -> None:
    w = weights(kind, layers=layers, both=both)
    package = import_torch(write_safetensors(tmp_path / "w.safetensors", w), tmp_path / "repository")
    x = np.random.default_rng(1).standard_normal((9, 3, INPUTS))

    expected = torch_forward(kind, x, w, layers, both)

    assert np.abs(run(package, x) - expected).max() < 1e-5 * np.abs(expected).max()
    assert verify_package(package).passed


@pytest.mark.parametrize(("layers", "both"), STACKS)
@pytest.mark.parametrize("kind", GATES)
def test_graphs_compute_what_pytorch_computes(tmp_path: Path, kind: str, layers: int, both: bool) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(layers)
    module = torch.nn.ModuleDict(
        {
            "rnn": getattr(torch.nn, kind)(INPUTS, HIDDEN, num_layers=layers, bidirectional=both),
            "fc": torch.nn.Linear(HIDDEN * (2 if both else 1), OUTPUTS),
        }
    )
    arrays = {name: array.numpy() for name, array in module.state_dict().items()}
    package = import_torch(write_safetensors(tmp_path / "w.safetensors", arrays), tmp_path / "repository")
    x = torch.randn(9, 3, INPUTS)

    with torch.no_grad():
        expected = module["fc"](module["rnn"](x)[0]).numpy()

    assert np.abs(run(package, x.numpy()) - expected).max() < 1e-5 * np.abs(expected).max()


def test_a_description_adds_what_names_and_shapes_leave_open(tmp_path: Path) -> None:
    w = weights("LSTM", module="net.lstm.", linear="net.out.")
    w["embed.weight"] = np.random.default_rng(2).standard_normal((8, INPUTS)).astype(np.float32)
    w["other.weight"] = np.zeros((2, 2), np.float32)
    file = write_safetensors(tmp_path / "tagger.safetensors", w)
    (tmp_path / "tagger.toml").write_text(
        'embedding = "embed"\nignore = ["other"]\ncall_shape = "many_to_one"\nhead = "softmax"\n'
        'labels = ["a", "b", "c"]\n'
    )

    package = import_torch(file, tmp_path / "repository")
    spec = read_package(package).spec
    tokens = np.random.default_rng(3).integers(0, 8, (5, 2)).astype(np.int32)
    plain = {f"rnn.{key.removeprefix('net.lstm.')}": value for key, value in w.items()}
    plain |= {"fc.weight": w["net.out.weight"], "fc.bias": w["net.out.bias"]}
    scores = torch_forward("LSTM", w["embed.weight"][tokens].astype(float), plain, 1, False)[-1]
    expected = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)

    assert package == tmp_path / "repository" / "tagger" / "1"
    assert spec.labels == ("a", "b", "c")
    assert spec.call_shapes == ("many_to_one",)
    assert spec.inputs[0].vocabulary_size == 8
    assert spec.notes == {"imported_from": "tagger.safetensors"}
    np.testing.assert_allclose(run(package, tokens, tokens=True), expected, atol=1e-6)


def test_normalisation_goes_into_the_graph(tmp_path: Path) -> None:
    w = weights("GRU")
    file = write_safetensors(tmp_path / "w.safetensors", w)
    description = tmp_path / "units.toml"
    description.write_text(
        "input_mean = [1, 2, 3, 4]\ninput_scale = [2, 2, 2, 2]\noutput_scale = [10, 10, 10]\n"
    )
    package = import_torch(file, tmp_path / "repository", description=description)
    x = np.random.default_rng(4).standard_normal((5, 2, INPUTS))

    expected = 10 * torch_forward("GRU", (x - [1, 2, 3, 4]) / 2, w, 1, False)

    np.testing.assert_allclose(run(package, x), expected, atol=1e-5)


def test_no_linear_layer_gives_h(tmp_path: Path) -> None:
    w = weights("RNN", linear=None)
    package = import_torch(write_safetensors(tmp_path / "w.safetensors", w), tmp_path / "repository")
    x = np.random.default_rng(5).standard_normal((5, 2, INPUTS))
    identity = {"fc.weight": np.eye(HIDDEN), "fc.bias": np.zeros(HIDDEN)}

    np.testing.assert_allclose(run(package, x), torch_forward("RNN", x, w | identity, 1, False), atol=1e-5)


@pytest.mark.parametrize("precision", ["float64", "float16"])
def test_other_floats_are_read_as_float32(tmp_path: Path, precision: str) -> None:
    w = {name: array.astype(precision) for name, array in weights("LSTM").items()}
    package = import_torch(write_safetensors(tmp_path / "w.safetensors", w), tmp_path / "repository")
    x = np.random.default_rng(6).standard_normal((5, 2, INPUTS))
    exact = {name: array.astype(float) for name, array in w.items()}

    np.testing.assert_allclose(run(package, x), torch_forward("LSTM", x, exact, 1, False), atol=1e-5)


Change = Callable[[dict[str, Array]], dict[str, Array]]


def without(name: str) -> Change:
    return lambda w: {key: array for key, array in w.items() if key != name}


def with_array(name: str, *shape: int) -> Change:
    return lambda w: {**w, name: np.zeros(shape, np.float32)}


@pytest.mark.parametrize(
    ("change", "description", "complaint"),
    [
        (with_array("rnn.weight_hr_l0", 2, HIDDEN), "", "expected an LSTM without projections"),
        (without("rnn.weight_hh_l0"), "", "rnn: expected 'weight_hh_l0'; there is none"),
        (without("rnn.weight_ih_l0"), "", "recurrent modules found: none; expected one"),
        (with_array("b.weight_ih_l0", 4, 4), "", "found: 'b', 'rnn'; expected recurrent = to name one"),
        (with_array("fc2.weight", 2, 2), "", "also found fc2.weight: name it as embedding, or in ignore"),
        (lambda w: w, 'recurrent = "lstm"', "found: 'rnn'; expected 'lstm' among them"),
        (lambda w: w, 'linear = "rnn2"', "rnn2: expected 'weight'; there is none"),
        (lambda w: w, 'cell = "lstm"', "cell: expected one of recurrent, linear"),
        (lambda w: w, 'labels = ["a"]', "labels: expected 3 names, one an output; got"),
        (lambda w: w, "input_mean = [1]", "input_mean: expected 4 numbers"),
        (lambda w: w, 'head = "tanh"', "head: expected one of linear, softmax, sigmoid, got 'tanh'"),
        (lambda w: w, "head = ", "expected TOML"),
        (with_array("rnn.weight_hh_l0", 13, HIDDEN), "", r"expected \[H, H\], \[3 H, H\] or \[4 H, H\]"),
        (with_array("rnn.bias_ih_l0", 7), "", "do not fit together"),
    ],
)
def test_weights_that_cannot_be_imported_are_an_error(
    tmp_path: Path, change: Change, description: str, complaint: str
) -> None:
    file = write_safetensors(tmp_path / "w.safetensors", change(weights("LSTM")))
    (tmp_path / "w.toml").write_text(description)

    with pytest.raises((SourceError, UnsupportedNetwork), match=complaint):
        import_torch(file, tmp_path / "repository")
    assert not (tmp_path / "repository").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 8,
        (2**63).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        (5).to_bytes(8, "little") + b"{{{{{",
        (100_000).to_bytes(8, "little") + b"[" * 100_000,
    ],
    ids=["empty", "no-header", "huge-header", "a-list", "no-json", "deep-json"],
)
def test_a_file_of_another_form_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.safetensors").write_bytes(content)

    with pytest.raises(SourceError, match="header"):
        import_torch(tmp_path / "w.safetensors", tmp_path / "repository")


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [10**9, 10**9 + 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, -4]},
        {"dtype": "F32", "shape": "1", "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1]},
        "F32",
    ],
    ids=["huge", "outside", "backwards", "negative", "shape-of-text", "no-offsets", "no-object"],
)
def test_arrays_that_lie_outside_the_file_are_an_error(tmp_path: Path, entry: object) -> None:
    write_safetensors(tmp_path / "w.safetensors", weights("LSTM"), bad=entry)

    with pytest.raises(SourceError, match="tensor 'bad': expected"):
        import_torch(tmp_path / "w.safetensors", tmp_path / "repository")


@pytest.mark.parametrize("dtype", ["F32", "I32"])
def test_tensors_that_share_bytes_are_an_error(tmp_path: Path, dtype: str) -> None:
    shared = {"dtype": dtype, "shape": [1], "data_offsets": [4, 8]}
    write_safetensors(tmp_path / "w.safetensors", weights("LSTM"), other=shared)

    with pytest.raises(SourceError, match=r"tensors '.*' and 'other': expected bytes of their own"):
        import_torch(tmp_path / "w.safetensors", tmp_path / "repository")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_an_error(tmp_path: Path, value: float) -> None:
    changed = weights("LSTM")
    changed["rnn.weight_hh_l0"][0, 1] = value
    write_safetensors(tmp_path / "w.safetensors", changed)

    with pytest.raises(SourceError, match=r"'rnn\.weight_hh_l0': expected finite numbers of float32; 1 are"):
        import_torch(tmp_path / "w.safetensors", tmp_path / "repository")
    assert not (tmp_path / "repository").exists()


def test_an_absent_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"expected a \.safetensors file; No such file"):
        import_torch(tmp_path / "w.safetensors", tmp_path / "repository")


@pytest.mark.parametrize("kind", GATES)
def test_a_cell_is_a_module_of_one_layer(tmp_path: Path, kind: str) -> None:
    """nn.LSTMCell and its like: the names have no layer's number."""
    w = weights(kind)
    cell = {name.removesuffix("_l0"): array for name, array in w.items()}
    package = import_torch(write_safetensors(tmp_path / "w.safetensors", cell), tmp_path / "repository")
    x = np.random.default_rng(7).standard_normal((5, 2, INPUTS))

    np.testing.assert_allclose(run(package, x), torch_forward(kind, x, w, 1, False), atol=1e-5)


def test_a_network_with_relu_is_told_apart_by_its_description_alone(tmp_path: Path) -> None:
    w = weights("RNN", linear=None)
    file = write_safetensors(tmp_path / "w.safetensors", w)
    assumed = import_torch(file, tmp_path / "repository", name="assumed")
    (tmp_path / "w.toml").write_text('nonlinearity = "relu"\n')
    described = import_torch(file, tmp_path / "repository", name="described")
    x = np.random.default_rng(8).standard_normal((5, 2, INPUTS))

    h, expected = np.zeros((2, HIDDEN)), []
    for x_t in x:
        i = x_t @ w["rnn.weight_ih_l0"].T + w["rnn.bias_ih_l0"]
        h = np.maximum(i + h @ w["rnn.weight_hh_l0"].T + w["rnn.bias_hh_l0"], 0)
        expected.append(h)

    np.testing.assert_allclose(run(described, x), expected, atol=1e-5)
    assert 'needs nonlinearity = "relu"' in (assumed / "model.toml").read_text()
    assert "nonlinearity" not in (described / "model.toml").read_text()


@pytest.mark.parametrize(
    ("name", "refused"), [("linear", True), ("input_layer", True), ("fc", False), ("net.output", False)]
)
def test_a_square_layer_is_the_head_only_if_its_name_or_the_user_says_so(
    tmp_path: Path, name: str, refused: bool
) -> None:
    """The network has as many inputs as units, so a layer of as many rows and columns may come before it."""
    rng = np.random.default_rng(9)
    w = {
        key: rng.standard_normal((4 * HIDDEN, HIDDEN)).astype(np.float32)
        for key in ("rnn.weight_ih_l0", "rnn.weight_hh_l0")
    }
    w |= {f"{name}.weight": np.eye(HIDDEN, dtype=np.float32), f"{name}.bias": np.zeros(HIDDEN, np.float32)}
    file = write_safetensors(tmp_path / "w.safetensors", w)

    if refused:
        with pytest.raises(SourceError, match=f"{name!r} may be a layer before .* say linear = "):
            import_torch(file, tmp_path / "repository")
        (tmp_path / "w.toml").write_text(f'linear = "{name}"\n')
    package = import_torch(file, tmp_path / "repository")

    text = (package / "model.toml").read_text()
    assert f"# linear layer {name}, after the recurrent module: 6 outputs\n" in text
    assert "# recurrent module rnn: nn.LSTM, 1 layer of 6 units\n" in text


def test_an_ignored_layer_is_no_candidate_for_the_head(tmp_path: Path) -> None:
    w = weights("GRU") | {
        "aux.weight": np.zeros((2, HIDDEN), np.float32),
        "aux.bias": np.zeros(2, np.float32),
    }
    file = write_safetensors(tmp_path / "w.safetensors", w)

    with pytest.raises(SourceError, match="linear layers found: 'aux', 'fc'"):
        import_torch(file, tmp_path / "repository")
    (tmp_path / "w.toml").write_text('ignore = ["aux"]\n')
    assert import_torch(file, tmp_path / "repository").exists()
