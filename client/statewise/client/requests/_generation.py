"""Builds the request of a generation, and reads the values of its replies.

Nothing here waits or knows a connection.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from statewise.client.requests._positions import check_position, read_positions
from statewise.client.stream import set_timeout
from statewise.client.values import (
    Array,
    InputReader,
    InternalError,
    InvalidInput,
    ModelInfo,
    Subject,
    Use,
    Value,
    check_flag,
    check_real,
    check_text,
    check_whole,
    error_of,
    given_state,
    read_values,
    status_of_row,
)
from statewise.v1 import sequence_pb2
from statewise.wire import pack_uint32, pack_uint64, to_tensor, unpack_uint32

_MOST_STEPS = 2**32 - 1


@dataclass(frozen=True, slots=True)
class GenerateOptions:
    """How much to generate, and how values are drawn.

    Attributes:
        steps: values emitted at most; None: the model's own limit, or 100.
        temperature: temperature of the softmax; 0: always the likeliest.
        top_k: draw from the k likeliest only; None: from all.
        seed: seed of the random numbers.
    """

    steps: int | None
    temperature: float
    top_k: int | None
    seed: int

    def __post_init__(self) -> None:
        if self.steps is not None:
            check_whole("steps", self.steps, 1, _MOST_STEPS)
        check_real("temperature", self.temperature)
        if self.top_k is not None:
            check_whole("top_k", self.top_k, 1, _MOST_STEPS)
        check_whole("seed", self.seed, 0, 2**64 - 1)

    @property
    def packed_steps(self) -> bytes:
        """`steps` as a column of one row."""
        return b"" if self.steps is None else pack_uint32([self.steps])

    @property
    def sampling(self) -> sequence_pb2.Sampling:
        """How values are drawn, as a message."""
        return sequence_pb2.Sampling(
            temperature=[self.temperature],
            top_k=[] if self.top_k is None else [self.top_k],
            seed=[self.seed],
        )


@dataclass(frozen=True, slots=True)
class GenerateFrom:
    """What a generated sequence begins with.

    Attributes:
        prompt: a text, or one sequence as the model reads it; None: no prompt.
        condition: the name of a condition, one time step, or for an encoder one sequence or text; None: no
            condition.
        state: the state to begin in, a dict of arrays; None: the model's own.
        position: of that state.
    """

    prompt: object = None
    condition: object = None
    state: object = None
    position: object = 0

    def __post_init__(self) -> None:
        check_position(self.position, None, given=self.state is not None)


def generate_request(
    model: ModelInfo, generate_options: GenerateOptions, begin: GenerateFrom, *, timeout_s: float | None
) -> sequence_pb2.GenerateRequest:
    """Returns the request for one generated sequence.

    Args:
        model: the version that generates.
        generate_options: how much to generate, and how values are drawn.
        begin: what it begins with.
        timeout_s: for all of it.

    Raises:
        InvalidInput: the model cannot take what it is to begin with.
    """
    prompt, condition = begin.prompt, begin.condition
    request = sequence_pb2.GenerateRequest(
        model=model.name,
        version=model.version,
        rows=1,
        steps=generate_options.packed_steps,
        sampling=generate_options.sampling,
    )
    set_timeout(request, timeout_s)
    if isinstance(prompt, str):
        check_text("prompt", prompt)
        request.prompt_text.rows.append(prompt)
    elif prompt is not None:
        request.prompt_lengths = _write_row(request.prompt, model, "prompt", prompt)
    if isinstance(condition, str):
        check_text("condition", condition)
        request.condition_text.rows.append(condition)
    elif condition is not None and model.encoder_inputs:
        request.condition_lengths = _write_row(request.condition, model.encoder, "condition", condition)
    elif condition is not None:
        _write_row(request.condition, model, "condition", condition, use=Use.SESSION)
    if begin.state is not None:
        given_state(model, begin.state).fill(request.state, 0, 1)
        request.state_positions = pack_uint64(read_positions(begin.position, None))
    return request


class OutputCursor:
    """Reads the values of one sequence, and gives each once, even if they are generated again.

    `keep` holds what was given, so that another request can go on behind it.

    Args:
        model: the version that generates.
        text: give texts instead of tokens.
        keep: hold the values that were given, for `resume`.
    """

    def __init__(self, model: ModelInfo, *, text: bool, keep: bool = False) -> None:
        assert model.emitted is not None, "checked by gives_text"
        self._spec = model.emitted
        self._text = text
        self._seen = 0
        self._seen_characters = 0
        self._given_characters = 0
        self._kept: list[Array] | None = [] if keep else None
        self._begins = False
        self.given = 0
        """Values given so far."""

    def restart(self) -> None:
        """Notes that values come from another request: again from the first one on, unless it is resumed."""
        self._seen = self._seen_characters = 0
        self._begins = True

    def resume(self, request: sequence_pb2.GenerateRequest) -> None:
        """Makes a request go on behind the values that were given; servers may still begin anew."""
        assert self._kept is not None, "made with keep"
        if self._kept:
            self._kept = [np.concatenate(self._kept)]
            request.emitted[self._spec.name].CopyFrom(to_tensor(self._kept[0]))
            request.emitted_lengths = pack_uint32([self.given])

    def take(
        self, response: sequence_pb2.GenerateResponse | sequence_pb2.GenerateSessionsResponse
    ) -> list[tuple[Value, int]]:
        """Returns the new values of a response, each with the number of values it stands for.

        A text stands for all tokens of the response, any other value for itself.

        Raises:
            ValueError: the response makes no sense.
        """
        count = int(unpack_uint32(response.lengths).sum())
        if self._begins and isinstance(response, sequence_pb2.GenerateResponse) and response.resumed:
            self._seen, self._seen_characters = self.given, self._given_characters
        self._begins = False
        if not count:
            return []
        begin, self._seen = self._seen, self._seen + count
        fresh = max(self._seen - max(begin, self.given), 0)
        self.given += fresh
        if self._kept is not None and fresh:
            # A copy of its own: the caller may write into the values that it gets.
            self._kept.append(read_values(self._spec, response.outputs, count)[count - fresh :])
        if self._text:
            written = "".join(response.text.rows)
            start = max(self._given_characters - self._seen_characters, 0)
            self._seen_characters += len(written)
            self._given_characters = max(self._given_characters, self._seen_characters)
            return [(written[start:], fresh)] if fresh else []
        values = read_values(self._spec, response.outputs, count)
        return [(value, 1) for value in values[count - fresh :]]


def gives_text(model: ModelInfo, prompt: object, text: bool | None) -> bool:
    """Decides whether values are given as texts: by `text`, else if the model writes text and got no tokens.

    Raises:
        InvalidInput: `text` is no flag, or the model generates nothing, or writes no text.
    """
    if text is not None:
        check_flag("text", text)
    if model.emitted is None:
        raise InvalidInput(
            f"model {model.name!r} does not generate: predict() runs it, step() of a session streams it"
        )
    if text and model.vocabulary is None:
        raise InvalidInput(f"model {model.name!r} has no vocabulary: expected text=False")
    if text is None:
        return model.vocabulary is not None and (prompt is None or isinstance(prompt, str))
    return bool(text)


def read_generated(
    response: sequence_pb2.GenerateResponse, cursor: OutputCursor, subject: Subject
) -> list[tuple[Value, int]]:
    """Returns the new values of a call's response: see `OutputCursor.take`.

    Raises:
        StatewiseError: the generation failed, or the response makes no sense.
    """
    if response.errors:
        raise error_of(status_of_row(response.errors[0]), subject)
    try:
        return cursor.take(response)
    except (ValueError, KeyError) as error:
        raise InternalError(f"a reply that makes no sense: {error}") from error


def _write_row(inputs: Any, model: ModelInfo, what: str, value: object, *, use: Use = Use.PREDICT) -> bytes:
    """Writes one row of inputs; returns its length, packed."""
    try:
        rows = InputReader(model).read(value, use)
    except InvalidInput as error:
        raise InvalidInput(f"{what}: {error}") from None
    if len(rows.steps) != 1:
        raise InvalidInput(f"{what}: expected one sequence; got a batch of {len(rows.steps)}")
    if use is Use.SESSION and int(rows.steps[0]) != 1:
        raise InvalidInput(f"{what}: expected one time step; got {int(rows.steps[0])}")
    for spec, column in zip(model.inputs, rows.columns, strict=True):
        inputs[spec.name].CopyFrom(to_tensor(np.ascontiguousarray(column)))
    return pack_uint32(rows.steps)
