"""Moves the weights that lie in files beside a foreign graph into the graph.

Opens only files in the graph's own folder.
"""

from pathlib import Path

import onnx
from onnx import TensorProto

from statewise.export.base import SourceError
from statewise.export.package import all_tensors

_MOST_BYTES = 2**31 - 2**20  # what a single .onnx file can hold, some of it for the nodes


def embed_external_data(file: Path, model: onnx.ModelProto) -> list[str]:
    """Reads the outside weights of a model into the model; returns the names of their files.

    Raises:
        SourceError: a file that is missing, lies elsewhere or is too short, or weights too large for one
        file.
    """
    outside = [tensor for tensor in all_tensors(model) if tensor.data_location == TensorProto.EXTERNAL]
    names: list[str] = []
    total = 0
    for tensor in outside:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        data = _data_file(file, tensor.name, location)
        size, offset = data.stat().st_size, _number(file, tensor.name, entries.get("offset", "0"))
        length = _number(file, tensor.name, entries.get("length", str(max(size - offset, 0))))
        total += length
        if total > _MOST_BYTES:
            raise SourceError(file, f"expected weights of at most {_MOST_BYTES:,} bytes; {location} has more")
        if offset + length > size:
            raise SourceError(
                file,
                f"weights of {tensor.name!r}: expected {length:,} bytes from {offset:,} in {location}; "
                f"it has {size:,}",
            )
        with data.open("rb") as stream:
            stream.seek(offset)
            tensor.raw_data = stream.read(length)
        tensor.data_location = TensorProto.DEFAULT
        del tensor.external_data[:]
        if location not in names:
            names.append(location)
    return names


def _data_file(file: Path, tensor: str, location: str) -> Path:
    folder = file.resolve().parent
    data = (folder / location).resolve()
    if not location or not data.is_relative_to(folder):
        raise SourceError(
            file,
            f"expected weights inside the file or in its folder; those of {tensor!r} are in {location!r}",
        )
    if not data.is_file():
        raise SourceError(
            file, f"expected {location!r} beside the file, with the weights of {tensor!r}; it is absent"
        )
    return data


def _number(file: Path, tensor: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise SourceError(file, f"weights of {tensor!r}: expected an offset and a length; got {text!r}")
    return int(text)
