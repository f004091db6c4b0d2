"""Drives sessions by random programs, and compares every answer with the oracle's.

The programs drive the dataplane without transport, beside a model of sessions that is a dictionary.
INTERLEAVINGS_EXAMPLES makes it longer.
"""

import asyncio
import itertools
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.helpers.models.small import SmallModels

from statewise.service import Settings
from statewise.service.assembly import build_dataplane

from .changing_model import Clock, Served
from .program_driver import Driver
from .programs import IDLE_TIMEOUT_S, MOST_CHECKPOINTS, PROGRAM, Program

EXAMPLES = int(os.environ.get("INTERLEAVINGS_EXAMPLES", "25"))
OWNERS = itertools.count()


@pytest.fixture(
    scope="module",
    params=[{}, {"inline_s": 0.0}, {"piece_s": 1e-9}, {"inline_s": 0.0, "piece_s": 1e-9}],
    ids=["as it is", "all runs in threads", "pieces of one step", "pieces of one step in threads"],
)
def served(
    repository: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Served]:
    root, clock = tmp_path_factory.mktemp("changing"), Clock()
    shutil.copytree(repository / "steps" / "1", root / "steps" / "1")
    limits = Settings(
        repository=root,
        load_in_child=False,
        sessions=64,
        session_checkpoints=MOST_CHECKPOINTS,
        idle_timeout_s=IDLE_TIMEOUT_S,
        **request.param,
    )
    with ThreadPoolExecutor(1) as executor:
        dataplane = build_dataplane(limits, executor=executor, clock=clock)
        asyncio.run(dataplane.models.load_all())
        yield Served(dataplane, clock, root / "steps", repository / "steps")


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(program=PROGRAM, seed=st.integers(0, 2**32 - 1))
def test_every_answer_is_the_oracles(
    served: Served, small_models: SmallModels, program: Program, seed: int
) -> None:
    oracles = {version: small_models.find("steps", version) for version in (1, 2)}
    owner = f"owner {next(OWNERS)}"
    asyncio.run(Driver(served, oracles, owner=owner, random=np.random.default_rng(seed)).run(program))
    table, models = served.dataplane.table, served.dataplane.models
    assert len(table) == 0
    assert not table.busy.any()
    assert [(loaded.package.version, loaded.arena.used_rows) for loaded in models] == [(1, 0)]
