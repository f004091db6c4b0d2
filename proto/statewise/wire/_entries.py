"""Reads JSON and TOML entries into typed values, and names the entry that is wrong."""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from enum import StrEnum
from math import prod
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from statewise.wire._specs import StatePair, StatePart, TensorSpec, Vocabulary
from statewise.wire._tensors import DTYPES


class MetadataError(ValueError):
    """Metadata is absent, of another format, or has an entry of another form than expected."""


def read_entry(kind: Any, raw: Any, where: str) -> Any:
    """Reads the entry at `where` ("inputs[0].shape") of JSON or TOML, as a value of the annotated kind.

    Raises:
        MetadataError: naming the entry, what was expected and what was found.
    """
    if is_dataclass(kind):
        return _read_object(kind, raw, where)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is UnionType:
        kinds = [argument for argument in arguments if argument is not NoneType]
        if raw is None and len(kinds) < len(arguments):
            return None
        if len(kinds) == 1:
            return read_entry(kinds[0], raw, where)
        lists = [one for one in kinds if get_origin(one) is tuple]
        if lists and isinstance(raw, list):
            return read_entry(lists[0], raw, where)
        if type(raw) is int and float in kinds and int not in kinds and abs(raw) <= 2**53:
            return float(raw)
        if type(raw) in kinds:
            return raw
        words = " or ".join(_WORDS[get_origin(one) or one] for one in kinds)
        raise MetadataError(f"{where}: expected {words}; got {raw!r}")
    if origin is tuple and isinstance(raw, list):
        return tuple(read_entry(arguments[0], item, f"{where}[{index}]") for index, item in enumerate(raw))
    if origin is Mapping and isinstance(raw, dict):
        return {key: read_entry(arguments[1], value, f"{where}.{key}") for key, value in raw.items()}
    if kind is float and type(raw) is int and abs(raw) <= 2**53:
        return float(raw)
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        if raw in list(kind):
            return kind(raw)
        raise MetadataError(f"{where}: expected one of {', '.join(kind)}; got {raw!r}")
    if type(raw) is kind:  # not isinstance: true is no integer
        return raw
    raise MetadataError(f"{where}: expected {_WORDS.get(origin or kind, kind)}; got {raw!r}")


_WORDS: Mapping[Any, str] = {
    tuple: "a list",
    Mapping: "an object",
    str: "text",
    bool: "true or false",
    int: "an integer",
    float: "a number",
}


def _read_object(cls: Any, raw: Any, where: str) -> Any:
    prefix = where and f"{where}."
    if not isinstance(raw, dict):
        raise MetadataError(f"{where}: expected an object; got {raw!r}")
    kinds = get_type_hints(cls)
    for name in sorted(raw.keys() - kinds.keys()):
        raise MetadataError(f"{prefix}{name}: no entry of that name is known")
    for entry in fields(cls):
        required = entry.default is MISSING and entry.default_factory is MISSING
        if required and entry.name not in raw:
            raise MetadataError(f"{prefix}{entry.name}: expected this entry; it is absent")
    value = cls(**{name: read_entry(kinds[name], entry, f"{prefix}{name}") for name, entry in raw.items()})
    _check(value, prefix)
    return value


def _check(value: Any, prefix: str) -> None:
    """Checks what types cannot express: known element types, sizes, and numbers that are tokens or axes."""
    if isinstance(value, TensorSpec | StatePair):
        if value.dtype not in DTYPES:
            raise MetadataError(f"{prefix}dtype: expected one of {', '.join(DTYPES)}; got {value.dtype!r}")
        if any(size < 1 for size in value.shape):
            raise MetadataError(f"{prefix}shape: expected positive integers; got {list(value.shape)}")
    if isinstance(value, StatePair) and not 0 <= value.batch_axis <= len(value.shape):
        axes = len(value.shape)
        raise MetadataError(f"{prefix}batch_axis: expected 0 to {axes}; got {value.batch_axis}")
    if isinstance(value, StatePair) and isinstance(value.initial, tuple):
        check_initial(prefix, value.initial, value.shape)
    if isinstance(value, StatePair):
        check_parts(prefix, value.parts, value.shape)
    if isinstance(value, Vocabulary):
        numbers = {name: getattr(value, name) for name in ("unknown", "begin", "end", "pad")}
        numbers |= {f"conditions.{name}": number for name, number in value.conditions.items()}
        for name, number in numbers.items():
            if number is not None and not 0 <= number < len(value.tokens):
                raise MetadataError(
                    f"{prefix}{name}: expected a token below {len(value.tokens)}; got {number}"
                )


def check_parts(prefix: str, parts: Sequence[StatePart], shape: tuple[int, ...]) -> None:
    """Checks that the named sections of a state lie in it, under different names.

    Raises:
        MetadataError: naming the section.
    """
    names = set()
    for part in parts:
        end = part.offset + part.size
        if part.offset < 0 or part.size < 1 or end > prod(shape):
            raise MetadataError(
                f"{prefix}parts: {part.name!r}: expected elements from 0 to {prod(shape) - 1}; "
                f"got {part.offset} to {end - 1}"
            )
        if part.name in names:
            raise MetadataError(f"{prefix}parts: expected different names; got {part.name!r} twice")
        names.add(part.name)


def check_initial(prefix: str, initial: tuple[float, ...], shape: tuple[int, ...]) -> None:
    """Checks that an initial state has one number for each element of a state.

    Raises:
        MetadataError: naming both sizes.
    """
    if len(initial) != prod(shape):
        raise MetadataError(
            f"{prefix}initial: expected a number, or {prod(shape)} of them for a state of shape "
            f"{list(shape)}; got {len(initial)}"
        )
