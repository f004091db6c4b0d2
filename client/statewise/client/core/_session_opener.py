"""Opens single sessions: new ones, open ones by their id, snapshots and copies."""

from collections.abc import Sequence

from statewise.client.core._opener import FAREWELL_S, Opener, too_old
from statewise.client.requests import OpenOptions, Operate, Plan
from statewise.client.sessions import INITIAL, Journal, OpenedSession, Origin, SessionCore
from statewise.client.values import (
    InputReader,
    Subject,
    check_model,
    check_text,
    durability_number,
    error_of,
    status_of_row,
    wrong,
)
from statewise.v1 import sequence_pb2, tensor_pb2

_DEFAULTS = OpenOptions()


class SessionOpener(Opener):
    """Plans that give a `SessionCore`. Without an id the session is anonymous: the client closes it."""

    __slots__ = ()

    def open(
        self,
        name: str,
        session_id: str | None,
        version: int | None,
        timeout_s: float | None,
        options: OpenOptions = _DEFAULTS,
    ) -> Plan[SessionCore]:
        """Opens a session at its start, or takes over an open session of that id where it stands."""
        check_model(name, version)
        options.check_position(None)
        request = sequence_pb2.OpenSessionsRequest(
            model=name, version=version or 0, session_ids=[self._new_id(session_id)]
        )
        origin = INITIAL
        begun = yield from self._beginnings(name, version, options, None, timeout_s)
        if begun is not None:
            request = begun.request(request.session_ids)
            origin = Origin.of_request(request)
        options.complete(request)
        subject = Subject(session_id or "", name, version)
        reply = yield from self.opening("open", request, subject, timeout_s)
        core = yield from self._core(reply, subject, timeout_s, origin)
        if options.needs_new_server and not core.remote.keep:
            if session_id is None:
                yield Operate(core.close(), FAREWELL_S)
            raise too_old()
        return self._registered(core, session_id)

    def resume(
        self, session_id: str, timeout_s: float | None, *, durability: str | None = None
    ) -> Plan[SessionCore]:
        """Takes over a session that was opened before, by this client or another."""
        check_text("session_id", session_id)
        number = sequence_pb2.Durability.ValueType(durability_number(durability))
        request = sequence_pb2.ResumeSessionsRequest(session_ids=[session_id], durability=number)
        subject = Subject(session_id)
        reply = yield from self.opening("resume", request, subject, timeout_s)
        return (yield from self._core(reply, subject, timeout_s))

    def restore(self, token: bytes, session_id: str | None, timeout_s: float | None) -> Plan[SessionCore]:
        """Opens a session with the state of a snapshot."""
        if not isinstance(token, bytes | bytearray | memoryview):
            raise wrong("token", "the bytes that snapshot() returned", token)
        token = bytes(token)
        request = sequence_pb2.RestoreSessionsRequest(tokens=[token], session_ids=[self._new_id(session_id)])
        subject = Subject(session_id or "")
        reply = yield from self.opening("restore", request, subject, timeout_s, alone=True)
        core = yield from self._core(reply, subject, timeout_s)
        return self._registered(core, session_id)

    def fork(
        self,
        session: SessionCore,
        session_id: str | None,
        timeout_s: float | None,
        at: str | None = None,
    ) -> Plan[SessionCore]:
        """Opens a copy of a session; `at`: of one of its checkpoints."""
        if at is not None:
            check_text("at", at)
        copied, origin = yield Operate(session.fork(self._new_id(session_id), at), timeout_s)
        core = yield from self._adopt(copied, timeout_s, origin)
        return self._registered(core, session_id)

    def _new_id(self, given: str | None) -> str:
        if given is None:
            return self.options.new_id()
        check_text("id", given)
        return given

    def _registered(self, core: SessionCore, given_id: str | None) -> SessionCore:
        if given_id is None:
            self.anonymous.add(core)
        return core

    def _core(
        self,
        answer: tuple[list[OpenedSession], Sequence[tensor_pb2.RowError]],
        subject: Subject,
        timeout_s: float | None,
        origin: Origin | None = None,
    ) -> Plan[SessionCore]:
        sessions, errors = answer
        if errors:
            raise error_of(status_of_row(errors[0]), subject)
        known = origin if sessions[0].is_new else None
        return (yield from self._adopt(sessions[0], timeout_s, known))

    def _adopt(
        self,
        opened: OpenedSession,
        timeout_s: float | None,
        origin: Origin | None = None,
    ) -> Plan[SessionCore]:
        model = yield from self.catalogue.model_of(opened.message, timeout_s)
        batcher = yield from self.batchers.default(model, timeout_s)
        journal = Journal(
            opened.message.position,
            limit_bytes=self.options.replay_bytes,
            budget=self.budget,
            keep_tail=self.catalogue.has_store,
        )
        return SessionCore(self.multiplexer, batcher, InputReader(model), journal, opened, origin)
