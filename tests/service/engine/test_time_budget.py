"""Profiles graphs within a budget of time: what there is no time to compare is not called exact."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tests.helpers.arrays import Array
from tests.helpers.models.generative import write_generative_models

from statewise.service.engine import (
    Engine,
    GraphDecodeLoop,
    TimeBudget,
    generator_spec,
    load_engine,
    profile_decode_loop,
    profile_engine,
)
from statewise.service.packages import read_package
from statewise.wire import Exactness


class SlowEngine(Engine):
    """An engine on whose clock every row and step takes a second."""

    now_s = 0.0

    def run(
        self, inputs: Sequence[Array], lengths: NDArray[np.int32], state: Sequence[Array]
    ) -> tuple[list[Array], list[Array]]:
        SlowEngine.now_s += float(lengths.sum())
        return super().run(inputs, lengths, state)


def budget(seconds: float) -> TimeBudget:
    return TimeBudget(seconds, clock=lambda: SlowEngine.now_s)


def test_a_slow_graph_is_tested_as_far_as_the_budget_goes(repository: Path) -> None:
    package = read_package("steps", 1, repository / "steps" / "1")
    engine = SlowEngine(package.graph, package.spec, package.layout)
    _, whole = profile_engine(engine, budget=budget(1e9))
    assert (whole.exactness, whole.batchable, whole.chunkable) == (Exactness.EXACT, True, True)
    begun_s = SlowEngine.now_s
    _, short = profile_engine(engine, budget=budget(100))
    assert SlowEngine.now_s - begun_s < 200  # of some 6,000 that all comparisons take
    assert (short.exactness, short.batchable) == (Exactness.TOLERANCE, False)
    assert (short.stepwise, short.chunkable) == (True, True)
    assert short.row_step_s == 1


def test_a_slow_loop_is_cut_and_its_rows_do_not_share_runs(tmp_path: Path) -> None:
    write_generative_models(tmp_path)
    package = read_package("letters", 1, tmp_path / "letters" / "1")
    assert package.spec.generate is not None
    engine = load_engine(package.graph, package.spec)
    generate = generator_spec(package.spec, package.spec.generate)
    loop = GraphDecodeLoop(load_engine(package.folder / "generate.onnx", generate), package.spec.generate)
    _, whole = profile_decode_loop(loop, engine)
    _, short = profile_decode_loop(loop, engine, budget=TimeBudget(0))
    assert (whole.batchable, whole.chunkable) == (True, True)
    assert (short.batchable, short.chunkable) == (False, True)
