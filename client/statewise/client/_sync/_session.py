"""A session, as blocking programs hold it."""

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self

from statewise.client._sync._generation import generate_in_session
from statewise.client._sync._shell import SyncShell
from statewise.client.requests import GenerateOptions, gives_text
from statewise.client.sessions import SessionCore, SessionGeneration
from statewise.client.values import ModelInfo, Value


class Session:
    """A state on the server, advanced by `step`. Made by `Client.session`.

    A step is applied once, however often it had to be sent: over a connection that broke, or to a server that
    was started anew. Where the state itself is gone it is built again from the inputs kept here, or
    SessionLost is raised; it is never silently wrong.
    """

    def __init__(self, shell: SyncShell, core: SessionCore, *, keep: bool) -> None:
        self._shell = shell
        self._core = core
        self._keep = keep

    @property
    def id(self) -> str:
        """Its name; `Client.resume` takes it."""
        return self._core.remote.id

    @property
    def model(self) -> ModelInfo:
        """The model version it is pinned to."""
        return self._core.model

    @property
    def position(self) -> int:
        """Time steps consumed."""
        return self._core.remote.position

    @property
    def durable_position(self) -> int:
        """Time steps that a killed server would still have; 0 without a store."""
        return self._core.remote.durable_position

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._shell.leave(self._core, keep=self._keep)

    def __repr__(self) -> str:
        return f"<Session {self.id} of {self.model.name}/{self.model.version} at {self.position}>"

    def step(self, inputs: object, *, timeout: float | None = None) -> Value:
        """Advances by one time step, or by several.

        Args:
            inputs: one time step [...] or several [T, ...]; for several inputs a dict of these by name.
            timeout: seconds. After a Timeout, `position` says, with the next step, whether this one was
                applied.

        Returns:
            [...] of one step, [T, ...] of several; of a many-to-one model the output after the last one,
            [...]. A dict by name where the model has several outputs.

        Raises:
            InvalidInput: wrong rank, size or type, or NaN; nothing was applied.
            SessionMoved, SessionNotFound, SessionExpired, SessionLost, PositionMismatch: the session is not,
                or no longer, what this object takes it for.
            Overloaded, Timeout, Unavailable.

        Example:
            >>> session.step(samples[0]).shape, session.step(samples[1:65]).shape
            ((9,), (64, 9))
        """
        client = self._shell.core
        timeout_s = client.timeout_s(timeout)
        batcher = None if timeout is None else client.batchers.of(self.model, timeout_s)
        return self._shell.operate(self._core.step(inputs, batcher), timeout_s)

    def stream(self, inputs: Iterable[object], *, timeout: float | None = None) -> Iterator[Value]:
        """Steps through `inputs` as they come, giving each output at once. Arguments and errors as for
        `step`.

        Example:
            >>> for forecast in session.stream(sensor):
            ...     print(forecast)
        """
        for value in inputs:
            yield self.step(value, timeout=timeout)

    def fork(self, *, id: str | None = None, keep: bool = False, timeout: float | None = None) -> "Session":
        """Opens a copy of the session as it stands. The two go separate ways.

        Raises:
            SessionExists, LimitReached, SessionMoved, SessionNotFound, SessionExpired, SessionLost,
            Unavailable, Timeout.

        Example:
            >>> twin = session.fork()
        """
        client = self._shell.core
        core = self._shell.run(client.sessions.fork(self._core, id, client.timeout_s(timeout)))
        if keep or id is not None:
            client.anonymous.forget(core)
        return Session(self._shell, core, keep=keep or id is not None)

    def snapshot(self, *, timeout: float | None = None) -> bytes:
        """Takes the state out, signed by the server, for `Client.restore`. The session goes on.

        Raises:
            SessionMoved, SessionNotFound, SessionExpired, SessionLost, Unavailable, Timeout.

        Example:
            >>> Path("session.bin").write_bytes(session.snapshot())
        """
        return self._shell.operate(self._core.snapshot(), self._shell.core.timeout_s(timeout))

    def rewind(self, *, timeout: float | None = None) -> None:
        """Undoes the last step or generation.

        Raises:
            PositionMismatch, SessionMoved, SessionNotFound, SessionExpired, SessionLost, Unavailable,
            Timeout.

        Example:
            >>> session.rewind()
        """
        self._shell.operate(self._core.rewind(), self._shell.core.timeout_s(timeout))

    def generate(
        self,
        *,
        steps: int | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        seed: int = 0,
        text: bool | None = None,
        timeout: float | None = None,
    ) -> Iterator[Value]:
        """Lets the session emit values, each fed back as its next input; gives them as they come.

        After n values `position` has risen by n; an end token is emitted, not consumed. A session that has
        consumed nothing begins with the model's begin token, one time step more. Left early, or ended by a
        Timeout, the session stands behind the last value that was taken. The server does not wait for the
        caller: values not taken yet are held here.

        Args:
            steps: values emitted at most; None: the model's own limit, where it has one.
            temperature: of the softmax; 0: always the likeliest. Models of real numbers ignore it.
            top_k: draw from the k likeliest only; None: from all.
            seed: with the position it decides what is drawn: generating twice 32 values is generating 64.
            text: give texts (True) or tokens (False); None: texts where the model writes text.
            timeout: seconds, for the whole of it.

        Yields:
            Texts, which joined are the whole text; or one value a step: a token, its end token included, or
            an array [...].

        Raises:
            InvalidInput: the model does not generate, or a setting is out of range.
            SessionMoved, SessionNotFound, SessionExpired, SessionLost, PositionMismatch: as for `step`.
            Overloaded, Timeout, Unavailable.

        Example:
            >>> continuation = "".join(session.generate(steps=64))
        """
        timeout_s = self._shell.core.timeout_s(timeout)
        generate_options = GenerateOptions(steps, temperature, top_k, seed)
        texts = gives_text(self.model, None, text)
        generation = SessionGeneration.of(self.model, generate_options, text=texts, timeout_s=timeout_s)
        return generate_in_session(self._shell, self._core, generation)

    def close(self, *, timeout: float | None = None) -> None:
        """Ends the session on the server. Closing twice is no failure.

        Raises:
            SessionMoved: somebody else holds it, and it stays open.
            Unavailable, Timeout.

        Example:
            >>> session.close()  # what `with` does at its end, unless the session is to stay
        """
        self._shell.operate(self._core.close(), self._shell.core.timeout_s(timeout))
