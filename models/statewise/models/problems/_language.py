"""Predicts the next character of a word from those before: names, and a user's list of words.

One-to-many: a condition token starts a word, and each character drawn is the next input until the end token.
In training the true characters are the inputs (teacher forcing), so each word is a single pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from statewise.models.base import Integers
from statewise.models.datasets import Words
from statewise.models.networks import Network, NetworkSpec
from statewise.models.problems._problem import Batch, Part, Problem, pad, part_sizes
from statewise.models.problems._text import Vocabulary
from statewise.models.problems._trigram import trigram_bits
from statewise.models.recipes import Recipe

_EVALUATION_BATCH = 512


@dataclass(frozen=True, kw_only=True)
class Language(Problem):
    """Words as tokens, each between its begin token and the end token.

    Attributes:
        parts: The words of each part, "train" included.
        batch_size: Words in a batch.
        seed: Seed of the split that fits the trigram model.
    """

    parts: Mapping[str, Sequence[Integers]]
    batch_size: int
    seed: int

    def batches(self, rng: np.random.Generator) -> Iterator[Batch]:
        """Yields every word once, in random order."""
        words = self.parts["train"]
        order = rng.permutation(len(words))
        for start in range(0, len(order), self.batch_size):
            yield _batch([words[index] for index in order[start : start + self.batch_size]])

    def evaluate(self, network: Network, part: Part) -> Mapping[str, float]:
        """Measures bits per character, counting the end as one; on the test part also for a trigram model."""
        words = self.parts[part]
        nats = count = 0.0
        for start in range(0, len(words), _EVALUATION_BATCH):
            batch = _batch(words[start : start + _EVALUATION_BATCH])
            scores, _, _ = network.forward(batch.x, batch.lengths)
            assert batch.counted is not None
            steps = float(batch.counted.sum())
            nats += steps * self.loss(scores, batch.targets, batch.counted)[0]
            count += steps
        metrics = {"bits_per_char": nats / count / math.log(2), "loss": nats / count}
        if part == "test":
            rng = np.random.default_rng([self.seed, 4])
            metrics["baseline_bits_per_char"] = trigram_bits(
                self.parts["train"], words, self.spec.output_size, rng
            )
        return metrics


def language(recipe: Recipe, data: Words) -> Language:
    """Builds the problem of a recipe with `task = "language"`.

    Raises:
        RecipeError: The settings do not fit the data.
    """
    settings, train = recipe.network, recipe.train
    if settings.bidirectional:
        raise recipe.error(
            "network.bidirectional", "expected false, a character must not be read before it is predicted"
        )
    if settings.residual:
        raise recipe.error("network.residual", "expected false for tokens")
    if settings.call_shape not in ("auto", "one_to_many"):
        raise recipe.error("network.call_shape", "expected one_to_many for a language")
    vocabulary = Vocabulary.of(data.words, begins=tuple(f"<{name}>" for name in data.condition_names))
    rng = np.random.default_rng([train.seed, 2])
    # A word with two conditions is on one side of the split only.
    distinct = rng.permutation(sorted(set(data.words)))
    tested, validated = part_sizes(recipe, len(distinct), "different words")
    side = {
        word: "test" if n < tested else "validation" if n < tested + validated else "train"
        for n, word in enumerate(distinct)
    }
    parts: dict[str, list[Integers]] = {"train": [], "validation": [], "test": []}
    for word, condition in zip(data.words, data.conditions, strict=True):
        begin = vocabulary.output_size + int(condition)
        parts[side[word]].append(np.concatenate([[begin], vocabulary.encode(word), [0]]).astype(np.int32))
    return Language(
        spec=NetworkSpec(
            input_size=len(vocabulary.tokens),
            output_size=vocabulary.output_size,
            cell=settings.cell,
            hidden_size=settings.hidden_size,
            layers=settings.layers,
            activation=settings.activation,
            reset_after=settings.reset_after,
            learn_initial_state=settings.learn_initial_state,
            embedding_size=settings.embedding_size,
            head="softmax",
            call_shape="one_to_many",
        ),
        vocabulary=vocabulary.to_dict(conditional=len(vocabulary.begins) > 1),
        batch_count=-(-len(parts["train"]) // train.batch_size),
        has_validation=bool(parts["validation"]),
        has_test=bool(parts["test"]),
        label_smoothing=train.label_smoothing,
        parts=parts,
        batch_size=train.batch_size,
        seed=train.seed,
    )


def _batch(words: Sequence[Integers]) -> Batch:
    x, lengths = pad([word[:-1] for word in words])
    targets, _ = pad([word[1:] for word in words])
    return Batch(x=x, targets=targets, lengths=lengths, counted=np.arange(len(x))[:, None] < lengths)
