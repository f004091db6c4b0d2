"""Encodes messages around large tensors with a single copy of the elements.

protobuf copies the elements into a message, and then several times into an encoding that grows. Where all
bytes are known beforehand, a field is its tag, its length and these bytes. Small messages are left to
protobuf, and any protobuf parser reads the result.
"""

from collections.abc import Iterable, Sequence

from statewise.v1 import tensor_pb2

Chunk = bytes | memoryview
"""A section of an encoding. A C-ordered, little-endian array gives `array.data`."""

_LENGTH_DELIMITED = 2


def nested(number: int, chunks: Iterable[Chunk]) -> list[Chunk]:
    """Encodes a field of bytes, a string or a message.

    Args:
        number: Of the field.
        chunks: The content, in order.
    """
    content = list(chunks)
    size = sum(len(chunk) if isinstance(chunk, bytes) else chunk.nbytes for chunk in content)
    return [_varint(number << 3 | _LENGTH_DELIMITED) + _varint(size), *content]


def named_tensor(
    number: int, name: str, dtype: str, shape: Sequence[int], data: Iterable[Chunk]
) -> list[Chunk]:
    """Encodes an entry of a field `map<string, Tensor>`.

    Args:
        number: Of the field.
        name: The entry's key.
        dtype: One of `DTYPES`.
        shape: Of the tensor.
        data: The elements' bytes, in order.
    """
    head = tensor_pb2.Tensor(
        dtype=tensor_pb2.DataType.Value(f"DATA_TYPE_{dtype.upper()}"), shape=shape
    ).SerializeToString()
    tensor = nested(2, [head, *nested(tensor_pb2.Tensor.DATA_FIELD_NUMBER, data)])
    return nested(number, [*nested(1, [name.encode()]), *tensor])


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
