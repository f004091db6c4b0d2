"""Runs random programs of requests that begin alike on a server that keeps few beginnings.

PREFIX_EXAMPLES makes it longer.
"""

import asyncio
import os
import shutil
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.helpers.models.generative import write_generative_models
from tests.helpers.models.small import SmallModels, write_small_models

from .beginning_programs import GENERATED, PROGRAM, STEPPED, BeginningPrograms, Program
from .plane import running_plane

EXAMPLES = int(os.environ.get("PREFIX_EXAMPLES", "6"))
SERVED = {*STEPPED, *GENERATED, "speech"}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of models that step, of some that generate, and of one with an encoder."""
    root = tmp_path_factory.mktemp("beginnings")
    write_small_models(root)
    write_generative_models(root)
    for folder in root.iterdir():
        if folder.name not in SERVED:
            shutil.rmtree(folder)
    return root


@pytest.fixture(
    scope="module",
    params=[
        {"prefix_bytes": 20_000},
        {"prefix_bytes": 6_000, "inline_s": 0.0},
        {"prefix_bytes": 20_000, "inline_s": 0.0, "piece_s": 1e-9},
        {"prefix_bytes": 200_000, "inline_s": 0.0, "piece_s": 1e-5},
    ],
    ids=["as it is", "few bytes, all runs in threads", "slices of one step", "short slices"],
)
def programs(
    models: Path, request: pytest.FixtureRequest
) -> Iterator[tuple[asyncio.Runner, BeginningPrograms]]:
    """Runs programs on one server after another."""
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        try:
            plane = runner.run(stack.enter_async_context(running_plane(models, **request.param)))
            plain = runner.run(stack.enter_async_context(running_plane(models, prefix_bytes=0)))
            yield runner, BeginningPrograms(plane, plain, SmallModels(models))
        finally:
            runner.run(stack.aclose())


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(program=PROGRAM, seed=st.integers(0, 2**32 - 1))
def test_every_answer_is_that_of_a_server_without_shared_prefixes(
    programs: tuple[asyncio.Runner, BeginningPrograms], program: Program, seed: int
) -> None:
    runner, server = programs
    runner.run(server.run(program, seed))
