"""Offers the client to programs that block; the core decides, the shell waits."""

import random
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Literal, Self

from statewise.client._sync._generation import generate
from statewise.client._sync._score import score
from statewise.client._sync._session import Session
from statewise.client._sync._session_group import SessionGroup
from statewise.client._sync._shell import SyncShell
from statewise.client.bulk import Progress, Scored, open_source, report_of
from statewise.client.core import ClientCore, GeneratePlan
from statewise.client.requests import REPLAY_BYTES, ClientOptions, GenerateFrom, GenerateOptions, OpenOptions
from statewise.client.sessions import SessionCore
from statewise.client.stream import tracing_of
from statewise.client.transport import KEEPALIVE_S, Endpoint, Tls
from statewise.client.values import (
    ModelInfo,
    ServerInfo,
    ServerStats,
    SessionDetails,
    SessionInfo,
    States,
    StateValue,
    Value,
    check_flag,
    read_stats,
    stats_request,
)


class Client:
    """Connects to a statewise server.

    The client connects at its first call. After a connection breaks, it connects again and sessions continue;
    see `Session`. Threads may share a client. A session steps one request at a time, so threads that share
    one take turns.

    Args:
        target: HOST:PORT. Several servers: dns:///NAME:PORT, or ipv4:HOST:PORT,HOST:PORT with IP addresses.
            Predictions then go to the servers in turn; a session stays on one server, and moves to another
            with its state when that one goes away.
        token: bearer token, sent with every call.
        tls: True checks the server against the system's certificate authorities; a `Tls` names others, or
            this client's certificate; None: no encryption.
        timeout: seconds for calls without a timeout of their own; None: no limit.
        reconnect_s: seconds for which sessions, `predict`, `generate` and `score` try to reach a server that
            is away, counted from the first failure after an answer, before they raise Unavailable; a model
            that is being loaded is waited for as long. A timeout ends the wait earlier. `models`, `model`,
            `server`, `list_sessions`, `session_info` and `states` are tried four times, in less than a
            second.
        replay_bytes: bytes of inputs kept for each session, to rebuild its state after a server lost it; 0:
            none.
        keepalive_s: seconds of silence after which the client probes the connection. Probes detect a server
            that vanished, and keep networks in between from dropping the connection. Servers disconnect
            clients that probe more often than they allow.
        channel_options: further options of gRPC's channel, by name; they override this library's.
        tracer_provider: an OpenTelemetry provider, which gets a span of every call and message, in the
            caller's trace; `opentelemetry.trace.get_tracer_provider()` returns the program's own. None: no
            traces.

    Raises:
        InvalidInput: a setting is out of range or of a wrong type.
        OSError: a file named in `tls` cannot be read.

    Example:
        >>> with Client("localhost:50051") as client:
        ...     with client.session("gait") as session:
        ...         forecast = session.step(sample)  # [9] -> [9]
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
        options = ClientOptions(
            timeout_s=timeout,
            retry_for_s=reconnect_s,
            replay_bytes=replay_bytes,
            clock=time.monotonic,
            random=random.random,
            tracing=tracing_of(tracer_provider),
        )
        self._shell = SyncShell(
            Endpoint.of(
                target, token=token, tls=tls, keepalive_s=keepalive_s, channel_options=channel_options
            ),
            options,
        )
        self._core: ClientCore = self._shell.core

    def __repr__(self) -> str:
        closed = ", closed" if self._core.multiplexer.closed else ""
        return f"<Client of {self._shell.target}{closed}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes anonymous sessions and the connection. Closing twice is allowed, also when the server is
        gone.

        Example:
            >>> client = Client("localhost:50051")
            >>> client.close()  # what `with` does at its end
        """
        self._shell.close()

    def models(self, *, timeout: float | None = None) -> list[ModelInfo]:
        """Lists all model versions that the server knows, sorted by name and version.

        Raises:
            Unauthenticated, Unavailable, Timeout.

        Example:
            >>> [(model.name, model.version) for model in client.models() if model.is_default]
            [('gait', 2), ('vowels', 1)]
        """
        return self._shell.run(self._core.catalogue.models(self._core.timeout_s(timeout)))

    def model(self, name: str, *, version: int | None = None, timeout: float | None = None) -> ModelInfo:
        """Describes one model version; without `version` the default one.

        Raises:
            ModelNotFound: the server has no such model or version.
            Unauthenticated, Unavailable, Timeout.

        Example:
            >>> client.model("vowels").labels[:2]
            ('speaker 1', 'speaker 2')
        """
        return self._shell.run(self._core.catalogue.describe(name, version, self._core.timeout_s(timeout)))

    def server(self, *, timeout: float | None = None) -> ServerInfo:
        """Describes the server: its release, limits and store.

        Raises:
            Unauthenticated, Unavailable, Timeout.

        Example:
            >>> client.server().limits.message_bytes
            4194304
        """
        return self._shell.run(self._core.catalogue.server(self._core.timeout_s(timeout)))

    def list_sessions(
        self,
        *,
        model: str | None = None,
        state: Literal["awake", "asleep"] | None = None,
        limit: int | None = None,
        timeout: float | None = None,
    ) -> list[SessionInfo]:
        """Lists sessions in no particular order, also those that only the server's store has.

        They are the caller's own, with the admin scope all callers'. Listing a session neither wakes it nor
        counts as use.

        Args:
            model: only sessions of this model.
            state: only those that are "awake", in memory, or "asleep", in the store alone.
            limit: sessions at most.
            timeout: seconds for each page of a thousand.

        Raises:
            InvalidInput, Unauthenticated, Timeout.
            Unavailable: also if the store is away, unless `state` is "awake".

        Example:
            >>> max(client.list_sessions(model="gait"), key=lambda session: session.idle_s).id
            'ankle-sensor'
        """
        plan = self._core.catalogue.list_sessions(model, state, limit, self._core.timeout_s(timeout))
        return self._shell.run(plan)

    def session_info(
        self,
        session_id: str,
        *,
        owner: str | None = None,
        with_state: bool = False,
        timeout: float | None = None,
    ) -> SessionDetails:
        """Describes one session and its checkpoints, awake or asleep; neither wakes it nor counts as use.

        Args:
            session_id: its name.
            owner: whose session; another one than the caller needs the admin scope. None: the caller's own.
            with_state: return its state, too; only to its owner.
            timeout: seconds.

        Raises:
            SessionNotFound, SessionExpired, Unauthenticated, Unavailable, Timeout.
            PermissionDenied: it is another owner's, or its state is asked for by another one.
            ModelNotFound, ModelChanged, SessionLost: its state is asked for and cannot be read.

        Example:
            >>> info = client.session_info("ankle-sensor", with_state=True)
            >>> info.position, info.arrays["layer0.h"].shape
            (1861, (64,))
        """
        plan = self._core.catalogue.session(
            session_id, owner, with_state=with_state, timeout_s=self._core.timeout_s(timeout)
        )
        return self._shell.run(plan)

    def states(
        self,
        model: str,
        ids: Sequence[str] | None = None,
        *,
        version: int | None = None,
        timeout: float | None = None,
    ) -> States:
        """Reads the states of the caller's own sessions of one model version as a matrix, page by page.

        Sessions that are asleep are read where they are: this neither wakes a session nor counts as use.

        Args:
            model: name of the model.
            ids: names of the sessions, in the order of the rows; those that the caller has none of, or that
                belong to another model or version, are left out. None: all of the version.
            version: model version; None: the default one.
            timeout: seconds for each page.

        Returns:
            A `States`: `ids`, `positions` [N], `matrix` [N, S] and the names of its `columns`.

        Raises:
            InvalidInput: the model keeps no state, or one that no matrix holds.
            ModelNotFound, NotImplementedByServer, Unauthenticated, Unavailable, Timeout.

        Example:
            >>> states = client.states("gait")
            >>> states.matrix.shape, states.columns[:2]
            ((1024, 128), ('layer0.h[0]', 'layer0.h[1]'))
        """
        plan = self._core.states(model, ids, version, self._core.timeout_s(timeout))
        return self._shell.run(plan)

    def watch_stats(self, *, interval: float = 1.0) -> Generator[ServerStats, None, None]:
        """Yields the server's counters at once, then at every interval, until you stop.

        Args:
            interval: seconds between two reports, 0.1 to 3,600.

        Raises:
            InvalidInput: the interval is out of range.
            Unavailable: the server went away.

        Example:
            >>> for stats in client.watch_stats(interval=5):
            ...     print(sum(model.sessions for model in stats.models), "sessions")
        """
        for report in self._shell.checked_responses("WatchStats", stats_request(interval), None):
            yield read_stats(report)

    def predict(
        self,
        model: str,
        inputs: object,
        *,
        state: StateValue | None = None,
        version: int | None = None,
        labels: bool = False,
        timeout: float | None = None,
    ) -> Value:
        """Runs whole sequences from the model's initial state, or from given ones; the server keeps no state.

        Args:
            model: name of the model.
            inputs: one sequence [T, ...]; a batch [B, T, ...]; or a list of [T_i, ...] of any lengths. For a
                model without time (one-to-one) the same without T. For a model with a vocabulary also a text
                or a list of texts. For several inputs a dict of these by name.
            state: the states to begin in: arrays by the name of a state or part (see `ModelInfo.states`),
                [...] for all sequences or [B, ...], one for each; None: the model's own.
            version: model version; None: the default one.
            labels: return the names of the best classes instead of the outputs.
            timeout: seconds.

        Returns:
            Outputs arranged as `inputs`: one, an array of them, or a list. An output is [T, ...] if the model
            has one for each time step, else [...]; it is a dict by name if the model has several outputs.

        Raises:
            ModelNotFound, InvalidInput, LimitReached, Overloaded, Timeout, Unavailable: there are no outputs.
            PartialFailure: some sequences of a batch failed; the exception holds the outputs of the others.

        Example:
            >>> client.predict("vowels", [first, second])  # [T_1, 12], [T_2, 12] -> [9], [9]
        """
        timeout_s = self._core.timeout_s(timeout)
        plan = self._core.sequences.predict(
            model, inputs, state=state, version=version, labels=labels, timeout_s=timeout_s
        )
        return self._shell.run(plan)

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
    ) -> Generator[Scored, None, None]:
        """Runs any number of sequences, of any lengths, through a model: in order and in bounded memory.

        Several requests run at the same time; each is bounded in bytes, and sized by how long earlier ones
        took. A sequence that fails is reported in its place, and the run continues. The client waits for a
        server that restarts, drains or is overloaded. If you stop early, requests under way are cancelled.

        Args:
            model: name of the model. Its version is the same from the first sequence to the last.
            source: an iterable of sequences as `predict` takes one: [T, ...], a dict of inputs, a text, or a
                `Sample`, which has an id; a mapping of sequences by id; the path of a .jsonl, .jsonl.gz,
                .csv, .npz or .parquet file, or a pattern such as "day-*.jsonl"; `SampleFiles`; or a binary
                stream of .jsonl lines such as `sys.stdin.buffer`. docs/bulk.md describes the files.
            start: number of sequences to skip, to continue where an earlier run stopped.
            labels: yield the name of the best class instead of the outputs.
            progress: True draws a line with rate and time left on standard error, if that is a terminal; a
                function is called with a `Progress` at intervals.
            version: model version; None: the default one.
            timeout: seconds for each request.

        Yields:
            A `Scored` for each sequence, in the order of the source: `index`, `id`, and `outputs` or `error`.

        Raises:
            ModelNotFound, Unauthenticated, PermissionDenied: raised with the first result.
            InvalidInput: raised at once; `source` is none of these.
            Unavailable, Overloaded: the server stayed unavailable or overloaded for `reconnect_s`.

        Example:
            >>> for scored in client.score("vowels", sequences, progress=True):
            ...     print(scored.id, scored.error or scored.outputs.argmax())
        """
        return score(
            self._shell,
            open_source(source),
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
        state: StateValue | None = None,
        position: int = 0,
        steps: int | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        seed: int = 0,
        text: bool | None = None,
        version: int | None = None,
        timeout: float | None = None,
    ) -> Generator[Value, None, None]:
        """Generates one sequence and yields its values as they arrive. The server keeps no state; the request
        is sent when you ask for the first value.

        After a connection breaks, the client connects again, and the server goes on behind the last value: no
        value comes twice, and none is missing. If you stop early, the server stops generating.

        Args:
            model: name of the model.
            prompt: consumed first: a text, or one sequence as the model reads it, [T, ...] or tokens [T].
            condition: consumed before the prompt: the name of a condition that the model knows, or one time
                step [...]. Encoder-decoder: the encoder's input, a text or one sequence [T, ...].
            state: the state to begin in, as for `session`; it needs neither prompt nor condition.
            position: time steps that the given state has consumed. The values are those which a session with
                that state would generate there.
            steps: largest number of values; None: the model's own limit, or 100 if it has none.
            temperature: of the softmax; 0: always the likeliest token. Models of real numbers ignore it.
            top_k: draw from the k likeliest tokens only; None: from all.
            seed: the same seed gives the same values.
            text: yield texts (True) or tokens (False); None: texts if the model has a vocabulary, unless the
                prompt is tokens.
            version: model version; None: the default one.
            timeout: seconds for the whole generation.

        Yields:
            Texts, which joined are the whole text; or one value a time step: a token, the end token included,
            or an array [...].

        Raises:
            ModelNotFound, InvalidInput, LimitReached, Overloaded, Timeout, Unavailable: raised with the
                first value or later.

        Example:
            >>> "".join(client.generate("names", prompt="MA", steps=12, temperature=0.8, seed=7))
            'RGIE'
        """
        timeout_s = self._core.timeout_s(timeout)
        generate_options = GenerateOptions(steps, temperature, top_k, seed)
        begin = GenerateFrom(prompt, condition, state, position)
        return self._generate(
            self._core.sequences.generating(
                model, generate_options, begin, text=text, version=version, timeout_s=timeout_s
            )
        )

    def session(
        self,
        model: str,
        *,
        id: str | None = None,
        condition: object = None,
        state: StateValue | None = None,
        position: int = 0,
        version: int | None = None,
        keep: bool | int = False,
        durability: Literal["interval", "reply"] | None = None,
        timeout: float | None = None,
    ) -> "Session":
        """Opens a session: a state on the server that `step` advances.

        Args:
            model: name of the model.
            id: name of the session, 1 to 128 printable bytes. If a session of that name is open with the
                model, the client takes it over at its position. None: a random name.
            condition: encoder-decoders only: the input from which the encoder computes the session's initial
                state, a text or one sequence [T, ...].
            state: the state to begin in: arrays by the name of a state, or of a part such as `layer0.h`; see
                `ModelInfo.states`. What is not named begins as the model does. A session that is taken over
                stays as it is.
            position: time steps that the given state has consumed.
            version: model version, kept for the session's life; None: the default one.
            keep: True leaves an anonymous session open at the end of `with`; sessions with an id always stay.
                A number, 1 to 64, says how many of its last requests `rewind` can take back (else one); each
                beyond the first costs a copy of the state on the server.
            durability: when replies leave: "interval", at once, or "reply", when the server's store has what
                they tell; None: as the server says, or as the session has had it.
            timeout: seconds.

        Raises:
            ModelNotFound, NotStreamable, InvalidInput, SessionExists, LimitReached, Unavailable, Timeout.

        Example:
            >>> with client.session("gait") as session:
            ...     for forecast in session.stream(samples):
            ...         print(forecast)
        """
        options = OpenOptions(condition, state, position, keep, durability)
        plan = self._core.sessions.open(model, id, version, self._core.timeout_s(timeout), options)
        core = self._shell.run(plan)
        return self._session(core, keep=options.stays_open or id is not None)

    def sessions(
        self,
        model: str,
        *,
        count: int | None = None,
        ids: Sequence[str] | None = None,
        condition: object = None,
        state: StateValue | None = None,
        position: object = 0,
        version: int | None = None,
        keep: bool | int = False,
        durability: Literal["interval", "reply"] | None = None,
        timeout: float | None = None,
    ) -> "SessionGroup":
        """Opens many sessions of one model, which are then stepped together in one message.

        Args:
            model: name of the model.
            count: number of anonymous sessions.
            ids: the sessions' names, instead of `count`.
            condition: encoder-decoders only: the input from which the encoder computes the initial states, a
                text or one sequence [T, ...] for all sessions, or a list of these, one for each.
            state: the states to begin in: arrays by the name of a state or part, [...] for all sessions or
                [N, ...], one for each.
            position: time steps that the given states have consumed: a number, or [N] numbers.
            version: model version; None: the default one.
            keep: True leaves anonymous sessions open at the end of `with`; a number, 1 to 64, says how many
                of the last requests of each `rewind` can take back.
            durability: when replies leave: "interval", at once, or "reply", when the server's store has what
                they tell; None: as the server says, or as the sessions have had it.
            timeout: seconds.

        Raises:
            PartialFailure: some sessions could not be opened. Of the others, named ones stay open and
                anonymous ones are closed.
            ModelNotFound, NotStreamable, InvalidInput, LimitReached, Unavailable, Timeout.

        Example:
            >>> with client.sessions("gait", count=1024) as group:
            ...     forecasts = group.step(samples)  # [1024, 9] -> [1024, 9]
        """
        options = OpenOptions(condition, state, position, keep, durability)
        plan = self._core.groups.open(
            model,
            count=count,
            session_ids=ids,
            version=version,
            timeout_s=self._core.timeout_s(timeout),
            options=options,
        )
        core = self._shell.run(plan)
        if options.stays_open:
            self._core.anonymous.forget(core)
        return SessionGroup(self._shell, core, keep=options.stays_open or ids is not None)

    def resume(
        self,
        session_id: str,
        *,
        durability: Literal["interval", "reply"] | None = None,
        timeout: float | None = None,
    ) -> "Session":
        """Takes over a session that is open, or in the server's store; its former holder gets SessionMoved.

        Args:
            session_id: name of the session.
            durability: as for `session`; None: as the session has it.
            timeout: seconds.

        Raises:
            SessionNotFound, SessionExpired, ModelChanged, SessionLost, Unavailable, Timeout.

        Example:
            >>> session = client.resume("patient-7")
            >>> session.position
            7040
        """
        core = self._shell.run(
            self._core.sessions.resume(session_id, self._core.timeout_s(timeout), durability=durability)
        )
        return self._session(core, keep=True)

    def restore(
        self, token: bytes, *, id: str | None = None, keep: bool = False, timeout: float | None = None
    ) -> "Session":
        """Opens a session from the bytes that `Session.snapshot` returned.

        Raises:
            InvalidSnapshot, ModelChanged, ModelNotFound, SessionExists, LimitReached, Unavailable,
            Timeout.

        Example:
            >>> again = client.restore(session.snapshot())
        """
        check_flag("keep", keep)
        core = self._shell.run(self._core.sessions.restore(token, id, self._core.timeout_s(timeout)))
        return self._session(core, keep=keep or id is not None)

    def _generate(self, plan: GeneratePlan) -> Generator[Value, None, None]:
        yield from generate(self._shell, self._shell.run(plan))

    def _session(self, core: SessionCore, *, keep: bool) -> "Session":
        if keep:
            self._core.anonymous.forget(core)
        return Session(self._shell, core, keep=keep)
