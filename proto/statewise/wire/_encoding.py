"""Messages around large tensors, encoded with a single copy of the elements.

protobuf copies the elements into a message and from there, several times, into an encoding that it lengthens
as it goes. Where all bytes are known beforehand, a field is nothing but its tag, its length and them. What is
small is left to protobuf, and any parser reads what comes out here.
"""

from collections.abc import Iterable, Sequence

from statewise.v1 import tensor_pb2

Chunk = bytes | memoryview
"""A stretch of an encoding. Of an array, `array.data`, where it is C-ordered and little-endian."""

_LENGTH_DELIMITED = 2


def nested(number: int, chunks: Iterable[Chunk]) -> list[Chunk]:
    """A field of bytes, a string or a message.

    Args:
        number: of the field.
        chunks: the content, one after another.
    """
    content = list(chunks)
    size = sum(len(chunk) if isinstance(chunk, bytes) else chunk.nbytes for chunk in content)
    return [_varint(number << 3 | _LENGTH_DELIMITED) + _varint(size), *content]


def named_tensor(
    number: int, name: str, dtype: str, shape: Sequence[int], data: Iterable[Chunk]
) -> list[Chunk]:
    """An entry of a field `map<string, Tensor>`.

    Args:
        number: of the field.
        name: the entry's key.
        dtype: one of `DTYPES`.
        shape: of the tensor.
        data: its elements, one after another.
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
