"""Adjusts event loop, memory allocator and open files of a server process. Never knows models or sessions."""

from statewise.service.process._allocator import keep_freed_pages
from statewise.service.process._event_loop import ServerEventLoop
from statewise.service.process._open_files import allow_many_connections

__all__ = [
    "ServerEventLoop",
    "allow_many_connections",
    "keep_freed_pages",
]
