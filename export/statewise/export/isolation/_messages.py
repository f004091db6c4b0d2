"""Turns calls and answers into bytes and back, for pipes between a process and its child."""

import copyreg
import io
import pickle
import struct
from types import MappingProxyType
from typing import Any

HEADER = struct.Struct("<Q")
"""Stands before every message: its size in bytes."""


def pack(value: Any) -> bytes:
    """Packs a value into bytes; read-only mappings are packed, too."""
    buffer = io.BytesIO()
    pickler = pickle.Pickler(buffer, protocol=pickle.HIGHEST_PROTOCOL)
    pickler.dispatch_table = copyreg.dispatch_table | {MappingProxyType: _reduce_mapping}
    pickler.dump(value)
    return buffer.getvalue()


def unpack(content: bytes) -> Any:
    """Reads the value from packed bytes, which only this program may have written."""
    return pickle.loads(content)


def _reduce_mapping(mapping: MappingProxyType[Any, Any]) -> tuple[Any, tuple[dict[Any, Any]]]:
    return _fixed, (dict(mapping),)


def _fixed(entries: dict[Any, Any]) -> MappingProxyType[Any, Any]:
    return MappingProxyType(entries)
