"""Counts how often a failed request is sent again, on a clock that only its own pauses move."""

import pytest

from statewise.client import ModelNotFound, StatewiseError, Timeout, Unavailable
from statewise.client.requests import ClientOptions, Wait, wait_before_retry
from statewise.client.retries import BULK_RULES, CALL_RULES, QUESTION_RULES, STREAM_RULES, RetryRules
from statewise.client.values import Status, Subject
from statewise.wire import Reason

LOST = Status("UNAVAILABLE", message="connection refused", lost=True)
LOADING = Status("UNAVAILABLE", Reason.MODEL_LOADING, "the model is being loaded")
GONE = Status("NOT_FOUND", Reason.MODEL_NOT_FOUND, "no such model")


class Caller:
    """Makes a call again each time it fails."""

    def __init__(
        self, rules: RetryRules = CALL_RULES, *, retry_for_s: float = 30.0, timeout_s: float | None = None
    ) -> None:
        self.now_s = 100.0
        options = ClientOptions(
            timeout_s=None,
            retry_for_s=retry_for_s,
            replay_bytes=0,
            clock=lambda: self.now_s,
            random=lambda: 0.999,
        )
        self.policy = options.retry_policy(rules, timeout_s)

    def fails(self, status: Status, *, most: int = 1000) -> tuple[int, StatewiseError | None]:
        """Fails until the policy gives up, or `most` times; returns how often, and the error raised."""
        for count in range(1, most + 1):
            try:
                for effect in wait_before_retry(self.policy, status, Subject("", "m")):
                    assert isinstance(effect, Wait)
                    self.now_s += effect.delay_s
            except StatewiseError as error:
                return count, error
        return most, None


def test_a_question_is_soon_told_that_no_server_is_there() -> None:
    caller = Caller(QUESTION_RULES)
    tries, error = caller.fails(LOST)
    assert (tries, type(error)) == (4, Unavailable)
    assert caller.now_s < 101


@pytest.mark.parametrize("retry_for_s", [0, 5, 30])
@pytest.mark.parametrize(
    ("rules", "status"), [(CALL_RULES, LOST), (CALL_RULES, LOADING), (QUESTION_RULES, LOADING)]
)
def test_what_passes_by_itself_is_waited_for_as_long_as_the_client_has_patience(
    rules: RetryRules, status: Status, retry_for_s: float
) -> None:
    caller = Caller(rules, retry_for_s=retry_for_s)
    tries, error = caller.fails(status)
    assert type(error) is Unavailable
    assert retry_for_s <= caller.now_s - 100 <= retry_for_s + 2
    assert tries <= 7 + retry_for_s / 1.9


def test_what_does_not_pass_is_told_at_once() -> None:
    caller = Caller()
    tries, error = caller.fails(GONE)
    assert (tries, type(error), caller.now_s) == (1, ModelNotFound, 100)


@pytest.mark.parametrize("status", [LOST, LOADING])
def test_no_pause_goes_beyond_the_timeout(status: Status) -> None:
    caller = Caller(timeout_s=0.2)
    caller.fails(status, most=3)
    assert caller.now_s == pytest.approx(100.2)
    assert caller.policy.left_s == pytest.approx(0.001)


@pytest.mark.parametrize("status", [LOST, LOADING])
def test_a_try_that_fails_when_the_time_is_over_is_the_last(status: Status) -> None:
    """A connection that is refused at once may fail before gRPC notices that its call has no time left."""
    caller = Caller(timeout_s=0.2)
    tries, error = caller.fails(status)
    assert (tries, type(error)) == (4, Timeout)
    assert str(error).startswith(f"no answer in time; the last try failed: {status.message}; ")
    assert caller.now_s == pytest.approx(100.2)


def test_a_timeout_says_what_was_waited_for() -> None:
    caller = Caller(timeout_s=5)
    caller.fails(LOST, most=2)
    _, error = caller.fails(Status("DEADLINE_EXCEEDED", message="Deadline Exceeded"))
    assert type(error) is Timeout
    assert "the try before failed: connection refused" in str(error)


def test_an_answer_in_between_starts_the_count_anew() -> None:
    caller = Caller(QUESTION_RULES)
    caller.fails(LOST, most=3)
    caller.policy.note_progress()
    assert caller.fails(LOST)[0] == 4


@pytest.mark.parametrize(
    ("status", "kinds"),
    [
        (LOADING, {"stream", "call", "question", "bulk"}),
        (LOST, {"stream", "call", "question", "bulk"}),
        (Status("UNAVAILABLE", Reason.DRAINING), {"stream", "call", "question", "bulk"}),
        (Status("UNAVAILABLE"), {"call", "question", "bulk"}),
        (Status("RESOURCE_EXHAUSTED", Reason.QUEUE_FULL), {"bulk"}),
        (Status("FAILED_PRECONDITION", Reason.PACKAGE_INVALID), {"bulk"}),
        (Status("CANCELLED"), {"call", "question", "bulk"}),
        (Status("UNAUTHENTICATED", lost=True), set()),
        (Status("RESOURCE_EXHAUSTED", Reason.BYTES_LIMIT), set()),
        (Status("DEADLINE_EXCEEDED", Reason.DEADLINE), set()),
        (GONE, set()),
    ],
)
def test_each_kind_of_request_waits_for_what_it_may(status: Status, kinds: set[str]) -> None:
    rules: dict[str, RetryRules] = {
        "stream": STREAM_RULES,
        "call": CALL_RULES,
        "question": QUESTION_RULES,
        "bulk": BULK_RULES,
    }
    assert {kind for kind, each in rules.items() if each.cover(status)} == kinds
