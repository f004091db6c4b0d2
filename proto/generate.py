"""Generates statewise.v1 from the .proto files: messages, stubs of the services, and types of both.

Run by `make proto`. The generator's version is pinned in pyproject.toml and constraints.txt; a test
regenerates everything and compares. Not part of the package: what it writes is committed.
"""

import sys
from importlib.metadata import distribution
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

SOURCE_ROOT = Path(__file__).parent


def generate(out: Path) -> None:
    """Writes the generated modules below `out`, which must exist. Raises RuntimeError where protoc fails."""
    scripts = Path(sys.executable).parent
    _protoc(
        f"--python_out={out}",
        f"--grpc_python_out={out}",
        f"--plugin=protoc-gen-mypy={scripts / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={scripts / 'protoc-gen-mypy_grpc'}",
        f"--mypy_out=quiet:{out}",
        f"--mypy_grpc_out=quiet:{out}",
    )


def describe(out: Path, *, source_root: Path = SOURCE_ROOT) -> None:
    """Writes the files' FileDescriptorSet, comments included, to `out`. Raises RuntimeError as `generate`."""
    _protoc(f"--descriptor_set_out={out}", "--include_source_info", source_root=source_root)


def _protoc(*outputs: str, source_root: Path = SOURCE_ROOT) -> None:
    arguments = [
        "protoc",
        f"-I{source_root}",
        f"-I{distribution('googleapis-common-protos').locate_file('')}",
        f"-I{files('grpc_tools') / '_proto'}",
        *outputs,
        *sorted(str(path.relative_to(source_root)) for path in source_root.glob("statewise/v1/*.proto")),
    ]
    if protoc.main(arguments) != 0:
        raise RuntimeError("protoc failed; its messages are above")


if __name__ == "__main__":
    generate(SOURCE_ROOT)
