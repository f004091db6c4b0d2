"""Adjusts event loop and memory allocator of a server process. Never anything of models or sessions."""

from statewise.service.process._allocator import keep_freed_pages
from statewise.service.process._event_loop import ServerEventLoop

__all__ = [
    "ServerEventLoop",
    "keep_freed_pages",
]
