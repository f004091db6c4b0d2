"""Keeps gRPC's own log from showing metadata of callers, tokens included."""

import logging

_SHOWS_METADATA = "Invalid encoding on %s"


def hide_metadata() -> None:
    """Drops the records that gRPC writes for metadata which is not UTF-8; they show it in full."""
    logging.getLogger("grpc._cython.cygrpc").addFilter(_is_free_of_metadata)


def _is_free_of_metadata(record: logging.LogRecord) -> bool:
    return record.msg != _SHOWS_METADATA
