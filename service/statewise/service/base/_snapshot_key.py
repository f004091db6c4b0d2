"""Reads the key that signs snapshots from a file, and checks its length."""

from pathlib import Path

_SHORTEST_KEY_BYTES = 16


def check_key(key: bytes) -> None:
    """Raises ValueError where a key is too short."""
    if len(key) < _SHORTEST_KEY_BYTES:
        raise ValueError(f"expected at least {_SHORTEST_KEY_BYTES} bytes of key; got {len(key)}")


def read_key(path: Path) -> bytes:
    """Returns the key in a file, without white space around it.

    Raises:
        ValueError: the file cannot be read, or the key is too short. The message names the setting.
    """
    try:
        key = path.read_bytes().strip()
        check_key(key)
    except OSError as error:
        raise ValueError(f"snapshot_key_file = {str(path)!r}: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"snapshot_key_file = {str(path)!r}: {error}") from None
    return key
