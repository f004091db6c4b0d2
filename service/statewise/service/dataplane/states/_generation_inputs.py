"""Reads what the rows of a generation start from: states, conditions, prompts, values emitted before.

Runs nothing. Lengths of emitted values fit the number of rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from statewise.service.base import Array, Indices, ServiceError, ServiceLimits
from statewise.service.dataplane.states._consumption import consumed_nothing, lack_a_start
from statewise.service.dataplane.states._encoder_inputs import encoder_input
from statewise.service.dataplane.states._given_states import given_positions, given_states
from statewise.service.inputs import (
    Codec,
    GivenStates,
    RawSequences,
    TokenizedSequences,
    continue_prompts,
    tokenize_prompts,
)
from statewise.service.registry import LoadedModel
from statewise.wire import Reason


@dataclass(frozen=True, slots=True)
class GenerationInputs:
    """What the rows of a request start from, without sessions.

    Attributes:
        rows: Number of rows.
        condition: One time step a row; with an encoder: the sequences that it reads.
        prompt: Sequences that the rows consume after it.
        emitted: Values that the rows have emitted already, and consume after the prompt, [sum(lengths), ...].
        emitted_lengths: Number of these of each row, [rows]; None: there are none.
        state: States that the rows begin in, by the name of a state or of a part; empty: none are given.
        state_positions: Time steps that these have consumed, uint64 [rows]; empty: all 0.
    """

    rows: int
    condition: RawSequences
    prompt: RawSequences
    emitted: Array | None = None
    emitted_lengths: NDArray[np.uint32] | None = None
    state: Mapping[str, Array] = field(default_factory=dict)
    state_positions: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))

    def emitted_by_row(self) -> list[tuple[int, Array]]:
        """Returns the values that each row has emitted already; rows without any are left out."""
        if self.emitted is None or self.emitted_lengths is None:
            return []
        by_row = np.split(self.emitted, np.cumsum(self.emitted_lengths)[:-1])
        return [(row, values) for row, values in enumerate(by_row) if len(values)]

    def steps_left(self, steps: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """Returns the values that each row may still emit of its `steps`, [rows].

        Raises:
            ServiceError: BAD_REQUEST: a row has emitted more.
        """
        if self.emitted_lengths is None:
            return steps
        for row in np.flatnonzero(self.emitted_lengths > steps)[:1].tolist():
            raise ServiceError(
                Reason.BAD_REQUEST,
                f"emitted_lengths: expected at most the {steps[row]} steps of row {row}; "
                f"got {self.emitted_lengths[row]}",
            )
        return steps - self.emitted_lengths

    def ended_rows(self, steps_left: NDArray[np.uint32], codec: Codec | None) -> Indices:
        """Returns the rows that have emitted all they may, or the end token of `codec`."""
        ended = np.flatnonzero(steps_left == 0).tolist()
        if codec is not None and codec.end is not None:
            ended += [row for row, values in self.emitted_by_row() if values[-1] == codec.end]
        return np.array(ended, np.intp)


@dataclass(frozen=True, slots=True)
class GenerationStart:
    """The same, as sequences and states that the model can read.

    Attributes:
        source: The encoder's input; None: no encoder runs.
        given: States that the rows begin in; None: those of the encoder, or the model's own.
        positions: Time steps that the rows have consumed before their prompts, uint64 [rows].
        prompts: What rows consume before they emit.
        failures: Why a row cannot generate, by row.
    """

    source: TokenizedSequences | None
    given: GivenStates | None
    positions: NDArray[np.uint64]
    prompts: TokenizedSequences
    failures: dict[int, str]

    def positions_after_prompts(self, rows: Indices) -> NDArray[np.uint64]:
        """Returns the time steps that rows have consumed when they begin to emit, uint64 [rows]."""
        return self.positions[rows] + self.prompts.lengths[rows].astype(np.uint64)

    def good_rows(self) -> Indices:
        """Returns rows that can generate, those with the shortest prompts first."""
        lengths = self.prompts.lengths
        good = np.setdiff1d(np.arange(len(lengths)), list(self.failures))
        return good[np.argsort(lengths[good], kind="stable")]

    @classmethod
    def read(cls, model: LoadedModel, inputs: GenerationInputs, limits: ServiceLimits) -> Self:
        """Reads what a request's rows start from.

        Raises:
            ServiceError: WRONG_CALL, BAD_TENSOR, BAD_REQUEST, BYTES_LIMIT.
        """
        rows, spec = inputs.rows, model.package.spec
        given = given_states(model, inputs.state, rows=rows)
        positions = given_positions(
            inputs.state_positions, "state_positions", rows=rows, with_state=given is not None
        )
        source, condition = None, inputs.condition
        if model.auxiliary.encoder is not None:
            if given is None:
                source = encoder_input(model, condition, rows, limits)
            elif condition:
                raise ServiceError(
                    Reason.BAD_REQUEST, "expected a condition for the encoder, or a state; got both"
                )
            condition = RawSequences()
        unchanged = np.ones((rows, len(model.arena.pairs)), np.bool_) if given is None else given.unchanged()
        prompts = tokenize_prompts(
            spec,
            model.auxiliary.codec,
            condition,
            inputs.prompt,
            rows=rows,
            begins=consumed_nothing(model, positions, unchanged),
        )
        failures = {
            **({} if source is None else source.failures),
            **({} if given is None else given.failures),
        }
        failures = {**prompts.failures, **failures}
        lacking = lack_a_start(model, positions, unchanged) & (prompts.lengths == 0)
        why = "nothing to generate from: expected a prompt, a condition or a state"
        if given is not None:
            why += "; got the model's own initial state at position 0"
        for row in np.flatnonzero(lacking).tolist():
            failures.setdefault(row, why)
        if inputs.emitted is not None and inputs.emitted_lengths is not None:
            generate = model.require_generator().spec
            prompts = continue_prompts(spec, generate, prompts, inputs.emitted, inputs.emitted_lengths)
            failures = {**prompts.failures, **failures}
        return cls(source, given, positions, prompts, failures)
