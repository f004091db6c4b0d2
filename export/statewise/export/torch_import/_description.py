"""Reads the TOML description of PyTorch weights: the settings that names and shapes leave open."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from statewise.export.base import Array, SourceError
from statewise.models import NetworkSpec, Normalisation

_KEYS = (
    *("recurrent", "linear", "embedding", "ignore", "call_shape", "head", "nonlinearity", "labels"),
    *("input_mean", "input_scale", "output_mean", "output_scale"),
)


def read_description(file: Path, description: Path | None) -> dict[str, Any]:
    """Reads the settings of a description, by key; none where the default file does not exist.

    Args:
        file: The .safetensors file.
        description: The TOML file; default: the file's name with .toml.

    Raises:
        SourceError: no readable TOML file, or an unknown key.
    """
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


def described_normalisation(file: Path, settings: Mapping[str, Any], spec: NetworkSpec) -> Normalisation:
    """Returns the normalisation under input_mean, input_scale, output_mean and output_scale.

    Raises:
        SourceError: not one number for each feature, or a normalisation of tokens.
    """
    arrays: dict[str, Array] = {}
    for side, size in (("input", spec.input_size), ("output", spec.output_size)):
        keys = [f"{side}_{part}" for part in ("mean", "scale") if f"{side}_{part}" in settings]
        if not keys:
            continue
        if side == "input" and spec.embedding_size:
            raise SourceError(file, f"{keys[0]}: expected none, inputs are tokens")
        arrays |= {f"{side}_mean": np.zeros(size, np.float32), f"{side}_scale": np.ones(size, np.float32)}
        arrays |= {key: _numbers(file, key, settings[key], size) for key in keys}
    return Normalisation(**arrays)  # type: ignore[arg-type]


def described_labels(file: Path, settings: Mapping[str, Any], spec: NetworkSpec) -> tuple[str, ...] | None:
    """Returns the names of the classes under labels.

    Raises:
        SourceError: not one name for each output.
    """
    labels = settings.get("labels")
    if labels is None:
        return None
    if not isinstance(labels, list) or len(labels) != spec.output_size:
        raise SourceError(file, f"labels: expected {spec.output_size} names, one an output; got {labels!r}")
    return tuple(map(str, labels))


def _numbers(file: Path, key: str, value: Any, size: int) -> Array:
    try:
        numbers = np.array(value, np.float32)
    except (TypeError, ValueError):
        raise SourceError(file, f"{key}: expected {size} numbers; got {value!r}") from None
    if numbers.shape != (size,):
        raise SourceError(file, f"{key}: expected {size} numbers; got shape {numbers.shape}")
    return numbers
