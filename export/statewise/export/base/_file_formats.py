"""Recognises files that hold models in other formats by their first bytes, and names the way that works."""

import zipfile
from pathlib import Path

from statewise.export.base._errors import SourceError

_FIRST_BYTES = 256

_FROM_PYTORCH = (
    "in PyTorch, save the weights with safetensors.torch.save_file(module.state_dict(), 'm.safetensors'), "
    "or export the whole module with torch.onnx.export, its states as inputs and outputs"
)
_FROM_KERAS = "export the model from Keras with model.export('model.onnx', format='onnx'), or with tf2onnx"

_SIGNATURES = (
    (0, b"\x89HDF\r\n\x1a\n", "HDF5, as Keras writes weights and models", _FROM_KERAS),
    (0, b"\x80\x02", "a pickle, as PyTorch before 1.6 writes it", _FROM_PYTORCH),
    (0, b"\x80\x03", "a pickle", _FROM_PYTORCH),
    (0, b"\x80\x04", "a pickle", _FROM_PYTORCH),
    (0, b"\x80\x05", "a pickle", _FROM_PYTORCH),
    (4, b"TFL3", "TensorFlow Lite", "convert the original model with tf2onnx"),
    (4, b"ORTM", "onnxruntime's own format", "import the .onnx file from which it was made"),
    (0, b"GGUF", "GGUF", "export the original model to ONNX"),
    (0, b"\x93NUMPY", "a NumPy array", _FROM_PYTORCH),
    (
        0,
        b"version https://git-lfs",
        "a pointer of Git LFS, not the file itself",
        "fetch the file with `git lfs pull`",
    ),
    (0, b"<!DOCTYPE", "a web page, not a model", "download the file itself"),
    (0, b"<html", "a web page, not a model", "download the file itself"),
)
"""Offset and bytes, the format, and what to do."""


def refuse_other_formats(file: Path) -> None:
    """Refuses a file in a known format that is neither ONNX nor safetensors; an unreadable file passes.

    Raises:
        SourceError: naming the format and the way that works.
    """
    try:
        with file.open("rb") as stream:
            first = stream.read(_FIRST_BYTES)
    except OSError:
        return
    if first.startswith(b"PK\x03\x04"):
        found, way = _zip_format(file)
        raise SourceError(file, f"expected ONNX or safetensors; this is {found}: {way}")
    for offset, signature, found, way in _SIGNATURES:
        if first[offset:].startswith(signature):
            raise SourceError(file, f"expected ONNX or safetensors; this is {found}: {way}")


def is_safetensors(file: Path) -> bool:
    """Returns whether a file begins as safetensors do: the size of a JSON header, and an object."""
    try:
        with file.open("rb") as stream:
            first = stream.read(9)
        size = file.stat().st_size
    except OSError:
        return False
    return first[8:] == b"{" and 2 <= int.from_bytes(first[:8], "little") <= size - 8


def _zip_format(file: Path) -> tuple[str, str]:
    """Names the format of a ZIP archive by the names in it, and what to do."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        names = []
    if any(name.endswith("data.pkl") for name in names):
        return "PyTorch's format (.pt, .pth, .ckpt)", _FROM_PYTORCH
    if any(name.endswith((".weights.h5", "metadata.json")) for name in names):
        return "Keras's format (.keras)", _FROM_KERAS
    if names and all(name.endswith(".npy") for name in names):
        return "an archive of NumPy arrays", _FROM_PYTORCH
    return "a ZIP archive", "unpack it and import the .onnx file inside"
