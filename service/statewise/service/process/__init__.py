"""Adjusts a server process: event loop, memory allocator, limit of open files. Knows no models."""

from statewise.service.process._allocator import keep_freed_pages
from statewise.service.process._event_loop import ServerEventLoop
from statewise.service.process._open_files import allow_many_connections

__all__ = [
    "ServerEventLoop",
    "allow_many_connections",
    "keep_freed_pages",
]
