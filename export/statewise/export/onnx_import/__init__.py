"""Turns an ONNX file from elsewhere into the files of a package; never publishes a version."""

from statewise.export.onnx_import._declared_model import read_declared
from statewise.export.onnx_import._imported_model import read_onnx
from statewise.export.onnx_import._initial_files import read_initial_state
from statewise.export.onnx_import.discovery import ImportOptions

__all__ = ["ImportOptions", "read_declared", "read_initial_state", "read_onnx"]
