"""Formats the log of a server process on stderr: lines for people or JSON objects for machines.

A message carries further values as `extra=fields(...)`: ids of requests and sessions, never inputs, outputs,
states or credentials.
"""

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

_FIELDS = "statewise_fields"


def fields(**values: Any) -> dict[str, Any]:
    """Returns values for a logger's `extra`, of JSON's types; None is left out."""
    return {_FIELDS: {name: value for name, value in values.items() if value is not None}}


def configure_logs(*, style: str, level: str) -> None:
    """Configures the root logger; only for a process that runs nothing but the server.

    Args:
        style: "console" or "json".
        level: "debug", "info", "warning" or "error".
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if style == "json" else ConsoleFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)


class ConsoleFormatter(logging.Formatter):
    """Time, level, message, and the fields as key=value."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name of the hook
        """Returns the message with its fields, before the traceback of an exception."""
        fields_text = "".join(
            f" {name}={json.dumps(value, ensure_ascii=False)}" for name, value in _fields_of(record).items()
        )
        return super().formatMessage(record) + fields_text


class JsonFormatter(logging.Formatter):
    """One object a line: time, level, logger, message, the fields, and the traceback as `exception`."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields_of(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def _fields_of(record: logging.LogRecord) -> Mapping[str, Any]:
    found: Mapping[str, Any] = getattr(record, _FIELDS, {})
    return found
