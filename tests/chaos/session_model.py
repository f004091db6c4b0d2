"""Says what sessions of two servers with one store may be, whatever happens to the servers.

A session is a line of points. Its owner's memory has the last one; the store has one of the points that it
may have by what servers have answered. Whoever takes the session over tells by the position which one it was.
"""

from dataclasses import dataclass, field, replace

from tests.helpers.session_point import Kept, Point, bits

VOID = frozenset({"SESSION_MOVED", "SESSION_NOT_FOUND", "SESSION_EXPIRED"})
"""Why a server may refuse a handle whose session another server has, or may have."""


@dataclass(eq=False)
class Line:
    """A session from its opening on.

    Attributes:
        name: Its id.
        owner: Number of the server that has it; None: no server has.
        stored: What the store may have; None: nothing.
        contested: Whether another session of this id may end this one at any time.
        moving: Whether a server may have taken it over that ended before it answered.
        named: What the store may have of each named checkpoint; None: nothing.
    """

    name: str
    owner: int | None
    stored: list[Point | None]
    contested: bool = False
    moving: bool = False
    named: dict[str, list[Kept | None]] = field(default_factory=dict)

    def is_at(self, point: Point) -> None:
        """Notes that the store has this point, unless another session or server may have come before it."""
        if self.moving:
            return
        self.stored = [point, None] if self.contested else [point]

    def told_durable(self, position: int) -> None:
        """Notes that the store has this position, or a later one."""
        later = [point for point in self.stored if point is not None and point.position >= position]
        assert any(point.position == position for point in later) or position == 0
        if position:
            self.stored = [*later]

    def found_at(self, position: int, state: bytes) -> Point:
        """Takes the point at which a server has found the session in the store."""
        points = [point for point in self.stored if point is not None and point.position == position]
        points = [point for point in points if bits(point.state) == state]
        assert points, (self.name, position, self.stored)
        found = points[-1]
        if not all(found.same_as(point) for point in points):
            found = replace(found, unsure=True)
        self.stored = [found]
        return found

    def naming(self, name: str, kept: Kept | None) -> None:
        """Notes that a server is asked for a named checkpoint; None: to drop one."""
        self.named.setdefault(name, [None]).append(kept)

    def has_named(self, name: str, kept: Kept | None) -> None:
        """Notes that the store has a named checkpoint, or none of that name, unless the session may move."""
        if not self.moving:
            self.named[name] = [kept]

    def known(self, name: str) -> list[Kept | None]:
        """What the store may have of a named checkpoint."""
        return self.named.get(name, [None])

    def found_named(self, found: dict[str, tuple[int, bytes]]) -> dict[str, Kept]:
        """Takes the named checkpoints that a server has found, with positions and bytes of the states."""
        assert found.keys() <= self.named.keys(), (self.name, [*found], self.named)
        for name, known in self.named.items():
            position, state = found.get(name, (None, b""))
            fitting = [
                one
                for one in known
                if (one is None and position is None)
                or (one is not None and one[0] == position and bits(one[1]) == state)
            ]
            assert fitting, (self.name, name, position, known)
            if not self.moving:
                self.named[name] = fitting[-1:]
        return {name: known[-1] for name, known in self.named.items() if known[-1] is not None}


@dataclass(eq=False)
class Copy:
    """A session in the memory of a server.

    Attributes:
        line: The session.
        handle: Its handle.
        point: Where it stands there.
        changed: Whether the server has changed it since another one took the session over, and must learn of
            that with its next checkpoint.
        asleep: Whether it has left memory.
        told: Whether the server must know that another one has the session.
        named: Its named checkpoints in that server's memory.
    """

    line: Line
    handle: int
    point: Point
    changed: bool = False
    asleep: bool = False
    told: bool = False
    named: dict[str, Kept] = field(default_factory=dict)


class SessionModel:
    """All sessions by id and birth, and the copies of both servers by id."""

    def __init__(self) -> None:
        self._lines: dict[str, dict[int, Line]] = {}
        self.copies: tuple[dict[str, Copy], dict[str, Copy]] = ({}, {})

    def lines_of(self, name: str) -> dict[int, Line]:
        """Sessions of an id that may be somewhere, by birth."""
        return self._lines.setdefault(name, {})

    def is_sure(self, server: int, name: str) -> bool:
        """Whether the server must answer from its memory."""
        copy = self.copies[server].get(name)
        if copy is None or copy.asleep or copy.line.owner != server:
            return False
        return not (copy.line.contested or copy.line.moving)

    def taking_over(self, server: int, name: str) -> None:
        """Notes that a server has ended before it said whether it has taken a session over."""
        for line in self.lines_of(name).values():
            line.moving |= line.owner == 1 - server

    def opening(self, server: int, name: str, birth: int, point: Point) -> Line:
        """Notes a session that a server is asked for; it may be in the store from now on."""
        line = self.lines_of(name)[birth] = Line(name, server, [None, point])
        return line

    def created(self, server: int, name: str, birth: int, point: Point, handle: int) -> Line:
        """Notes that it is new; if another server has one of this id in memory, either may end the other."""
        line = self.lines_of(name).pop(birth)
        self._check_gone(server, name)
        others = self.lines_of(name)
        line.contested = bool(others)
        for one in others.values():
            one.contested = True
            one.stored.append(None)
        others[birth] = line
        self.copies[server][name] = Copy(line, handle, point)
        return line

    def missing(self, server: int, name: str) -> None:
        """Notes that a server has found no session of this id, neither in memory nor in the store."""
        self._check_gone(server, name)
        self.copies[server].pop(name, None)

    def _check_gone(self, server: int, name: str) -> None:
        assert not self.is_sure(server, name), f"{name} was in memory"
        for line in self.lines_of(name).values():
            assert None in line.stored, f"{name} was stored"
        kept = {birth: one for birth, one in self.lines_of(name).items() if one.owner == 1 - server}
        self._lines[name] = kept

    def taken_over(
        self, server: int, name: str, birth: int, position: int, state: bytes, handle: int
    ) -> Copy:
        """Notes that a server has given a session a new handle, from its memory or from the store."""
        line = self.lines_of(name)[birth]
        copy = self.copies[server].get(name)
        if copy is not None and copy.line is line and line.owner == server and not line.moving:
            point = copy.point
            assert position == point.position, (name, position, point)
            assert bits(point.state) == state, (name, position)
        else:
            point = line.found_at(position, state)
        line.owner, line.moving = server, False
        line.is_at(point)
        self.copies[server][name] = Copy(line, handle, point)
        return self.copies[server][name]

    def closed(self, line: Line) -> None:
        """Notes that a session has ended."""
        lines = self.lines_of(line.name)
        self._lines[line.name] = {birth: one for birth, one in lines.items() if one is not line}
        line.owner, line.stored = None, []

    def written(self, server: int) -> None:
        """Notes that a server has written its changes, and has learned which sessions it has lost."""
        for copy in self.copies[server].values():
            if copy.line.owner == server and not copy.asleep:
                copy.line.is_at(copy.point)
            elif copy.changed and not copy.line.contested:
                copy.told = True
        self.settled(server)

    def settled(self, server: int) -> None:
        """Notes that a server may have written its changes."""
        for copy in self.copies[server].values():
            copy.changed = False

    def fell_asleep(self, server: int) -> None:
        """Notes that all sessions of a server have left memory, and that the store has them."""
        for copy in self.copies[server].values():
            copy.asleep = True

    def ended(self, server: int) -> None:
        """Notes that a server has ended."""
        for copy in self.copies[server].values():
            if copy.line.owner == server:
                copy.line.owner = None
        self.copies[server].clear()
