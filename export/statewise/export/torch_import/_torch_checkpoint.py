"""Turns PyTorch's recurrent weights into a checkpoint of statewise.models.

Reads neither pickles nor PyTorch programs: it takes arrays under the names of `state_dict()`, and the
settings that names and shapes leave open from TOML. Every array has to be used, or ignored by name.

| cell | rows in PyTorch | rows here  | differences                                                     |
|------|-----------------|------------|-----------------------------------------------------------------|
| RNN  | h               | h          |                                                                 |
| LSTM | i, f, g, o      | i, f, o, g |                                                                 |
| GRU  | r, z, n         | z, r, n    | its z keeps the old state, z here the new: W, R, b of z negated |

PyTorch adds two biases, which are one here. Only the GRU's recurrent bias of n stays apart, inside
r * (R h + bR).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from statewise.export.base import Array, SourceError
from statewise.export.torch_import._description import (
    described_labels,
    described_normalisation,
    read_description,
)
from statewise.export.torch_import._safetensors import read_safetensors
from statewise.export.torch_import._torch_modules import (
    TorchModule,
    find_embedding,
    find_linear,
    find_recurrent,
    recurrent_kind,
    refuse_unused,
)
from statewise.models import Checkpoint, Network, NetworkSpec

_GATE_ORDER = {"rnn": (0,), "lstm": (0, 1, 3, 2), "gru": (1, 0, 2)}  # for each gate here, PyTorch's index
_GATE_SIGN = {"rnn": (1,), "lstm": (1, 1, 1, 1), "gru": (-1, 1, 1)}


def read_torch(file: Path, description: Path | None = None) -> tuple[Checkpoint, list[str]]:
    """Reads recurrent weights from a .safetensors file.

    Args:
        file: Written by `safetensors.torch.save_file(module.state_dict(), file)`.
        description: TOML with the settings that names and shapes leave open. Default: the file's name with
            .toml, where that exists. Keys:

            recurrent, linear, embedding     names of modules; only an embedding must be named
            ignore                           names of modules that are left out
            call_shape                       many_to_many, many_to_one (reads h_n), one_to_many
            head                             linear, softmax or sigmoid
            nonlinearity                     of an nn.RNN: tanh or relu, which weights do not show
            labels                           names of the classes
            input_mean, input_scale          numbers that normalise the inputs
            output_mean, output_scale        numbers that denormalise the outputs

    Returns:
        The checkpoint, and what was taken, in sentences.

    Raises:
        SourceError: a file cannot be read, or names, shapes and description do not fit together.
        UnsupportedNetwork: an LSTM with projections.
    """
    arrays = read_safetensors(file)
    settings = read_description(file, description)
    recurrent = find_recurrent(file, arrays, settings)
    kind = recurrent_kind(recurrent)
    others = {name: array for name, array in arrays.items() if name.rpartition(".")[0] != recurrent.name}
    features = recurrent["weight_ih_l0"].shape[1]
    linear = find_linear(file, others, settings, columns=kind.output_width, features=features)
    embedding = find_embedding(file, others, settings, features)
    refuse_unused(file, arrays, [recurrent, linear, embedding], settings)
    try:
        spec = NetworkSpec(
            input_size=features if embedding is None else len(embedding["weight"]),
            output_size=0 if linear is None else len(linear["weight"]),
            cell=kind.cell,  # type: ignore[arg-type]
            hidden_size=kind.hidden_size,
            layers=kind.layers,
            bidirectional=kind.bidirectional,
            head=settings.get("head", "linear"),
            call_shape=settings.get("call_shape", "many_to_many"),
            embedding_size=0 if embedding is None else features,
            activation=settings.get("nonlinearity", "tanh"),
            reset_after=kind.cell == "gru",
        )
        network = Network(spec, _parameters(spec, recurrent, linear, embedding))
    except ValueError as error:
        raise SourceError(file, f"weights and description do not fit together: {error}") from None
    checkpoint = Checkpoint(
        network=network,
        normalisation=described_normalisation(file, settings, spec),
        labels=described_labels(file, settings, spec),
    )
    return checkpoint, _taken(spec, recurrent, linear, embedding, settings)


def _taken(
    spec: NetworkSpec,
    recurrent: TorchModule,
    linear: TorchModule | None,
    embedding: TorchModule | None,
    settings: Mapping[str, Any],
) -> list[str]:
    """Says what was taken from the file, and what no weight shows, in sentences."""
    both = ", both directions" if spec.bidirectional else ""
    lines = [
        f"recurrent module {recurrent.name or '(the file itself)'}: nn.{spec.cell.upper()}, "
        f"{spec.layers} layer{'s' * (spec.layers > 1)} of {spec.hidden_size} units{both}"
    ]
    if spec.cell == "rnn" and "nonlinearity" not in settings:
        lines.append(
            "nonlinearity: tanh, the default of nn.RNN; weights do not show it, so a network with relu needs "
            'nonlinearity = "relu" in the description'
        )
    if embedding is not None:
        lines.append(f"embedding {embedding.name}: {spec.input_size} tokens")
    if linear is None:
        lines.append("no linear layer: the outputs are those of the recurrent module")
    else:
        lines.append(f"linear layer {linear.name}, after the recurrent module: {spec.output_size} outputs")
        lines.append(f"head: {spec.head}, as {'described' if 'head' in settings else 'nothing else is said'}")
    if ignored := settings.get("ignore"):
        lines.append(f"left out, as described: {', '.join(ignored)}")
    lines.append(f"call shape: {spec.call_shape}")
    return lines


def _parameters(
    spec: NetworkSpec, recurrent: TorchModule, linear: TorchModule | None, embedding: TorchModule | None
) -> dict[str, Array]:
    parameters: dict[str, Array] = {}
    for layer in range(spec.layers):
        for direction in spec.directions:
            parameters |= _layer_parameters(spec, recurrent, layer, direction)
    if linear is not None:
        parameters["head.V"] = linear["weight"]
        parameters["head.c"] = linear.arrays.get("bias", np.zeros(spec.output_size, np.float32))
    if embedding is not None:
        parameters["embedding.E"] = embedding["weight"]
    return parameters


def _layer_parameters(spec: NetworkSpec, module: TorchModule, layer: int, direction: str) -> dict[str, Array]:
    prefix, suffix = f"layer{layer}.{direction}", f"l{layer}{'_reverse' * (direction == 'reverse')}"
    parameters: dict[str, Array] = {}
    rows = spec.gates * spec.hidden_size
    bias = module.arrays.get(f"bias_ih_{suffix}", np.zeros(rows, np.float32))
    recurrent_bias = module.arrays.get(f"bias_hh_{suffix}", np.zeros(rows, np.float32))
    if spec.cell == "gru":
        parameters[f"{prefix}.bR"] = recurrent_bias[-spec.hidden_size :]
        recurrent_bias = np.concatenate(
            [recurrent_bias[: -spec.hidden_size], np.zeros(spec.hidden_size, np.float32)]
        )
    parameters[f"{prefix}.W"] = _reordered(spec.cell, module[f"weight_ih_{suffix}"])
    parameters[f"{prefix}.R"] = _reordered(spec.cell, module[f"weight_hh_{suffix}"])
    parameters[f"{prefix}.b"] = _reordered(spec.cell, bias + recurrent_bias)
    return parameters


def _reordered(cell: str, rows: Array) -> Array:
    gates = np.split(rows, len(_GATE_ORDER[cell]))
    signed = zip(_GATE_ORDER[cell], _GATE_SIGN[cell], strict=True)
    return np.concatenate([sign * gates[index] for index, sign in signed])
