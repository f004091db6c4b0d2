"""Classifies whole sequences: vowels, tumour, and a user's labelled sequences.

A sequence has one label, not one at every step. Features are standardised over all training steps; the head
reads the final state alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from statewise.models.base import Floats, Integers
from statewise.models.datasets import LabelledSequences
from statewise.models.networks import CallShape, HeadName, Network, NetworkSpec, Normalisation
from statewise.models.problems._problem import Batch, Part, Problem, pad, validation_count
from statewise.models.recipes import Recipe

_EVALUATION_BATCH = 256


@dataclass(frozen=True, kw_only=True)
class Classification(Problem):
    """Sequences and their labels.

    Attributes:
        train: Sequences [T_i, I], normalised.
        train_labels: [N].
        held_out: Sequences, normalised, and labels of each part that is not trained on.
        batch_size: Sequences in a batch.
        input_noise: Standard deviation of the noise on features.
    """

    train: Sequence[Floats]
    train_labels: Integers
    held_out: Mapping[Part, tuple[Sequence[Floats], Integers]]
    batch_size: int
    input_noise: float

    def batches(self, rng: np.random.Generator) -> Iterator[Batch]:
        """Yields every sequence once, in random order."""
        order = rng.permutation(len(self.train))
        for start in range(0, len(order), self.batch_size):
            chosen = order[start : start + self.batch_size]
            x, lengths = pad([self.train[index] for index in chosen])
            if self.input_noise:
                x += self.input_noise * rng.standard_normal(x.shape, dtype=np.float32)
            yield Batch(x=x, lengths=lengths, targets=self._targets(self.train_labels[chosen]))

    def evaluate(self, network: Network, part: Part) -> Mapping[str, float]:
        """Computes the share of sequences whose likeliest label is right, and the loss."""
        sequences, labels = self.held_out[part]
        right, loss = 0, 0.0
        for start in range(0, len(sequences), _EVALUATION_BATCH):
            x, lengths = pad(list(sequences[start : start + _EVALUATION_BATCH]))
            wanted = labels[start : start + _EVALUATION_BATCH]
            scores, _, _ = network.forward(x, lengths)
            right += int((predicted_labels(scores) == wanted).sum())
            loss += self.loss(scores, self._targets(wanted), None)[0] * len(wanted)
        return {"accuracy": right / len(sequences), "loss": loss / len(sequences)}

    def _targets(self, labels: Integers) -> Integers | Floats:
        return labels if self.spec.head == "softmax" else labels[:, None].astype(np.float32)


def predicted_labels(scores: Floats) -> Integers:
    """Chooses the likeliest class of scores [B, O]; a single score is the log odds of class 1."""
    return (scores[:, 0] > 0).astype(np.int64) if scores.shape[1] == 1 else scores.argmax(axis=1)


def classification(
    recipe: Recipe, data: LabelledSequences, *, validation: Integers | None = None
) -> Classification:
    """Builds the problem of a recipe with `task = "classify"`.

    Args:
        recipe: Recipe of that task.
        data: Its data.
        validation: Indices of training sequences to hold out; None takes `data.validation_fraction`.

    Raises:
        RecipeError: The settings do not fit the data.
    """
    settings, train = recipe.network, recipe.train
    count = len(data.train)
    if recipe.data.folds > count:
        raise recipe.error("data.folds", f"expected at most {count}, the number of sequences to train on")
    if validation is None:
        held = validation_count(recipe, count, "sequences")
        validation = np.random.default_rng([train.seed, 2]).permutation(count)[:held]
    kept = np.setdiff1d(np.arange(count), validation)
    shape, head = _call_shape(recipe, data), _head(recipe, data)
    normalisation = Normalisation.of_inputs(np.concatenate([data.train[index] for index in kept]))
    spec = NetworkSpec(
        input_size=data.train[0].shape[1],
        output_size=1 if head == "sigmoid" else len(data.label_names),
        cell=settings.cell,
        hidden_size=settings.hidden_size,
        layers=settings.layers,
        bidirectional=settings.bidirectional,
        activation=settings.activation,
        reset_after=settings.reset_after,
        learn_initial_state=settings.learn_initial_state,
        head=head,
        call_shape=shape,
    )
    held_out: dict[Part, tuple[Sequence[Floats], Integers]] = {}
    if len(validation):
        held_out["validation"] = (
            [normalisation.inputs(data.train[index]) for index in validation],
            data.train_labels[validation],
        )
    if len(data.test):
        held_out["test"] = ([normalisation.inputs(sequence) for sequence in data.test], data.test_labels)
    return Classification(
        spec=spec,
        normalisation=normalisation,
        labels=data.label_names,
        batch_count=-(-len(kept) // train.batch_size),
        has_validation="validation" in held_out,
        has_test="test" in held_out,
        label_smoothing=train.label_smoothing,
        train=[normalisation.inputs(data.train[index]) for index in kept],
        train_labels=data.train_labels[kept],
        held_out=held_out,
        batch_size=train.batch_size,
        input_noise=train.input_noise,
    )


def _call_shape(recipe: Recipe, data: LabelledSequences) -> CallShape:
    single = all(len(sequence) == 1 for sequence in data.train)
    shape = recipe.network.call_shape
    if shape == "auto":
        shape = "one_to_one" if single else "many_to_one"
    if shape not in ("one_to_one", "many_to_one") or (shape == "one_to_one" and not single):
        raise recipe.error("network.call_shape", "expected many_to_one, or one_to_one for single steps")
    return shape


def _head(recipe: Recipe, data: LabelledSequences) -> HeadName:
    head = "softmax" if recipe.network.head == "auto" else recipe.network.head
    if head == "linear" or (head == "sigmoid" and len(data.label_names) != 2):
        raise recipe.error("network.head", "expected softmax, or sigmoid for two classes")
    return head


def shuffled_in_time(data: LabelledSequences, rng: np.random.Generator) -> LabelledSequences:
    """Returns the same sequences with the steps of each in random order."""
    return replace(
        data,
        train=[sequence[rng.permutation(len(sequence))] for sequence in data.train],
        test=[sequence[rng.permutation(len(sequence))] for sequence in data.test],
    )
