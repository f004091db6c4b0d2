"""Runs work on untrusted graphs in a child process, and tries lower levels of optimisation after a crash."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from statewise.export.base import OPTIMISATION_LEVELS, PackageError
from statewise.export.isolation import ChildDied, run_isolated

_T = TypeVar("_T")


def with_some_optimisation(
    work: Callable[..., _T], path: Path, *arguments: object, levels: Iterable[str] = OPTIMISATION_LEVELS
) -> _T:
    """Calls `work(path, *arguments, optimisation)` in a child process, at lower levels after a crash.

    The result comes from the first level that does not crash the child.

    Raises:
        PackageError: the child crashed at every level, or exceeded a limit.
        ExportError: as the work raised it.
    """
    first: ChildDied | None = None
    for level in levels:
        try:
            return run_isolated(work, path, *arguments, level)
        except ChildDied as death:
            first = first or death
            if not death.crashed:
                break
        except MemoryError as error:
            raise PackageError(path, str(error)) from None
    assert first is not None, "there are levels"
    raise PackageError(
        path, f"expected a graph that onnxruntime runs; in a process of its own, {first.reason}"
    )
