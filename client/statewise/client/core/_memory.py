"""Keeps the memory of large freed buffers in the process, because the next ones need it at once.

glibc returns buffers above a limit of 128 KiB to the kernel as soon as they are freed, and the pages of the
next buffer cost more than copying the steps of a thousand sessions. The limit follows the largest buffer
freed so far. Other allocators are left as they are.
"""

_KEPT_BYTES = 16 * 1024 * 1024


def keep_freed_memory() -> None:
    """Makes this process keep up to 32 MiB of freed memory for itself."""
    bytes(_KEPT_BYTES)
