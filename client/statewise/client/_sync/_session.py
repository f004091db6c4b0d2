"""Offers a session to programs that block."""

from collections.abc import Generator, Iterable
from types import TracebackType
from typing import Any, Self

from numpy.typing import NDArray

from statewise.client._sync._generation import generate_in_session
from statewise.client._sync._shell import SyncShell
from statewise.client.requests import GenerateOptions, gives_text
from statewise.client.sessions import SessionCore, SessionGeneration
from statewise.client.states import (
    checkpoint_of,
    checkpoints_of,
    delete_checkpoint_of,
    rewind_of,
    set_state_of,
    state_of,
)
from statewise.client.values import CheckpointInfo, ModelInfo, StateValue, Value, check_flag, check_iterable


class Session:
    """A state on the server, advanced by `step`. Made by `Client.session`.

    A step is applied exactly once, even if connections break or the server restarts and the client sends the
    step again. If the server lost the state, the client rebuilds it from the inputs that it keeps, or raises
    SessionLost; the state is never silently wrong.
    """

    def __init__(self, shell: SyncShell, core: SessionCore, *, keep: bool) -> None:
        self._shell = shell
        self._core = core
        self._keep = keep

    @property
    def id(self) -> str:
        """The session's name; `Client.resume` takes it."""
        return self._core.remote.id

    @property
    def model(self) -> ModelInfo:
        """The model version, the same for the session's life."""
        return self._core.model

    @property
    def position(self) -> int:
        """Time steps consumed."""
        return self._core.remote.position

    @property
    def keep(self) -> int:
        """The number of its last requests that `rewind` can take back."""
        return self._core.remote.keep or 1

    @property
    def durable_position(self) -> int:
        """Time steps that are safe if the server is killed; 0 without a store."""
        return self._core.remote.durable_position

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._shell.leave(self._core, keep=self._keep)

    def __repr__(self) -> str:
        model = f"{self.model.name}/{self.model.version}"
        return f"<Session {self.id!r} of {model} at {self.position}, {self._shell.target}>"

    def step(self, inputs: object, *, timeout: float | None = None) -> Value:
        """Advances the session by one time step, or by several.

        Args:
            inputs: one time step [...] or several [T, ...]; for several inputs a dict of these by name.
            timeout: seconds. After a Timeout the step may or may not have been applied; `position` is right
                again after the next operation.

        Returns:
            The output [...] of one time step, or [T, ...] of several; a many-to-one model's output [...]
            after the last one. A dict by name if the model has several outputs.

        Raises:
            InvalidInput: wrong rank, size or type, or NaN; nothing was applied.
            SessionMoved, SessionNotFound, SessionExpired, SessionLost, PositionMismatch: the session was
                taken over, is gone, or is at another position than the client knows.
            Overloaded, Timeout, Unavailable.

        Example:
            >>> session.step(samples[0]).shape, session.step(samples[1:65]).shape
            ((9,), (64, 9))
        """
        client = self._shell.core
        timeout_s = client.timeout_s(timeout)
        batcher = None if timeout is None else client.batchers.of(self.model, timeout_s)
        return self._shell.operate(self._core.step(inputs, batcher), timeout_s)

    def stream(
        self, inputs: Iterable[object], *, timeout: float | None = None
    ) -> Generator[Value, None, None]:
        """Steps through `inputs` as they arrive, and yields each output at once. Arguments and errors as for
        `step`.

        Example:
            >>> for forecast in session.stream(sensor):
            ...     print(forecast)
        """
        check_iterable("inputs", inputs)
        for value in inputs:
            yield self.step(value, timeout=timeout)

    def fork(
        self,
        *,
        id: str | None = None,
        at: str | None = None,
        keep: bool = False,
        timeout: float | None = None,
    ) -> "Session":
        """Opens a copy of the session at its present position, or at a checkpoint. The two then advance
        independently. The copy can take back as many requests, and has no checkpoints.

        Args:
            id: name of the copy; None: a random name.
            at: name of a checkpoint; None: the present state.
            keep: leave an anonymous copy open at the end of `with`.
            timeout: seconds.

        Raises:
            CheckpointNotFound: the session has no checkpoint of that name.
            SessionExists, LimitReached, SessionMoved, SessionNotFound, SessionExpired, SessionLost,
            Unavailable, Timeout.

        Example:
            >>> twin = session.fork()
        """
        check_flag("keep", keep)
        client = self._shell.core
        core = self._shell.run(client.sessions.fork(self._core, id, client.timeout_s(timeout), at))
        if keep or id is not None:
            client.anonymous.forget(core)
        return Session(self._shell, core, keep=keep or id is not None)

    def snapshot(self, *, checkpoints: bool = False, timeout: float | None = None) -> bytes:
        """Returns the state, signed by the server, for `Client.restore`. The session continues.

        Args:
            checkpoints: the snapshot carries the session's checkpoints, too.
            timeout: seconds.

        Raises:
            SessionMoved, SessionNotFound, SessionExpired, SessionLost, Unavailable, Timeout.

        Example:
            >>> Path("session.bin").write_bytes(session.snapshot())
        """
        return self._shell.operate(
            self._core.snapshot(checkpoints=checkpoints), self._shell.core.timeout_s(timeout)
        )

    def rewind(self, *, to: str | int | None = None, timeout: float | None = None) -> None:
        """Undoes the last step or generation, or takes the session back further.

        Args:
            to: the name of a checkpoint; or a position, one from before the last `keep` requests. None: the
                position from before the last request; a second call goes back one more, where that is kept.
            timeout: seconds. After a Timeout or Unavailable, a rewind to a checkpoint may be applied; the
                session's next operation completes it.

        Raises:
            InvalidInput: nothing is left to undo, or nothing is kept from position `to`.
            CheckpointNotFound: the session has no checkpoint of that name.
            PositionMismatch, SessionMoved, SessionNotFound, SessionExpired, SessionLost, Unavailable,
            Timeout.

        Example:
            >>> session.rewind()
            >>> session.rewind(to="before")
        """
        self._shell.operate(rewind_of(self._core, to), self._shell.core.timeout_s(timeout))

    def state(self, *, timeout: float | None = None) -> dict[str, NDArray[Any]]:
        """Reads the state: what the session has made of its inputs so far. The session continues.

        Returns:
            Arrays by the name of the part, such as `layer0.h` [H]; a state without named parts stands whole
            under its own name. `set_state`, `Client.session` and `Client.predict` take it.

        Raises:
            SessionMoved, SessionNotFound, SessionExpired, SessionLost, NotImplementedByServer, Unavailable,
            Timeout.

        Example:
            >>> state = session.state()
            >>> state["layer0.h"].shape
            (64,)
        """
        return self._shell.operate(state_of(self._core), self._shell.core.timeout_s(timeout))

    def set_state(
        self, state: StateValue, *, position: int | None = None, timeout: float | None = None
    ) -> None:
        """Writes the state. What came before can neither be sent again nor taken back; checkpoints stay.

        Args:
            state: arrays by the name of a state or part; what is not named stays as it is.
            position: time steps that the state has consumed, where the session counts on; None: as it is.
            timeout: seconds. After a Timeout or Unavailable the state may be written; the session's next
                operation completes it.

        Raises:
            InvalidInput: an unknown name, a wrong shape or type, or a number that is not finite where the
                model's own initial state has none; nothing was written.
            SessionMoved, SessionNotFound, SessionExpired, SessionLost, NotImplementedByServer, Unavailable,
            Timeout.

        Example:
            >>> session.set_state({"layer0.h": numpy.zeros(64)})
        """
        plan = set_state_of(self._core, state, position)
        self._shell.operate(plan, self._shell.core.timeout_s(timeout))

    def checkpoint(self, name: str, *, timeout: float | None = None) -> CheckpointInfo:
        """Keeps the present state under a name on the server, until it is deleted or the session ends.

        A checkpoint never changes. It is stored, moves and sleeps with its session; a session whose state the
        client had to build again, because a server without a store lost it, has none.

        Args:
            name: 1 to 128 printable bytes.
            timeout: seconds.

        Raises:
            CheckpointExists: there is one of that name, of another state.
            InvalidInput: the name is empty, too long or not printable.
            LimitReached: a limit of checkpoints or of bytes.
            SessionMoved, SessionNotFound, SessionExpired, SessionLost, NotImplementedByServer, Unavailable,
            Timeout.

        Example:
            >>> made = session.checkpoint("before")
            >>> made.position
            64
        """
        plan = checkpoint_of(self._core, name)
        return self._shell.operate(plan, self._shell.core.timeout_s(timeout))

    def checkpoints(self, *, timeout: float | None = None) -> list[CheckpointInfo]:
        """Lists the session's checkpoints, in the order in which they were made.

        Raises:
            SessionMoved, SessionNotFound, SessionExpired, SessionLost, NotImplementedByServer, Unavailable,
            Timeout.

        Example:
            >>> [(kept.name, kept.position) for kept in session.checkpoints()]
            [('before', 64)]
        """
        return self._shell.operate(checkpoints_of(self._core), self._shell.core.timeout_s(timeout))

    def delete_checkpoint(self, name: str, *, timeout: float | None = None) -> None:
        """Deletes a checkpoint. Without one of that name it does nothing.

        Raises:
            SessionMoved, SessionNotFound, SessionExpired, SessionLost, NotImplementedByServer, Unavailable,
            Timeout.

        Example:
            >>> session.delete_checkpoint("before")
        """
        plan = delete_checkpoint_of(self._core, name)
        self._shell.operate(plan, self._shell.core.timeout_s(timeout))

    def generate(
        self,
        *,
        steps: int | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        seed: int = 0,
        text: bool | None = None,
        timeout: float | None = None,
    ) -> Generator[Value, None, None]:
        """Generates values, each fed back as the next input, and yields them as they arrive.

        Each value advances `position` by one, except an end token, which is not consumed. A session that has
        consumed nothing first consumes the model's begin token, one time step more. If you stop early, or
        after a Timeout, the session is positioned just after the last value you received. The server does not
        wait for you: the client holds the values that you have not asked for yet.

        Args:
            steps: largest number of values; None: the model's own limit, or 100 if it has none.
            temperature: of the softmax; 0: always the likeliest token. Models of real numbers ignore it.
            top_k: draw from the k likeliest tokens only; None: from all.
            seed: together with the position it decides what is drawn: generating 32 values twice is
                generating 64.
            text: yield texts (True) or tokens (False); None: texts if the model has a vocabulary.
            timeout: seconds for the whole generation.

        Yields:
            Texts, which joined are the whole text; or one value a time step: a token, the end token included,
            or an array [...].

        Raises:
            InvalidInput: the model does not generate, or a setting is out of range.
            SessionMoved, SessionNotFound, SessionExpired, SessionLost, PositionMismatch: as for `step`.
            Unavailable: also if the connection broke in every try. All values are applied, or none, whatever
                has come: `position` is right again after the next operation. Fewer steps at a time, which
                give the same values, may fit into the life of a connection.
            Overloaded, Timeout.

        Example:
            >>> continuation = "".join(session.generate(steps=64))
        """
        timeout_s = self._shell.core.timeout_s(timeout)
        generate_options = GenerateOptions(steps, temperature, top_k, seed)
        texts = gives_text(self.model, None, text)
        generation = SessionGeneration.of(self.model, generate_options, text=texts, timeout_s=timeout_s)
        return generate_in_session(self._shell, self._core, generation)

    def close(self, *, timeout: float | None = None) -> None:
        """Closes the session on the server. Closing twice is allowed.

        Raises:
            SessionMoved: another client took the session over; it stays open.
            Unavailable, Timeout.

        Example:
            >>> session.close()  # what `with` does at its end, unless the session is to stay
        """
        self._shell.operate(self._core.close(), self._shell.core.timeout_s(timeout))
