"""Adjusts a server process: memory allocator, limit of open files. Knows no models."""

from statewise.service.process._allocator import keep_freed_pages
from statewise.service.process._open_files import allow_many_connections

__all__ = [
    "allow_many_connections",
    "keep_freed_pages",
]
