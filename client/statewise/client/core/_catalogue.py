"""Looks up what a server offers: models, limits, open sessions. Remembers models and limits."""

import math

from statewise.client.requests import ClientOptions, Plan, call
from statewise.client.retries import CALL_RULES, QUESTION_RULES, RetryRules
from statewise.client.values import (
    MOST_WHOLE,
    Limits,
    ModelChanged,
    ModelInfo,
    ServerInfo,
    SessionDetails,
    SessionInfo,
    SessionState,
    Subject,
    check_flag,
    check_model,
    check_session_state,
    check_states_known,
    check_text,
    check_whole,
    read_model,
    read_server,
    read_session,
    read_session_details,
)
from statewise.v1 import admin_pb2, model_pb2, sequence_pb2

_PAGE_SESSIONS = 1000
_STATES: dict[SessionState | None, admin_pb2.SessionState.ValueType] = {
    None: admin_pb2.SESSION_STATE_UNSPECIFIED,
    "awake": admin_pb2.SESSION_STATE_AWAKE,
    "asleep": admin_pb2.SESSION_STATE_ASLEEP,
}
# How long a version counts as the default one once looked up: a server looks for new versions less often.
_DEFAULT_S = 1.0


class Catalogue:
    """What this client knows of its server.

    Args:
        options: how the client behaves.
    """

    def __init__(self, options: ClientOptions) -> None:
        self._options = options
        self._server: ServerInfo | None = None
        self._models: dict[tuple[str, int], ModelInfo] = {}
        self._defaults_until_s: dict[str, float] = {}

    @property
    def has_store(self) -> bool:
        """Whether the server has a store for sessions, as last looked up."""
        return self._server is not None and self._server.store != "none"

    @property
    def known_limits(self) -> Limits:
        """The server's limits, which must have been looked up."""
        assert self._server is not None
        return self._server.limits

    def limits(self, timeout_s: float | None) -> Plan[Limits]:
        """Returns the server's limits, as they were when last looked up."""
        server = self._server or (yield from self.server(timeout_s, CALL_RULES))
        return server.limits

    def server(self, timeout_s: float | None, rules: RetryRules = QUESTION_RULES) -> Plan[ServerInfo]:
        """Returns the server as it is now."""
        request = admin_pb2.GetServerRequest()
        response = yield from call(self._options, "GetServer", request, timeout_s, rules=rules)
        self._server = read_server(response)
        return self._server

    def models(self, timeout_s: float | None) -> Plan[list[ModelInfo]]:
        """Returns every version that the server knows."""
        request = model_pb2.ListModelsRequest()
        response = yield from call(self._options, "ListModels", request, timeout_s, rules=QUESTION_RULES)
        return [read_model(model) for model in response.models]

    def describe(self, name: str, version: int | None, timeout_s: float | None) -> Plan[ModelInfo]:
        """Returns one version as it is now, to a caller who asked for it; None: the default one."""
        return self.model(name, version, timeout_s, fresh=True, rules=QUESTION_RULES)

    def model(
        self,
        name: str,
        version: int | None,
        timeout_s: float | None,
        *,
        fresh: bool = False,
        rules: RetryRules = CALL_RULES,
    ) -> Plan[ModelInfo]:
        """Returns one version; None: the default one, as it was when last looked up unless `fresh`."""
        check_model(name, version)
        key = (name, version or 0)
        if fresh or key not in self._models:
            request = model_pb2.GetModelRequest(name=name, version=version or 0)
            subject = Subject("", name, version)
            response = yield from call(self._options, "GetModel", request, timeout_s, subject, rules=rules)
            info = read_model(response.model)
            self._models[key] = self._models[name, info.version] = info
            if not version:
                self._defaults_until_s[name] = self._options.clock() + _DEFAULT_S
        return self._models[key]

    def current_model(self, name: str, version: int | None, timeout_s: float | None) -> Plan[ModelInfo]:
        """Returns one version; None: the default one, looked up again after a second."""
        check_model(name, version)
        until_s = self._defaults_until_s.get(name, -math.inf)
        fresh = version is None and self._options.clock() >= until_s
        return (yield from self.model(name, version, timeout_s, fresh=fresh))

    def model_of(self, opened: sequence_pb2.Session, timeout_s: float | None) -> Plan[ModelInfo]:
        """Returns the version that a session was opened with.

        Raises:
            ModelChanged: the server has other files for that version by now.
        """
        model = yield from self.model(opened.model, opened.version, timeout_s)
        if model.digest != opened.digest:
            model = yield from self.model(opened.model, opened.version, timeout_s, fresh=True)
            if model.digest != opened.digest:
                raise ModelChanged(
                    "the server no longer has the files it began with", session_id=opened.session_id
                )
        return model

    def list_sessions(
        self, model: str | None, state: SessionState | None, limit: int | None, timeout_s: float | None
    ) -> Plan[list[SessionInfo]]:
        """Returns sessions that the caller may see, fetched page by page. None: any model, any state, all."""
        if model is not None:
            check_text("model", model)
        check_session_state(state)
        if limit is not None:
            check_whole("limit", limit, 1, MOST_WHOLE)
        found: list[SessionInfo] = []
        token = ""
        while True:
            wanted = _PAGE_SESSIONS if limit is None else min(limit - len(found), _PAGE_SESSIONS)
            request = admin_pb2.ListSessionsRequest(
                page_size=wanted, page_token=token, model=model or "", state=_STATES[state]
            )
            response = yield from call(
                self._options, "ListSessions", request, timeout_s, rules=QUESTION_RULES
            )
            listed = map(read_session, response.sessions)
            # A server that does not know the filter lists all.
            found.extend(one for one in listed if state in (None, one.state))
            token = response.next_page_token
            if not token or len(found) == limit:
                return found

    def session(
        self, session_id: str, owner: str | None, *, with_state: bool, timeout_s: float | None
    ) -> Plan[SessionDetails]:
        """Returns one session as it is now. `owner`: None: the caller."""
        check_text("session_id", session_id)
        if owner is not None:
            check_text("owner", owner)
        check_flag("with_state", with_state)
        request = admin_pb2.GetSessionRequest(
            session_id=session_id, owner=owner or "", with_state=bool(with_state)
        )
        subject = Subject(session_id)
        response = yield from call(
            self._options, "GetSession", request, timeout_s, subject, rules=QUESTION_RULES
        )
        if not with_state:
            return read_session_details(response)
        found = response.session
        model = yield from self.describe(found.model, found.version, timeout_s)
        check_states_known(model)
        return read_session_details(response, model)
