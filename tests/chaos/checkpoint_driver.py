"""Drives two servers with one store, as `Driver` does, also by programs that keep states under names."""

import numpy as np
from tests.chaos.session_driver import OWNER, Driver
from tests.helpers.session_point import bits

from statewise.service.dataplane import SessionCheckpoints


class CheckpointDriver(Driver):
    """Runs one program with named checkpoints."""

    async def keep(self, number: int, name: str, label: str) -> None:
        """Keeps the present state under a name."""
        copy = self._model.copies[number].get(name)
        if copy is None:
            return
        kept, known = (copy.point.position, copy.point.state), copy.named.get(label)
        is_same = known is None or (known[0] == kept[0] and bits(known[1]) == bits(kept[1]))
        if copy.line.owner == number and known is None:
            copy.line.naming(label, kept)
        checkpoints = SessionCheckpoints.beside(await self._sessions(number))
        _, failures = await checkpoints.create(np.array([copy.handle], np.uint64), [label], None, owner=OWNER)
        reason = failures[0].reason.value if failures else ""
        if await self._expect(number, name, copy, reason, "" if is_same else "CHECKPOINT_EXISTS") and is_same:
            copy.named[label] = kept
            if copy.line.owner == number:
                copy.line.has_named(label, kept)
                if known is None:
                    copy.line.is_at(copy.point)
        self._model.settled(number)

    async def drop(self, number: int, name: str, label: str) -> None:
        """Drops a named checkpoint."""
        copy = self._model.copies[number].get(name)
        if copy is None:
            return
        if copy.line.owner == number:
            copy.line.naming(label, None)
        checkpoints = SessionCheckpoints.beside(await self._sessions(number))
        failures = await checkpoints.delete(np.array([copy.handle], np.uint64), [label], owner=OWNER)
        reason = failures[0].reason.value if failures else ""
        if await self._expect(number, name, copy, reason, ""):
            copy.named.pop(label, None)
            if copy.line.owner == number:
                copy.line.has_named(label, None)
        self._model.settled(number)

    async def go(self, number: int, name: str, label: str) -> None:
        """Takes a session to a named checkpoint."""
        copy = self._model.copies[number].get(name)
        if copy is None:
            return
        kept = copy.named.get(label)
        target = copy.point.gone_to(kept or (0, None))
        if copy.line.owner == number and kept is not None:
            copy.line.stored.append(target)
        checkpoints = SessionCheckpoints.beside(await self._sessions(number))
        gone, failures = await checkpoints.go_to(
            np.array([copy.handle], np.uint64), [label], None, owner=OWNER
        )
        reason = failures[0].reason.value if failures else ""
        expected = "CHECKPOINT_NOT_FOUND" if kept is None else ""
        if await self._expect(number, name, copy, reason, expected) and kept is not None:
            assert (gone[0].view.position, gone[0].kept_positions) == (target.position, [])
            copy.point = target
            if copy.line.owner == number:
                copy.line.is_at(target)
        self._model.settled(number)
