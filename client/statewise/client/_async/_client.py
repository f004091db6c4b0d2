"""The client for programs on asyncio.

A thin face: everything is decided in the core, everything waits in the shell. Steps that concurrent tasks
make at the same moment leave in one message. A client belongs to the event loop in which it is first used.
"""

# ruff: noqa: ASYNC109 - a timeout here also travels to the server, and ends only the waiting

import random
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Self

from statewise.client._async._generation import generate
from statewise.client._async._opening import Opening
from statewise.client._async._score import score
from statewise.client._async._session import AsyncSession
from statewise.client._async._session_group import AsyncSessionGroup
from statewise.client._async._shell import AsyncShell
from statewise.client.bulk import Progress, Scored, open_source, report_of
from statewise.client.core import ClientCore
from statewise.client.requests import REPLAY_BYTES, ClientOptions, GenerateOptions
from statewise.client.sessions import SessionCore
from statewise.client.stream import closed_error, tracing_of
from statewise.client.transport import KEEPALIVE_S, Endpoint, Tls
from statewise.client.values import (
    ModelInfo,
    ServerInfo,
    ServerStats,
    SessionInfo,
    Value,
    read_stats,
    stats_request,
)


class AsyncClient:
    """A connection to a statewise server.

    Nothing is sent before it is needed. A connection that breaks is made again, and sessions go on where they
    were; see `AsyncSession`.

    Args:
        target: HOST:PORT; of several servers dns:///NAME:PORT, or ipv4:HOST:PORT,HOST:PORT with numbers for
            hosts. Predictions then go to them in turn; sessions live on one, and move to another with their
            state when it goes away.
        token: bearer token, sent with every call.
        tls: True to check the server against the system's authorities, or a `Tls`; None: no encryption.
        timeout: seconds for calls that name none themselves; None: no limit.
        reconnect_s: for how long a session tries to reach its server again, and anything waits for a model
            that is being loaded, before it raises Unavailable.
        replay_bytes: inputs kept for each session, so that its state can be built again where a server lost
            it; 0: none.
        keepalive_s: silence after which the connection is probed, so that a server that vanished is noticed
            and a network in between does not forget the connection. Servers hang up on clients that probe
            more often than they allow.
        channel_options: further options of gRPC's channel, by name; they override this library's.
        tracer_provider: OpenTelemetry's, takes a span of every call and message, in the trace of whoever
            asked; `opentelemetry.trace.get_tracer_provider()` gives the program's own. None: no traces.

    Raises:
        InvalidInput: a setting is out of range.
        OSError: a file named in `tls` cannot be read.

    Example:
        >>> async with AsyncClient("localhost:50051") as client:
        ...     async with client.session("gait") as session:
        ...         forecast = await session.step(sample)  # [9] -> [9]
    """

    def __init__(
        self,
        target: str,
        *,
        token: str | None = None,
        tls: Tls | bool | None = None,
        timeout: float | None = None,
        reconnect_s: float = 30.0,
        replay_bytes: int = REPLAY_BYTES,
        keepalive_s: float = KEEPALIVE_S,
        channel_options: Mapping[str, str | int] | None = None,
        tracer_provider: Any = None,
    ) -> None:
        self._endpoint = Endpoint.of(
            target, token=token, tls=tls, keepalive_s=keepalive_s, channel_options=channel_options
        )
        self._options = ClientOptions(
            timeout_s=timeout,
            retry_for_s=reconnect_s,
            replay_bytes=replay_bytes,
            clock=time.monotonic,
            random=random.random,
            tracing=tracing_of(tracer_provider),
        )
        self._opened: AsyncShell | None = None
        self._closed = False

    @property
    def _shell(self) -> AsyncShell:
        # Not in __init__: a client may be made before the loop runs in which it is used.
        if self._opened is None:
            if self._closed:
                raise closed_error()
            self._opened = AsyncShell(self._endpoint, self._options)
        return self._opened

    @property
    def _core(self) -> ClientCore:
        return self._shell.core

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes anonymous sessions and the connection. Closing twice is no failure, and neither is a server
        that has gone.

        Example:
            >>> client = AsyncClient("localhost:50051")
            >>> await client.close()  # what `with` does at its end
        """
        self._closed = True
        if self._opened is not None:
            await self._opened.close()

    async def models(self, *, timeout: float | None = None) -> list[ModelInfo]:
        """Every model version that the server knows, sorted by name and version.

        Raises:
            Unauthenticated, Unavailable, Timeout.

        Example:
            >>> [(model.name, model.version) for model in await client.models() if model.is_default]
            [('gait', 2), ('vowels', 1)]
        """
        return await self._shell.run(self._core.catalogue.models(self._core.timeout_s(timeout)))

    async def model(
        self, name: str, *, version: int | None = None, timeout: float | None = None
    ) -> ModelInfo:
        """One model version; None: the default one.

        Raises:
            ModelNotFound: there is none.
            Unauthenticated, Unavailable, Timeout.

        Example:
            >>> (await client.model("vowels")).labels[:2]
            ('speaker 1', 'speaker 2')
        """
        return await self._shell.run(
            self._core.catalogue.model(name, version, self._core.timeout_s(timeout), fresh=True)
        )

    async def server(self, *, timeout: float | None = None) -> ServerInfo:
        """The server's release, limits and store.

        Raises:
            Unauthenticated, Unavailable, Timeout.

        Example:
            >>> (await client.server()).limits.message_bytes
            4194304
        """
        return await self._shell.run(self._core.catalogue.server(self._core.timeout_s(timeout)))

    async def list_sessions(
        self, *, model: str | None = None, timeout: float | None = None
    ) -> list[SessionInfo]:
        """Open sessions, of one model or of all, in no particular order: one's own, and with the scope for it
        everybody's.

        Raises:
            Unauthenticated, Unavailable, Timeout.

        Example:
            >>> max(await client.list_sessions(model="gait"), key=lambda session: session.idle_s).id
            'ankle-sensor'
        """
        return await self._shell.run(self._core.catalogue.list_sessions(model, self._core.timeout_s(timeout)))

    async def watch_stats(self, *, interval: float = 1.0) -> AsyncIterator[ServerStats]:
        """What the server counts: a report at once, then one at every interval, until the caller stops.

        Args:
            interval: seconds between two reports, 0.1 to 3,600.

        Raises:
            InvalidInput: the interval is out of range.
            Unavailable: the server went away.

        Example:
            >>> async for stats in client.watch_stats(interval=5):
            ...     print(sum(model.sessions for model in stats.models), "sessions")
        """
        async for report in self._shell.pieces("WatchStats", stats_request(interval), None):
            yield read_stats(report)

    async def predict(
        self,
        model: str,
        inputs: object,
        *,
        version: int | None = None,
        labels: bool = False,
        timeout: float | None = None,
    ) -> Value:
        """Runs whole sequences from the model's initial state; keeps nothing.

        Args:
            model: name of the model.
            inputs: one sequence [T, ...]; a batch [B, T, ...]; or a list of [T_i, ...] of any lengths. For a
                model without time (one-to-one) the same without T. For a model with a vocabulary also a text
                or a list of texts. For several inputs a dict of these by name.
            version: model version; None: the default one.
            labels: give the names of the best classes instead of the outputs.
            timeout: seconds.

        Returns:
            Arranged as `inputs`: one output, an array of them, or a list. An output is [T, ...] where the
            model gives one a step, else [...]; a dict by name where the model has several.

        Raises:
            ModelNotFound, InvalidInput, LimitReached, Overloaded, Timeout, Unavailable: nothing came of it.
            PartialFailure: some sequences of a batch failed; the others' outputs are in it.

        Example:
            >>> await client.predict("vowels", [first, second])  # [T_1, 12], [T_2, 12] -> [9], [9]
        """
        timeout_s = self._core.timeout_s(timeout)
        plan = self._core.sequences.predict(
            model, inputs, version=version, labels=labels, timeout_s=timeout_s
        )
        return await self._shell.run(plan)

    def score(
        self,
        model: str,
        source: object,
        *,
        start: int = 0,
        labels: bool = False,
        progress: bool | Callable[[Progress], None] = False,
        version: int | None = None,
        timeout: float | None = None,
    ) -> AsyncIterator[Scored]:
        """Runs any number of sequences through a model: ragged, in order, in bounded memory.

        Several requests are under way at once, sized by bytes and by the time they take. A sequence that
        fails is reported in its place and stops nothing. A server that restarts, drains or is overloaded is
        waited for. Leaving the iteration ends what is under way.

        Args:
            model: name of the model. Its version is the same from the first sequence to the last.
            source: an iterable, asynchronous or not, of sequences as `predict` takes one: [T, ...], a dict of
                inputs, a text, or a `Sample`, which has a name; a mapping of sequences by id; or the path of
                a .npz, .jsonl or .parquet file, or a pattern such as "day-*.jsonl".
            start: sequences to pass over, to go on where an earlier run stopped.
            labels: give the name of the best class instead of the outputs.
            progress: True: a line with rate and time left on standard error, if that is a terminal; or what
                is told a `Progress` now and then.
            version: model version; None: the default one.
            timeout: seconds for each request.

        Yields:
            A `Scored` for each sequence, in the order of the source: `index`, `id`, and `outputs` or `error`.

        Raises:
            ModelNotFound, Unauthenticated, PermissionDenied: at the first result.
            InvalidInput: at once: the source is none of these.
            Unavailable, Overloaded: the server stayed so for `reconnect_s`.

        Example:
            >>> async for scored in client.score("vowels", sequences, progress=True):
            ...     print(scored.id, scored.error or scored.outputs.argmax())
        """
        return score(
            lambda: self._shell,
            source if isinstance(source, AsyncIterable) else open_source(source),
            report_of(progress),
            model=model,
            start=start,
            version=version,
            labels=labels,
            timeout=timeout,
        )

    def generate(
        self,
        model: str,
        *,
        prompt: object = None,
        condition: object = None,
        steps: int | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        seed: int = 0,
        text: bool | None = None,
        version: int | None = None,
        timeout: float | None = None,
    ) -> AsyncIterator[Value]:
        """Generates one sequence; gives its values as they come. Nothing is kept, and nothing sent before the
        first value is asked for.

        A connection that breaks is made again, and no value comes twice. Leaving the iteration ends the
        generation on the server.

        Args:
            model: name of the model.
            prompt: consumed first: a text, or one sequence as the model reads it, [T, ...] or tokens [T].
            condition: consumed before the prompt: the name of a condition that the model knows, or one time
                step [...]. Of an encoder-decoder: what is encoded, a text or one sequence [T, ...].
            steps: values emitted at most; None: the model's own limit, where it has one.
            temperature: of the softmax; 0: always the likeliest. Models of real numbers ignore it.
            top_k: draw from the k likeliest only; None: from all.
            seed: the same seed gives the same values.
            text: give texts (True) or tokens (False); None: texts where the model writes text, unless the
                prompt is tokens.
            version: model version; None: the default one.
            timeout: seconds, for the whole of it.

        Yields:
            Texts, which joined are the whole text; or one value a step: a token, its end token included, or
            an array [...].

        Raises:
            ModelNotFound, InvalidInput, LimitReached, Overloaded, Timeout, Unavailable: with the first value
                or later.

        Example:
            >>> async for text in client.generate("names", prompt="MA", steps=12, temperature=0.8, seed=7):
            ...     print(text, end="")
        """
        generate_options = GenerateOptions(steps, temperature, top_k, seed)

        async def values() -> AsyncIterator[Value]:
            timeout_s = self._core.timeout_s(timeout)
            plan = self._core.sequences.generating(
                model,
                generate_options,
                prompt=prompt,
                condition=condition,
                text=text,
                version=version,
                timeout_s=timeout_s,
            )
            request, cursor = await self._shell.run(plan)
            async with aclosing(generate(self._shell, request, cursor, timeout_s)) as coming:
                async for value in coming:
                    yield value

        return values()

    def session(
        self,
        model: str,
        *,
        id: str | None = None,
        condition: object = None,
        version: int | None = None,
        keep: bool = False,
        timeout: float | None = None,
    ) -> "Opening[AsyncSession]":
        """Opens a session: a state on the server that `step` advances.

        Args:
            model: name of the model.
            id: a name for the session, 1 to 128 printable bytes. Where a session of that name is open with
                the model, it is taken over as it stands. None: a random one.
            condition: of an encoder-decoder, what is encoded to the session's first state: a text or one
                sequence [T, ...].
            version: model version, kept for the session's life; None: the default one.
            keep: leave an anonymous session open at the end of `with`. Sessions with an id always stay.
            timeout: seconds.

        Raises:
            ModelNotFound, NotStreamable, InvalidInput, SessionExists, LimitReached, Unavailable, Timeout.

        Example:
            >>> async with client.session("gait") as session:
            ...     async for forecast in session.stream(samples):
            ...         print(forecast)
        """

        async def opening() -> "AsyncSession":
            plan = self._core.sessions.open(
                model, id, version, self._core.timeout_s(timeout), condition=condition
            )
            core = await self._shell.run(plan)
            return self._session(core, keep=keep or id is not None)

        return Opening(opening())

    def sessions(
        self,
        model: str,
        *,
        count: int | None = None,
        ids: Sequence[str] | None = None,
        condition: object = None,
        version: int | None = None,
        keep: bool = False,
        timeout: float | None = None,
    ) -> "Opening[AsyncSessionGroup]":
        """Opens many sessions of one model, to be stepped together in one message.

        Args:
            model: name of the model.
            count: number of anonymous sessions.
            ids: instead of `count`: their names.
            condition: of an encoder-decoder, what is encoded to the sessions' first states: a text or one
                sequence [T, ...] for all, or a list of these, one for each.
            version: model version; None: the default one.
            keep: leave anonymous sessions open at the end of `with`.
            timeout: seconds.

        Raises:
            PartialFailure: some could not be opened. Named ones that could stay open, anonymous ones end.
            ModelNotFound, NotStreamable, InvalidInput, LimitReached, Unavailable, Timeout.

        Example:
            >>> async with client.sessions("gait", count=1024) as group:
            ...     forecasts = await group.step(samples)  # [1024, 9] -> [1024, 9]
        """

        async def opening() -> "AsyncSessionGroup":
            plan = self._core.groups.open(
                model,
                count=count,
                session_ids=ids,
                condition=condition,
                version=version,
                timeout_s=self._core.timeout_s(timeout),
            )
            core = await self._shell.run(plan)
            if keep:
                self._core.anonymous.forget(core)
            return AsyncSessionGroup(self._shell, core, keep=keep or ids is not None)

        return Opening(opening())

    def resume(self, session_id: str, *, timeout: float | None = None) -> "Opening[AsyncSession]":
        """Takes over a session that is open already; whoever held it gets SessionMoved.

        Raises:
            SessionNotFound, SessionExpired, ModelChanged, SessionLost, Unavailable, Timeout.

        Example:
            >>> session = await client.resume("patient-7")
            >>> session.position
            7040
        """

        async def opening() -> "AsyncSession":
            core = await self._shell.run(
                self._core.sessions.resume(session_id, self._core.timeout_s(timeout))
            )
            return self._session(core, keep=True)

        return Opening(opening())

    def restore(
        self, token: bytes, *, id: str | None = None, keep: bool = False, timeout: float | None = None
    ) -> "Opening[AsyncSession]":
        """Opens a session from what `AsyncSession.snapshot` gave.

        Raises:
            InvalidSnapshot, ModelChanged, ModelNotFound, SessionExists, LimitReached, Unavailable,
            Timeout.

        Example:
            >>> again = await client.restore(await session.snapshot())
        """

        async def opening() -> "AsyncSession":
            core = await self._shell.run(
                self._core.sessions.restore(token, id, self._core.timeout_s(timeout))
            )
            return self._session(core, keep=keep or id is not None)

        return Opening(opening())

    def _session(self, core: SessionCore, *, keep: bool) -> "AsyncSession":
        if keep:
            self._core.anonymous.forget(core)
        return AsyncSession(self._shell, core, keep=keep)
