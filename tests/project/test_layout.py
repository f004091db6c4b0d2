"""Holds the imports of the code to the layers declared here, and its sizes to the limits of `house`."""

import ast
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from . import house
from .house import PACKAGES, ROOT, Package, circles, floors, imported_names, read_package

SOURCE_ROOTS = sorted({folder.parent for folder in PACKAGES.values()})

# Which packages of statewise each package imports.
PACKAGE_IMPORTS = {
    "wire": "v1",
    "models": "",
    "export": "models wire",
    "service": "v1 wire",
    "client": "v1 wire",
    "cli": "client export models service wire",
}

# Folders of each package, lowest first, and the folders that each imports. A module in a package's root
# counts as a folder.
FOLDERS: dict[str, dict[str, str]] = {
    "wire": {
        "_reasons": "",
        "_tensor_encoding": "",
        "_tensors": "",
        "_toml": "",
        "_columns": "_tensors",
        "_specs": "_tensors",
        "_entries": "_specs _tensors",
        "_model_declaration": "_entries _specs _toml",
        "_model_spec": "_entries _specs _toml",
        "__init__": (
            "_columns _entries _model_declaration _model_spec _reasons _specs _tensor_encoding _tensors _toml"
        ),
    },
    "models": {
        "base": "",
        "cells": "base",
        "datasets": "base",
        "optimisation": "base",
        "networks": "base cells",
        "checkpoints": "base networks",
        "recipes": "base datasets networks optimisation",
        "generation": "base checkpoints networks",
        "problems": "base datasets generation networks recipes",
        "training": "base checkpoints datasets networks optimisation problems recipes",
        "__init__": "base checkpoints datasets generation networks optimisation recipes training",
        "effects": "base datasets networks optimisation problems recipes training",
    },
    "export": {
        "base": "",
        "isolation": "",
        "_isolating": "base isolation",
        "_publishing": "base",
        "graphs": "base",
        "torch_import": "base",
        "package": "base graphs",
        "verification": "base graphs package",
        "onnx_import/discovery": "base",
        "onnx_import": "base graphs onnx_import/discovery package verification",
        "_exporting": "_publishing graphs package verification",
        "_importing": "_exporting _isolating _publishing base onnx_import package torch_import",
        "_verifying": "_isolating onnx_import package verification",
        "__init__": "_exporting _importing _verifying base graphs package verification",
    },
    "service": {
        "base": "",
        "process": "",
        "auth": "base",
        "engine": "base",
        "inputs": "base",
        "session_state": "base",
        "session_state/kept_states": "base session_state",
        "stores": "base",
        "stores/redis": "stores",
        "stores/sqlite": "stores",
        "telemetry": "base session_state",
        "tracing": "base session_state",
        "scheduling/prefixes": "base",
        "scheduling/jobs": "base engine scheduling/prefixes",
        "scheduling": (
            "base engine inputs scheduling/jobs scheduling/prefixes session_state session_state/kept_states "
            "telemetry tracing"
        ),
        "packages": "base engine",
        "registry": (
            "base engine inputs packages scheduling session_state session_state/kept_states telemetry"
        ),
        "dataplane/durability": (
            "base session_state session_state/kept_states stores stores/redis stores/sqlite"
        ),
        "dataplane/sessions": (
            "base dataplane/durability inputs registry session_state session_state/kept_states stores "
            "telemetry"
        ),
        "dataplane/states": "base inputs registry",
        "dataplane/delivery": "base engine inputs registry scheduling",
        "dataplane": (
            "base dataplane/delivery dataplane/durability dataplane/sessions dataplane/states engine "
            "inputs registry scheduling scheduling/prefixes session_state telemetry tracing"
        ),
        "assembly": (
            "base dataplane dataplane/durability dataplane/sessions engine packages registry scheduling "
            "scheduling/prefixes session_state telemetry tracing"
        ),
        "monitoring": "base dataplane dataplane/durability scheduling/prefixes session_state telemetry",
        "transport/messages": "base dataplane engine inputs registry",
        "transport/calls": "auth base telemetry transport/messages",
        "transport/servicers": (
            "auth base dataplane monitoring registry telemetry transport/calls transport/messages"
        ),
        "transport/tracing": "tracing transport/calls",
        "transport/aio": "transport/calls",
        "transport/queue": "transport/calls",
        "transport": (
            "auth base dataplane transport/aio transport/calls transport/queue transport/servicers "
            "transport/tracing"
        ),
        "server": (
            "assembly auth base dataplane/durability engine monitoring process registry session_state stores "
            "telemetry tracing transport"
        ),
        "__init__": "auth base server",
        "testing": "base server transport",
    },
    "client": {
        "values": "",
        "retries": "values",
        "stream": "retries values",
        "requests": "retries stream values",
        "transport": "stream values",
        "bulk": "requests retries values",
        "sessions": "requests stream values",
        "states": "sessions stream values",
        "groups": "requests sessions states stream values",
        "core": "bulk groups requests retries sessions stream values",
        "_async": "bulk core groups requests sessions states stream transport values",
        "_sync": "bulk core groups requests sessions states stream transport values",
        "__init__": "_async _sync bulk transport values",
    },
    "cli": {
        "_blas": "",
        "_terminal": "",
        "_app": "_terminal",
        "_connection": "_terminal",
        "_demo": "_terminal",
        "_export": "_terminal",
        "_import": "_terminal",
        "_inspect": "_terminal",
        "_plot": "_terminal",
        "_serve": "_terminal",
        "_token": "_terminal",
        "_train": "_terminal",
        "_verify": "_terminal",
        "__init__": "_app _blas",
        "_generate": "_connection _terminal",
        "_models": "_connection _terminal",
        "_score": "_connection _terminal",
        "_checkpoints": "_connection _terminal",
        "_sessions": "_checkpoints _connection _terminal",
        "_states": "_connection _terminal",
        "_stream": "_connection _terminal",
        "_top": "_connection _terminal",
        "__main__": "__init__",
    },
}

# Libraries, and modules of Python that wait or run beside each other: the folders that import them.
WAITING = {"asyncio", "concurrent", "multiprocessing", "subprocess", "threading"}
LIBRARIES: dict[str, dict[str, str]] = {
    "wire": {
        "numpy": "_columns _specs _tensors",
    },
    "models": {
        "numpy": "base cells checkpoints datasets effects generation networks optimisation problems training",
    },
    "export": {
        "google": "package",
        "numpy": ("_exporting base graphs onnx_import onnx_import/discovery torch_import verification"),
        "onnx": "_exporting base graphs onnx_import onnx_import/discovery package verification",
        "onnxruntime": "base graphs onnx_import/discovery verification",
        "subprocess": "isolation",
        "threading": "base isolation",
    },
    "service": {
        "asyncio": (
            "dataplane dataplane/delivery dataplane/durability dataplane/sessions monitoring "
            "registry scheduling server testing transport transport/aio transport/calls "
            "transport/queue transport/servicers transport/tracing"
        ),
        "concurrent": "assembly dataplane/durability registry scheduling server",
        "google": "transport/calls transport/messages transport/servicers transport/tracing",
        "grpc": "transport transport/aio transport/queue",
        "grpc_health": "transport transport/servicers",
        "grpc_reflection": "transport",
        "grpc_status": "transport/aio",
        "numpy": (
            "base dataplane dataplane/delivery dataplane/durability dataplane/sessions dataplane/states "
            "engine inputs packages registry scheduling scheduling/jobs scheduling/prefixes session_state "
            "session_state/kept_states stores stores/redis stores/sqlite "
            "transport/messages"
        ),
        "onnxruntime": "engine monitoring packages transport/servicers",
        "opentelemetry": "tracing transport/tracing",
        "prometheus_client": "monitoring server",
        "pydantic": "auth base",
        "pydantic_settings": "base",
        "redis": "stores/redis",
        "subprocess": "registry",
        "threading": "monitoring registry testing transport/queue",
    },
    "client": {
        "asyncio": "_async transport",
        "concurrent": "_sync",
        "google": "stream values",
        "grpc": "transport",
        "grpc_status": "transport",
        "numpy": "_async _sync bulk core groups requests stream values",
        "opentelemetry": "stream",
        "orjson": "bulk",
        "pyarrow": "bulk",
        "threading": "_sync transport",
    },
    "cli": {
        "matplotlib": "_plot",
        "numpy": "_demo _plot _score _sessions _states",
        "orjson": "_terminal",
        "pyarrow": "_score _states",
        "rich": "_checkpoints _demo _inspect _models _sessions _terminal _top _train _verify",
        "subprocess": "_demo",
        "typer": (
            "__init__ _app _connection _demo _export _generate _import _inspect _plot _score _serve "
            "_sessions _states _stream _terminal _token _top _train _verify"
        ),
    },
}

ONLY_IN_TRANSPORT = {"grpc", "grpc_health", "grpc_reflection", "grpc_status"}
"""Of the service and the client."""


def libraries_of(package: Package) -> dict[str, set[str]]:
    """Folders by the library that they import."""
    found = defaultdict(set)
    for module in package.modules.values():
        for name, _ in imported_names(module.path, PACKAGES[package.name].parents[1]):
            root = name.partition(".")[0]
            if root != "statewise" and (root in WAITING or root not in sys.stdlib_module_names):
                found[root].add(module.unit)
    return dict(found)


def packages_of(package: Package) -> set[str]:
    """Other packages of statewise that a package imports."""
    found = set()
    for module in package.modules.values():
        for name, taken in imported_names(module.path, PACKAGES[package.name].parents[1]):
            if name.partition(".")[0] == "statewise":
                found.add([*name.split("."), taken][1])
    return found - {package.name}


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


@pytest.mark.parametrize("name", PACKAGES)
def test_packages_import_the_packages_declared_and_no_others(name: str) -> None:
    assert packages_of(read_package(name)) == set(PACKAGE_IMPORTS[name].split())


@pytest.mark.parametrize("name", PACKAGES)
def test_folders_import_the_folders_declared_and_no_others(name: str) -> None:
    declared = {folder: set(imports.split()) for folder, imports in FOLDERS[name].items()}
    assert read_package(name).between_folders() == declared


@pytest.mark.parametrize("name", PACKAGES)
def test_folders_import_only_folders_that_are_declared_before_them(name: str) -> None:
    lower: set[str] = set()
    for folder, imports in FOLDERS[name].items():
        assert set(imports.split()) <= lower, folder
        lower.add(folder)


@pytest.mark.parametrize("name", PACKAGES)
def test_folders_import_the_libraries_declared_and_no_others(name: str) -> None:
    declared = {library: set(folders.split()) for library, folders in LIBRARIES[name].items()}
    assert libraries_of(read_package(name)) == declared


@pytest.mark.parametrize("name", ["service", "client"])
def test_only_the_transport_folder_imports_grpc(name: str) -> None:
    for library in ONLY_IN_TRANSPORT & LIBRARIES[name].keys():
        assert {folder.partition("/")[0] for folder in LIBRARIES[name][library].split()} == {"transport"}


def test_engine_and_session_state_never_wait() -> None:
    for library in WAITING & LIBRARIES["service"].keys():
        assert not {"engine", "session_state"} & set(LIBRARIES["service"][library].split())


def test_nothing_in_the_house_is_over_a_limit() -> None:
    assert house.findings().lines == []


def test_the_command_says_so() -> None:
    command = [sys.executable, str(ROOT / "tests/project/house.py")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0
    assert ended.stdout.endswith("nothing is over a limit\n")


def test_the_tables_of_folders_are_those_of_the_code() -> None:
    assert house.PAGE.read_text(encoding="utf-8") == house.page(), "run: make docs"


def test_every_way_to_import_a_neighbour_is_noticed(tmp_path: Path) -> None:
    source = tmp_path / "statewise/client/_module.py"
    source.parent.mkdir(parents=True)
    source.write_text(
        "def f():\n"
        "    from statewise import service\n"
        "    import statewise.service.engine as e\n"
        "from ..service import engine\n"
        "from .. import service\n"
        "if TYPE_CHECKING:\n"
        "    from ._core import step\n"
    )
    assert sorted(imported_names(source, tmp_path)) == [
        ("statewise", "service"),
        ("statewise", "service"),
        ("statewise.client._core", "step"),
        ("statewise.service", "engine"),
        ("statewise.service.engine", ""),
    ]


def test_circles_and_floors_are_found() -> None:
    assert circles({"a": ["b"], "b": ["c"], "c": ["b"], "d": ["d"]}) == [["b", "c"], ["d"]]
    assert floors({"a": ["b", "c"], "b": ["c"], "c": []}) == 3


def test_nesting_counts_blocks_and_no_branches() -> None:
    function = (
        "def f(x):\n"
        "    if x:\n"
        "        pass\n"
        "    elif not x:\n"
        "        for _ in x:\n"
        "            with x:\n"
        "                pass\n"
    )
    assert house.deepest_function(ast.parse(function)) == (3, "f")
    assert house.longest_function(ast.parse(function)) == (7, "f")
