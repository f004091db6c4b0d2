"""What can go wrong on the way to a package and back, as types.

    ExportError
    ├── UnsupportedNetwork    the network cannot leave as a package
    ├── VersionExists         a published version is never overwritten
    ├── PackageError          a package or .onnx file cannot be read
    └── SourceError           a file of others cannot be imported

Every message is one line that names the file or folder, what was expected and what was found.
"""

from pathlib import Path


class ExportError(Exception):
    """Root of the errors that this package raises on purpose."""


class UnsupportedNetwork(ExportError):  # noqa: N818 - what is the case, not who erred
    """The network cannot leave as a package."""


class VersionExists(ExportError):  # noqa: N818 - what is the case, not who erred
    """The version is published already, and published versions are immutable.

    Attributes:
        path: The folder that exists.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(
            f"{path}: this version exists, and versions are immutable; export under another number"
        )


class PackageError(ExportError):
    """A package, or a lone .onnx file, that cannot be read.

    Attributes:
        path: The file or folder at fault.
    """

    def __init__(self, path: Path, problem: str) -> None:
        self.path = path
        super().__init__(f"{path}: {problem}")


class SourceError(ExportError):
    """A file to import that cannot be read, or does not say enough.

    Attributes:
        path: The file at fault.
    """

    def __init__(self, path: Path, problem: str) -> None:
        self.path = path
        super().__init__(f"{path}: {problem}")
