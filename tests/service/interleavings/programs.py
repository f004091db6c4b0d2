"""Draws programs: bursts of requests that are sent at once, and what happens between them."""

from functools import cache
from typing import Any

from hypothesis import strategies as st

IDS = ("a", "b", "c", "d", "e", "f")
KEEP = {"a": 1, "b": 3, "c": 8, "d": 2, "e": 1, "f": 4}
"""How many requests of a session can be taken back, by the id that it is opened with."""
MOST_CHECKPOINTS = 3
MISSING = 5
IDLE_TIMEOUT_S = 60.0

Burst = list[tuple[str, Any]]
Program = list[tuple[str, Any]]
Row = tuple[str, str, int]
"""One row of a step: its session, whether its handle and position are right, and its number of steps."""

KINDS = st.sampled_from(["now", "now", "again", "ahead", "void"])
STEPS = st.sampled_from([1, 1, 1, 2, 7, 40])
LABEL = st.sampled_from(["p", "q", "r", "s"])
KNOWN = st.integers(0, MISSING)
"""The number of a checkpoint that there is; the last one: of none."""
PLACE = st.sampled_from(["any", "here", "here", "ahead"])
"""The position that a request about a checkpoint names."""
WRITING = st.sampled_from(["now", "now", "again", "ahead", "nan"])
BY_HANDLE = ("step", "rewind", "read", "write", "keep", "listing", "drop", "go_to", "fork")
"""Requests whose rows begin with a session that has a handle."""
OFTEN = ("step", "step", "step", "keep", "keep", "rewind", "go_to", "go_to", "write")
EVENTS = st.one_of(
    st.tuples(st.just("wait"), st.sampled_from([25.0, 70.0])),
    st.tuples(st.just("reload"), st.sampled_from(["publish", "remove", "roll back", "roll forward"])),
)


@cache
def programs_about(names: str) -> st.SearchStrategy[Program]:
    """Draws programs that use some sessions often."""
    name, twin = st.sampled_from(names), st.sampled_from("aceeff")

    def rows(*columns: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
        """Up to three rows of different sessions."""
        return st.lists(st.tuples(name, *columns), min_size=1, max_size=3, unique_by=lambda row: row[0])

    requests = {
        "step": rows(KINDS, STEPS),
        "open": st.tuples(name, st.sampled_from([None, None, 0, 5])),
        "close": rows(),
        "resume": rows(),
        "rewind": rows(st.sampled_from([0, 1, 1, 1, 2, 3, 9, None])),
        "read": rows(),
        "write": rows(WRITING, st.sampled_from([0, 0, 3, -2])),
        "keep": rows(LABEL, PLACE),
        "listing": rows(),
        "drop": rows(KNOWN),
        "go_to": rows(KNOWN, PLACE),
        "fork": rows(twin, st.none() | KNOWN),
        "snapshot": st.tuples(rows(), st.booleans()),
        "restore": st.tuples(st.integers(0, 9), twin),
    }
    request = st.one_of(*(st.tuples(st.just(one), requests[one]) for one in (*requests, *OFTEN)))
    burst = st.tuples(st.just("burst"), st.lists(request, min_size=3, max_size=8))
    return st.lists(st.one_of(*[burst] * 6, EVENTS), min_size=6, max_size=14)


PROGRAM = st.sampled_from(["a", "b", "bc", "ab", "bcd", "abcdef"]).flatmap(programs_about)
