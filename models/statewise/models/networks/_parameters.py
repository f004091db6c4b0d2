"""Lays named arrays over one flat buffer: optimisers update the vector, cells read the matrices.

The arrays cover the buffer exactly, in the order of the spec.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from statewise.models.base import Floats


class Parameters(Mapping[str, "Floats"]):
    """An ordered mapping of names to arrays that share one flat buffer.

    Attributes:
        flat: The buffer, [P]. Writing to it changes the arrays; read-only if they are.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], flat: Floats, *, writable: bool = True) -> None:
        """Lays `shapes` over `flat`.

        Raises:
            ValueError: The buffer's size is not that of all shapes together.
        """
        size = sum(math.prod(shape) for shape in shapes.values())
        if flat.shape != (size,):
            raise ValueError(f"parameters: expected a flat buffer of {size} numbers, got shape {flat.shape}")
        self.flat = flat
        if not writable:
            self.flat = flat.view()
            self.flat.flags.writeable = False
        views = {}
        start = 0
        for name, shape in shapes.items():
            end = start + math.prod(shape)
            views[name] = self.flat[start:end].reshape(shape)
            start = end
        self._views: Mapping[str, Floats] = MappingProxyType(views)

    @classmethod
    def empty(cls, shapes: Mapping[str, tuple[int, ...]], dtype: npt.DTypeLike) -> Parameters:
        """Returns parameters of zeros."""
        return cls(shapes, np.zeros(sum(math.prod(shape) for shape in shapes.values()), dtype))

    @classmethod
    def of(
        cls, shapes: Mapping[str, tuple[int, ...]], values: Mapping[str, Floats], dtype: npt.DTypeLike
    ) -> Parameters:
        """Copies named arrays into one flat buffer.

        Raises:
            ValueError: A name is missing or unknown, or a shape differs.
        """
        if set(values) != set(shapes):
            missing, unknown = sorted(set(shapes) - set(values)), sorted(set(values) - set(shapes))
            raise ValueError(f"parameters: missing {missing}, unknown {unknown}")
        parameters = cls.empty(shapes, dtype)
        for name, view in parameters.items():
            if np.shape(values[name]) != view.shape:
                raise ValueError(f"{name}: expected shape {view.shape}, got {np.shape(values[name])}")
            view[...] = values[name]
        return parameters

    def __getitem__(self, name: str) -> Floats:
        return self._views[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)

    def part(self, prefix: str) -> dict[str, Floats]:
        """Returns the arrays whose names begin with a prefix, by the rest: `part("layer0.forward")["W"]`."""
        start = len(prefix) + 1
        return {name[start:]: view for name, view in self._views.items() if name.startswith(prefix + ".")}
