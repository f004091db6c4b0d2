"""Defines what the training loop requires of a task: batches, the loss with its gradient, and measures.

A problem never changes after it is built. Order and noise come from the generator passed in, so the same
generator gives the same epoch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from statewise.models.base import Array, Floats, Integers, Workspace
from statewise.models.datasets import held_out_count
from statewise.models.networks import (
    Dropout,
    Network,
    NetworkSpec,
    Normalisation,
    Parameters,
    binary_cross_entropy,
    cross_entropy,
    squared_error,
)
from statewise.models.recipes import Recipe

Part = Literal["validation", "test"]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """The examples of one update, in normalised units.

    Attributes:
        x: [T, B, I], or tokens [T, B].
        targets: Classes [B] or [T, B]; or values [..., O].
        lengths: [B]; None when every row has T steps.
        counted: [T, B] booleans, the steps that enter the loss; None for all.
        continues: Whether each row continues the same row of the batch before (truncated BPTT).
        source: [S, B], the encoder's tokens; None without an encoder.
        source_lengths: [B].
    """

    x: Array
    targets: Array
    lengths: Integers | None = None
    counted: Array | None = None
    continues: bool = False
    source: Array | None = None
    source_lengths: Integers | None = None


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A task with its data.

    Attributes:
        spec: The network to train.
        normalisation: Fitted on the training part.
        labels: Names of classes, or None.
        vocabulary: Of text, or None.
        batch_count: Batches of every epoch.
        has_validation: Whether some training data is held out.
        has_test: Whether there is a test part.
        label_smoothing: Share of a target spread over all classes.
    """

    spec: NetworkSpec
    normalisation: Normalisation = field(default_factory=Normalisation)
    labels: tuple[str, ...] | None = None
    vocabulary: dict[str, Any] | None = None
    batch_count: int
    has_validation: bool
    has_test: bool
    label_smoothing: float = 0.0

    def batches(self, rng: np.random.Generator) -> Iterator[Batch]:
        """Yields the batches of one epoch."""
        raise NotImplementedError

    def evaluate(self, network: Network, part: Part) -> Mapping[str, float]:
        """Measures on data that was not trained on; metrics of the validation part include `loss`."""
        raise NotImplementedError

    def learn(
        self,
        network: Network,
        batch: Batch,
        state: Floats | None,
        gradients: Parameters,
        workspace: Workspace,
        dropout: Dropout | None,
    ) -> tuple[float, Floats]:
        """Computes the loss and the gradient of one batch.

        Args:
            network: Being trained.
            batch: From `batches`.
            state: [B, M], the final memories of the batch before; None for the initial state.
            gradients: Overwritten.
            workspace: Reused from batch to batch.
            dropout: None for none.

        Returns:
            The loss and the final memories [B, M].
        """
        scores, final, tape = network.forward(
            batch.x, batch.lengths, state, workspace=workspace, dropout=dropout
        )
        loss, d_scores = self.loss(scores, batch.targets, batch.counted)
        network.backward(tape, d_scores, gradients=gradients, workspace=workspace)
        return loss, final

    def loss(self, scores: Floats, targets: Array, counted: Array | None) -> tuple[float, Floats]:
        """Computes the loss that belongs to the head, and its gradient with respect to the scores."""
        match self.spec.head:
            case "softmax":
                return cross_entropy(scores, targets, counted, smoothing=self.label_smoothing)
            case "sigmoid":
                return binary_cross_entropy(scores, targets, counted)
            case _:
                return squared_error(scores, targets, counted)


def part_sizes(recipe: Recipe, count: int, noun: str) -> tuple[int, int]:
    """Returns how many examples are for testing, and how many of the others for validation.

    Args:
        recipe: With the shares.
        count: Number of all examples.
        noun: What they are, in plural.

    Raises:
        RecipeError: A part that the recipe asks for, or the training part, would be empty.
    """
    data = recipe.data
    if data.test_count >= count:
        raise recipe.error("data.test_count", f"of {count} {noun}, this leaves none to train on")
    tested = data.test_count or held_out_count(
        count, data.test_fraction, source=recipe.source, key="data.test_fraction", noun=noun
    )
    return tested, validation_count(recipe, count - tested, noun)


def validation_count(recipe: Recipe, count: int, noun: str) -> int:
    """Returns how many of the training examples are for validation.

    Raises:
        RecipeError: The validation or the training part would be empty.
    """
    fraction = recipe.data.validation_fraction
    return held_out_count(count, fraction, source=recipe.source, key="data.validation_fraction", noun=noun)


def pad(sequences: list[Array]) -> tuple[Array, Integers]:
    """Puts sequences [T_i, ...] side by side, padded with zeros: [T, B, ...] and their lengths [B]."""
    lengths = np.array([len(sequence) for sequence in sequences])
    first = sequences[0]
    padded = np.zeros((int(lengths.max()), len(sequences), *first.shape[1:]), first.dtype)
    for row, sequence in enumerate(sequences):
        padded[: len(sequence), row] = sequence
    return padded, lengths
