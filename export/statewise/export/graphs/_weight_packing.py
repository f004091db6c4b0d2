"""Packs the weights of a cell for ONNX's recurrent operators, and unpacks them.

The only arithmetic is a change of sign, so `unpack_layer(pack_layer(x)) == x` bit for bit.

| cell | rows here  | rows in ONNX | sign                                                           |
|------|------------|--------------|----------------------------------------------------------------|
| RNN  | h          | i            |                                                                |
| LSTM | i, f, o, g | i, o, f, c   |                                                                |
| GRU  | z, r, n    | z, r, h      | z: ONNX keeps h_{t-1} with z, ours with 1 - z = sigma(-(Wx + Rh + b)) |
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from statewise.export.base import Array
from statewise.models import NetworkSpec


@dataclass(frozen=True)
class RecurrentOperator:
    """An ONNX operator, and its gates in terms of those here.

    Attributes:
        name: Name of the ONNX operator.
        gate_order: For each of ONNX's gates, the index of the gate here.
        gate_sign: For each of ONNX's gates, the factor of the weights here.
        memories: The operator's state inputs and outputs, in their order.
    """

    name: str
    gate_order: tuple[int, ...]
    gate_sign: tuple[int, ...]
    memories: tuple[str, ...]


def recurrent_operator(cell: str) -> RecurrentOperator:
    """Returns the operator of a cell: "rnn", "lstm" or "gru" (ONNX specification, Operators)."""
    match cell:
        case "rnn":
            return RecurrentOperator("RNN", (0,), (1,), ("h",))
        case "lstm":
            return RecurrentOperator("LSTM", (0, 2, 1, 3), (1, 1, 1, 1), ("h", "c"))
        case "gru":
            return RecurrentOperator("GRU", (0, 1, 2), (-1, 1, 1), ("h",))
        case _:
            raise ValueError(f"cell: expected rnn, lstm or gru, got {cell!r}")


def pack_layer(spec: NetworkSpec, parameters: Mapping[str, Array], layer: int) -> tuple[Array, Array, Array]:
    """Packs a layer's weights into W [D, G*H, I], R [D, G*H, H] and B [D, 2*G*H].

    B holds the input biases, then the recurrent biases. The one bias of a gate here goes to the input biases.
    Only the reset-after GRU has a recurrent bias, that of n; it stands inside r * (R h + bR) and cannot be
    merged.
    """
    operator = recurrent_operator(spec.cell)
    W, R, B = [], [], []
    for direction in spec.directions:
        prefix = f"layer{layer}.{direction}"
        b = _to_onnx(parameters[f"{prefix}.b"], operator)
        bR = np.zeros_like(b)
        if f"{prefix}.bR" in parameters:
            bR[-spec.hidden_size :] = parameters[f"{prefix}.bR"]
        W.append(_to_onnx(parameters[f"{prefix}.W"], operator))
        R.append(_to_onnx(parameters[f"{prefix}.R"], operator))
        B.append(np.concatenate([b, bR]))
    return np.stack(W), np.stack(R), np.stack(B)


def unpack_layer(spec: NetworkSpec, W: Array, R: Array, B: Array, layer: int) -> dict[str, Array]:
    """Unpacks the parameters that `pack_layer` packed, by name."""
    operator = recurrent_operator(spec.cell)
    rows = spec.gates * spec.hidden_size
    parameters = {}
    for index, direction in enumerate(spec.directions):
        prefix = f"layer{layer}.{direction}"
        parameters[f"{prefix}.W"] = _from_onnx(W[index], operator)
        parameters[f"{prefix}.R"] = _from_onnx(R[index], operator)
        parameters[f"{prefix}.b"] = _from_onnx(B[index, :rows], operator)
        if spec.cell == "gru" and spec.reset_after:
            parameters[f"{prefix}.bR"] = B[index, -spec.hidden_size :]
    return parameters


def pack_initial(spec: NetworkSpec, parameters: Mapping[str, Array], layer: int) -> dict[str, Array]:
    """Packs a layer's learned initial memories, [D, 1, H] each, by the name of the memory: h, c."""
    return {
        memory: np.stack(
            [parameters[f"initial.layer{layer}.{direction}.{memory}"][None] for direction in spec.directions]
        )
        for memory in recurrent_operator(spec.cell).memories
    }


def unpack_initial(spec: NetworkSpec, packed: Mapping[str, Array], layer: int) -> dict[str, Array]:
    """Unpacks the parameters that `pack_initial` packed, by name."""
    return {
        f"initial.layer{layer}.{direction}.{memory}": array[index, 0]
        for memory, array in packed.items()
        for index, direction in enumerate(spec.directions)
    }


def _to_onnx(rows: Array, operator: RecurrentOperator) -> Array:
    gates = np.split(rows, len(operator.gate_order))
    signed = zip(operator.gate_order, operator.gate_sign, strict=True)
    return np.concatenate([sign * gates[index] for index, sign in signed])


def _from_onnx(rows: Array, operator: RecurrentOperator) -> Array:
    onnx_gates = np.split(rows, len(operator.gate_order))
    signed = zip(operator.gate_order, operator.gate_sign, onnx_gates, strict=True)
    gates = {index: sign * gate for index, sign, gate in signed}
    return np.concatenate([gates[index] for index in sorted(gates)])
