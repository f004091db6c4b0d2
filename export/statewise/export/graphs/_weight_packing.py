"""How the weights of a cell lie in ONNX's recurrent operators, and back.

No arithmetic but a change of sign, so `unpack_layer(pack_layer(x)) == x` bit for bit.

| cell | rows here  | rows in ONNX | sign                                                           |
|------|------------|--------------|----------------------------------------------------------------|
| RNN  | h          | i            |                                                                |
| LSTM | i, f, o, g | i, o, f, c   |                                                                |
| GRU  | z, r, n    | z, r, h      | z: ONNX keeps h_{t-1} with z, we with 1 - z = sigma(-(Wx + Rh + b)) |
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from statewise.models import NetworkSpec

Array = NDArray[Any]


@dataclass(frozen=True)
class PackedCell:
    """An ONNX operator, and its gates in terms of ours.

    Attributes:
        operator: ONNX operator.
        order: For each of ONNX's gates, the index of ours.
        sign: For each of ONNX's gates, what ours is multiplied by.
        memories: What the operator carries, in the order of its state inputs and outputs.
    """

    operator: str
    order: tuple[int, ...]
    sign: tuple[int, ...]
    memories: tuple[str, ...]


def packed_cell(cell: str) -> PackedCell:
    """The operator of a cell: "rnn", "lstm" or "gru" (ONNX specification, Operators)."""
    match cell:
        case "rnn":
            return PackedCell("RNN", (0,), (1,), ("h",))
        case "lstm":
            return PackedCell("LSTM", (0, 2, 1, 3), (1, 1, 1, 1), ("h", "c"))
        case "gru":
            return PackedCell("GRU", (0, 1, 2), (-1, 1, 1), ("h",))
        case _:
            raise ValueError(f"cell: expected rnn, lstm or gru, got {cell!r}")


def pack_layer(spec: NetworkSpec, parameters: Mapping[str, Array], layer: int) -> tuple[Array, Array, Array]:
    """The W [D, G*H, I], R [D, G*H, H] and B [D, 2*G*H] of a layer.

    B holds the input biases and then the recurrent ones. Ours has one bias a gate, which goes into the
    former; only the reset-after GRU has a recurrent bias, that of n, which must not be merged: it stands
    inside r * (R h + bR).
    """
    gates = packed_cell(spec.cell)
    W, R, B = [], [], []
    for direction in spec.directions:
        prefix = f"layer{layer}.{direction}"
        b = _to_onnx(parameters[f"{prefix}.b"], gates)
        bR = np.zeros_like(b)
        if f"{prefix}.bR" in parameters:
            bR[-spec.hidden_size :] = parameters[f"{prefix}.bR"]
        W.append(_to_onnx(parameters[f"{prefix}.W"], gates))
        R.append(_to_onnx(parameters[f"{prefix}.R"], gates))
        B.append(np.concatenate([b, bR]))
    return np.stack(W), np.stack(R), np.stack(B)


def unpack_layer(spec: NetworkSpec, W: Array, R: Array, B: Array, layer: int) -> dict[str, Array]:
    """The parameters that `pack_layer` packed, by name."""
    gates = packed_cell(spec.cell)
    rows = spec.gates * spec.hidden_size
    parameters = {}
    for index, direction in enumerate(spec.directions):
        prefix = f"layer{layer}.{direction}"
        parameters[f"{prefix}.W"] = _from_onnx(W[index], gates)
        parameters[f"{prefix}.R"] = _from_onnx(R[index], gates)
        parameters[f"{prefix}.b"] = _from_onnx(B[index, :rows], gates)
        if spec.cell == "gru" and spec.reset_after:
            parameters[f"{prefix}.bR"] = B[index, -spec.hidden_size :]
    return parameters


def _to_onnx(rows: Array, cell: PackedCell) -> Array:
    blocks = np.split(rows, len(cell.order))
    return np.concatenate([sign * blocks[index] for index, sign in zip(cell.order, cell.sign, strict=True)])


def _from_onnx(rows: Array, cell: PackedCell) -> Array:
    blocks = np.split(rows, len(cell.order))
    ours = {index: sign * block for index, sign, block in zip(cell.order, cell.sign, blocks, strict=True)}
    return np.concatenate([ours[index] for index in sorted(ours)])
