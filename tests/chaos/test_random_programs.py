"""Runs random programs on two servers that may end at any write: every answer is the model's.

CHAOS_EXAMPLES makes it longer.
"""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from tests.chaos.session_driver import PROGRAM
from tests.chaos.state_driver import StateDriver
from tests.helpers.models.small import SmallModel, SmallModels, write_small_models
from tests.service.stores.redis_server import RedisServer, redis_server

pytestmark = pytest.mark.long

EXAMPLES = int(os.environ.get("CHAOS_EXAMPLES", "25"))


@pytest.fixture(scope="module")
def one_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of `steps` 1 alone, which loads quickly."""
    root = tmp_path_factory.mktemp("one")
    write_small_models(root)
    for folder in (root / "last", root / "both", root / "steps" / "2"):
        shutil.rmtree(folder)
    return root


@pytest.fixture(scope="module")
def oracle(one_model: Path) -> SmallModel:
    """The model, alone."""
    return SmallModels(one_model).find("steps")


@pytest.fixture(scope="module")
def one_redis() -> Iterator[RedisServer]:
    """A Redis server for all programs."""
    with redis_server() as server:
        yield server


Program = list[tuple[str, int, tuple[Any, ...]]]
# Shrinking takes minutes; the program that failed is printed, and tried first the next time.
PHASES = [
    Phase.explicit,
    Phase.reuse,
    Phase.generate,
    *([Phase.shrink] if "CHAOS_SHRINK" in os.environ else []),
]
SEEDS = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("durability", ["interval", "reply"])
@settings(max_examples=EXAMPLES, deadline=None, phases=PHASES)
@given(program=PROGRAM, seed=SEEDS, done_first=st.booleans())
def test_two_servers_on_one_database(
    one_model: Path, oracle: SmallModel, durability: str, program: Program, seed: int, done_first: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        driver = StateDriver(
            one_model,
            Path(folder) / "sessions.db",
            oracle,
            durability=durability,
            done_first=done_first,
            random=np.random.default_rng(seed),
        )
        asyncio.run(driver.run(program))


@pytest.mark.parametrize("durability", ["interval", "reply"])
@settings(max_examples=EXAMPLES, deadline=None, phases=PHASES)
@given(program=PROGRAM, seed=SEEDS, done_first=st.booleans())
def test_two_servers_on_one_redis(
    one_model: Path,
    oracle: SmallModel,
    one_redis: RedisServer,
    durability: str,
    program: Program,
    seed: int,
    done_first: bool,
) -> None:
    with one_redis.client() as client:
        client.flushall()
    driver = StateDriver(
        one_model,
        one_redis.options(),
        oracle,
        durability=durability,
        done_first=done_first,
        random=np.random.default_rng(seed),
    )
    asyncio.run(driver.run(program))
