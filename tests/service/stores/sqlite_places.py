"""Places of SQLite: writers on one database."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from statewise.service.stores import Block, Store, Written
from statewise.service.stores.sqlite import SqliteStore


class FoldingStore(SqliteStore):
    """A store that folds everything after every block."""

    def write(self, block: Block) -> Written:
        """Writes and folds."""
        written = super().write(block)
        while self.tidy(seconds=1):
            pass
        return written


@contextmanager
def _opening(make: Callable[[], Store]) -> Iterator[Callable[[], Store]]:
    opened: list[Store] = []

    def open_store() -> Store:
        opened.append(make())
        return opened[-1]

    try:
        yield open_store
    finally:
        for store in opened:
            store.close()


@contextmanager
def sqlite_place(folder: Path) -> Iterator[Callable[[], Store]]:
    """A database whose log is never folded."""
    with _opening(lambda: SqliteStore(folder / "sessions.db")) as open_store:
        yield open_store


@contextmanager
def folding_place(folder: Path) -> Iterator[Callable[[], Store]]:
    """A database with small files, where the writer that folds first goes on folding after every block."""
    path = folder / "sessions.db"
    with _opening(
        lambda: FoldingStore(path, log_bytes=0, segment_bytes=2_000, clock=lambda: 0.0)
    ) as open_store:
        yield open_store
