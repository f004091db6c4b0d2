"""Makes messages wrong: by their fields, so that they still decode, or by their bytes, so that they may not.

All changes follow from the random numbers that are passed in, so a failure can be repeated.
"""

from collections.abc import Sequence
from random import Random
from typing import Any, cast

from google.protobuf.descriptor import FieldDescriptor as Field
from google.protobuf.message import Message

_INTEGERS = [0, 1, 2, 3, 7, 255, 65_536, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1]
_FLOATS = [0.0, -0.0, 1.0, -1.0, 1e-45, 3.5e38, float("inf"), float("-inf"), float("nan")]
_TEXTS = [
    "",
    "a",
    "bystander",
    "steps",
    "..",
    "../..",
    "\0",
    "‮",
    "é" * 64,
    "x" * 129,
    "x" * 20_000,
    "{}",
    "%s%n",
]
_RANGES = {
    Field.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    Field.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    Field.CPPTYPE_UINT32: (0, 2**32 - 1),
    Field.CPPTYPE_UINT64: (0, 2**64 - 1),
    Field.CPPTYPE_ENUM: (-(2**31), 2**31 - 1),
}


def changed(message: Message, random: Random) -> bytes:
    """The message with one to four fields changed, at any depth."""
    copy = type(message)()
    copy.CopyFrom(message)
    for _ in range(random.randint(1, 4)):
        _change(copy, random)
    return copy.SerializeToString()


def damaged(message: Message, random: Random) -> bytes:
    """The message with bytes altered, removed, inserted or doubled."""
    raw = bytearray(message.SerializeToString())
    for _ in range(random.randint(1, 6)):
        place = random.randint(0, len(raw))
        end = place + random.randint(0, 8)
        match random.randrange(4):
            case 0:
                raw[place:end] = random.randbytes(len(raw[place:end]))
            case 1:
                del raw[place:end]
            case 2:
                raw[place:place] = random.randbytes(random.randint(1, 40))
            case 3:
                raw[place:place] = raw[place : place + 64]
    return bytes(raw)


def _change(message: Message, random: Random) -> None:
    if not message.DESCRIPTOR.fields:
        return
    field = random.choice(cast("Sequence[Field]", message.DESCRIPTOR.fields))
    if random.random() < 0.15:
        message.ClearField(field.name)
    elif field.message_type is not None and field.message_type.GetOptions().map_entry:
        _change_map(getattr(message, field.name), random)
    elif field.is_repeated:
        _change_list(getattr(message, field.name), field, random)
    elif field.message_type is not None:
        inner = getattr(message, field.name)
        inner.SetInParent()
        _change(inner, random)
    else:
        setattr(message, field.name, _value(field, getattr(message, field.name), random))


def _change_list(values: Any, field: Field, random: Random) -> None:
    match random.randrange(3):
        case 0 if len(values):
            del values[random.randrange(len(values))]
        case 1 if len(values):
            values.extend([values[0]] * random.choice([1, 2, 100]))
        case _ if field.message_type is not None:
            _change(values.add(), random)
        case _:
            values.append(_value(field, values[0] if len(values) else None, random))


def _change_map(values: Any, random: Random) -> None:
    """Changes a map; those of the contract go from names to tensors."""
    names = sorted(values)
    name = random.choice([*names, *_TEXTS])
    if random.random() < 0.3 and names:
        values[name].CopyFrom(values[names[0]])
    elif random.random() < 0.2 and name in values:
        del values[name]
    else:
        _change(values[name], random)


def _value(field: Field, old: Any, random: Random) -> Any:
    if field.cpp_type in _RANGES:
        low, high = _RANGES[field.cpp_type]
        near = int(old or 0) + random.choice([-1, 1])
        chosen = random.choice([*_INTEGERS, -1, low, high, near, random.randint(low, high)])
        return min(max(chosen, low), high)
    if field.cpp_type in (Field.CPPTYPE_DOUBLE, Field.CPPTYPE_FLOAT):
        return random.choice(_FLOATS)
    if field.cpp_type == Field.CPPTYPE_BOOL:
        return random.random() < 0.5
    if field.type == Field.TYPE_BYTES:
        return _bytes(old or b"", random)
    return random.choice(_TEXTS)


def _bytes(old: bytes, random: Random) -> bytes:
    match random.randrange(6):
        case 0:
            return old[: random.randint(0, len(old))]
        case 1:
            return old * random.choice([2, 3, 50])
        case 2:
            return b"".join(
                random.choice(_INTEGERS).to_bytes(8, "little") for _ in range(random.randint(1, 4))
            )
        case 3:
            return b"".join(
                min(random.choice(_INTEGERS), 2**32 - 1).to_bytes(4, "little")
                for _ in range(random.randint(1, 4))
            )
        case 4:
            return random.randbytes(random.randint(0, 200))
        case _:
            whole = bytearray(old)
            for _ in range(random.randint(1, 4)):
                if whole:
                    whole[random.randrange(len(whole))] = random.randrange(256)
            return bytes(whole)
