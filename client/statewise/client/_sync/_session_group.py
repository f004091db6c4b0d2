"""Offers groups of sessions to programs that block."""

from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from statewise.client._sync._shell import SyncShell
from statewise.client.groups import (
    GroupCore,
    checkpoint_of_rows,
    checkpoints_of_rows,
    delete_checkpoint_of_rows,
    rewind_rows,
    set_states_of_rows,
    states_of_rows,
)
from statewise.client.values import CheckpointInfo, ModelInfo, StateValue, Value


class SessionGroup:
    """Many sessions of one model, stepped together. Made by `Client.sessions`."""

    def __init__(self, shell: SyncShell, core: GroupCore, *, keep: bool) -> None:
        self._shell = shell
        self._core = core
        self._keep = keep

    @property
    def ids(self) -> tuple[str, ...]:
        """The sessions' names, in order."""
        return self._core.ids

    @property
    def model(self) -> ModelInfo:
        """The model version, the same for the sessions' life."""
        return self._core.model

    @property
    def positions(self) -> NDArray[Any]:
        """Time steps that each session has consumed, [N]."""
        return self._core.positions.copy()

    @property
    def keep(self) -> NDArray[Any]:
        """The number of last requests of each session that `rewind` can take back, [N]."""
        return np.maximum(self._core.remote.kept.keeps, 1)

    @property
    def durable_positions(self) -> NDArray[Any]:
        """Time steps of each session that are safe if the server is killed, [N]."""
        return self._core.durable_positions.copy()

    def __len__(self) -> int:
        return len(self._core)

    def __repr__(self) -> str:
        ids = repr(self.ids[0]) if len(self) == 1 else f"{self.ids[0]!r} to {self.ids[-1]!r}"
        counted = f"{len(self)} session{'s' * (len(self) > 1)}"
        model = f"{self.model.name}/{self.model.version}"
        return f"<SessionGroup of {counted} {ids} of {model}, {self._shell.target}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._shell.leave(self._core, keep=self._keep)

    def step(self, inputs: object, *, index: object = None, timeout: float | None = None) -> Value:
        """Advances all sessions, or those chosen by `index`, by one time step each or by several.

        Args:
            inputs: [N, ...], one time step each; [N, T, ...], several; or a list of N [T_i, ...]. For several
                inputs a dict of these by name.
            index: the sessions to advance: a slice, a mask, or indices without repetition. N is then their
                number.
            timeout: seconds.

        Returns:
            Outputs arranged as `inputs`: [N, ...], [N, T, ...], or a list; of a many-to-one model [N, ...],
            or a list.

        Raises:
            PartialFailure: some sessions failed and were not advanced; the others were.
            InvalidInput, Overloaded, Timeout, Unavailable: raised for all sessions together.

        Example:
            >>> group.step(samples[[3, 5]], index=[3, 5])  # [2, 9] -> [2, 9]
        """
        client = self._shell.core
        timeout_s = client.timeout_s(timeout)
        batcher = None if timeout is None else client.batchers.of(self.model, timeout_s)
        return self._shell.operate(self._core.step(inputs, index, batcher), timeout_s)

    def state(self, *, index: object = None, timeout: float | None = None) -> dict[str, NDArray[Any]]:
        """Reads the states of all sessions, or of those chosen by `index`. The sessions continue.

        Returns:
            Arrays by the name of the part, such as `layer0.h` [N, H]; a state without named parts stands
            whole under its own name, [N, ...].

        Raises:
            PartialFailure: some sessions failed; it holds the states of the others, each by name [1, ...].
            InvalidInput, NotImplementedByServer, Timeout, Unavailable: raised for all sessions together.

        Example:
            >>> states = group.state()
            >>> states["layer0.h"].shape
            (1024, 64)
        """
        plan = states_of_rows(self._core, index)
        return self._shell.operate(plan, self._shell.core.timeout_s(timeout))

    def set_state(
        self,
        state: StateValue,
        *,
        position: object = None,
        index: object = None,
        timeout: float | None = None,
    ) -> None:
        """Writes the states of all sessions, or of those chosen by `index`. What came before can neither be
        sent again nor taken back; checkpoints stay.

        Args:
            state: arrays by the name of a state or part, [...] for all sessions or [N, ...], one for each;
                what is not named stays as it is.
            position: time steps that the states have consumed: a number, or [N] numbers; None: as they are.
            index: as for `step`.
            timeout: seconds.

        Raises:
            PartialFailure: some sessions failed and keep their states; the others have theirs.
            InvalidInput, NotImplementedByServer, Timeout, Unavailable: raised for all sessions together.

        Example:
            >>> group.set_state({"layer0.h": numpy.zeros(64)})
        """
        plan = set_states_of_rows(self._core, state, position, index)
        self._shell.operate(plan, self._shell.core.timeout_s(timeout))

    def checkpoint(
        self, name: str, *, index: object = None, timeout: float | None = None
    ) -> list[CheckpointInfo]:
        """Keeps the present state of each session under one name; see `Session.checkpoint`.

        Raises:
            PartialFailure: some sessions failed; it holds the checkpoints of the others.
            InvalidInput, NotImplementedByServer, Timeout, Unavailable: raised for all sessions together.

        Example:
            >>> len(group.checkpoint("before"))
            1024
        """
        plan = checkpoint_of_rows(self._core, name, index)
        return self._shell.operate(plan, self._shell.core.timeout_s(timeout))

    def checkpoints(
        self, *, index: object = None, timeout: float | None = None
    ) -> list[list[CheckpointInfo]]:
        """Lists the checkpoints of each session, in the order in which they were made.

        Raises:
            PartialFailure: some sessions failed; it holds the lists of the others.
            InvalidInput, NotImplementedByServer, Timeout, Unavailable: raised for all sessions together.

        Example:
            >>> [kept] = group.checkpoints(index=[3])
            >>> [checkpoint.name for checkpoint in kept]
            ['before']
        """
        plan = checkpoints_of_rows(self._core, index)
        return self._shell.operate(plan, self._shell.core.timeout_s(timeout))

    def delete_checkpoint(self, name: str, *, index: object = None, timeout: float | None = None) -> None:
        """Deletes a checkpoint of each session. In sessions without one of that name it does nothing.

        Raises:
            PartialFailure: some sessions failed; the others did not.
            InvalidInput, NotImplementedByServer, Timeout, Unavailable: raised for all sessions together.

        Example:
            >>> group.delete_checkpoint("before")
        """
        plan = delete_checkpoint_of_rows(self._core, name, index)
        self._shell.operate(plan, self._shell.core.timeout_s(timeout))

    def rewind(
        self, *, to: str | int | None = None, index: object = None, timeout: float | None = None
    ) -> None:
        """Undoes the last step of each session, or takes the sessions back further.

        Args:
            to: the name of a checkpoint that each has; or a position that each is kept at, or is at already;
                None: where each was before its last request.
            index: as for `step`.
            timeout: seconds.

        Raises:
            PartialFailure: some sessions failed and stay as they are, for example because nothing is left to
                undo (InvalidInput) or there is no such checkpoint (CheckpointNotFound).
            InvalidInput, NotImplementedByServer, Timeout, Unavailable: raised for all sessions together.

        Example:
            >>> group.rewind(index=[3, 5])
        """
        plan = rewind_rows(self._core, to, index)
        self._shell.operate(plan, self._shell.core.timeout_s(timeout))

    def close(self, *, timeout: float | None = None) -> None:
        """Closes the sessions on the server. Closing twice is allowed.

        Raises:
            SessionMoved: another client took one of them over; that one stays open.
            Unavailable, Timeout.

        Example:
            >>> group.close()  # what `with` does at its end, unless the sessions are to stay
        """
        self._shell.operate(self._core.close(), self._shell.core.timeout_s(timeout))
