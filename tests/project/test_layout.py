"""The house: one namespace over several source roots, who may import whom, what each package offers."""

import ast
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "wire": ROOT / "proto/statewise/wire",
    "models": ROOT / "models/statewise/models",
    "export": ROOT / "export/statewise/export",
    "service": ROOT / "service/statewise/service",
    "client": ROOT / "client/statewise/client",
    "cli": ROOT / "cli/statewise/cli",
}
SOURCE_ROOTS = sorted({folder.parent for folder in PACKAGES.values()})

# Who may import whom: packages of statewise first, then those of others. docs/design.md gives the reasons.
GRPC = {"grpc", "grpc_status", "google"}
OWN = {
    "wire": {"v1"},
    "models": set(),
    "export": {"wire", "models"},
    "service": {"wire", "v1"},
    "client": {"wire", "v1"},
    "cli": {"wire", "models", "export", "service", "client"},
}
FOREIGN = {
    "wire": {"numpy", "google", "grpc"},
    "models": {"numpy"},
    "export": {"numpy", "onnx", "onnxruntime", "google"},  # onnx raises protobuf's DecodeError
    "service": {
        "numpy",
        "onnxruntime",
        "pydantic",
        "pydantic_settings",
        "grpc_health",
        "grpc_reflection",
        "prometheus_client",
        "opentelemetry",
        *GRPC,
    },
    "client": {"numpy", "pyarrow", "opentelemetry", *GRPC},
    "cli": {"numpy", "pyarrow", "typer", "click", "rich", "matplotlib"},
}

# Who may know of gRPC, and who of the event loop or of threads. The others are values and functions.
TRANSPORT = {
    "service": {"transport"},
    "client": {"transport"},
}
WAITING = {
    "service": {
        "assembly.py",
        "dataplane",
        "monitoring",
        "process",
        "registry",
        "scheduling",
        "server.py",
        "testing.py",
        *TRANSPORT["service"],
    },
    "client": {"_async", "_sync", *TRANSPORT["client"]},
}

OFFERS = {
    "wire": [
        "BATCH",
        "DTYPES",
        "METADATA_KEY",
        "TIME",
        "AxisWords",
        "CallShape",
        "Chunk",
        "EncodeSpec",
        "Exactness",
        "GenerateSpec",
        "MetadataError",
        "ModelDeclaration",
        "ModelSpec",
        "Reason",
        "Sharing",
        "StateDeclaration",
        "StatePair",
        "StatePart",
        "TensorDeclaration",
        "TensorError",
        "TensorSpec",
        "Vocabulary",
        "check_initial",
        "fill_tensor",
        "from_tensor",
        "named_tensor",
        "nested",
        "pack_uint32",
        "pack_uint64",
        "to_tensor",
        "unpack_uint32",
        "unpack_uint64",
    ],
    "models": [
        "SGD",
        "AdamW",
        "Checkpoint",
        "CheckpointError",
        "Dataset",
        "Dropout",
        "Generated",
        "ModelsError",
        "Network",
        "NetworkSpec",
        "Normalisation",
        "Parameters",
        "Progress",
        "Recipe",
        "RecipeError",
        "RunExists",
        "TrainResult",
        "TrainingDiverged",
        "Workspace",
        "binary_cross_entropy",
        "blas_threads",
        "clip_by_norm",
        "cross_entropy",
        "draw_tokens",
        "generate_tokens",
        "generate_values",
        "learning_rate_factor",
        "load_checkpoint",
        "load_dataset",
        "load_recipe",
        "recipe_names",
        "save_checkpoint",
        "squared_error",
        "train",
        "uniform_numbers",
    ],
    "export": [
        "Check",
        "Exactness",
        "ExportError",
        "Package",
        "PackageError",
        "SourceError",
        "UnsupportedNetwork",
        "VerifyReport",
        "VersionExists",
        "Weights",
        "export_checkpoint",
        "import_onnx",
        "import_torch",
        "read_package",
        "verify_package",
    ],
    "service": [
        "CallersError",
        "RowFailure",
        "Scope",
        "Server",
        "ServerError",
        "ServiceError",
        "Settings",
        "SettingsError",
        "add_token",
        "serve",
    ],
    "client": [
        "AsyncClient",
        "AsyncSession",
        "AsyncSessionGroup",
        "Client",
        "InternalError",
        "InvalidInput",
        "InvalidSnapshot",
        "LimitReached",
        "Limits",
        "ModelChanged",
        "ModelInfo",
        "ModelNotFound",
        "ModelStats",
        "NotImplementedByServer",
        "NotStreamable",
        "Overloaded",
        "PartialFailure",
        "PermissionDenied",
        "PositionMismatch",
        "Progress",
        "Sample",
        "Scored",
        "ServerInfo",
        "ServerStats",
        "Session",
        "SessionExists",
        "SessionExpired",
        "SessionGroup",
        "SessionInfo",
        "SessionLost",
        "SessionMoved",
        "SessionNotFound",
        "StatewiseError",
        "TensorInfo",
        "Timeout",
        "Tls",
        "Unauthenticated",
        "Unavailable",
    ],
    "cli": ["main"],
}


def imported_modules(path: Path, source_root: Path) -> Iterator[str]:
    """Full names of what a file imports, anywhere in it; `from statewise import x` counts as statewise.x."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                inside = path.relative_to(source_root).parts[: -node.level]
                module = ".".join([*inside, *filter(None, [module])])
            yield from (
                f"statewise.{alias.name}" if module == "statewise" else module for alias in node.names
            )


def test_the_namespace_has_no_module_that_programs_import() -> None:
    """A module in X/statewise/ could hide the other source roots from Python or from the type checkers.

    `python -m statewise` finds `__main__.py` by the namespace's path; nothing else looks for this name.
    """
    files = [path for root in SOURCE_ROOTS for path in root.iterdir() if path.is_file()]
    assert files == [ROOT / "cli/statewise/__main__.py"]


@pytest.mark.parametrize("package", [*PACKAGES, "v1"])
def test_every_package_is_marked_as_typed(package: str) -> None:
    folder = PACKAGES.get(package, ROOT / "proto/statewise/v1")
    assert (folder / "py.typed").is_file()


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_what_it_may(package: str) -> None:
    wrong = []
    files = sorted(PACKAGES[package].rglob("*.py"))
    assert files
    for path in files:
        for module in imported_modules(path, PACKAGES[package].parents[1]):
            root, _, rest = module.partition(".")
            if root == "statewise":
                allowed = rest.partition(".")[0] in {package, *OWN[package]}
            else:
                allowed = root in sys.stdlib_module_names or root in FOREIGN[package]
            if not allowed:
                wrong.append(f"{path.relative_to(ROOT)}: {module}")
    assert not wrong


@pytest.mark.parametrize("package", TRANSPORT)
@pytest.mark.parametrize(
    ("modules", "knowing"),
    [({"grpc", "grpc_health", "grpc_status"}, TRANSPORT), ({"asyncio", "threading", "concurrent"}, WAITING)],
    ids=["transport", "waiting"],
)
def test_the_core_of_either_side_is_pure(
    package: str, modules: set[str], knowing: dict[str, set[str]]
) -> None:
    wrong = []
    for path in sorted(PACKAGES[package].rglob("*.py")):
        if path.relative_to(PACKAGES[package]).parts[0] not in knowing[package]:
            roots = {name.partition(".")[0] for name in imported_modules(path, PACKAGES[package].parents[1])}
            wrong += [f"{path.name}: {root}" for root in sorted(roots & modules)]
    assert not wrong


def test_every_way_to_import_a_neighbour_is_noticed(tmp_path: Path) -> None:
    source = tmp_path / "statewise/client/_module.py"
    source.parent.mkdir(parents=True)
    source.write_text(
        "def f():\n"
        "    from statewise import service\n"
        "    import statewise.service.engine._engine as e\n"
        "from ..service import engine\n"
        "from .. import service\n"
        "from ._core import step\n"
    )
    assert sorted(imported_modules(source, tmp_path)) == [
        "statewise.client._core",
        "statewise.service",
        "statewise.service",
        "statewise.service",
        "statewise.service.engine._engine",
    ]


@pytest.mark.parametrize("package", PACKAGES)
def test_what_a_package_offers_is_sorted_and_known(package: str) -> None:
    module = importlib.import_module(f"statewise.{package}")
    assert module.__all__ == OFFERS[package]
    assert OFFERS[package] == sorted(OFFERS[package], key=lambda name: (not name.isupper(), name))
    assert all(hasattr(module, name) for name in OFFERS[package])
