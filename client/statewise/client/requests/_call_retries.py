"""Makes a call outside the session stream again until it is answered or another try cannot help."""

from dataclasses import replace
from typing import Any

from statewise.client.requests._generation import OutputCursor, read_generated
from statewise.client.requests._plans import Call, ClientOptions, Plan, Wait
from statewise.client.retries import CALL_RULES, RetryPolicy, RetryRules
from statewise.client.values import Failed, Status, Subject, Timeout, Value, error_of
from statewise.v1 import sequence_pb2

_NO_SUBJECT = Subject()


def wait_before_retry(policy: RetryPolicy, status: Status, subject: Subject) -> Plan[None]:
    """Waits before a call is made once more.

    Raises:
        StatewiseError: another try cannot help, or its time is over.
    """
    earlier = policy.last_failure
    if not policy.try_again_after(status):
        if status.code == "DEADLINE_EXCEEDED" and earlier is not None:
            status = replace(status, message=f"{status.message}; the try before failed: {earlier.message}")
        raise error_of(status, subject)
    if policy.time_is_over:
        raise Timeout(f"no answer in time; the last try failed: {status.message}")
    yield Wait(policy.pause_s(status))


def call(
    options: ClientOptions,
    method: str,
    request: Any,
    timeout_s: float | None,
    subject: Subject = _NO_SUBJECT,
    *,
    rules: RetryRules = CALL_RULES,
) -> Plan[Any]:
    """Makes a call that may be repeated; returns its response, or the list of responses where it streams.

    Args:
        options: how the client behaves.
        method: name of the method.
        request: message, or encoded message.
        timeout_s: for all tries together.
        subject: named in errors.
        rules: the failures after which the call is made again.

    Raises:
        StatewiseError: the call failed; it names `subject`.
    """
    policy = options.retry_policy(rules, timeout_s)
    while True:
        try:
            return (yield Call(method, request, policy.left_s))
        except Failed as failed:
            status = failed.status
        yield from wait_before_retry(policy, status, subject)


class GenerateRetries:
    """The tries of a generation whose call may break off in the middle.

    Each try goes on behind the values that were given, so that a generation ends that takes longer than any
    connection lives. A server that cannot do so begins anew, and what was given is passed over.

    Args:
        request: the first call's request.
        cursor: takes the values; keeps those that it gave.
        policy: decides about further tries.

    Attributes:
        request: the next call's request.
        subject: named in errors.
    """

    def __init__(
        self, request: sequence_pb2.GenerateRequest, cursor: OutputCursor, policy: RetryPolicy
    ) -> None:
        self.request = request
        self.subject = Subject("", request.model, request.version or None)
        self._cursor = cursor
        self._policy = policy
        self._given = 0

    @property
    def left_s(self) -> float | None:
        """Seconds for the next try; None: no limit."""
        return self._policy.left_s

    def take(self, response: sequence_pb2.GenerateResponse) -> list[tuple[Value, int]]:
        """Returns the new values of a response: see `read_generated`."""
        return read_generated(response, self._cursor, self.subject)

    def again(self, status: Status) -> Plan[None]:
        """Waits before the next try.

        Raises:
            StatewiseError: another try cannot help, or its time is over.
        """
        if self._cursor.given > self._given:
            self._policy.note_progress()
        self._given = self._cursor.given
        self._cursor.restart()
        self._cursor.resume(self.request)
        return wait_before_retry(self._policy, status, self.subject)
