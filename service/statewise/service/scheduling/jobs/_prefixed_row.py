"""Finds how much of one row is known, and notes which of its chunks it computes or waits for.

A row that waits has claimed only chunks behind the one that it waits for: rows never wait in a circle.
"""

from collections.abc import Callable, Sequence

from statewise.service.scheduling.prefixes import PrefixNode, PrefixTree


class PrefixedRow:
    """One row of a request, while the request runs.

    Args:
        number: Of the row, in the order of the request.
        steps: Its time steps.
        keys: Of its chunks; empty: the row is neither looked up nor kept.
        tree: What is known.
        outputs: Whether outputs that are per step are wanted, and the graph has any.
        woken: Called when the row need not wait any more.
    """

    __slots__ = ("_claimed", "_keys", "_outputs", "_tree", "_woken", "found", "number", "steps")

    def __init__(
        self,
        number: int,
        steps: int,
        keys: Sequence[bytes],
        tree: PrefixTree,
        *,
        outputs: bool,
        woken: "Callable[[PrefixedRow], None]",
    ) -> None:
        self.number = number
        self.steps = steps
        self.found: list[PrefixNode] = []
        """What the row starts behind; outputs of all its chunks where they are wanted."""
        self._keys = keys
        self._tree = tree
        self._outputs = outputs
        self._woken = woken
        self._claimed: set[int] = set()

    @property
    def is_looked_up(self) -> bool:
        """Whether the row may start behind what is known."""
        return bool(self._keys)

    @property
    def begin(self) -> int:
        """Time steps that need not be computed."""
        return self.found[-1].steps if self.found else 0

    @property
    def known_chunks(self) -> int:
        """Chunks that need not be computed."""
        return self.found[-1].depth if self.found else 0

    @property
    def claimed_chunks(self) -> int:
        """Chunks up to the last one that others may wait for."""
        return max(self._claimed) + 1 if self._claimed else 0

    def look_up(self, *, patient: bool) -> bool:
        """Finds what is known, and claims what nobody else computes.

        Args:
            patient: Whether to wait for a chunk that another row computes.

        Returns:
            Whether the row may run; False: it waits, and will be woken.
        """
        if not self._keys:
            return True
        self.found = self._tree.find(self._keys, outputs=self._outputs)
        awaited = self._awaited() if patient else None
        if awaited is not None:
            self._tree.claims.wait(self._keys[awaited], self, outputs=self._outputs)
        first = self.known_chunks if awaited is None else awaited + 1
        for number in range(first, len(self._keys)):
            if self._tree.claims.claim(self._keys[number], self, outputs=self._outputs):
                self._claimed.add(number)
        return awaited is None

    def _awaited(self) -> int | None:
        """Returns the last chunk behind which the row could start if it waited; None: there is none."""
        claims, end = self._tree.claims, min(self._claimed, default=len(self._keys))
        numbers = range(self.known_chunks, end)
        if not self._outputs:
            for number in reversed(numbers):
                if claims.computed_by(self._keys[number], outputs=False) is not None:
                    return number
            return None
        last = None
        for number in numbers:
            key = self._keys[number]
            if claims.computed_by(key, outputs=True) is not None:
                last = number
            elif not self._tree.is_known(key, outputs=True):
                break
        return last

    def wake(self, *, published: bool) -> None:
        """Looks up again. What is published and still unknown had no room: the row waits only once for it."""
        if self._keys and self.look_up(patient=not published):
            self._woken(self)

    def publish(self, chunk: int, make: Callable[[bytes], PrefixNode]) -> None:
        """Keeps the node at the end of the row's chunk number `chunk`, from 0, and wakes who waits for it."""
        key = self._keys[chunk]
        self._tree.keep(make(key))
        self._claimed.discard(chunk)
        self._tree.claims.publish(key, self, outputs=self._outputs)

    def release(self) -> None:
        """Gives up what the row has claimed and not published, and never wakes again."""
        claimed, keys = self._claimed, self._keys
        self._claimed, self._keys = set(), ()
        self._tree.claims.give_up([keys[number] for number in claimed], self, outputs=self._outputs)
