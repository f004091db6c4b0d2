"""Implements statewise.v1.AdminService: shows limits, sessions and statistics of the running server."""

import asyncio
import base64
import json
from contextlib import suppress
from typing import Any

import onnxruntime

from statewise.service.auth import Scope, caller
from statewise.service.base import ServiceError
from statewise.service.dataplane import Dataplane, PageStart, Residence
from statewise.service.transport.calls import Call
from statewise.service.transport.messages import (
    checkpoint_message,
    fill_states,
    session_info_message,
    states_matrix_response,
)
from statewise.service.transport.servicers._stats_report import StatsReporter
from statewise.v1 import admin_pb2
from statewise.wire import Reason

_DEFAULT_PAGE = 1_000
_LARGEST_PAGE = 10_000
_STATES: dict[int, Residence | None] = {
    admin_pb2.SESSION_STATE_UNSPECIFIED: None,
    admin_pb2.SESSION_STATE_AWAKE: "awake",
    admin_pb2.SESSION_STATE_ASLEEP: "asleep",
}
_SHORTEST_INTERVAL_S = 0.1
_LONGEST_INTERVAL_S = 3600.0


class AdminServicer:
    """statewise.v1.AdminService.

    Args:
        dataplane: The server's behaviour.
        version: Release of statewise.
        started_ns: When the server began to serve, nanoseconds since 1970.
    """

    def __init__(self, dataplane: Dataplane, *, version: str, started_ns: int) -> None:
        self._dataplane = dataplane
        self._version = version
        self._started_ns = started_ns
        self._drained = asyncio.Event()

    async def GetServer(self, _: Any, __: Call) -> admin_pb2.GetServerResponse:
        """Describes the server: releases, limits, and whether it drains."""
        settings = self._dataplane.limits.settings
        response = admin_pb2.GetServerResponse(
            version=self._version,
            onnxruntime_version=onnxruntime.__version__,
            limits=admin_pb2.Limits(
                message_bytes=settings.message_bytes,
                request_rows=settings.request_rows,
                request_steps=settings.request_steps,
                sessions=settings.sessions,
                state_bytes=settings.state_bytes,
                queue_steps=settings.queue_steps,
                stream_requests=settings.stream_requests,
            ),
            store=settings.store_kind,
            draining=self._dataplane.limits.draining,
        )
        response.limits.idle_timeout.FromNanoseconds(int(settings.idle_timeout_s * 1e9))
        response.started_at.FromNanoseconds(self._started_ns)
        return response

    async def ListSessions(
        self, request: admin_pb2.ListSessionsRequest, _: Call
    ) -> admin_pb2.ListSessionsResponse:
        """Returns a page of sessions. One that exists throughout the listing is on exactly one page."""
        size = request.page_size or _DEFAULT_PAGE
        if size > _LARGEST_PAGE:
            raise ServiceError(Reason.BAD_REQUEST, f"expected a page_size up to {_LARGEST_PAGE}; got {size}")
        if request.state not in _STATES:
            raise ServiceError(Reason.BAD_REQUEST, f"expected a state that exists; got {request.state}")
        sessions, following = await self._dataplane.session_administration.listing.page(
            owner=_listed_owner(request.owner),
            start=_read_token(request.page_token),
            size=size,
            model=request.model,
            state=_STATES[request.state],
        )
        return admin_pb2.ListSessionsResponse(
            sessions=[session_info_message(one) for one in sessions],
            next_page_token="" if following is None else _token(following),
        )

    async def GetSession(self, request: admin_pb2.GetSessionRequest, _: Call) -> admin_pb2.GetSessionResponse:
        """Returns one session, by its id."""
        owner = caller().owner_meant(request.owner)
        if request.with_state and owner != caller().owner:
            raise ServiceError(
                Reason.PERMISSION_DENIED,
                "with_state: a session's state is shown to its owner alone; use the owner's credentials",
            )
        found = await self._dataplane.session_administration.get(request.session_id, owner=owner)
        response = admin_pb2.GetSessionResponse(
            session=session_info_message(found),
            checkpoints=[checkpoint_message(one) for one in found.checkpoints],
        )
        if request.with_state:
            shown = await self._dataplane.state_listing.one(request.session_id, owner=owner)
            fill_states(response.state, shown.named)
            # A session that was asleep may have gone on since it was described.
            session = response.session
            session.position = shown.position
            session.durable_position = min(session.durable_position, shown.position)
        return response

    async def GetStates(self, request: admin_pb2.GetStatesRequest, _: Call) -> admin_pb2.GetStatesResponse:
        """Returns states of the caller's own sessions: of those that are named, or a page of all."""
        listing, owner = self._dataplane.state_listing, caller().owner
        model = self._dataplane.models.find(request.model, request.version)
        following: PageStart | None = None
        if request.session_ids:
            matrix = await listing.of_ids(model, request.session_ids, owner=owner)
        else:
            start = _read_token(request.page_token)
            matrix, following = await listing.page(model, owner=owner, start=start, size=request.page_size)
        token = "" if following is None else _token(following)
        return states_matrix_response(matrix, next_page_token=token)

    async def CloseSession(
        self, request: admin_pb2.CloseSessionRequest, _: Call
    ) -> admin_pb2.CloseSessionResponse:
        """Ends a session by its id; its handle is not needed."""
        owner = caller().owner_meant(request.owner)
        await self._dataplane.session_administration.close(request.session_id, owner=owner)
        return admin_pb2.CloseSessionResponse()

    async def WatchStats(self, request: admin_pb2.WatchStatsRequest, call: Call) -> None:
        """Reports at an interval until the client leaves or the server shuts down."""
        interval_s = request.interval.ToNanoseconds() / 1e9 if request.HasField("interval") else 1.0
        if not _SHORTEST_INTERVAL_S <= interval_s <= _LONGEST_INTERVAL_S:
            raise ServiceError(
                Reason.BAD_REQUEST,
                f"expected an interval of {_SHORTEST_INTERVAL_S:g} to {_LONGEST_INTERVAL_S:g} s; "
                f"got {interval_s:g}",
            )
        reporter = StatsReporter(self._dataplane)
        while True:
            self._dataplane.limits.refuse_when_draining()
            await call.write(reporter.report().SerializeToString())
            with suppress(TimeoutError):
                await asyncio.wait_for(self._drained.wait(), interval_s)

    def drain(self) -> None:
        """Ends the reports: the server shuts down."""
        self._drained.set()


def _listed_owner(named: str) -> str | None:
    """Returns the owner whose sessions are listed; None: all owners, for an admin that names none."""
    if not named and Scope.ADMIN in caller().scopes:
        return None
    return caller().owner_meant(named)


def _token(start: PageStart) -> str:
    raw = start.to_bytes(4, "big") if isinstance(start, int) else json.dumps(start).encode()
    return base64.urlsafe_b64encode(raw).decode()


def _read_token(token: str) -> PageStart | None:
    if not token:
        return None
    with suppress(ValueError, UnicodeError):
        raw = base64.urlsafe_b64decode(token)
        if len(raw) == 4:
            return int.from_bytes(raw, "big")
        match json.loads(raw):
            case [str(owner), str(session_id)] if (owner + session_id).encode():
                return owner, session_id
    raise ServiceError(Reason.BAD_REQUEST, f"expected the page_token of an earlier page; got {token!r}")
