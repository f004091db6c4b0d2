"""Finds PyTorch modules among named arrays: the recurrent module, a linear layer, an embedding."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from statewise.export.base import Array, SourceError, UnsupportedNetwork

_CELL_OF_GATES = {1: "rnn", 3: "gru", 4: "lstm"}
_RECURRENT = re.compile(r"(?:(?P<module>.*)\.)?weight_ih(?:_l0)?")
_CELL_KEY = re.compile(r"(weight|bias)_(ih|hh)")
_INPUT_WORDS = frozenset(
    ("in", "inp", "input", "inputs", "pre", "prenet", "embed", "embedding", "enc", "encoder", "stem", "front")
)
_OUTPUT_WORDS = frozenset(
    (
        *("fc", "out", "output", "outputs", "head", "dec", "decoder", "classifier", "cls", "readout"),
        *("logits", "pred", "predictor", "regressor", "post"),
    )
)


@dataclass(frozen=True)
class TorchModule:
    """A module's arrays, by their names within the module."""

    path: Path
    name: str
    arrays: Mapping[str, Array]

    def __getitem__(self, name: str) -> Array:
        if name not in self.arrays:
            raise SourceError(self.path, f"{self.name or 'the weights'}: expected {name!r}; there is none")
        return self.arrays[name]


@dataclass(frozen=True)
class RecurrentKind:
    """The properties of a recurrent module that stand in its names and shapes."""

    cell: str
    hidden_size: int
    layers: int
    bidirectional: bool

    @property
    def output_width(self) -> int:
        """D*H, the features of the module's outputs."""
        return self.hidden_size * (2 if self.bidirectional else 1)


def find_recurrent(file: Path, arrays: Mapping[str, Array], settings: Mapping[str, Any]) -> TorchModule:
    """Finds the recurrent module: the only one, or the one that the description names.

    Raises:
        SourceError: there is none, or several and no name.
    """
    found = [match["module"] or "" for name in arrays if (match := _RECURRENT.fullmatch(name))]
    name = settings.get("recurrent")
    if name is None and len(found) == 1:
        name = found[0]
    if name not in found:
        listed = ", ".join(map(repr, sorted(found))) or "none"
        wanted = "recurrent = to name one of them" if name is None else f"{name!r} among them"
        raise SourceError(file, f"recurrent modules found: {listed}; expected {wanted if found else 'one'}")
    module = _module(file, arrays, name)
    # nn.LSTMCell and its like have one layer, whose names have no number.
    renamed = {
        f"{key}_l0" if _CELL_KEY.fullmatch(key) else key: array for key, array in module.arrays.items()
    }
    return replace(module, arrays=renamed)


def find_linear(
    file: Path, arrays: Mapping[str, Array], settings: Mapping[str, Any], *, columns: int, features: int
) -> TorchModule | None:
    """Finds the linear layer after the recurrent module: the one that the description names, else the only
    one.

    Args:
        file: Named in errors.
        arrays: Those outside the recurrent module.
        settings: Settings of the description.
        columns: Features of the recurrent module's outputs.
        features: Number of its input features; a layer of as many rows may stand before the module.

    Raises:
        SourceError: several fit, the only one may stand before the module, or the named one does not fit.
    """
    name = settings.get("linear")
    if name is None:
        fitting = [
            entry.removesuffix(".weight")
            for entry, array in arrays.items()
            if entry.endswith(".weight") and array.ndim == 2 and array.shape[1] == columns
            # An embedding is a matrix too; only a linear layer has a bias.
            if entry.removesuffix("weight") + "bias" in arrays
            if entry.removesuffix(".weight") not in settings.get("ignore", ())
        ]
        if len(fitting) > 1:
            listed = ", ".join(map(repr, sorted(fitting)))
            raise SourceError(file, f"linear layers found: {listed}; expected linear = to name one of them")
        name = fitting[0] if fitting else None
        if name is not None and _may_stand_before(name, len(arrays[f"{name}.weight"]), columns, features):
            raise SourceError(
                file,
                f"{name!r} may be a layer before the recurrent module, which weights alone cannot show: say "
                f'linear = "{name}" if it comes after; a model with layers before is exported whole, to ONNX',
            )
    return _named_module(file, arrays, "linear", name, columns)


def _may_stand_before(name: str, rows: int, columns: int, features: int) -> bool:
    """Returns whether a linear layer may make the recurrent module's inputs, by its rows and its name."""
    words = set(re.findall(r"[a-z]+", name.lower()))
    if rows != features or words & _OUTPUT_WORDS:
        return False
    return rows == columns or bool(words & _INPUT_WORDS)


def find_embedding(
    file: Path, arrays: Mapping[str, Array], settings: Mapping[str, Any], columns: int
) -> TorchModule | None:
    """Finds the embedding of that many columns that the description names.

    Raises:
        SourceError: it does not fit.
    """
    return _named_module(file, arrays, "embedding", settings.get("embedding"), columns)


def recurrent_kind(module: TorchModule) -> RecurrentKind:
    """Reads cell, sizes and directions off names and shapes.

    Raises:
        SourceError: weights of no known cell.
        UnsupportedNetwork: an LSTM with projections.
    """
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
    bidirectional = "weight_ih_l0_reverse" in module.arrays
    return RecurrentKind(_CELL_OF_GATES[int(gates)], R.shape[1], layers, bidirectional)


def refuse_unused(
    file: Path, arrays: Mapping[str, Array], used: Sequence[TorchModule | None], settings: Mapping[str, Any]
) -> None:
    """Refuses arrays of modules that are neither used nor named under ignore.

    Raises:
        SourceError: naming the first of them.
    """
    names = {module.name for module in used if module is not None} | set(settings.get("ignore", ()))
    unused = sorted(name for name in arrays if name.rpartition(".")[0] not in names)
    if unused:
        raise SourceError(
            file,
            f"expected a recurrent module and a linear layer; also found {', '.join(unused[:4])}"
            f"{' ...' if len(unused) > 4 else ''}: name it as embedding, or in ignore if outputs do not "
            "depend on it; a model with other layers is exported whole, to ONNX",
        )


def _named_module(
    file: Path, arrays: Mapping[str, Array], key: str, name: Any, columns: int
) -> TorchModule | None:
    if name is None or name is False:
        return None
    module = _module(file, arrays, str(name))
    shape = module["weight"].shape
    if len(shape) != 2 or shape[1] != columns:
        raise SourceError(
            file, f"{key} {name!r}: expected a weight of shape [*, {columns}]; got {list(shape)}"
        )
    return module


def _module(file: Path, arrays: Mapping[str, Array], name: str) -> TorchModule:
    prefix = f"{name}." if name else ""
    own = {
        entry.removeprefix(prefix): array
        for entry, array in arrays.items()
        if entry.startswith(prefix) and "." not in entry.removeprefix(prefix)
    }
    return TorchModule(file, name, own)
