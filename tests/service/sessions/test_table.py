"""Goes over all sessions of the table, for idle ones and for pages: in bounded parts, missing none."""

import pytest

from statewise.service.session_state import SessionScan, SessionTable


def table_of(count: int) -> SessionTable:
    """Sessions that were opened a second apart, every third one Ann's, the others Bob's."""
    now_s = 0.0
    table = SessionTable(100, clock=lambda: now_s)
    owners = [table.owner_number(name) for name in ("ann", "bob", "bob")]
    for number in range(count):
        now_s = float(number)
        table.add(owners[number % 3], f"s{number}", model=number % 2, row=number)
    return table


def scan_of(table: SessionTable) -> SessionScan:
    """Scans so short that a few sessions need several."""
    return SessionScan(table, scan_slots=4, scan_finds=2, page_scans=2)


@pytest.mark.parametrize("count", [0, 1, 4, 5, 8, 23])
def test_idle_sessions_are_found_some_at_a_time(count: int) -> None:
    table = table_of(count)
    table.busy[1] = True
    scan = scan_of(table)
    found: list[int] = []
    start: int | None = 0
    while start is not None:
        slots, start = scan.idle_since(10.0, start)
        assert len(slots) <= 2
        found += slots
    assert found == [slot for slot in range(min(count, 10)) if slot != 1]


@pytest.mark.parametrize("size", [1, 3, 100])
@pytest.mark.parametrize(
    ("owner", "models"), [(None, [0, 1]), (None, [1]), ("ann", [0, 1]), ("bob", [0]), ("eve", [0])]
)
@pytest.mark.parametrize("count", [0, 1, 8, 9, 23])
def test_pages_hold_every_session_that_is_wanted_once(
    count: int, owner: str | None, models: list[int], size: int
) -> None:
    table = table_of(count)
    scan = scan_of(table)
    number = None if owner is None else table.known_owner(owner)
    found: list[int] = []
    pages = 0
    start: int | None = 0
    while start is not None:
        before = start
        slots, start = scan.page(start, size, owner=number, models=models)
        assert len(slots) <= size
        assert start is None or 0 < start - before <= 8
        found += slots
        pages += 1
    owned = [slot for slot in range(count) if owner is None or ("ann", "bob", "bob")[slot % 3] == owner]
    assert found == [slot for slot in owned if slot % 2 in models]
    assert pages <= 1 + len(found) // size + count // 8
