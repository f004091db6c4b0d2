"""Reads initial states that model.toml keeps in .npy files beside it."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from statewise.wire import MetadataError, ModelDeclaration, StateDeclaration

_MOST_BYTES = 64 * 2**20


def with_initial_states(declaration: ModelDeclaration, folder: Path) -> ModelDeclaration:
    """Replaces the names of files by the numbers in them.

    Raises:
        MetadataError: naming the state and what is wrong with its file.
    """
    return replace(declaration, state=tuple(_with_numbers(pair, folder) for pair in declaration.state))


def _with_numbers(pair: StateDeclaration, folder: Path) -> StateDeclaration:
    name = pair.initial
    if not isinstance(name, str):
        return pair
    where = f"state {pair.input!r}: initial"
    path = folder / name
    if Path(name).name != name or not path.is_file() or path.is_symlink():
        raise MetadataError(
            f"{where}: expected the name of an .npy file in the version's folder; got {name!r}"
        )
    if path.stat().st_size > _MOST_BYTES:
        raise MetadataError(f"{where}: expected a file of at most {_MOST_BYTES} bytes; got {name!r}")
    try:
        array = np.load(path, allow_pickle=False)
        return replace(pair, initial=tuple(array.astype(np.float64).ravel().tolist()))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise MetadataError(f"{where}: {name}: expected an array of numbers: {error}") from None
