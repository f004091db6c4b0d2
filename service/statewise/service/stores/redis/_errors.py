"""Turns what redis-py raises into errors of a store that name the server and what helps.

An error after which the same call may be repeated is StoreUnavailable. Any other needs somebody who mends its
cause.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from redis import exceptions
from redis.sentinel import MasterNotFoundError

from statewise.service.stores._store import StoreError, StoreLost, StoreUnavailable, StoreVersionError

FORMAT = "1"
"""Version of what the scripts keep in the server."""

UNAVAILABLE = {
    "BUSY": "is busy with another script",
    "CLUSTERDOWN": "is part of a cluster",
    "LOADING": "is loading its data",
    "MASTERDOWN": "has lost its primary",
    "MISCONF": "cannot write to its disk and refuses changes",
    "NOREPLICAS": "has too few replicas and refuses changes",
    "OOM": "has reached maxmemory",
    "READONLY": "is a read-only replica",
    "TRYAGAIN": "is busy",
}
"""What servers answer for a time, by the first word of the answer."""


@contextmanager
def store_errors(server: str) -> Iterator[None]:
    """Raises errors of the store in place of redis-py's.

    Args:
        server: The address, for messages.
    """
    try:
        yield
    except exceptions.AuthenticationError as error:
        raise StoreError(f"{server} refused user or password: {error}") from None
    except exceptions.NoPermissionError as error:
        raise StoreError(f"{server} does not permit this user what the store needs: {error}") from None
    except (exceptions.OutOfMemoryError, exceptions.ReadOnlyError, exceptions.BusyLoadingError) as error:
        raise StoreUnavailable(f"{server} {_kind(error)}: {error}") from None
    except exceptions.MasterDownError as error:
        raise StoreUnavailable(f"{server} {UNAVAILABLE['MASTERDOWN']}: {error}") from None
    except exceptions.TimeoutError as error:
        raise StoreUnavailable(f"{server} did not answer in time: {error}") from None
    except MasterNotFoundError as error:
        # redis-py's message has all options of the clients in it.
        why = re.sub(r"<.*> - ", "", str(error))
        raise StoreUnavailable(f"{server} cannot be reached by its Sentinels: {why}") from None
    except (exceptions.ConnectionError, OSError) as error:
        raise StoreUnavailable(f"{server} cannot be reached: {error}") from None
    except exceptions.ResponseError as error:
        raise _answered(server, str(error)) from None
    except exceptions.RedisError as error:
        raise StoreError(f"{server}: {error}") from None


def _kind(error: exceptions.RedisError) -> str:
    if isinstance(error, exceptions.OutOfMemoryError):
        return UNAVAILABLE["OOM"]
    return UNAVAILABLE["READONLY" if isinstance(error, exceptions.ReadOnlyError) else "LOADING"]


def _answered(server: str, message: str) -> StoreError:
    word, _, rest = message.partition(" ")
    if word == "STOREFORMAT":
        return format_error(server, rest)
    if word == "STORELATE":
        return StoreUnavailable(f"{server} got a call after a later one of the same writer")
    if word in UNAVAILABLE:
        return StoreUnavailable(f"{server} {UNAVAILABLE[word]}: {message}")
    if "no-cluster" in message:
        return StoreError(f"{server} is a cluster, which cannot keep sessions: use one primary, or Sentinel")
    return StoreError(f"{server} answered: {message}")


def format_error(server: str, found: str) -> StoreError:
    """Returns the error for a server whose key `format` is not the one that this store opened.

    Args:
        server: The address.
        found: What the key holds: "statewise", the version, and the number of the store.
    """
    words = found.split()
    if len(words) < 3 or words[0] != "statewise":
        return StoreLost(f"{server} has lost the sessions of this store: its key `format` is {found!r}")
    if words[1] != FORMAT:
        return StoreVersionError(
            f"{server} has sessions in format {words[1]}; this version of statewise reads format {FORMAT}: "
            "use the version that wrote them, or another key prefix"
        )
    return StoreLost(f"{server} has lost the sessions of this store: another store was begun in its place")
