"""Opens groups of sessions, in as many requests as they need."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from statewise.client.core._opener import FAREWELL_S, Opener, too_old
from statewise.client.groups import GroupCore, GroupJournal
from statewise.client.requests import Beginnings, OpenOptions, Plan
from statewise.client.sessions import OpenedSession
from statewise.client.values import (
    MOST_WHOLE,
    InputReader,
    InvalidInput,
    LimitReached,
    Limits,
    PartialFailure,
    StatewiseError,
    Subject,
    check_ids,
    check_model,
    check_whole,
    error_of,
    status_of_row,
)
from statewise.v1 import sequence_pb2
from statewise.wire import pack_uint64

# Sessions of one request where the server announces no limit.
_MOST_SESSIONS = 1 << 16
# A session in the reply: id, handle, digest and names at their longest.
_LONGEST_SESSION_BYTES = 512

_DEFAULTS = OpenOptions()


class GroupOpener(Opener):
    """Plans that give a `GroupCore`."""

    __slots__ = ()

    def open(
        self,
        name: str,
        *,
        count: Any,
        session_ids: Sequence[str] | None,
        version: int | None,
        timeout_s: float | None,
        options: OpenOptions = _DEFAULTS,
    ) -> Plan[GroupCore]:
        """Opens many sessions of one model: `count` anonymous ones, or those with these ids."""
        if (count is None) == (session_ids is None):
            raise InvalidInput("expected either count= or ids=")
        check_model(name, version)
        if session_ids is not None:
            check_ids(session_ids)
        if count is not None:
            check_whole("count", count, 1, MOST_WHOLE)
        wanted = len(session_ids or ()) if count is None else count
        options.check_position(wanted)
        yield from self._check_number(wanted, timeout_s)
        new_id = self.options.new_id
        ids = [new_id() for _ in range(count or 0)] if session_ids is None else list(session_ids)
        opened: list[OpenedSession] = []
        try:
            begun = yield from self._open_all(name, ids, version, options, timeout_s, opened)
            if options.needs_new_server and not all(one.message.keep for one in opened):
                raise too_old()
            group = yield from self._core(opened, begun, timeout_s)
        except StatewiseError:
            # No other client can find the anonymous sessions that are open. Named sessions are left to their
            # owner.
            if session_ids is None:
                yield from self._abandon(opened)
            raise
        if session_ids is None:
            self.anonymous.add(group)
        return group

    def _check_number(self, wanted: int, timeout_s: float | None) -> Plan[None]:
        """Raises LimitReached, before any session is opened, for more than the server may hold."""
        if wanted:
            limit = (yield from self.catalogue.limits(timeout_s)).sessions
            if limit and wanted > limit:
                raise LimitReached(f"expected at most {limit} sessions, the server's limit; got {wanted}")

    def _open_all(
        self,
        name: str,
        ids: list[str],
        version: int | None,
        options: OpenOptions,
        timeout_s: float | None,
        opened: list[OpenedSession],
    ) -> Plan[Beginnings | None]:
        """Opens sessions and appends them to `opened`; returns what they began from.

        Raises:
            PartialFailure: some could not be opened.
            StatewiseError: none could be opened.
        """
        begun = yield from self._beginnings(name, version, options, len(ids), timeout_s)
        bounds = yield from self._bounds(len(ids), begun, timeout_s)
        errors: dict[int, StatewiseError] = {}
        subject = Subject("", name, version)
        # All are of one version, even if the default changes in between.
        pinned = version or 0
        for begin, end in bounds:
            request = (
                sequence_pb2.OpenSessionsRequest(model=name, version=pinned, session_ids=ids[begin:end])
                if begun is None
                else begun.request(ids[begin:end], begin)
            )
            options.complete(request)
            sessions, failed = yield from self.opening("open", request, subject, timeout_s)
            opened.extend(sessions)
            for error in failed:
                row = begin + error.row
                errors[row] = error_of(status_of_row(error), Subject(ids[row], name, version))
            pinned = sessions[0].message.version if sessions else pinned
        if len(errors) == len(ids):
            raise errors[0]
        if errors:
            raise PartialFailure([None if row in errors else ids[row] for row in range(len(ids))], errors)
        return begun

    def _bounds(
        self, count: int, begun: Beginnings | None, timeout_s: float | None
    ) -> Plan[list[tuple[int, int]]]:
        """Returns which sessions go into one request: first and last (exclusive)."""
        limits = yield from self.catalogue.limits(timeout_s)
        most = _most_sessions(limits)
        if begun is None:
            return [(begin, min(begin + most, count)) for begin in range(0, count, most)]
        return begun.bounds(count, limits, most)

    def _core(
        self,
        opened: Sequence[OpenedSession],
        begun: Beginnings | None,
        timeout_s: float | None,
    ) -> Plan[GroupCore]:
        model = yield from self.catalogue.model_of(opened[0].message, timeout_s)
        batcher = yield from self.batchers.default(model, timeout_s)
        journal = GroupJournal(
            model,
            np.array([one.message.position for one in opened], np.uint64),
            limit_bytes=self.options.replay_bytes * len(opened),
            budget=self.budget,
            keep_tail=self.catalogue.has_store,
        )
        return GroupCore(
            self.multiplexer,
            batcher,
            InputReader(model),
            journal,
            opened,
            begun,
        )

    def _abandon(self, opened: Sequence[OpenedSession]) -> Plan[None]:
        """Tries to close sessions. Where that fails they expire."""
        if not opened:
            return
        most = _most_sessions((yield from self.catalogue.limits(None)))
        with suppress(StatewiseError):
            for begin in range(0, len(opened), most):
                handles = pack_uint64(one.message.handle for one in opened[begin : begin + most])
                request = sequence_pb2.CloseSessionsRequest(handles=handles)
                yield from self.exchange("close", request, Subject(), FAREWELL_S)


def _most_sessions(limits: Limits) -> int:
    """Returns how many sessions one request opens, so that it and its reply fit into a message."""
    rows = limits.request_rows or _MOST_SESSIONS
    return max(1, min(rows, limits.message_bytes // _LONGEST_SESSION_BYTES))
