"""Limits how long the measurements of one model version may take."""

import math
import time
from collections.abc import Callable


class TimeBudget:
    """Seconds that measurements may take from now on.

    Args:
        seconds: How many; infinite: no limit.
        clock: Seconds, monotonic.
    """

    def __init__(self, seconds: float = math.inf, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self.clock = clock
        self._end_s = clock() + seconds

    def allows(self, seconds: float) -> bool:
        """Returns whether something that takes so long would end in time."""
        return self.clock() + seconds <= self._end_s

    def shortest(self, run: Callable[[], object], *, repeats: int) -> float:
        """Measures a run: the shortest of some, as other work on the machine only adds to it.

        There is always one run; further ones happen while the budget lasts.
        """
        best = math.inf
        for _ in range(repeats):
            begun_s = self.clock()
            run()
            best = min(best, self.clock() - begun_s)
            if not self.allows(best):
                break
        return best
