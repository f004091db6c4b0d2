"""Opens the store that the settings name."""

from pathlib import Path

from statewise.service.stores import Store

NONE = "none"
_SQLITE = "sqlite:"


def open_store(where: str) -> Store | None:
    """Opens a store, in the thread that will use it.

    Args:
        where: none, or sqlite:PATH.

    Returns:
        The store; None: none is wanted.

    Raises:
        StoreError: it cannot be opened.
    """
    if where == NONE:
        return None
    from statewise.service.stores.sqlite import SqliteStore

    return SqliteStore(Path(where.removeprefix(_SQLITE)))
