"""Keeps what every session must be: its point, its named checkpoints, its handles, its version.

Requests are given in the order in which they are sent. Each gives what its reply must say of a row: what it
tells, or the reason of a failure.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tests.helpers.arrays import Array
from tests.helpers.models.small import SmallModel
from tests.helpers.session_point import Kept, Point, Write, bits

from .programs import IDS, MISSING, MOST_CHECKPOINTS

MOVED, NOT_FOUND, ELSEWHERE = "SESSION_MOVED", "SESSION_NOT_FOUND", "POSITION_MISMATCH"


@dataclass(frozen=True)
class Named:
    """A named checkpoint."""

    label: str
    position: int
    state: bytes
    origin: str


@dataclass(frozen=True)
class Told:
    """What a reply says of a session."""

    name: str
    position: int
    keep: int
    kept_positions: list[int]
    handle: int
    """0: another one than before."""
    created: bool = False


@dataclass(frozen=True)
class Token:
    """What a snapshot token holds; `named`: None where it has no checkpoints."""

    version: int
    point: Point
    named: Mapping[str, tuple[Named, Kept]] | None


@dataclass
class Expected:
    """A session. Its handle is 0 from a request that changes it until the reply."""

    handle: int
    version: int
    used_s: float
    point: Point
    named: dict[str, tuple[Named, Kept]] = field(default_factory=dict)
    written: Write | None = None
    """The last request that wrote its state, with the state."""


class ExpectedSessions:
    """All sessions by id.

    Args:
        oracles: The versions.
    """

    def __init__(self, oracles: Mapping[int, SmallModel]) -> None:
        self._oracles = oracles
        self.by_name: dict[str, Expected] = {}
        self.void: dict[str, list[tuple[int, str]]] = {name: [] for name in IDS}
        """Earlier handles by id, with the reason that each is void."""
        self.version_of: dict[str, int] = {}
        """Of the last session of each id."""
        self.now_s = 0.0

    def address(self, name: str) -> tuple[int, str]:
        """The handle to send, and the reason by which it is refused; (0, ...): there is none to send."""
        session = self.by_name.get(name)
        if session is not None and session.handle:
            return session.handle, ""
        return self.void[name][-1] if self.void[name] else (0, NOT_FOUND)

    def label(self, name: str, number: int | None) -> str:
        """The name of a checkpoint that a request is to mean; None: of none."""
        labels = list(self.by_name[name].named) if name in self.by_name else []
        if number is None:
            return ""
        return labels[number % len(labels)] if labels and number < MISSING else "missing"

    def told(self, name: str, *, created: bool = False) -> Told:
        """What a reply says of a session now."""
        session = self.by_name[name]
        point = session.point
        assert point.positions is not None
        return Told(name, point.position, point.keep, point.positions, session.handle, created)

    # --- requests with a handle that is valid ---

    def step(self, name: str, position: int, x: Array) -> bytes | str:
        """The outputs."""
        session = self.by_name[name]
        oracle, point = self._oracles[session.version], session.point
        if position == point.position:
            y, session.point = point.stepped(oracle, x)
        elif point.last is not None and (point.last[0], point.last[1].tobytes()) == (position, x.tobytes()):
            y = point.repeated(oracle)
        else:
            return ELSEWHERE
        session.used_s = self.now_s
        return y

    def rewind(self, name: str, position: int) -> Told | str:
        """The session, at that position."""
        session = self._used(name)
        point = session.point.rewound_to(position)
        if point is None:
            return ELSEWHERE
        session.point = point
        return self.told(name)

    def read(self, name: str) -> Kept:
        """State and position."""
        return self._used(name).point.present

    def write(self, name: str, write: Write, state: Array) -> Told | str:
        """The session, in that state."""
        session = self._used(name)
        if session.point.write != write:
            if session.point.position != write[0]:
                return ELSEWHERE
            session.point = session.point.written(write[1], state)
        return self.told(name)

    def keep(self, name: str, label: str, position: int | None) -> Named | str:
        """The checkpoint."""
        session = self._used(name)
        if position not in (None, session.point.position):
            return ELSEWHERE
        present = session.point.present
        if label in session.named:
            named = session.named[label][0]
            same = (named.position, named.state) == (present[0], bits(present[1]))
            return named if same else "CHECKPOINT_EXISTS"
        if len(session.named) == MOST_CHECKPOINTS:
            return "BYTES_LIMIT"
        named = Named(label, present[0], bits(present[1]), name)
        session.named[label] = (named, present)
        return named

    def listing(self, name: str) -> list[Named]:
        """The checkpoints, the earliest first."""
        return [named for named, _ in self._used(name).named.values()]

    def drop(self, name: str, label: str) -> None:
        """Drops a checkpoint that may be there."""
        self._used(name).named.pop(label, None)

    def go_to(self, name: str, label: str, position: int | None) -> Told | str:
        """The session, at the checkpoint."""
        session = self._used(name)
        if label not in session.named:
            return "CHECKPOINT_NOT_FOUND"
        point = session.point.gone_to(session.named[label][1])
        if point is not session.point and position not in (None, session.point.position):
            return ELSEWHERE
        session.point = point
        return self.told(name)

    def fork(self, name: str, twin: str, label: str) -> Told | str:
        """The copy."""
        session = self._used(name)
        if label and label not in session.named:
            return "CHECKPOINT_NOT_FOUND"
        kept = session.named[label][1] if label else session.point.present
        return self._create(twin, Expected(0, session.version, 0, Point(*kept, keep=session.point.keep)))

    def snapshot(self, name: str, *, checkpoints: bool) -> Token:
        """What the token holds."""
        session = self._used(name)
        point = Point(*session.point.present, keep=session.point.keep)
        return Token(session.version, point, dict(session.named) if checkpoints else None)

    # --- sessions that begin and end ---

    def open(self, name: str, version: int, point: Point) -> Told | str:
        """The session that is new, or taken over."""
        if name in self.by_name:
            return self.resume(name)
        return self._create(name, Expected(0, version, 0, point))

    def restore(self, token: Token, twin: str, *, served: bool) -> Told | str:
        """The session of a token."""
        if not served:
            return "MODEL_CHANGED"
        return self._create(twin, Expected(0, token.version, 0, token.point, dict(token.named or {})))

    def resume(self, name: str) -> Told | str:
        """The session, which gets another handle."""
        if name not in self.by_name:
            return self.void[name][-1][1] if self.void[name] else NOT_FOUND
        session = self._used(name)
        self.void[name].append((session.handle, MOVED))
        session.handle = 0
        return self.told(name)

    def close(self, name: str) -> None:
        """Ends a session."""
        self.end(name, NOT_FOUND)

    def end(self, name: str, reason: str) -> None:
        """Ends a session, for a reason that its handle is void from then on."""
        self.void[name].append((self.by_name.pop(name).handle, reason))

    def _create(self, name: str, session: Expected) -> Told | str:
        if name in self.by_name:
            return "SESSION_EXISTS"
        self.by_name[name] = replace(session, used_s=self.now_s)
        self.version_of[name] = session.version
        return self.told(name, created=True)

    def _used(self, name: str) -> Expected:
        session = self.by_name[name]
        session.used_s = self.now_s
        return session
