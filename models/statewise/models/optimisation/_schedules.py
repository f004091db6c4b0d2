"""Computes the learning rate of each update, as a factor of the recipe's.

The factor depends on the update's number alone, so a resumed run gets the same rates.
"""

from __future__ import annotations

import math
from typing import Literal

ScheduleName = Literal["constant", "linear", "cosine", "step"]


def learning_rate_factor(schedule: ScheduleName, step: int, steps: int, *, warmup: int = 0) -> float:
    """Computes the factor of one update.

    Args:
        schedule: constant; linear or cosine, which fall to 0 at the end; step, a tenth after 60 % and a
            hundredth after 85 % of the updates.
        step: Number of the update, from 0.
        steps: Updates in all.
        warmup: Updates over which the factor first rises linearly to 1.
    """
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    match schedule:
        case "linear":
            return 1 - done
        case "cosine":
            return 0.5 * (1 + math.cos(math.pi * done))
        case "step":
            return 1.0 if done < 0.6 else 0.1 if done < 0.85 else 0.01
        case _:
            return 1.0
