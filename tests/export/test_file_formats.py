"""Recognises models in other formats by their first bytes, and names the way that works."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from statewise.export import SourceError, import_onnx, import_torch


def archive(*names: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as target:
            for name in names:
                target.writestr(name, b"content")

    return write


def content(first: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(first + bytes(100))

    return write


@pytest.mark.parametrize("importer", [import_onnx, import_torch])
@pytest.mark.parametrize(
    ("name", "write", "complaint"),
    [
        ("m.pt", archive("m/data.pkl", "m/data/0", "m/version"), r"PyTorch's format.*state_dict\(\)"),
        (
            "m.pth",
            content(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j"),
            r"a pickle.*safetensors\.torch\.save_file",
        ),
        ("m.ckpt", archive("archive/data.pkl"), r"PyTorch's format.*torch\.onnx\.export"),
        ("m.h5", content(b"\x89HDF\r\n\x1a\n"), "HDF5.*tf2onnx"),
        ("m.keras", archive("metadata.json", "config.json", "model.weights.h5"), "Keras's format.*tf2onnx"),
        ("m.tflite", content(b"\x1c\0\0\0TFL3"), "TensorFlow Lite.*tf2onnx"),
        ("m.ort", content(b"\x1c\0\0\0ORTM"), r"onnxruntime's own format.*\.onnx"),
        ("m.npz", archive("a.npy", "b.npy"), "NumPy arrays"),
        ("m.zip", archive("model.onnx"), r"a ZIP archive.*import the \.onnx file inside"),
        ("m.onnx", content(b"version https://git-lfs.github.com/spec/v1\n"), "Git LFS.*git lfs pull"),
        ("m.onnx", content(b"<!DOCTYPE html>"), "a web page"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.startswith("m.") else "",
)
def test_another_format_is_named_with_the_way_that_works(
    tmp_path: Path,
    importer: Callable[[Path, Path], Path],
    name: str,
    write: Callable[[Path], None],
    complaint: str,
) -> None:
    write(tmp_path / name)

    with pytest.raises(SourceError, match=complaint) as refusal:
        importer(tmp_path / name, tmp_path / "repository")
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "repository").exists()
