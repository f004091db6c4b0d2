"""What a training loop asks of a task: batches to learn from, and numbers that say how well it went.

No optimiser, no checkpoint. A problem is fixed once built; the order, the noise and everything else
that is random comes from the generator passed in, so the same generator gives the same epoch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from statewise.models.base import Array, Floats, Integers, Workspace
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

Part = Literal["validation", "test"]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One update's examples, in normalised units.

    Attributes:
        x: [T, B, I], or tokens [T, B].
        targets: Classes [B] or [T, B]; or values [..., O].
        lengths: [B]; None when every row has T steps.
        counted: [T, B] booleans, the steps that enter the loss; None for all.
        continues: Whether rows go on where those of the batch before ended (truncated BPTT).
        source: [S, B] tokens for the encoder, with `source_lengths`; only of an encoder-decoder.
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
        spec: The network it takes.
        normalisation: Fitted on the training part.
        labels: Names of classes, or None.
        vocabulary: Of text, or None.
        batch_count: Batches in an epoch, always the same.
        has_validation: Whether some training data is held out.
        has_test: Whether there is a test part.
        label_smoothing: Of classes.
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
        """The batches of one epoch."""
        raise NotImplementedError

    def evaluate(self, network: Network, part: Part) -> Mapping[str, float]:
        """Metrics on data that was not trained on; `loss` is among those of the validation part."""
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
        """Loss and gradient of one batch.

        Args:
            network: Being trained.
            batch: From `batches`.
            state: [B, M], final memories of the batch before; None for zeros.
            gradients: Overwritten.
            workspace: Reused from batch to batch.
            dropout: None when none is asked for.

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
        """The loss that belongs to the head, and its gradient by the scores."""
        match self.spec.head:
            case "softmax":
                return cross_entropy(scores, targets, counted, smoothing=self.label_smoothing)
            case "sigmoid":
                return binary_cross_entropy(scores, targets, counted)
            case _:
                return squared_error(scores, targets, counted)


def pad(sequences: list[Array]) -> tuple[Array, Integers]:
    """Sequences [T_i, ...] side by side: [T, B, ...] with zeros behind, and their lengths [B]."""
    lengths = np.array([len(sequence) for sequence in sequences])
    first = sequences[0]
    padded = np.zeros((int(lengths.max()), len(sequences), *first.shape[1:]), first.dtype)
    for row, sequence in enumerate(sequences):
        padded[: len(sequence), row] = sequence
    return padded, lengths
