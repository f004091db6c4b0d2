"""Measures what recurrent networks do, as functions that return numbers; never draws a picture.

`python -m statewise.models.effects` prints a summary.
"""

from statewise.models.effects._adding import MEAN_SCORE, Adding, adding_examples, adding_problem
from statewise.models.effects._beginnings import Windows, beginning_errors
from statewise.models.effects._comparisons import (
    CandidateEffect,
    OrderEffect,
    candidate_effect,
    gate_values,
    order_effect,
)
from statewise.models.effects._gradient_flow import (
    GradientFlow,
    gradient_flow,
    gradient_norms,
    gradient_terms,
    state_jacobians,
)
from statewise.models.effects._unrolled import Unrolled

__all__ = [
    "MEAN_SCORE",
    "Adding",
    "CandidateEffect",
    "GradientFlow",
    "OrderEffect",
    "Unrolled",
    "Windows",
    "adding_examples",
    "adding_problem",
    "beginning_errors",
    "candidate_effect",
    "gate_values",
    "gradient_flow",
    "gradient_norms",
    "gradient_terms",
    "order_effect",
    "state_jacobians",
]
