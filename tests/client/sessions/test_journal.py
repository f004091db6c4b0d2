"""Fills journals: they keep the inputs that rebuild a session, and stay below their limit."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from statewise.client import ModelInfo, TensorInfo
from statewise.client.groups import GroupJournal
from statewise.client.sessions._journal import ByteBudget, Entry, Journal

MODEL = ModelInfo(
    name="m",
    version=1,
    digest="",
    status="ready",
    failure="",
    is_default=True,
    exactness="exact",
    inputs=(
        TensorInfo("x", "uint8", (2,), per_step=True),
        TensorInfo("rate", "uint8", (), per_step=False),
    ),
    outputs=(),
    call_shapes=(),
    streamable=True,
    state_bytes=0,
    labels=(),
    vocabulary=None,
    generative=False,
    max_steps=0,
    notes={},
)


def journal(*steps: int, start: int = 0, limit: int = 1 << 20, keep_tail: bool = True) -> Journal:
    made = Journal(start, limit_bytes=limit, budget=ByteBudget(1 << 30), keep_tail=keep_tail)
    for count in steps:
        made.append(count, (bytes(count),))
    return made


def test_after_gives_what_follows_a_boundary() -> None:
    held = journal(2, 3, 1, start=10)
    assert held.after(10) == [Entry(2, (bytes(2),)), Entry(3, (bytes(3),)), Entry(1, (bytes(1),))]
    assert held.after(12) == [Entry(3, (bytes(3),)), Entry(1, (bytes(1),))]
    assert held.after(16) == []
    for elsewhere in (9, 11, 13, 17):
        assert held.after(elsewhere) is None


def test_forget_drops_what_is_durable() -> None:
    held = journal(2, 3, 1)
    held.forget(4)
    assert held.after(0) is None
    assert [entry.steps for entry in held.after(2) or []] == [3, 1]
    held.forget(6)
    assert held.after(6) == []


def test_rewind_drops_what_was_undone() -> None:
    held = journal(2, 3, 1)
    held.rewind(5)
    assert [entry.steps for entry in held.after(0) or []] == [2, 3]
    held.rewind(4)
    assert held.after(0) is None


def test_a_request_may_be_undone_that_a_store_had_already() -> None:
    held = journal(2, 3)
    held.forget(5)
    held.rewind(2)
    assert held.after(2) == []
    held.append(4, (bytes(4),))
    assert [entry.steps for entry in held.after(2) or []] == [4]


def test_over_its_limit_it_keeps_the_tail_only_where_that_is_of_use() -> None:
    tail, nothing = (journal(*[100] * 50, limit=2000, keep_tail=keep) for keep in (True, False))
    assert tail.after(0) is None
    assert [entry.steps for entry in tail.after(4900) or []] == [100]
    assert all(nothing.after(position) is None for position in (0, 4900, 5000))


def test_the_budget_bounds_all_journals_together() -> None:
    budget = ByteBudget(10_000)
    held = [Journal(0, limit_bytes=1 << 20, budget=budget, keep_tail=True) for _ in range(5)]
    for _ in range(100):
        for each in held:
            each.append(1, (bytes(200),))
            assert budget.used_bytes <= budget.limit_bytes
    for each in held:
        each.clear()
    assert budget.used_bytes == 0


batch = st.dictionaries(st.integers(0, 3), st.integers(1, 3), min_size=1)
step_batches = st.lists(batch, max_size=12)


@given(batches=step_batches, position=st.integers(0, 12), durable=st.integers(0, 4))
def test_a_group_gives_each_session_what_its_own_journal_would(
    batches: list[dict[int, int]], position: int, durable: int
) -> None:
    budget = ByteBudget(1 << 30)
    group = GroupJournal(MODEL, np.zeros(4, np.uint64), limit_bytes=1 << 30, budget=budget, keep_tail=True)
    alone = [Journal(0, limit_bytes=1 << 30, budget=ByteBudget(1 << 30), keep_tail=True) for _ in range(4)]
    ticks = iter(range(1 << 20))
    for batch in batches:
        payloads = [
            (bytes(next(ticks) % 256 for _ in range(2 * n)), bytes([row])) for row, n in batch.items()
        ]
        for (row, count), payload in zip(batch.items(), payloads, strict=True):
            alone[row].append(count, payload)
        columns = tuple(b"".join(column) for column in zip(*payloads, strict=True))
        group.append(np.array(list(batch)), np.array(list(batch.values()), np.uint32), columns)
    for row in range(4):
        assert group.of(row).after(position) == alone[row].after(position)
    group.forget(np.full(4, durable, np.uint64))
    for row in range(4):
        kept = group.of(row).after(durable)
        assert kept is None or kept == alone[row].after(durable)
        assert kept is not None or alone[row].after(durable) is None
    group.clear()
    assert budget.used_bytes == 0


deeds = st.lists(
    st.one_of(
        st.dictionaries(st.integers(0, 3), st.integers(1, 3), min_size=1),
        st.tuples(
            st.sampled_from(["restart", "rewind"]), st.sets(st.integers(0, 3), min_size=1), st.integers(0, 9)
        ),
    ),
    max_size=14,
)


@given(done=deeds, keep_tail=st.booleans())
def test_a_group_begins_anew_and_goes_back_as_each_sessions_own_journal_would(
    done: list[dict[int, int] | tuple[str, set[int], int]], keep_tail: bool
) -> None:
    budget = ByteBudget(1 << 30)
    group = GroupJournal(
        MODEL, np.zeros(4, np.uint64), limit_bytes=1 << 30, budget=budget, keep_tail=keep_tail
    )
    alone = [journal(keep_tail=keep_tail) for _ in range(4)]
    ticks = iter(range(1 << 20))
    for deed in done:
        if isinstance(deed, dict):
            payloads = [
                (bytes(next(ticks) % 256 for _ in range(2 * n)), bytes([row])) for row, n in deed.items()
            ]
            for (row, count), payload in zip(deed.items(), payloads, strict=True):
                alone[row].append(count, payload)
            columns = tuple(b"".join(column) for column in zip(*payloads, strict=True))
            group.append(np.array(list(deed)), np.array(list(deed.values()), np.uint32), columns)
            continue
        name, rows, position = deed
        for row in rows:
            getattr(alone[row], name)(position)
        getattr(group, name)(np.array(sorted(rows)), np.full(len(rows), position, np.uint64))
    for row in range(4):
        for position in range(30):
            assert group.of(row).after(position) == alone[row].after(position)
    group.clear()
    assert budget.used_bytes == 0
