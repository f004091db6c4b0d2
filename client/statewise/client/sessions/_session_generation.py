"""Lets a session generate, and undoes the values that the caller did not take."""

from dataclasses import dataclass, replace

from statewise.client.requests import GenerateOptions, OutputCursor
from statewise.client.sessions._commands import GenerateCommand, GenerateResult, OnValues
from statewise.client.sessions._journal import GeneratePayload
from statewise.client.sessions._remote_session import RemoteSession
from statewise.client.sessions._rewinds import rewind_session
from statewise.client.sessions._session_retries import retry_until_applied
from statewise.client.stream import Operation
from statewise.client.values import Failed, ModelInfo, Unavailable

_APPLIED_WHOLE = (
    "and the session's next operation finds out whether they are applied: all of a request are, or none. If "
    "it takes longer than connections live, ask for fewer steps at a time, which gives the same values"
)


@dataclass(slots=True)
class SessionGeneration:
    """One generation of a session.

    Attributes:
        payload: the request.
        cursor: takes its values.
        timeout_s: for all of it.
        begin: position it began from; None: it has not begun.
        whole: the cursor has taken every value.
    """

    payload: GeneratePayload
    cursor: OutputCursor
    timeout_s: float | None
    begin: int | None = None
    whole: bool = False

    @classmethod
    def of(
        cls, model: ModelInfo, generate_options: GenerateOptions, *, text: bool, timeout_s: float | None
    ) -> "SessionGeneration":
        """Returns a generation that has not begun."""
        payload = GeneratePayload(
            generate_options.steps, generate_options.sampling.SerializeToString(deterministic=True)
        )
        return cls(payload, OutputCursor(model, text=text), timeout_s)


def generate(remote: RemoteSession, generation: SessionGeneration, on_values: OnValues) -> Operation[None]:
    """Runs a generation to its end; values go to `on_values` as they come.

    Raises:
        Unavailable: it broke off, and was not answered to its end in the time for further tries.
        StatewiseError: another try cannot help.
    """
    generation.begin = remote.position
    command = GenerateCommand(generation.payload, generation.cursor, on_values, generation.timeout_s)
    try:
        yield from _run(remote, command)
    except Unavailable as error:
        given = generation.cursor.given
        if not given or remote.multiplexer.closed_error() is not None:
            raise
        raise Unavailable(f"{error.detail}; {given} values came, {_APPLIED_WHOLE}") from None
    generation.whole = True


def cut_short(remote: RemoteSession, generation: SessionGeneration, taken: int) -> Operation[None]:
    """Moves the session to where it would be after the first `taken` values: rewinds, and generates these."""
    if generation.begin is None:
        return
    if remote.last_payload is generation.payload:
        if generation.whole and taken == generation.cursor.given:
            return
        yield from rewind_session(remote)
    if taken and remote.position == generation.begin:
        yield from _run(remote, GenerateCommand(replace(generation.payload, steps=taken)))


def _run(remote: RemoteSession, command: GenerateCommand) -> Operation[None]:
    try:
        result: GenerateResult = yield command.effect(remote.handle, remote.position)
    except Failed as failed:
        result = yield from retry_until_applied(remote, failed.status, command)
    steps = result.position - remote.position
    if steps:  # 0 if the first value was the end token, which is not consumed
        remote.applied(steps, command.payload, result.durable_position)
