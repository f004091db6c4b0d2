"""Reads initial states from .npy files: those that the user names, and those in a version's folder.

A folder's model.toml is no user's word: a file that it names has to lie beside it.
"""

from pathlib import Path

import numpy as np

from statewise.export.base import Array, SourceError

_MOST_BYTES = 64 * 2**20  # as of the server


def read_initial_state(source: Path, state: str, path: Path | str) -> Array:
    """Reads an initial state.

    Args:
        source: Named in errors.
        state: Name of the state's input.
        path: The .npy file.

    Raises:
        SourceError: it cannot be read, or holds no array.
    """
    try:
        array: Array = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise SourceError(source, f"initial {state!r}: expected a .npy file: {error}") from None
    return array


def read_folder_state(folder: Path, state: str, name: str) -> Array:
    """Reads an initial state that a model.toml names; the server has the same rules.

    Raises:
        SourceError: the file is not in the folder, too large, or cannot be read.
    """
    path = folder / name
    if Path(name).name != name or not path.is_file() or path.is_symlink():
        raise SourceError(
            folder,
            f"initial {state!r}: expected the name of an .npy file in the version's folder; got {name!r}",
        )
    if path.stat().st_size > _MOST_BYTES:
        raise SourceError(
            folder, f"initial {state!r}: expected a file of at most {_MOST_BYTES} bytes; got {name!r}"
        )
    return read_initial_state(folder, state, path)
