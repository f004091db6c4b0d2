"""Notes which chunks are being computed, by whom, and who waits for them.

Waiting never goes round in a circle: whoever waits for a chunk has claimed only chunks behind it.
"""

from collections.abc import Iterable
from typing import Protocol


class Claim(Protocol):
    """A row that computes chunks, or waits for one."""

    def hash(self) -> None:
        """Computes the keys of all its chunks and claims those that it computes, unless it has done so."""

    def wake(self, *, published: bool) -> None:
        """Ends a wait: the chunk was published, or nobody computes it any more."""


class ChunkClaims:
    """Chunks that are being computed, of one tree.

    A chunk whose outputs somebody waits for is another one than the same chunk without outputs.
    """

    def __init__(self) -> None:
        self._claimed: dict[tuple[bytes, bool], Claim] = {}
        self._under_way: dict[bytes, set[Claim]] = {}
        self._waiting: dict[tuple[bytes, bool], list[Claim]] = {}

    def __len__(self) -> int:
        return len(self._claimed)

    def enter(self, first: bytes, row: Claim) -> set[Claim]:
        """Notes that a row whose first chunk has that key is under way; returns those that were before."""
        rows = self._under_way.setdefault(first, set())
        before = rows - {row}
        rows.add(row)
        return before

    def leave(self, first: bytes, row: Claim) -> None:
        """Notes that a row has ended."""
        rows = self._under_way.get(first, set())
        rows.discard(row)
        if not rows:
            self._under_way.pop(first, None)

    def computed_by(self, key: bytes, *, outputs: bool) -> Claim | None:
        """Returns who computes a chunk, with outputs if `outputs`; None: nobody does."""
        found = self._claimed.get((key, True))
        return found if found is not None or outputs else self._claimed.get((key, False))

    def claim(self, key: bytes, row: Claim, *, outputs: bool) -> bool:
        """Notes that a row computes a chunk; False: it is another row's."""
        return self._claimed.setdefault((key, outputs), row) is row

    def wait(self, key: bytes, row: Claim, *, outputs: bool) -> None:
        """Lets a row wait for a chunk that another one computes."""
        with_outputs = outputs or (key, True) in self._claimed
        self._waiting.setdefault((key, with_outputs), []).append(row)

    def end(self, keys: Iterable[bytes], row: Claim, *, outputs: bool, published: bool) -> None:
        """Ends a row's claims to chunks, which it has published or gives up, and wakes who waits for them."""
        waiting: list[Claim] = []
        for key in keys:
            if self._claimed.get((key, outputs)) is row:
                del self._claimed[key, outputs]
                waiting += self._waiting.pop((key, outputs), ())
        for one in waiting:
            one.wake(published=published)
