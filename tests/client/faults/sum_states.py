"""Keeps the contract of requests about states and checkpoints, for `SumServer`."""

from typing import Any

import numpy as np
from tests.client.faults.held_session import HeldSession

from statewise.v1 import sequence_pb2
from statewise.wire import from_tensor, pack_uint64, to_tensor, unpack_uint64


class SumStates:
    """The requests about states. A subclass keeps the sessions."""

    def _held(self, handle: int) -> HeldSession | None:
        raise NotImplementedError

    def _refuse_handle(self, reply: Any, handles: bytes, row: int = 0) -> None:
        raise NotImplementedError

    def _describe(self, held: HeldSession) -> sequence_pb2.Session:
        raise NotImplementedError

    def _store_at_once(self, held: HeldSession) -> None:
        """Stores a session before the reply."""
        raise NotImplementedError

    def _rows(self, request: Any, reply: Any) -> list[tuple[int, HeldSession]]:
        """The sessions of a request, by row; the others fail."""
        found = []
        for row, handle in enumerate(unpack_uint64(request.handles).tolist()):
            held = self._held(handle)
            if held is None:
                self._refuse_handle(reply, pack_uint64([handle]), row)
            else:
                found.append((row, held))
        return found

    def _read_states(self, request: sequence_pb2.ReadStatesRequest) -> sequence_pb2.ReadStatesResponse:
        reply = sequence_pb2.ReadStatesResponse()
        rows = [held for _, held in self._rows(request, reply)]
        reply.state["total"].CopyFrom(to_tensor(np.array([held.total for held in rows], np.int64)))
        reply.positions = pack_uint64([held.position for held in rows])
        return reply

    def _write_states(self, request: sequence_pb2.WriteStatesRequest) -> sequence_pb2.WriteStatesResponse:
        reply = sequence_pb2.WriteStatesResponse()
        totals = from_tensor(request.state["total"])
        positions, after = (unpack_uint64(each) for each in (request.positions, request.new_positions))
        for row, held in self._rows(request, reply):
            total = int(totals[row if len(totals) > 1 else 0])
            mine = ("written", int(positions[row]), int(after[row]), total)
            if held.written != mine:
                if held.position != positions[row]:
                    self._refuse_position(reply, row, held)
                    continue
                held.change(int(after[row]), total, mine)
            self._store_at_once(held)
            reply.sessions.append(self._describe(held))
        return reply

    def _rewind(self, request: sequence_pb2.RewindSessionsRequest) -> sequence_pb2.RewindSessionsResponse:
        reply = sequence_pb2.RewindSessionsResponse()
        positions = unpack_uint64(request.positions).tolist()
        for row, held in self._rows(request, reply):
            if request.checkpoints:
                name = request.checkpoints[row if len(request.checkpoints) > 1 else 0]
                if name not in held.named:
                    reply.errors.add(row=row, code=5, reason="CHECKPOINT_NOT_FOUND", message="no such name")
                    continue
                held.change(*held.named[name])
                self._store_at_once(held)
            elif held.position != positions[row] and not held.rewind(positions[row]):
                self._refuse_position(reply, row, held)
                continue
            reply.sessions.append(self._describe(held))
        return reply

    def _create_checkpoints(
        self, request: sequence_pb2.CreateCheckpointsRequest
    ) -> sequence_pb2.CreateCheckpointsResponse:
        reply = sequence_pb2.CreateCheckpointsResponse()
        positions = unpack_uint64(request.positions)
        for row, held in self._rows(request, reply):
            name, state = request.names[row if len(request.names) > 1 else 0], (held.position, held.total)
            if held.position != positions[row]:
                self._refuse_position(reply, row, held)
            elif held.named.setdefault(name, state) != state:
                reply.errors.add(row=row, code=6, reason="CHECKPOINT_EXISTS", message="of another state")
            else:
                self._store_at_once(held)
                reply.checkpoints.add(name=name, position=held.position)
        return reply

    def _list_checkpoints(
        self, request: sequence_pb2.ListCheckpointsRequest
    ) -> sequence_pb2.ListCheckpointsResponse:
        reply = sequence_pb2.ListCheckpointsResponse()
        for _, held in self._rows(request, reply):
            listed = reply.sessions.add()
            for name, (position, _) in held.named.items():
                listed.checkpoints.add(name=name, position=position)
        return reply

    def _delete_checkpoints(
        self, request: sequence_pb2.DeleteCheckpointsRequest
    ) -> sequence_pb2.DeleteCheckpointsResponse:
        reply = sequence_pb2.DeleteCheckpointsResponse()
        for _, held in self._rows(request, reply):
            held.named.pop(request.names[0], None)
        return reply

    def _refuse_position(self, reply: Any, row: int, held: HeldSession) -> None:
        reply.errors.add(
            row=row, code=9, reason="POSITION_MISMATCH", message="elsewhere", position=held.position
        )
