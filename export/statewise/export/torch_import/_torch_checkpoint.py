"""PyTorch's recurrent weights as a network of statewise.models; PyTorch itself is not needed.

Not a reader of pickles or of PyTorch programs: it takes named arrays, as `state_dict()` names them, and what
the names and shapes do not say from a few lines of TOML. Every array is used, or the import is refused.

| cell | rows in PyTorch | rows here  | differences                                                     |
|------|-----------------|------------|-----------------------------------------------------------------|
| RNN  | h               | h          |                                                                 |
| LSTM | i, f, g, o      | i, f, o, g |                                                                 |
| GRU  | r, z, n         | z, r, n    | its z keeps the old state, ours the new: W, R, b of z negated   |

PyTorch adds two biases, which are one here. Only the GRU's recurrent bias of n stays apart, inside
r * (R h + bR).
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from statewise.export.base import SourceError, UnsupportedNetwork
from statewise.export.torch_import._safetensors import read_safetensors
from statewise.models import Checkpoint, Network, NetworkSpec, Normalisation

Array = NDArray[Any]

_CELL_OF_GATES = {1: "rnn", 3: "gru", 4: "lstm"}
_ORDER = {"rnn": (0,), "lstm": (0, 1, 3, 2), "gru": (1, 0, 2)}  # PyTorch's number of each of our gates
_SIGN = {"rnn": (1,), "lstm": (1, 1, 1, 1), "gru": (-1, 1, 1)}
_RECURRENT = re.compile(r"(?P<module>.*?)\.?weight_ih_l0")
_KEYS = (
    *("recurrent", "linear", "embedding", "ignore", "call_shape", "head", "nonlinearity", "labels"),
    *("input_mean", "input_scale", "output_mean", "output_scale"),
)


@dataclass(frozen=True)
class _Module:
    """A module's arrays, by the names PyTorch gives them within it."""

    path: Path
    name: str
    arrays: Mapping[str, Array]

    def __getitem__(self, name: str) -> Array:
        if name not in self.arrays:
            raise SourceError(self.path, f"{self.name or 'the weights'}: expected {name!r}; there is none")
        return self.arrays[name]


def read_torch(file: Path, description: Path | None = None) -> Checkpoint:
    """Reads recurrent weights from a .safetensors file.

    Args:
        file: What `safetensors.torch.save_file(module.state_dict(), file)` wrote.
        description: TOML that says what names and shapes do not. Default: the file's name with .toml, where
            that exists. Keys:

            recurrent, linear, embedding     names of modules; only an embedding must be named
            ignore                           names of modules that are left out
            call_shape                       many_to_many, many_to_one (reads h_n), one_to_many
            head                             linear, softmax or sigmoid
            nonlinearity                     of an nn.RNN: tanh or relu
            labels                           names of the classes
            input_mean, input_scale          numbers: what inputs are normalised by
            output_mean, output_scale        numbers: what undoes it

    Raises:
        SourceError: a file cannot be read, or names, shapes and description do not fit together.
        UnsupportedNetwork: an LSTM with projections.
    """
    arrays = read_safetensors(file)
    settings = _settings(file, description)
    recurrent = _recurrent(file, arrays, settings)
    cell, hidden, layers, bidirectional = _kind(recurrent)
    width = hidden * (2 if bidirectional else 1)
    others = {name: array for name, array in arrays.items() if name.rpartition(".")[0] != recurrent.name}
    features = recurrent["weight_ih_l0"].shape[1]
    linear = _chosen(file, others, settings, "linear", width)
    embedding = _chosen(file, others, settings, "embedding", features)
    _refuse_unused(file, arrays, [recurrent, linear, embedding], settings)
    nonlinearity = settings.get("nonlinearity", "tanh")
    try:
        spec = NetworkSpec(
            input_size=features if embedding is None else len(embedding["weight"]),
            output_size=0 if linear is None else len(linear["weight"]),
            cell=cell,  # type: ignore[arg-type]
            hidden_size=hidden,
            layers=layers,
            bidirectional=bidirectional,
            head=settings.get("head", "linear"),
            call_shape=settings.get("call_shape", "many_to_many"),
            embedding_size=0 if embedding is None else features,
            activation=nonlinearity,
            reset_after=cell == "gru",
        )
        parameters = _parameters(spec, recurrent)
        if linear is not None:
            parameters["head.V"] = linear["weight"]
            parameters["head.c"] = linear.arrays.get("bias", np.zeros(spec.output_size, np.float32))
        if embedding is not None:
            parameters["embedding.E"] = embedding["weight"]
        network = Network(spec, parameters)
    except ValueError as error:
        raise SourceError(file, f"weights and description do not fit together: {error}") from None
    return Checkpoint(
        network=network,
        normalisation=_normalisation(file, settings, spec),
        labels=_labels(file, settings, spec),
    )


def _settings(file: Path, description: Path | None) -> dict[str, Any]:
    path = file.with_suffix(".toml") if description is None else description
    if description is None and not path.exists():
        return {}
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SourceError(path, f"expected a TOML file; {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SourceError(path, f"expected TOML: {error}") from None
    unknown = sorted(settings.keys() - set(_KEYS))
    if unknown:
        raise SourceError(path, f"{unknown[0]}: expected one of {', '.join(_KEYS)}")
    return settings


def _recurrent(file: Path, arrays: Mapping[str, Array], settings: Mapping[str, Any]) -> _Module:
    found = [match["module"] for name in arrays if (match := _RECURRENT.fullmatch(name))]
    name = settings.get("recurrent")
    if name is None and len(found) == 1:
        name = found[0]
    if name not in found:
        listed = ", ".join(map(repr, sorted(found))) or "none"
        wanted = "recurrent = to name one of them" if name is None else f"{name!r} among them"
        raise SourceError(file, f"recurrent modules found: {listed}; expected {wanted if found else 'one'}")
    return _module(file, arrays, name)


def _chosen(
    file: Path, arrays: Mapping[str, Array], settings: Mapping[str, Any], key: str, columns: int
) -> _Module | None:
    """The module that the description names under a key; of linear layers, also the only one that fits."""
    name = settings.get(key)
    if name is None and key == "linear":
        fitting = [
            entry.removesuffix(".weight")
            for entry, array in arrays.items()
            if entry.endswith(".weight") and array.ndim == 2 and array.shape[1] == columns
            # An embedding is a matrix too, and nothing but its name tells.
            if entry.removesuffix("weight") + "bias" in arrays
        ]
        if len(fitting) > 1:
            listed = ", ".join(map(repr, sorted(fitting)))
            raise SourceError(file, f"linear layers found: {listed}; expected linear = to name one of them")
        name = fitting[0] if fitting else None
    if name is None or name is False:
        return None
    module = _module(file, arrays, str(name))
    shape = module["weight"].shape
    if len(shape) != 2 or shape[1] != columns:
        raise SourceError(
            file, f"{key} {name!r}: expected a weight of shape [*, {columns}]; got {list(shape)}"
        )
    return module


def _refuse_unused(
    file: Path, arrays: Mapping[str, Array], used: Sequence[_Module | None], settings: Mapping[str, Any]
) -> None:
    names = {module.name for module in used if module is not None} | set(settings.get("ignore", ()))
    unused = sorted(name for name in arrays if name.rpartition(".")[0] not in names)
    if unused:
        raise SourceError(
            file,
            f"expected a recurrent module and a linear layer; also found {', '.join(unused[:4])}"
            f"{' ...' if len(unused) > 4 else ''}: name it as embedding, or in ignore",
        )


def _module(file: Path, arrays: Mapping[str, Array], name: str) -> _Module:
    prefix = f"{name}." if name else ""
    own = {
        entry.removeprefix(prefix): array
        for entry, array in arrays.items()
        if entry.startswith(prefix) and "." not in entry.removeprefix(prefix)
    }
    return _Module(file, name, own)


def _kind(module: _Module) -> tuple[str, int, int, bool]:
    """Cell, hidden units, layers, whether bidirectional: all of it stands in names and shapes."""
    projected = next((name for name in module.arrays if name.startswith("weight_hr")), None)
    if projected is not None:
        raise UnsupportedNetwork(
            f"{module.path}: {projected!r}: expected an LSTM without projections (proj_size = 0); ONNX's "
            "operator has none"
        )
    R = module["weight_hh_l0"]
    gates = R.shape[0] / R.shape[1] if R.ndim == 2 and R.shape[1] else 0
    if module["weight_ih_l0"].ndim != 2 or gates not in _CELL_OF_GATES:
        raise SourceError(
            module.path, f"weight_hh_l0: expected [H, H], [3 H, H] or [4 H, H]; got {list(R.shape)}"
        )
    layers = sum(re.fullmatch(r"weight_ih_l\d+", name) is not None for name in module.arrays)
    return _CELL_OF_GATES[int(gates)], R.shape[1], layers, "weight_ih_l0_reverse" in module.arrays


def _parameters(spec: NetworkSpec, module: _Module) -> dict[str, Array]:
    parameters = {}
    for layer in range(spec.layers):
        for direction in spec.directions:
            ours, theirs = f"layer{layer}.{direction}", f"l{layer}{'_reverse' * (direction == 'reverse')}"
            rows = spec.gates * spec.hidden_size
            bias = module.arrays.get(f"bias_ih_{theirs}", np.zeros(rows, np.float32))
            recurrent_bias = module.arrays.get(f"bias_hh_{theirs}", np.zeros(rows, np.float32))
            if spec.cell == "gru":
                parameters[f"{ours}.bR"] = recurrent_bias[-spec.hidden_size :]
                recurrent_bias = np.concatenate(
                    [recurrent_bias[: -spec.hidden_size], np.zeros(spec.hidden_size, np.float32)]
                )
            parameters[f"{ours}.W"] = _reordered(spec.cell, module[f"weight_ih_{theirs}"])
            parameters[f"{ours}.R"] = _reordered(spec.cell, module[f"weight_hh_{theirs}"])
            parameters[f"{ours}.b"] = _reordered(spec.cell, bias + recurrent_bias)
    return parameters


def _reordered(cell: str, rows: Array) -> Array:
    gates = np.split(rows, len(_ORDER[cell]))
    return np.concatenate([sign * gates[n] for n, sign in zip(_ORDER[cell], _SIGN[cell], strict=True)])


def _normalisation(file: Path, settings: Mapping[str, Any], spec: NetworkSpec) -> Normalisation:
    arrays: dict[str, Array] = {}
    for side, size in (("input", spec.input_size), ("output", spec.output_size)):
        given = [f"{side}_{part}" for part in ("mean", "scale") if f"{side}_{part}" in settings]
        if not given:
            continue
        if side == "input" and spec.embedding_size:
            raise SourceError(file, f"{given[0]}: expected none, inputs are tokens")
        arrays |= {f"{side}_mean": np.zeros(size, np.float32), f"{side}_scale": np.ones(size, np.float32)}
        for key in given:
            try:
                arrays[key] = np.array(settings[key], np.float32)
            except (TypeError, ValueError):
                raise SourceError(file, f"{key}: expected {size} numbers; got {settings[key]!r}") from None
            if arrays[key].shape != (size,):
                raise SourceError(file, f"{key}: expected {size} numbers; got shape {arrays[key].shape}")
    return Normalisation(**arrays)  # type: ignore[arg-type]


def _labels(file: Path, settings: Mapping[str, Any], spec: NetworkSpec) -> tuple[str, ...] | None:
    labels = settings.get("labels")
    if labels is None:
        return None
    if not isinstance(labels, list) or len(labels) != spec.output_size:
        raise SourceError(file, f"labels: expected {spec.output_size} names, one an output; got {labels!r}")
    return tuple(map(str, labels))
