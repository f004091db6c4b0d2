"""Checks what a store has to learn, against sets: nothing is forgotten, nothing grows beyond the sessions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from statewise.service.session_state import ChangedSessions

SLOTS = st.integers(0, 30)
NOTES = st.lists(st.one_of(SLOTS, st.lists(SLOTS, min_size=1, unique=True)), max_size=60)


@given(NOTES, st.integers(1, 20))
def test_noted_slots_are_taken_once_in_order(notes: list[int | list[int]], merge_at: int) -> None:
    changed = ChangedSessions(merge_at=merge_at)
    expected: set[int] = set()
    for note in notes:
        if isinstance(note, int):
            changed.note_one(note)
            expected.add(note)
        else:
            changed.note(np.array(note, np.intp))
            expected.update(note)
    assert changed.take().tolist() == sorted(expected)
    assert changed.take().tolist() == []


def test_a_session_that_ends_before_it_is_stored_is_forgotten() -> None:
    changed = ChangedSessions()
    changed.note_opened(3, birth=70)
    changed.note_ended(70)
    changed.note_ended(80)
    assert (changed.take_named(), changed.take_ended()) == ({}, [80])


@pytest.mark.parametrize("ends", [False, True])
def test_what_was_taken_and_not_stored_is_noted_again(*, ends: bool) -> None:
    changed = ChangedSessions()
    changed.note_opened(3, birth=70)
    changed.note_ended(80)
    taken = changed.take(), changed.take_named(), changed.take_ended()
    changed.note_opened(4, birth=71)
    if ends:
        changed.note_ended(70)
    changed.give_back(*taken)
    assert changed.take().tolist() == [3, 4]
    assert changed.take_named() == ({71: 4} if ends else {70: 3, 71: 4})
    assert changed.take_ended() == ([80, 70] if ends else [80])


def test_a_session_that_ends_after_a_write_that_may_have_happened_is_ended_in_the_store() -> None:
    changed = ChangedSessions()
    changed.note_opened(3, birth=70)
    changed.give_back(changed.take(), changed.take_named(), changed.take_ended())
    changed.note_ended(70)
    assert (changed.take_named(), changed.take_ended()) == ({}, [70])
