"""Reads a user's npz: one series, or sequences in one of the layouts that `statewise score` reads too.

Arrays that no layout names are not loaded, so they may be of any kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from statewise.models.base import Array, Floats, RecipeError

_LENGTHS, _IDS = "lengths", "ids"
_SERIES = ("values", "inputs")
_SEQUENCES = ("x", "inputs")


class Archive:
    """The arrays of an npz.

    Attributes:
        path: The file.
        names: Names of the arrays, in the file's order.
    """

    def __init__(self, path: Path) -> None:
        """Reads the names.

        Raises:
            RecipeError: The file is missing, or not an npz.
        """
        self.path = path
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                self.names: tuple[str, ...] = tuple(stored.files)
        except FileNotFoundError as error:
            raise RecipeError(path, f"{error.strerror}") from None
        except Exception as error:
            # The errors of a damaged archive share no base class but Exception; a .npy has no `files`.
            raise RecipeError(path, f"expected an .npz archive: {error}") from None

    def array(self, name: str) -> Array:
        """Reads one array.

        Raises:
            RecipeError: The archive has no such array, or it holds objects, or it is damaged.
        """
        if name not in self.names:
            raise RecipeError(self.path, f"expected an array {name}, got {', '.join(sorted(self.names))}")
        try:
            with self.path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                return np.asarray(stored[name])
        except ValueError as error:
            if "Object arrays" not in str(error):
                raise RecipeError(self.path, f"{name}: {error}") from None
            raise RecipeError(
                self.path,
                f"{name}: expected an array of numbers or texts, got one of Python objects; "
                "store sequences of different lengths one after another, with their lengths",
            ) from None
        except Exception as error:
            raise RecipeError(self.path, f"{name}: {error}") from None

    def numbers(self, name: str) -> Floats:
        """Reads an array as float32 in C order; NaN where a value is missing.

        Raises:
            RecipeError: As `array`, or it holds something else than finite numbers and NaN.
        """
        values = self.array(name)
        kind = values.dtype.kind
        if kind not in "biuf":
            raise RecipeError(self.path, f"{name}: expected numbers, got {values.dtype}")
        with np.errstate(over="ignore"):
            numbers = np.ascontiguousarray(values, np.float32).reshape(values.shape)
        infinite = np.argwhere(np.isinf(numbers))
        if len(infinite):
            where = tuple(int(index) for index in infinite[0])
            raise RecipeError(
                self.path, f"{name}: expected finite float32 numbers, got {values[where]} at {list(where)}"
            )
        return numbers

    def series(self) -> tuple[str, Floats]:
        """Returns the name of the array with a series, and its values [T, I].

        It is `values`, or `inputs`, or the only array of the archive.

        Raises:
            RecipeError: None of these is there, or it is of another shape.
        """
        name = self._one_of(_SERIES)
        values = self.numbers(name)
        shape = values.shape
        if values.ndim == 1:
            values = values[:, None]
        if values.ndim == 3 and len(values) == 1:
            values = values[0]
        if values.ndim != 2 or not values.shape[1]:
            raise RecipeError(self.path, f"{name}: expected shape [T, I], got {_shown(shape)}")
        return name, values

    def sequences(self, label: str) -> tuple[list[tuple[str, Floats]], Array]:
        """Returns sequences [T_i, I], each with its place in the file, and their labels [N].

        Padded: `x` or `inputs` [N, T, I], and `lengths` [N] if they differ. Packed: `x` or `inputs`
        [sum(lengths), I] and `lengths`. Otherwise each array besides labels and ids is a sequence.

        Raises:
            RecipeError: The arrays do not fit together.
        """
        labels = self.array(label)
        name = next((name for name in _SEQUENCES if name in self.names), None)
        if name is None:
            named = [name for name in self.names if name not in (label, _LENGTHS, _IDS)]
            found = [(name, self._sequence(name)) for name in named]
            if not found:
                raise RecipeError(self.path, f"expected an array x, got {', '.join(sorted(self.names))}")
        else:
            found = self._split(name, label, labels)
        if labels.shape != (len(found),):
            raise RecipeError(
                self.path,
                f"{label}: expected a label for each of {len(found)} sequences, got {_shown(labels.shape)}",
            )
        channels = found[0][1].shape[1]
        for place, values in found:
            if values.shape[1] != channels:
                raise RecipeError(self.path, f"{place}: expected {channels} features, got {values.shape[1]}")
        return found, labels

    def _split(self, name: str, label: str, labels: Array) -> list[tuple[str, Floats]]:
        """Returns the sequences of one array, padded or packed."""
        x = self.numbers(name)
        lengths = self._lengths() if _LENGTHS in self.names else None
        if x.ndim == 2 and lengths is not None and lengths.sum() == len(x):
            ends = np.cumsum(lengths)
            parts = [x[end - length : end] for end, length in zip(ends, lengths, strict=True)]
        else:
            padded = x[:, None, :] if x.ndim == 2 else x
            if padded.ndim != 3 or not padded.size or labels.shape != padded.shape[:1]:
                raise RecipeError(
                    self.path,
                    f"expected {name} [N, T, I] and {label} [N], "
                    f"got {_shown(x.shape)} and {_shown(labels.shape)}",
                )
            steps = padded.shape[1]
            if lengths is None:
                lengths = np.full(len(padded), steps)
            if lengths.shape != padded.shape[:1] or lengths.max() > steps:
                raise RecipeError(self.path, f"lengths: expected {len(padded)} numbers from 1 to {steps}")
            parts = [row[:length] for row, length in zip(padded, lengths, strict=True)]
        return [(f"{name}, sequence {number}", part) for number, part in enumerate(parts)]

    def _lengths(self) -> Array:
        stored = self.array(_LENGTHS)
        whole = stored.astype(np.int64) if stored.dtype.kind in "iuf" and stored.ndim == 1 else None
        if whole is None or not len(whole) or (whole != stored).any() or whole.min() < 1:
            raise RecipeError(
                self.path, f"lengths: expected whole numbers of at least 1, got {_excerpt(stored)}"
            )
        return whole

    def _sequence(self, name: str) -> Floats:
        values = self.numbers(name)
        if values.ndim != 2 or not values.size:
            raise RecipeError(self.path, f"{name}: expected shape [T, I], got {_shown(values.shape)}")
        return values

    def _one_of(self, names: Sequence[str]) -> str:
        found = next((name for name in names if name in self.names), None)
        if found is None and len(self.names) == 1:
            return self.names[0]
        if found is None:
            raise RecipeError(
                self.path, f"expected an array {names[0]}, got {', '.join(sorted(self.names)) or 'none'}"
            )
        return found


def _shown(shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


def _excerpt(values: Array) -> str:
    return f"{values.dtype} {np.array2string(values, threshold=6, max_line_width=1000)}"
