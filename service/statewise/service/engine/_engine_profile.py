"""Measures by running a graph whether sessions may share runs of it, and what a run costs.

Compares nothing with the training side (`statewise verify` does). The outcome depends on processor and
library, so it is found at every load and never stored.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

from statewise.service.engine._comparisons import Differences, compare_runs, made_up_input, made_up_state
from statewise.service.engine._engine import Engine
from statewise.service.engine._time_budget import TimeBudget
from statewise.wire import DTYPES, Exactness, Sharing

_TOLERANCE = 1e-4
_TOLERANCE_ULPS = 32
"""Rounding of a type with few digits: float16 has 3, so steps of it are further from the whole than 1e-4."""
_TIMED_SIZES = ((64, 16), (8, 8), (2, 2))
"""Rows and steps of the run that is timed, the best first; the last one is taken where time is short."""
_REPEATS = 5


@dataclass(frozen=True)
class EngineProfile:
    """What a graph may do on this machine, and what its runs cost.

    Attributes:
        exactness: How far rows of one run influence each other.
        stepwise: Whether a sequence gives the same numbers, within rounding, run in parts as run whole.
        chunkable: Whether it gives the same bits, in parts of any length.
        run_s: Seconds that a run of one row and step takes.
        row_step_s: Seconds that each row and step adds in a large batch.
        batchable: Whether rows of different sessions may share a run.
        minimum_rows: Runs of fewer rows are filled up with copies of the last row.
    """

    exactness: Exactness
    stepwise: bool
    chunkable: bool
    run_s: float
    row_step_s: float
    batchable: bool
    minimum_rows: int = 1

    def cost_s(self, rows: int, steps: int) -> float:
        """Estimates the seconds that rows will take: in one run, or in a run each if they may not share."""
        if not self.batchable:
            return rows * (self.run_s + steps * self.row_step_s)
        return self.run_s + rows * steps * self.row_step_s

    def steps_within(self, seconds: float, rows: int) -> int | None:
        """Computes how many time steps, at least 1, such a run may have; None: sequences cannot be cut."""
        return max(1, int(seconds / (rows * self.row_step_s))) if self.chunkable else None


def profile_engine(
    engine: Engine, *, sharing: Sharing = Sharing.EXACT, budget: TimeBudget | None = None
) -> tuple[Engine, EngineProfile]:
    """Profiles a graph; returns the engine to run it with, and the profile of that engine.

    A graph that is inexact only for a run of one row (the one-row path of a matrix product) becomes exact
    when such runs are filled up to two rows. The returned engine fills them where this makes the graph more
    exact. A graph that is too slow for all comparisons counts as inexact within rounding at best.

    Args:
        engine: The graph as it was loaded.
        sharing: Which classes of exactness let rows share a run.
        budget: How long this may take; None: no limit.

    Raises:
        EngineError: the graph cannot be run at all.
    """
    budget = budget or TimeBudget()
    found = compare_runs(engine, budget)
    if found.worst:
        filling = engine.with_minimum_rows(2)
        filled = compare_runs(filling, budget)
        if (
            filled.batched + filled.stepped < found.batched + found.stepped
            and filled.complete >= found.complete
        ):
            engine, found = filling, filled
    exactness = _exactness(engine, found)
    run_s, row_step_s = _times(engine, budget)
    return engine, EngineProfile(
        exactness=exactness,
        stepwise=found.stepped < _tolerance(engine),
        # The rest of a sequence may be shorter than what the graph can run.
        chunkable=engine.spec.streamable and found.stepped == 0 and engine.spec.least_steps == 1,
        run_s=run_s,
        row_step_s=row_step_s,
        batchable=exactness is Exactness.EXACT
        or (sharing is Sharing.TOLERANCE and exactness is Exactness.TOLERANCE),
        minimum_rows=engine.minimum_rows,
    )


def _exactness(engine: Engine, found: Differences) -> Exactness:
    if found.worst == 0 and found.complete:
        return Exactness.EXACT
    return Exactness.TOLERANCE if found.worst < _tolerance(engine) else Exactness.UNSAFE


def _tolerance(engine: Engine) -> float:
    """Returns what counts as rounding, for the coarsest type of the graph's inputs, outputs and states."""
    spec = engine.spec
    names = {entry.dtype for entry in (*spec.inputs, *spec.outputs)} | {pair.dtype for pair in spec.state}
    dtypes = [DTYPES[name] for name in names]
    steps = [float(np.finfo(dtype).eps) for dtype in dtypes if dtype.kind == "f"]
    return max(_TOLERANCE, _TOLERANCE_ULPS * max(steps, default=0.0))


def _times(engine: Engine, budget: TimeBudget) -> tuple[float, float]:
    """Measures the seconds of the smallest run, and those of a row and step in a large run."""
    least = engine.spec.least_steps
    run_s = _time(engine, rows=1, steps=least, budget=budget)
    for rows, steps in _TIMED_SIZES[:-1]:
        if budget.allows(run_s * rows * max(steps, least) / least):
            break
    else:
        rows, steps = _TIMED_SIZES[-1]
    steps = max(steps, least)
    return run_s, _time(engine, rows=rows, steps=steps, budget=budget) / (rows * steps)


def _time(engine: Engine, *, rows: int, steps: int, budget: TimeBudget) -> float:
    random = np.random.default_rng(1)
    inputs = [made_up_input(entry, rows, steps, random) for entry in engine.spec.inputs]
    lengths = np.full(rows, steps, np.int32)
    return budget.shortest(
        partial(engine.run, inputs, lengths, made_up_state(engine, rows, random)), repeats=_REPEATS
    )
