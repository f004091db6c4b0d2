"""Converts between raw units and the units of a network.

    in:   (f(x) - input_mean) / input_scale            f: identity, or the square root of max(x, 0)
    out:  f^-1(y * output_scale + output_mean)

Problems fit it on training data only. An exported graph computes the same float32 expressions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from statewise.models.base import Array, Floats

Transform = Literal["identity", "sqrt"]


@dataclass(frozen=True, kw_only=True)
class Normalisation:
    """Shift and scale of inputs and outputs; None leaves that side as it is.

    Attributes:
        input_mean: [I], float32.
        input_scale: [I], float32.
        output_mean: [O], float32.
        output_scale: [O], float32.
        transform: f. With `sqrt`, an output is the square of y * output_scale + output_mean, and zero
            where that is negative.
    """

    input_mean: Floats | None = None
    input_scale: Floats | None = None
    output_mean: Floats | None = None
    output_scale: Floats | None = None
    transform: Transform = "identity"

    @classmethod
    def of_inputs(cls, x: Floats) -> Normalisation:
        """Standardises inputs by the mean and standard deviation of x [N, I]."""
        mean, scale = _moments(x)
        return cls(input_mean=mean, input_scale=scale)

    @classmethod
    def of_series(cls, x: Floats, *, transform: Transform = "identity") -> Normalisation:
        """Standardises inputs by the moments of f(x), x [N, I], and undoes the same on outputs."""
        mean, scale = _moments(_forward(x, transform))
        return cls(
            input_mean=mean, input_scale=scale, output_mean=mean, output_scale=scale, transform=transform
        )

    @property
    def identity(self) -> bool:
        """Whether inputs and outputs pass unchanged."""
        return self.input_mean is None and self.output_mean is None and self.transform == "identity"

    def inputs(self, x: Array) -> Array:
        """Converts raw inputs [..., I] to the network's units; tokens pass through."""
        x = _forward(x, self.transform)
        if self.input_mean is None or self.input_scale is None:
            return x
        return np.asarray((np.asarray(x, np.float32) - self.input_mean) / self.input_scale)

    def outputs(self, y: Floats) -> Floats:
        """Converts the network's outputs [..., O] to raw units."""
        if self.output_mean is not None and self.output_scale is not None:
            y = y * self.output_scale + self.output_mean
        return np.square(np.maximum(y, 0)) if self.transform == "sqrt" else y

    def to_dict(self) -> dict[str, Any] | None:
        """Returns the exact numbers as plain JSON values; None for the identity."""
        if self.identity:
            return None
        arrays = {
            name: None if (value := getattr(self, name)) is None else [float(v) for v in value]
            for name in ("input_mean", "input_scale", "output_mean", "output_scale")
        }
        return {**arrays, "transform": self.transform}

    @classmethod
    def from_dict(cls, values: dict[str, Any] | None) -> Normalisation:
        """Returns the inverse of `to_dict`."""
        if values is None:
            return cls()
        arrays = {
            name: None if values.get(name) is None else np.array(values[name], np.float32)
            for name in ("input_mean", "input_scale", "output_mean", "output_scale")
        }
        return cls(**arrays, transform=values.get("transform", "identity"))


def _forward(x: Array, transform: Transform) -> Array:
    return np.sqrt(np.maximum(x, np.float32(0))) if transform == "sqrt" else x


def _moments(x: Floats) -> tuple[Floats, Floats]:
    """Computes the mean and standard deviation of [N, I]; a constant channel keeps its unit."""
    mean, scale = x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64)
    return mean.astype(np.float32), np.where(scale > 0, scale, 1).astype(np.float32)
