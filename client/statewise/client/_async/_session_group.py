"""Offers groups of sessions to programs on asyncio."""

# ruff: noqa: ASYNC109 - a timeout here also travels to the server, and ends only the waiting

from types import TracebackType
from typing import Any, Self

from numpy.typing import NDArray

from statewise.client._async._shell import AsyncShell
from statewise.client.groups import GroupCore
from statewise.client.values import ModelInfo, Value


class AsyncSessionGroup:
    """Many sessions of one model, stepped together. Made by `AsyncClient.sessions`."""

    def __init__(self, shell: AsyncShell, core: GroupCore, *, keep: bool) -> None:
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
    def durable_positions(self) -> NDArray[Any]:
        """Time steps of each session that are safe if the server is killed, [N]."""
        return self._core.durable_positions.copy()

    def __len__(self) -> int:
        return len(self._core)

    def __repr__(self) -> str:
        ids = repr(self.ids[0]) if len(self) == 1 else f"{self.ids[0]!r} to {self.ids[-1]!r}"
        counted = f"{len(self)} session{'s' * (len(self) > 1)}"
        model = f"{self.model.name}/{self.model.version}"
        return f"<AsyncSessionGroup of {counted} {ids} of {model}, {self._shell.target}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._shell.leave(self._core, keep=self._keep)

    async def step(self, inputs: object, *, index: object = None, timeout: float | None = None) -> Value:
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
            >>> await group.step(samples[[3, 5]], index=[3, 5])  # [2, 9] -> [2, 9]
        """
        client = self._shell.core
        timeout_s = client.timeout_s(timeout)
        batcher = None if timeout is None else client.batchers.of(self.model, timeout_s)
        return await self._shell.operate(self._core.step(inputs, index, batcher), timeout_s)

    async def close(self, *, timeout: float | None = None) -> None:
        """Closes the sessions on the server. Closing twice is allowed.

        Raises:
            SessionMoved: another client took one of them over; that one stays open.
            Unavailable, Timeout.

        Example:
            >>> await group.close()  # what `with` does at its end, unless the sessions are to stay
        """
        await self._shell.operate(self._core.close(), self._shell.core.timeout_s(timeout))
