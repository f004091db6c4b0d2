"""Prints what the effects measure: `python -m statewise.models.effects flow order candidate beginning`.

For one seed; the networks are trained on the spot.
"""

from __future__ import annotations

import argparse

from statewise.models.base import blas_threads
from statewise.models.effects import (
    MEAN_SCORE,
    adding_problem,
    beginning_errors,
    candidate_effect,
    gradient_flow,
    order_effect,
)
from statewise.models.networks import CellName
from statewise.models.recipes import load_recipe

_CELLS: tuple[CellName, ...] = ("rnn", "lstm", "gru")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("effects", nargs="*", default=["flow", "order", "candidate"], metavar="EFFECT")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with blas_threads(1):
        for effect in options.effects:
            match effect:
                case "flow":
                    _flow(options.seed)
                case "order":
                    found = order_effect(load_recipe("vowels", {"train.seed": options.seed}))
                    print(
                        f"vowels accuracy: {found.in_order:.3f} in order; with shuffled frames "
                        f"{found.read_shuffled:.3f}, or {found.trained_shuffled:.3f} when trained on such"
                    )
                case "candidate":
                    _candidate(options.seed)
                case "adding":
                    for cell in _CELLS:
                        score = adding_problem(cell, seed=options.seed)
                        print(f"adding problem, 100 steps, {cell}: {score:.4f} (mean: {MEAN_SCORE:.3f})")
                case "beginning":
                    _beginning(options.seed)
                case _:
                    known = "flow, order, candidate, adding or beginning"
                    parser.error(f"expected {known}, got {effect!r}")


def _flow(seed: int) -> None:
    print("norm of the gradient by the state, 0, 25, 50 and 100 steps before the loss")
    cases: list[tuple[CellName, str, float]] = [
        ("rnn", "tanh", 0.8),
        ("rnn", "tanh", 1.0),
        ("rnn", "relu", 2.5),
        ("lstm", "tanh", 1.0),
        ("gru", "tanh", 1.0),
    ]
    for cell, activation, gain in cases:
        flow = gradient_flow(cell, activation=activation, gain=gain, seed=seed)
        norms = "  ".join(f"{flow.norms[100 - back]:9.2e}" for back in (0, 25, 50, 100))
        print(
            f"  {cell:4} {activation:4} gain {gain}: {norms}   "
            f"parameters {flow.parameter_norm:.2e}, clipped {flow.clipped_norm:.2e}, cosine {flow.cosine:.6f}"
        )


def _candidate(seed: int) -> None:
    for activation, found in candidate_effect(load_recipe("vowels", {"train.seed": seed})).items():
        print(
            f"vowels, {activation} candidate: accuracy {found.accuracy:.3f}, "
            f"mean candidate {found.candidate_mean:+.3f}, mean memory {found.memory_mean:+.3f}"
        )


def _beginning(seed: int) -> None:
    print("gait in windows of 32 steps: error of the forecast after 1, 2, 4 and 8 steps, and of all steps")
    for cell in _CELLS:
        for learned in (False, True):
            errors = beginning_errors(cell, learned=learned, seed=seed)
            steps = "  ".join(f"{errors[count - 1]:.4f}" for count in (1, 2, 4, 8))
            whole = float((errors**2).mean() ** 0.5)
            name = "learned" if learned else "zeros"
            print(f"  {cell:4} initial state {name:7}: {steps}   {whole:.4f}")


if __name__ == "__main__":
    main()
