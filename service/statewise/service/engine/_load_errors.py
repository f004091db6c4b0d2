"""Words why onnxruntime cannot load a file; its own text names places on disk and is for the log alone."""

import re

_TOLD = {
    r"No Op registered for (\S+) with domain_version of (\d+)": "opset {1} has no operator {0}",
    r"Fatal error: (\S+?)\(-?\d+\) is not a registered function": "the operator {0} is not known",
    r"Could not find an implementation for (\S+?)\(": "the operator {0} is not implemented for these types",
    r"model IR version: (\d+), max supported IR version: (\d+)": "expected an IR version up to {1}; got {0}",
    r"Opset (\d+) is under development.* till opset (\d+)": "expected an opset up to {1}; got {0}",
    r"Node input '(.*?)' is not a graph input": "a node takes {0!r}, which nothing gives",
    r"of Optype \((\S+)\) bound to different types": "the inputs of an operator {0} are of different types",
}
"""What is wrong, by what onnxruntime writes."""
_BY_CLASS = {
    "InvalidProtobuf": "it is no ONNX file, or a damaged one",
    "InvalidArgument": "it is no ONNX file, or a damaged one",
    "NoSuchFile": "a file is missing",
}
"""The same, by the class of the error."""


def why_not_loaded(error: Exception) -> str:
    """Returns what is wrong with a file that onnxruntime could not load, in one line without paths."""
    for pattern, words in _TOLD.items():
        if found := re.search(pattern, str(error), re.DOTALL):
            return words.format(*found.groups())
    return _BY_CLASS.get(type(error).__name__, "the server's log has the detail")
