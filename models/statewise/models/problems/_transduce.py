"""Maps sequences to sequences by an encoder and a decoder: letters to phonemes, and a user's pairs.

There is no alignment and no attention (Sutskever et al. 2014, arXiv:1409.3215; Cho et al. 2014,
arXiv:1406.1078): the encoder's final memories are the decoder's initial ones. In training the decoder reads
the true previous token (teacher forcing), at inference its own previous output.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from statewise.models.base import Floats, Integers, Workspace
from statewise.models.datasets import Pairs
from statewise.models.generation import generate_tokens
from statewise.models.networks import Dropout, Network, NetworkSpec, Parameters, encoder_part
from statewise.models.problems._problem import Batch, Part, Problem, pad, part_sizes
from statewise.models.problems._text import Vocabulary, edit_distance
from statewise.models.recipes import Recipe

_EVALUATION_BATCH = 500
# Batches cut from one stretch of pairs sorted by length: little padding, and the order stays random.
_SORTED_BATCHES = 50


@dataclass(frozen=True, kw_only=True)
class Transduction(Problem):
    """Pairs of token sequences.

    Attributes:
        sources: Sources of the training pairs.
        targets: Targets of the training pairs, without begin and end.
        held_out: For each part, sources with all their right targets.
        begin: The decoder's begin token.
        batch_size: Pairs in a batch.
        longest: The most tokens that a decoder may emit.
    """

    sources: Sequence[Integers]
    targets: Sequence[Integers]
    held_out: Mapping[Part, Sequence[tuple[Integers, Sequence[Integers]]]]
    begin: int
    batch_size: int
    longest: int

    def batches(self, rng: np.random.Generator) -> Iterator[Batch]:
        """Yields every pair once, pairs of similar length together, batches in random order."""
        order = rng.permutation(len(self.sources))
        chunk = self.batch_size * _SORTED_BATCHES
        batches = []
        for start in range(0, len(order), chunk):
            part = order[start : start + chunk]
            sizes = [(len(self.sources[index]), len(self.targets[index])) for index in part]
            part = part[sorted(range(len(part)), key=sizes.__getitem__)]
            batches += [part[k : k + self.batch_size] for k in range(0, len(part), self.batch_size)]
        for index in rng.permutation(len(batches)):
            chosen = batches[index]
            yield self._batch([self.sources[i] for i in chosen], [self.targets[i] for i in chosen])

    def learn(
        self,
        network: Network,
        batch: Batch,
        state: Floats | None,
        gradients: Parameters,
        workspace: Workspace,
        dropout: Dropout | None,
    ) -> tuple[float, Floats]:
        """Computes the loss and the gradient of one batch: back through the decoder, then the encoder."""
        encoder = network.encoder
        assert encoder is not None
        assert batch.source is not None
        reading, writing = workspace.scope("encoder"), workspace.scope("decoder")
        _, state, encoded = encoder.forward(
            batch.source, batch.source_lengths, workspace=reading, dropout=dropout
        )
        scores, final, decoded = network.forward(
            batch.x, batch.lengths, state, workspace=writing, dropout=dropout
        )
        loss, d_scores = self.loss(scores, batch.targets, batch.counted)
        _, d_state = network.backward(decoded, d_scores, gradients=gradients, workspace=writing)
        encoder.backward(
            encoded, None, d_state, gradients=encoder_part(self.spec, gradients), workspace=reading
        )
        return loss, final

    def evaluate(self, network: Network, part: Part) -> Mapping[str, float]:
        """Phoneme (token) error rate of greedy outputs: edits to the nearest right target by its length.

        Also the share of sources with an error, and the loss.
        """
        edits = tokens = wrong = 0
        loss = 0.0
        examples = self.held_out[part]
        for start in range(0, len(examples), _EVALUATION_BATCH):
            chunk = examples[start : start + _EVALUATION_BATCH]
            sources = [source for source, _ in chunk]
            outputs = greedy(network, sources, begin=self.begin, longest=self.longest)
            for output, (_, right) in zip(outputs, chunk, strict=True):
                distances = [(edit_distance(output, target.tolist()), len(target)) for target in right]
                distance, length = min(distances, key=lambda pair: pair[0] / pair[1])
                edits, tokens, wrong = edits + distance, tokens + length, wrong + (distance > 0)
            batch = self._batch(sources, [right[0] for _, right in chunk])
            assert batch.source is not None
            state = network.encode(batch.source, batch.source_lengths)
            scores, _, _ = network.forward(batch.x, batch.lengths, state)
            loss += len(chunk) * self.loss(scores, batch.targets, batch.counted)[0]
        return {
            "phoneme_error_rate": edits / tokens,
            "word_error_rate": wrong / len(examples),
            "loss": loss / len(examples),
        }

    def _batch(self, sources: list[Integers], targets: list[Integers]) -> Batch:
        source, source_lengths = pad(list(sources))
        x, lengths = pad([np.concatenate([[self.begin], target]).astype(np.int32) for target in targets])
        wanted, _ = pad([np.concatenate([target, [0]]).astype(np.int32) for target in targets])
        return Batch(
            x=x,
            targets=wanted,
            lengths=lengths,
            counted=np.arange(len(x))[:, None] < lengths,
            source=source,
            source_lengths=source_lengths,
        )


def greedy(network: Network, sources: Sequence[Integers], *, begin: int, longest: int) -> list[list[int]]:
    """Decodes each source, always taking the likeliest token.

    Args:
        network: With an encoder.
        sources: Token sequences.
        begin: The token that starts the decoder.
        longest: The most tokens that it may emit.

    Returns:
        Tokens for each source, without begin and end.
    """
    padded, lengths = pad(list(sources))
    start = np.full((1, len(sources)), begin, np.int32)
    y, state = network.run(start, None, network.encode(padded, lengths))
    assert state is not None
    unused = np.zeros((longest, len(sources)), np.float32)
    emitted = generate_tokens(network, state, y[0], unused, temperature=0.0, stop=0).tokens
    return [[int(token) for token in row if token > 0] for row in emitted.T]


def transduction(recipe: Recipe, data: Pairs) -> Transduction:
    """Builds the problem of a recipe with `task = "transduce"`.

    Raises:
        RecipeError: The settings do not fit the data.
    """
    train = recipe.train
    _check(recipe)
    letters = Vocabulary.of(data.sources)
    sounds = Vocabulary.of(data.targets, begins=("<begin>",), separator=" ")
    right: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for source, target in zip(data.sources, data.targets, strict=True):
        right.setdefault(source, []).append(target)
    words = sorted(right)
    order = np.random.default_rng([train.seed, 2]).permutation(len(words))
    tested, validated = part_sizes(recipe, len(words), "different sources")
    held_out: dict[Part, Sequence[tuple[Integers, Sequence[Integers]]]] = {}
    part: Part
    for part, begin, end in (("test", 0, tested), ("validation", tested, tested + validated)):
        if end > begin:
            held_out[part] = [
                (letters.encode(words[index]), [sounds.encode(target) for target in right[words[index]]])
                for index in order[begin:end]
            ]
    kept = [
        (letters.encode(words[index]), sounds.encode(target))
        for index in order[tested + validated :]
        for target in right[words[index]]
    ]
    batch_count = sum(
        -(-min(train.batch_size * _SORTED_BATCHES, len(kept) - start) // train.batch_size)
        for start in range(0, len(kept), train.batch_size * _SORTED_BATCHES)
    )
    return Transduction(
        spec=_spec(recipe, letters, sounds),
        vocabulary={"source": letters.to_dict(), "target": sounds.to_dict()},
        batch_count=batch_count,
        has_validation="validation" in held_out,
        has_test="test" in held_out,
        label_smoothing=train.label_smoothing,
        sources=[source for source, _ in kept],
        targets=[target for _, target in kept],
        held_out=held_out,
        begin=sounds.begin("<begin>"),
        batch_size=train.batch_size,
        longest=2 * max(len(target) for target in data.targets),
    )


def _check(recipe: Recipe) -> None:
    settings = recipe.network
    if settings.residual:
        raise recipe.error("network.residual", "expected false for tokens")
    if settings.call_shape not in ("auto", "encoder_decoder"):
        raise recipe.error("network.call_shape", "expected encoder_decoder for pairs")
    if settings.bidirectional and settings.hidden_size % 2:
        raise recipe.error("network.hidden_size", "expected an even number for a bidirectional encoder")
    if settings.bidirectional and settings.layers > 1:
        raise recipe.error("network.layers", "expected 1 with a bidirectional encoder")


def _spec(recipe: Recipe, letters: Vocabulary, sounds: Vocabulary) -> NetworkSpec:
    settings = recipe.network
    decoder = NetworkSpec(
        input_size=len(sounds.tokens),
        output_size=sounds.output_size,
        cell=settings.cell,
        hidden_size=settings.hidden_size,
        layers=settings.layers,
        activation=settings.activation,
        reset_after=settings.reset_after,
        embedding_size=settings.embedding_size,
        head="softmax",
    )
    # The two directions' final memories side by side are the decoder's initial ones.
    encoder = replace(
        decoder,
        input_size=len(letters.tokens),
        output_size=0,
        head="linear",
        bidirectional=settings.bidirectional,
        learn_initial_state=settings.learn_initial_state,
        hidden_size=settings.hidden_size // (2 if settings.bidirectional else 1),
    )
    return replace(decoder, call_shape="encoder_decoder", encoder=encoder)
