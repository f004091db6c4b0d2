"""Limits the threads of NumPy's matrix products while a network trains, and restores the earlier number.

Only the OpenBLAS inside NumPy's wheels can be limited; with another library nothing happens.

The products of one time step are small. Two threads that wait for each other at each product are slower
than one, and many times slower when another program uses the second core.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

_SYMBOLS = ("scipy_openblas_{}_num_threads64_", "scipy_openblas_{}_num_threads", "openblas_{}_num_threads")


@contextmanager
def blas_threads(count: int) -> Iterator[int | None]:
    """Limits NumPy's matrix products to `count` threads within a `with` block, for the whole process.

    Args:
        count: At least 1; 0 leaves the number as it is.

    Yields:
        The number in effect, or None without that OpenBLAS.
    """
    library = _openblas()
    if library is None:
        yield None
        return
    read, write = library
    before = read()
    if count:
        write(count)
    try:
        yield int(read())
    finally:
        write(before)


def _openblas() -> tuple[ctypes._NamedFuncPointer, ctypes._NamedFuncPointer] | None:
    """The functions that read and set the number of threads; None without the OpenBLAS of NumPy's wheels."""
    package = Path(np.__file__).parent
    for folder in (package.parent / "numpy.libs", package / ".dylibs"):
        for path in sorted(folder.glob("*openblas*")):
            try:
                library = ctypes.CDLL(str(path))
            except OSError:
                continue
            for symbol in _SYMBOLS:
                if hasattr(library, symbol.format("set")):
                    return getattr(library, symbol.format("get")), getattr(library, symbol.format("set"))
    return None
