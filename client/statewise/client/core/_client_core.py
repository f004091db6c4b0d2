"""What a client does, without saying how it waits: one core under both clients.

Plans for the shells to carry out; everything about one session or group is in its own core. What is looked up
once (models, limits) is kept here.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any
from weakref import WeakSet

import numpy as np

from statewise.client.bulk import Outcome, ScoreBatch, Scoring, score_plan
from statewise.client.core._memory import keep_freed_memory
from statewise.client.requests import (
    Answers,
    Call,
    ClientOptions,
    Conditions,
    GenerateOptions,
    Operate,
    OutputCursor,
    Plan,
    Query,
    generate_request,
    gives_text,
    wait_before_retry,
)
from statewise.client.retries import CALL_RULES, RetryPolicy
from statewise.client.sessions import ByteBudget, GroupCore, GroupJournal, Journal, SessionCore
from statewise.client.stream import (
    Gather,
    Operation,
    StepBatcher,
    StreamMultiplexer,
    Transport,
    exchange,
)
from statewise.client.values import (
    Failed,
    InputReader,
    InternalError,
    InvalidInput,
    Limits,
    ModelChanged,
    ModelInfo,
    PartialFailure,
    RequestLimits,
    ServerInfo,
    SessionInfo,
    StatewiseError,
    Subject,
    Value,
    error_of,
    read_model,
    read_server,
    read_session,
    status_of_row,
)
from statewise.v1 import admin_pb2, model_pb2, sequence_pb2
from statewise.wire import pack_uint64

_JOURNAL_BUDGET_BYTES = 256 * 1024 * 1024
# Callers that compute what is left of their time have another timeout for every step.
_MOST_BATCHERS = 64
_PAGE_SESSIONS = 1000
# For how long a version looked up as the default one counts as that: a server looks for new ones less often.
_DEFAULT_S = 1.0
_FAREWELL_S = 2.0
# Sessions of one opening where the server announces no limit.
_MOST_SESSIONS = 1 << 16
# A session in an opening's reply: id, handle, digest and names at their longest.
_LONGEST_SESSION_BYTES = 512
_NO_SUBJECT = Subject()

GeneratePlan = Plan[tuple[sequence_pb2.GenerateRequest, OutputCursor]]
"""What to ask for one generated sequence, and what takes its values."""


class ClientCore:
    """The state of a client and its plans.

    Args:
        transport: the shell.
        options: how it behaves.
    """

    def __init__(self, transport: Transport, options: ClientOptions) -> None:
        keep_freed_memory()
        self._options = options
        self.multiplexer = StreamMultiplexer(
            transport,
            clock=options.clock,
            backoff=options.backoff,
            retry_for_s=options.retry_for_s,
            tracing=options.tracing,
        )
        self._server: ServerInfo | None = None
        self._models: dict[tuple[str, int], ModelInfo] = {}
        self._defaults_until_s: dict[str, float] = {}
        self._batchers: dict[tuple[str, int, str, float | None], StepBatcher] = {}
        self._budget = ByteBudget(_JOURNAL_BUDGET_BYTES)
        self._anonymous: WeakSet[SessionCore | GroupCore] = WeakSet()

    @property
    def clock(self) -> Callable[[], float]:
        """Monotonic seconds."""
        return self._options.clock

    def timeout_s(self, given: float | None) -> float | None:
        """The timeout in force.

        Raises:
            InvalidInput: it is no positive number.
        """
        timeout_s = self._options.timeout_s if given is None else given
        if timeout_s is not None and not (timeout_s > 0 and math.isfinite(timeout_s)):
            raise InvalidInput(f"expected a timeout of more than 0 s; got {timeout_s!r}")
        return timeout_s

    # What is there.

    def models(self, timeout_s: float | None) -> Plan[list[ModelInfo]]:
        """Every version that the server knows."""
        response = yield from self._call("ListModels", model_pb2.ListModelsRequest(), timeout_s)
        return [read_model(model) for model in response.models]

    def model(
        self, name: str, version: int | None, timeout_s: float | None, *, fresh: bool = False
    ) -> Plan[ModelInfo]:
        """One version; None: the default one, as it was when last looked up unless `fresh`."""
        key = (name, version or 0)
        if fresh or key not in self._models:
            request = model_pb2.GetModelRequest(name=name, version=version or 0)
            response = yield from self._call("GetModel", request, timeout_s, Subject("", name, version))
            info = read_model(response.model)
            self._models[key] = self._models[name, info.version] = info
            if not version:
                self._defaults_until_s[name] = self.clock() + _DEFAULT_S
        return self._models[key]

    def _current(self, name: str, version: int | None, timeout_s: float | None) -> Plan[ModelInfo]:
        """The version for a request that names it; which one is the default is asked anew now and then."""
        until_s = self._defaults_until_s.get(name, -math.inf)
        fresh = version is None and self.clock() >= until_s
        return (yield from self.model(name, version, timeout_s, fresh=fresh))

    def server(self, timeout_s: float | None) -> Plan[ServerInfo]:
        """The server as it is now."""
        response = yield from self._call("GetServer", admin_pb2.GetServerRequest(), timeout_s)
        self._server = read_server(response)
        return self._server

    def list_sessions(self, model: str | None, timeout_s: float | None) -> Plan[list[SessionInfo]]:
        """All open sessions that the caller may see, page by page."""
        found: list[SessionInfo] = []
        token = ""
        while True:
            request = admin_pb2.ListSessionsRequest(
                page_size=_PAGE_SESSIONS, page_token=token, model=model or ""
            )
            response = yield from self._call("ListSessions", request, timeout_s)
            found.extend(read_session(session) for session in response.sessions)
            token = response.next_page_token
            if not token:
                return found

    # Whole sequences.

    def predict(
        self, name: str, value: object, *, version: int | None, labels: bool, timeout_s: float | None
    ) -> Plan[Value]:
        """Sequences from the initial state."""
        model = (yield from self.model(name, version, timeout_s)).predicted
        try:
            query = Query.of(model, value)
        except InvalidInput:
            # The default version may be another one by now.
            renewed = (yield from self.model(name, version, timeout_s, fresh=True)).predicted
            if renewed.digest == model.digest:
                raise
            query = Query.of(renewed, value)
            model = renewed
        request_limits = RequestLimits.for_predict((yield from self._limits(timeout_s)), model)
        answers: Answers | None = None
        subject = Subject("", name, version)
        for first_row, request in query.requests(
            request_limits, version=version or 0, timeout_s=timeout_s, labels=labels
        ):
            for response in (yield from self._call("Predict", request, timeout_s, subject)):
                if answers is None:
                    if response.version and response.version != model.version:
                        model = (yield from self.model(name, response.version, timeout_s)).predicted
                    answers = Answers(query, model)
                try:
                    answers.add(first_row, response)
                except (ValueError, IndexError) as error:
                    raise InternalError(f"a reply that makes no sense: {error}") from error
        if answers is None:
            raise InternalError("the server answered nothing")
        return answers.value(labels=labels)

    def scoring(
        self, name: str, *, start: int, version: int | None, labels: bool, timeout_s: float | None
    ) -> Plan[tuple[Scoring, Callable[[ScoreBatch], Plan[list[Outcome]]]]]:
        """A bulk run of one version, whatever the default becomes; and what answers one of its requests."""
        if start < 0:
            raise InvalidInput(f"expected a start of 0 or more; got {start}")
        model = (yield from self.model(name, version, timeout_s, fresh=True)).predicted
        if labels and not model.labels:
            raise InvalidInput(f"model {name!r} has no labels: expected labels=False")
        limits = yield from self._limits(timeout_s)
        request_limits = RequestLimits.for_predict(limits, model)
        if limits.queue_steps:
            # What the queue cannot hold when it is empty would be refused for ever.
            request_limits = replace(request_limits, steps=min(request_limits.steps, limits.queue_steps))
        scoring = Scoring(model, request_limits, clock=self._options.clock, start=start)
        answer = partial(
            score_plan,
            request_limits=request_limits,
            options=self._options,
            labels=labels,
            timeout_s=timeout_s,
        )
        return scoring, answer

    def generating(
        self,
        name: str,
        generate_options: GenerateOptions,
        *,
        prompt: object,
        condition: object,
        text: bool | None,
        version: int | None,
        timeout_s: float | None,
    ) -> GeneratePlan:
        """What to ask for one generated sequence, and what takes its values."""
        model = yield from self._current(name, version, timeout_s)
        cursor = OutputCursor(model, text=gives_text(model, prompt, text))
        request = generate_request(
            model, generate_options, prompt=prompt, condition=condition, timeout_s=timeout_s
        )
        return request, cursor

    def call_retry_policy(self, timeout_s: float | None) -> RetryPolicy:
        """The tries of a call that is about to be made."""
        return self._options.retry_policy(CALL_RULES, timeout_s)

    # Sessions.

    def open(
        self,
        name: str,
        session_id: str | None,
        version: int | None,
        timeout_s: float | None,
        *,
        condition: object = None,
    ) -> Plan[SessionCore]:
        """A session, at its start or, with an id that is open already, where it stands."""
        request = sequence_pb2.OpenSessionsRequest(
            model=name, version=version or 0, session_ids=[self._new_id(session_id)]
        )
        opening: sequence_pb2.OpenSessionsRequest | None = None
        if condition is not None:
            model = yield from self._current(name, version, timeout_s)
            request = opening = Conditions.of(model, condition, count=1).request(request.session_ids)
        subject = Subject(session_id or "", name, version)
        reply = yield from self._run("open", request, subject, timeout_s)
        core = yield from self._session(reply, subject, timeout_s, opening)
        if session_id is None:
            self._anonymous.add(core)
        return core

    def resume(self, session_id: str, timeout_s: float | None) -> Plan[SessionCore]:
        """A session that was opened before, wherever that was."""
        request = sequence_pb2.ResumeSessionsRequest(session_ids=[session_id])
        subject = Subject(session_id)
        reply = yield from self._run("resume", request, subject, timeout_s)
        return (yield from self._session(reply, subject, timeout_s))

    def restore(self, token: bytes, session_id: str | None, timeout_s: float | None) -> Plan[SessionCore]:
        """A session from a snapshot."""
        request = sequence_pb2.RestoreSessionsRequest(tokens=[token], session_ids=[self._new_id(session_id)])
        subject = Subject(session_id or "")
        reply = yield from self._run("restore", request, subject, timeout_s, alone=True)
        core = yield from self._session(reply, subject, timeout_s)
        if session_id is None:
            self._anonymous.add(core)
        return core

    def fork(
        self, session: SessionCore, session_id: str | None, timeout_s: float | None
    ) -> Plan[SessionCore]:
        """A copy of a session."""
        copied = yield Operate(session.fork(self._new_id(session_id)), timeout_s)
        core = yield from self._adopted(copied, timeout_s, session.remote.opening)
        if session_id is None:
            self._anonymous.add(core)
        return core

    def open_group(
        self,
        name: str,
        *,
        count: int | None,
        session_ids: Sequence[str] | None,
        condition: object,
        version: int | None,
        timeout_s: float | None,
    ) -> Plan[GroupCore]:
        """Many sessions of one model."""
        if (count is None) == (session_ids is None):
            raise InvalidInput("expected either count= or ids=")
        if isinstance(session_ids, str):
            raise InvalidInput(
                f"expected a list of ids; got {session_ids!r}: session(id=) opens a single one"
            )
        ids = [self._new_id() for _ in range(count or 0)] if session_ids is None else list(session_ids)
        _check_ids(ids, count)
        opened: list[sequence_pb2.Session] = []
        try:
            group = yield from self._open_all(name, ids, condition, version, timeout_s, opened)
        except StatewiseError:
            # Nobody would ever close what is open by then; named ones are for their owner to find.
            if session_ids is None:
                yield from self._abandon(opened)
            raise
        if session_ids is None:
            self._anonymous.add(group)
        return group

    def _open_all(
        self,
        name: str,
        ids: list[str],
        condition: object,
        version: int | None,
        timeout_s: float | None,
        opened: list[sequence_pb2.Session],
    ) -> Plan[GroupCore]:
        """Opens sessions, in as many requests as they need; those that are open are put into `opened`."""
        limits = yield from self._limits(timeout_s)
        most = _most_sessions(limits)
        errors: dict[int, StatewiseError] = {}
        subject = Subject("", name, version)
        # All of one version, also where the default changes meanwhile.
        pinned = version or 0
        bounds = [(begin, min(begin + most, len(ids))) for begin in range(0, len(ids), most)]
        conditions: Conditions | None = None
        if condition is not None:
            described = yield from self._current(name, version, timeout_s)
            conditions = Conditions.of(described, condition, count=len(ids))
            request_limits = RequestLimits.for_predict(limits, described.predicted)
            bounds = conditions.bounds(len(ids), replace(request_limits, rows=min(request_limits.rows, most)))
        for begin, end in bounds:
            request = (
                sequence_pb2.OpenSessionsRequest(model=name, version=pinned, session_ids=ids[begin:end])
                if conditions is None
                else conditions.request(ids[begin:end], begin)
            )
            reply = yield from self._run("open", request, subject, timeout_s)
            opened.extend(reply.sessions)
            for error in reply.errors:
                row = begin + error.row
                errors[row] = error_of(status_of_row(error), Subject(ids[row], name, version))
            pinned = reply.sessions[0].version if reply.sessions else pinned
        if len(errors) == len(ids):
            raise errors[0]
        if errors:
            raise PartialFailure([None if row in errors else ids[row] for row in range(len(ids))], errors)
        model = yield from self._model_of(opened[0], timeout_s)
        batcher = yield from self._batcher(model, timeout_s)
        journal = GroupJournal(
            model,
            np.array([session.position for session in opened], np.uint64),
            limit_bytes=self._options.replay_bytes * len(opened),
            budget=self._budget,
            keep_tail=self._has_store(),
        )
        return GroupCore(self.multiplexer, batcher, InputReader(model), journal, opened, conditions)

    def _abandon(self, opened: Sequence[sequence_pb2.Session]) -> Plan[None]:
        """Ends sessions, where that takes no trouble: idle ones end by themselves."""
        if not opened:
            return
        most = _most_sessions((yield from self._limits(None)))
        with suppress(StatewiseError):
            for begin in range(0, len(opened), most):
                request = _close_request(opened[begin : begin + most])
                yield from self._run("close", request, _NO_SUBJECT, _FAREWELL_S)

    def batcher(self, model: ModelInfo, timeout_s: float | None) -> StepBatcher:
        """Where steps of a version with a timeout gather. The server is known by the time anything steps."""
        key = (model.name, model.version, model.digest, timeout_s)
        batcher = self._batchers.pop(key, None)
        if batcher is None:
            assert self._server is not None
            batcher = StepBatcher(
                self.multiplexer, model, RequestLimits.for_steps(self._server.limits, model), timeout_s
            )
            if len(self._batchers) == _MOST_BATCHERS:
                # The one not asked for longest. Rows that wait in it are sent all the same.
                del self._batchers[next(iter(self._batchers))]
        self._batchers[key] = batcher
        return batcher

    def farewell(self) -> Plan[None]:
        """Ends the anonymous sessions that are still open: nobody could find them again."""
        if self.multiplexer.connected:
            cores = [core for core in self._anonymous if not core.closed]
            yield Operate(_close_all(cores), _FAREWELL_S)

    def forget(self, session: SessionCore | GroupCore) -> None:
        """Leaves an anonymous session open when the client is closed."""
        self._anonymous.discard(session)

    # What the above share.

    def _new_id(self, given: str | None = None) -> str:
        """The name asked for, whatever the server thinks of it; None: one that nobody else has."""
        return self._options.new_id() if given is None else given

    def _session(
        self,
        reply: Any,
        subject: Subject,
        timeout_s: float | None,
        opening: sequence_pb2.OpenSessionsRequest | None = None,
    ) -> Plan[SessionCore]:
        if reply.errors:
            raise error_of(status_of_row(reply.errors[0]), subject)
        return (yield from self._adopted(reply.sessions[0], timeout_s, opening))

    def _adopted(
        self,
        opened: sequence_pb2.Session,
        timeout_s: float | None,
        opening: sequence_pb2.OpenSessionsRequest | None = None,
    ) -> Plan[SessionCore]:
        model = yield from self._model_of(opened, timeout_s)
        batcher = yield from self._batcher(model, timeout_s)
        journal = Journal(
            opened.position,
            limit_bytes=self._options.replay_bytes,
            budget=self._budget,
            keep_tail=self._has_store(),
        )
        return SessionCore(self.multiplexer, batcher, InputReader(model), journal, opened, opening)

    def _model_of(self, opened: sequence_pb2.Session, timeout_s: float | None) -> Plan[ModelInfo]:
        model = yield from self.model(opened.model, opened.version, timeout_s)
        if model.digest != opened.digest:
            model = yield from self.model(opened.model, opened.version, timeout_s, fresh=True)
            if model.digest != opened.digest:
                raise ModelChanged(
                    "the server no longer has the files it began with", session_id=opened.session_id
                )
        return model

    def _batcher(self, model: ModelInfo, timeout_s: float | None) -> Plan[StepBatcher]:
        """Where steps gather whose callers name no timeout."""
        yield from self._limits(timeout_s)
        return self.batcher(model, self._options.timeout_s)

    def _limits(self, timeout_s: float | None) -> Plan[Limits]:
        server = self._server or (yield from self.server(timeout_s))
        return server.limits

    def _has_store(self) -> bool:
        return self._server is not None and self._server.store != "none"

    def _run(
        self, name: str, request: Any, subject: Subject, timeout_s: float | None, *, alone: bool = False
    ) -> Plan[Any]:
        return (yield Operate(exchange(self.multiplexer, name, request, subject, alone=alone), timeout_s))

    def _call(
        self, method: str, request: Any, timeout_s: float | None, subject: Subject = _NO_SUBJECT
    ) -> Plan[Any]:
        """A call that may be repeated."""
        policy = self.call_retry_policy(timeout_s)
        while True:
            try:
                return (yield Call(method, request, policy.left_s))
            except Failed as failed:
                status = failed.status
            yield from wait_before_retry(policy, status, subject)


def _check_ids(ids: Sequence[str], count: int | None) -> None:
    """Raises InvalidInput where these cannot be the ids of a group's sessions."""
    if not ids:
        came = "ids=[]" if count is None else f"count={count}"
        raise InvalidInput(f"expected at least one session; got {came}")
    if len(set(ids)) != len(ids):
        twice = next(each for each, times in Counter(ids).items() if times > 1)
        raise InvalidInput(f"expected every id once; {twice!r} stands twice")


def _most_sessions(limits: Limits) -> int:
    """How many sessions one opening takes, so that it and its reply fit."""
    rows = limits.request_rows or _MOST_SESSIONS
    return max(1, min(rows, limits.message_bytes // _LONGEST_SESSION_BYTES))


def _close_all(cores: Sequence[SessionCore | GroupCore]) -> Operation[None]:
    if cores:
        yield Gather([core.close() for core in cores])


def _close_request(opened: Sequence[sequence_pb2.Session]) -> sequence_pb2.CloseSessionsRequest:
    return sequence_pb2.CloseSessionsRequest(handles=pack_uint64(session.handle for session in opened))
