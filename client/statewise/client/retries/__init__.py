"""Decides whether a failed request is sent again, until when, and after which pause; never sends one."""

from statewise.client.retries._backoff import Backoff
from statewise.client.retries._retry_policy import (
    BULK_RULES,
    CALL_RULES,
    QUESTION_RULES,
    STREAM_RULES,
    RetryPolicy,
    RetryRules,
)

__all__ = [
    "BULK_RULES",
    "CALL_RULES",
    "QUESTION_RULES",
    "STREAM_RULES",
    "Backoff",
    "RetryPolicy",
    "RetryRules",
]
