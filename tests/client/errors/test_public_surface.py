"""Checks the public surface: its docstrings, its types, and which modules import the transport."""

import ast
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import statewise.client
from statewise.client import (
    StatewiseError,
)
from statewise.client.values import _errors as errors


def test_the_tree_in_the_docstring_is_the_tree_of_classes() -> None:
    kinds = {
        name
        for name, kind in vars(errors).items()
        if inspect.isclass(kind) and issubclass(kind, StatewiseError) and not name.startswith("_")
    }
    drawn = {line.split("── ")[1].split()[0] for line in (errors.__doc__ or "").splitlines() if "── " in line}
    assert drawn | {"StatewiseError"} == kinds
    assert kinds <= set(statewise.client.__all__)


def test_the_public_surface_is_sorted_and_complete() -> None:
    names = statewise.client.__all__
    assert names == sorted(names)
    assert all(getattr(statewise.client, name).__doc__ for name in names)


def offered() -> list[Any]:
    """Every public method of what the package offers."""
    classes = [getattr(statewise.client, name) for name in statewise.client.__all__]
    return [
        pytest.param(method, id=f"{kind.__name__}.{name}")
        for kind in classes
        for name, method in vars(kind).items()
        if inspect.isfunction(method) and not name.startswith("_")
    ]


@pytest.mark.parametrize("method", offered())
def test_a_method_tells_its_errors_and_shows_an_example(method: Callable[..., Any]) -> None:
    assert method.__doc__
    if issubclass(getattr(statewise.client, method.__qualname__.split(".")[0]), StatewiseError):
        return
    assert "Example:\n" in method.__doc__
    assert "Raises:\n" in method.__doc__ or method.__name__ in ("close", "stream")
    told = method.__doc__.partition("Raises:")[2].partition("Example:")[0]
    for line in told.splitlines():
        for error in re.findall(r"\b[A-Z]\w+", line.partition(":")[0]):
            assert hasattr(statewise.client, error), error


@pytest.mark.parametrize("name", statewise.client.__all__)
def test_no_type_of_the_transport_is_in_the_public_surface(name: str) -> None:
    kind = getattr(statewise.client, name)
    assert not [base for base in kind.__mro__ if base.__module__.split(".")[0] in ("grpc", "google")]
    members = [kind.__init__, *(member for name, member in vars(kind).items() if not name.startswith("_"))]
    hints = [vars(kind).get("__annotations__", {})]
    for member in members:
        function = member.fget if isinstance(member, property) else member
        hints.append(getattr(function, "__annotations__", {}))
    for annotation in (
        str(hint) for group in hints for key, hint in group.items() if not key.startswith("_")
    ):
        assert not re.search(r"grpc|_pb2|google", annotation), annotation


@pytest.mark.parametrize(
    ("modules", "expected"),
    [
        (
            {"grpc", "grpc_status"},
            {"transport/_async_connection.py", "transport/_channel.py", "transport/_sync_connection.py"},
        ),
        (
            {"asyncio", "threading"},
            {
                "_async/_deadlines.py",
                "_async/_generation.py",
                "_async/_score.py",
                "_async/_shell.py",
                "_sync/_shell.py",
                "_sync/_streams.py",
                "transport/_async_connection.py",
                "transport/_open_shells.py",
                "transport/_sync_connection.py",
            },
        ),
    ],
    ids=["transport", "waiting"],
)
def test_only_the_shells_know_the_transport(modules: set[str], expected: set[str]) -> None:
    folder = inspect.getfile(statewise.client).removesuffix("__init__.py")
    knowing = set()
    for path in Path(folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if any(name.split(".")[0] in modules for name in names):
                knowing.add(path.relative_to(folder).as_posix())
    assert knowing == expected
