"""Compares networks with PyTorch. Needs `pip install torch==2.13.0`; skipped where PyTorch is absent."""

from typing import Any

import numpy as np
import pytest
from tests.models.oracle import CellFields, Floats

from statewise.models import Network, NetworkSpec, Parameters, Workspace

torch = pytest.importorskip("torch", reason="install PyTorch to compare with it: pip install torch==2.13.0")

T, B, I, H, O = 9, 4, 5, 6, 3  # noqa: E741
LENGTHS = [9, 3, 1, 6]
# Our order of gates, and where PyTorch keeps each of them.
PYTORCH_ORDER = {"rnn": [0], "lstm": [0, 1, 3, 2], "gru": [1, 0, 2]}


def to_pytorch(network: Network, layer: int, direction: str) -> dict[str, Floats]:
    """Weights of one layer in PyTorch's layout; PyTorch's z is 1 - z here."""
    spec, H = network.spec, network.spec.hidden_size
    p = {name: network.parameters[f"layer{layer}.{direction}.{name}"] for name in "WRb"}
    blocks = {name: np.split(value.copy(), spec.gates) for name, value in p.items()}
    if spec.cell == "gru":
        for name in "WRb":
            blocks[name][0] = -blocks[name][0]
    order = PYTORCH_ORDER[spec.cell]
    W, R, b = (np.concatenate([blocks[name][gate] for gate in order]) for name in "WRb")
    bR = np.zeros_like(b)
    if spec.cell == "gru":
        bR[2 * H :] = network.parameters[f"layer{layer}.{direction}.bR"]
    return {"weight_ih": W, "weight_hh": R, "bias_ih": b, "bias_hh": bR}


def pytorch_gradients(module: Any, network: Network) -> dict[str, Floats]:
    """Gradients of a PyTorch module by the names and in the layout of `Parameters`."""
    spec, H = network.spec, network.spec.hidden_size
    found: dict[str, Floats] = {}
    for layer in range(spec.layers):
        for direction in spec.directions:
            suffix = f"_l{layer}{'_reverse' if direction == 'reverse' else ''}"
            for ours, theirs in (("W", "weight_ih"), ("R", "weight_hh"), ("b", "bias_ih")):
                blocks = np.split(getattr(module, theirs + suffix).grad.numpy(), spec.gates)
                if spec.cell == "gru":
                    blocks[1] = -blocks[1]
                order = np.argsort(PYTORCH_ORDER[spec.cell])
                found[f"layer{layer}.{direction}.{ours}"] = np.concatenate([blocks[gate] for gate in order])
            if spec.cell == "gru":
                found[f"layer{layer}.{direction}.bR"] = getattr(module, "bias_hh" + suffix).grad.numpy()[
                    2 * H :
                ]
    return found


def pytorch_initial_state(network: Network) -> list[Any]:
    """The network's h_0, and the LSTM's c_0, as leaves [L*D, H]."""
    kinds = 2 if network.spec.cell == "lstm" else 1
    parts = network.initial_state.reshape(-1, kinds, network.spec.hidden_size)
    return [torch.from_numpy(parts[:, kind].copy()).requires_grad_() for kind in range(kinds)]


@pytest.mark.parametrize("learned", [False, True], ids=["zeros", "learned-initial-state"])
@pytest.mark.parametrize("ragged", [False, True], ids=["even", "ragged"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one-way", "bidirectional"])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize(
    "cell",
    [
        {"cell": "rnn"},
        {"cell": "rnn", "activation": "relu"},
        {"cell": "lstm"},
        {"cell": "gru", "reset_after": True},
    ],
    ids=["rnn-tanh", "rnn-relu", "lstm", "gru-reset-after"],
)
def test_forward_and_backward(
    cell: CellFields, layers: int, bidirectional: bool, ragged: bool, learned: bool, rng: np.random.Generator
) -> None:
    spec = NetworkSpec.from_dict(
        {
            **cell,
            "input_size": I,
            "output_size": O,
            "hidden_size": H,
            "layers": layers,
            "bidirectional": bidirectional,
            "learn_initial_state": learned,
        }
    )
    start = Network.initialise(spec, rng=rng)
    noise = 0.1 * rng.standard_normal(start.parameters.flat.size).astype(np.float32)
    network = Network(spec, Parameters(spec.parameter_shapes(), start.parameters.flat + noise))
    x = rng.standard_normal((T, B, I)).astype(np.float32)
    weight = rng.standard_normal((T, B, O)).astype(np.float32)
    lengths = np.array(LENGTHS if ragged else [T] * B)

    kind = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[spec.cell]
    options = {"nonlinearity": spec.activation} if spec.cell == "rnn" else {}
    module = kind(I, H, layers, bidirectional=bidirectional, **options)
    head = torch.nn.Linear(H * len(spec.directions), O)
    with torch.no_grad():
        for layer in range(layers):
            for direction in spec.directions:
                suffix = f"_l{layer}{'_reverse' if direction == 'reverse' else ''}"
                for name, value in to_pytorch(network, layer, direction).items():
                    getattr(module, name + suffix).copy_(torch.from_numpy(value))
        head.weight.copy_(torch.from_numpy(network.parameters["head.V"].copy()))
        head.bias.copy_(torch.from_numpy(network.parameters["head.c"].copy()))
    leaf = torch.from_numpy(x.copy()).requires_grad_()
    packed = torch.nn.utils.rnn.pack_padded_sequence(leaf, lengths, enforce_sorted=False)
    memories = pytorch_initial_state(network)
    batch = [memory[:, None].expand(-1, B, -1).contiguous() for memory in memories]
    initial = tuple(batch) if len(batch) == 2 else batch[0]
    outputs, _ = torch.nn.utils.rnn.pad_packed_sequence(module(packed, initial)[0], total_length=T)
    valid = np.arange(T)[:, None] < lengths
    theirs = head(outputs) * torch.from_numpy(valid[:, :, None].astype(np.float32))
    (theirs * torch.from_numpy(weight)).sum().backward()

    work = Workspace()
    ours, _ = network.run(x, lengths)
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=0, atol=1e-5)
    gradients = Parameters.empty(spec.parameter_shapes(), np.float32)
    _, _, tape = network.forward(x, lengths, workspace=work)
    d_x, _ = network.backward(tape, weight, gradients=gradients, workspace=work, input_gradient=True)
    expected = pytorch_gradients(module, network)
    if learned:
        blocks = np.stack([memory.grad.numpy() for memory in memories], axis=1)  # [L*D, memories, H]
        for (name, _, _), gradient in zip(spec.memory_parts(), blocks.reshape(-1, H), strict=True):
            expected[f"initial.{name}"] = gradient
    expected["head.V"], expected["head.c"] = head.weight.grad.numpy(), head.bias.grad.numpy()
    for name, value in expected.items():
        scale = max(1.0, float(np.abs(value).max()))
        np.testing.assert_allclose(gradients[name], value, rtol=0, atol=1e-4 * scale, err_msg=name)
    assert d_x is not None
    np.testing.assert_allclose(d_x, leaf.grad.numpy(), rtol=0, atol=1e-4)


def test_the_reset_before_gru_against_autograd(rng: np.random.Generator) -> None:
    """PyTorch's module resets after the product only, so the cell is written out and differentiated."""
    spec = NetworkSpec(input_size=I, output_size=O, cell="gru", hidden_size=H)
    network = Network.initialise(spec, rng=rng)
    x = rng.standard_normal((T, B, I)).astype(np.float32)
    weight = rng.standard_normal((T, B, O)).astype(np.float32)
    leaves = {
        name: torch.from_numpy(value.copy()).requires_grad_() for name, value in network.parameters.items()
    }
    W, R, b = (leaves[f"layer0.forward.{name}"] for name in "WRb")
    h, outputs = torch.zeros(B, H), []
    for step in torch.from_numpy(x):
        a = step @ W.T + b
        z = torch.sigmoid(a[:, :H] + h @ R[:H].T)
        r = torch.sigmoid(a[:, H : 2 * H] + h @ R[H : 2 * H].T)
        n = torch.tanh(a[:, 2 * H :] + (r * h) @ R[2 * H :].T)
        h = (1 - z) * h + z * n
        outputs.append(h @ leaves["head.V"].T + leaves["head.c"])
    theirs = torch.stack(outputs)
    (theirs * torch.from_numpy(weight)).sum().backward()

    scores, _, tape = network.forward(x)
    np.testing.assert_allclose(scores, theirs.detach().numpy(), rtol=0, atol=1e-5)
    gradients = Parameters.empty(spec.parameter_shapes(), np.float32)
    network.backward(tape, weight, gradients=gradients)
    for name, leaf in leaves.items():
        np.testing.assert_allclose(gradients[name], leaf.grad.numpy(), rtol=0, atol=1e-4, err_msg=name)
