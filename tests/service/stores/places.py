"""Places where writers open stores on the same data: one for each kind of store."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from tests.service.stores.redis_server import redis_place
from tests.service.stores.sqlite_places import folding_place, sqlite_place

from statewise.service.stores import Store

Open = Callable[[], Store]
"""Opens one more writer on the same data; the place closes it at the end."""


PLACES: dict[str, Callable[[Path], AbstractContextManager[Open]]] = {
    "redis": redis_place,
    "sqlite": sqlite_place,
    "sqlite, folding": folding_place,
}
"""Every kind of store passes the same tests: an entry here is all that a further kind needs."""
