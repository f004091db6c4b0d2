"""Finds how much of one row is known, and which of its states others may start from or it waits for.

A row that waits has claimed only chunks behind the one that it waits for: rows never wait in a circle.
"""

from collections.abc import Callable, Sequence

from statewise.service.scheduling.prefixes import PrefixNode, PrefixTree, Reached, RowHash

_STRIDE = 16
"""Chunks from one state that a row keeps to the next; each costs a run of its own, some 70 us. Where what is
known of a row ends, its state is kept, too."""


class PrefixedRow:
    """One row of a request, while the request runs.

    Args:
        number: Of the row, in the order of the request.
        steps: Its time steps.
        chunks: How many of its chunks may be known; 0: the row is neither looked up nor kept.
        row_hash: Computes their keys; None: there are none.
        tree: What is known.
        outputs: Whether outputs that are per step are wanted, and the graph has any.
        woken: Called when the row may look up again.
    """

    __slots__ = (
        "_awaited",
        "_chunks",
        "_claimed",
        "_hash",
        "_is_hashed",
        "_outputs",
        "_patient",
        "_reached",
        "_tree",
        "_woken",
        "captured",
        "found",
        "number",
        "steps",
    )

    def __init__(
        self,
        number: int,
        steps: int,
        chunks: int,
        row_hash: RowHash | None,
        tree: PrefixTree,
        *,
        outputs: bool,
        woken: "Callable[[PrefixedRow], None]",
    ) -> None:
        self.number = number
        self.steps = steps
        self.found: list[PrefixNode] = []
        """What the row starts behind; outputs of all its chunks where they are wanted."""
        self.captured: list[int] = []
        """Chunks at whose ends the state is kept, ascending, counted from 1."""
        self._chunks = chunks
        self._hash = row_hash
        self._tree = tree
        self._outputs = outputs
        self._woken = woken
        self._is_hashed = False
        self._claimed: set[int] = set()
        self._awaited = 0
        self._patient = True
        self._reached: list[Reached] = []

    @property
    def is_looked_up(self) -> bool:
        """Whether the row may start behind what is known."""
        return self._chunks > 0

    @property
    def begin(self) -> int:
        """Time steps that need not be computed."""
        return self.found[-1].steps if self.found else 0

    @property
    def known_chunks(self) -> int:
        """Chunks that need not be computed."""
        return self.found[-1].depth if self.found else 0

    # --- before the row runs ---

    def look_up(self) -> bool:
        """Finds what is known, and claims what nobody else computes.

        Returns:
            Whether the row may run; False: it waits, and will be woken.
        """
        if self._hash is None or not self._chunks:
            return True
        claims, first = self._tree.claims, self._hash.keys(1)[0]
        if not self._is_hashed:
            others = claims.enter(first, self)
            if not others and not self._tree.has_begun(first):
                self._plan(0)
                return True
            for other in others:
                other.hash()
            self._tree.hash_rows(first)
            self._is_hashed = True
        keys = self._hash.keys(self._chunks)
        self.found, known = self._tree.find(keys, outputs=self._outputs)
        if self._awaited > self.known_chunks:
            self._patient = False  # what it waited for had no room, or has gone: it does not wait again
        self._awaited = self._last_claimed(keys) if self._patient else 0
        if self._awaited:
            claims.wait(keys[self._awaited - 1], self, outputs=self._outputs)
        self._plan(known)
        return not self._awaited

    def hash(self) -> None:
        """Computes the keys of all chunks, and claims those whose states the row will keep."""
        if self._is_hashed or self._hash is None:
            return
        self._is_hashed = True
        keys = self._hash.keys(self._chunks)
        for depth in self.captured:
            self._claim(depth, keys)
        reached, self._reached = self._reached, []
        for one in reached:
            self._publish(one)

    def _last_claimed(self, keys: Sequence[bytes]) -> int:
        """Returns the last chunk behind which the row could start if it waited; 0: there is none."""
        for depth in range(min(self._claimed, default=self._chunks + 1) - 1, self.known_chunks, -1):
            if self._tree.claims.computed_by(keys[depth - 1], outputs=self._outputs) is not None:
                return depth
        return 0

    def _plan(self, known: int) -> None:
        """Chooses the states to keep: of each stride, of the last chunk, and where what is known ends."""
        begin = max(self._awaited, self.known_chunks)
        ends = {*range(_STRIDE, self._chunks + 1, _STRIDE), self._chunks, known}
        self.captured = sorted(depth for depth in ends if depth > begin)
        if self._is_hashed and self._hash is not None:
            keys = self._hash.keys(self._chunks)
            for depth in self.captured:
                self._claim(depth, keys)

    def _claim(self, depth: int, keys: Sequence[bytes]) -> None:
        if self._tree.claims.claim(keys[depth - 1], self, outputs=self._outputs):
            self._claimed.add(depth)

    def wake(self, *, published: bool) -> None:
        """Lets the row look up again, once all that was published with what it waits for is known."""
        if not published:
            self._awaited = 0
        self._woken(self)

    # --- while it runs and afterwards ---

    def reach(self, reached: Reached) -> None:
        """Keeps what the row has come to, or notes it until somebody asks."""
        if self._is_hashed:
            self._publish(reached)
        else:
            self._reached.append(reached)

    def _publish(self, reached: Reached) -> None:
        if self._hash is None or not self._chunks:
            return
        keys = self._hash.keys(self._chunks)
        self._tree.keep_chunks(keys, reached)
        self._end_claims([reached.depth], published=True)

    def _end_claims(self, depths: Sequence[int], *, published: bool) -> None:
        """Ends claims, and wakes who waits for the chunks."""
        if self._hash is None:
            return
        keys = self._hash.keys(max(depths, default=1))
        self._claimed.difference_update(depths)
        ended = [keys[depth - 1] for depth in depths]
        self._tree.claims.end(ended, self, outputs=self._outputs, published=published)

    def release(self) -> None:
        """Ends the row: gives up what it claimed and did not come to, and never wakes again.

        It refers to its request no more: one that has ended is freed at once, with its arrays.
        """
        self._woken = _nobody
        if self._hash is None or not self._chunks:
            return
        if self._reached:
            self._tree.keep_unhashed(self._hash, self._chunks, self._reached)
        self._tree.claims.leave(self._hash.keys(1)[0], self)
        self._end_claims(sorted(self._claimed), published=False)
        self._chunks, self._reached, self._hash = 0, [], None


def _nobody(_: PrefixedRow) -> None:
    """Is woken in the place of a row that has ended."""
