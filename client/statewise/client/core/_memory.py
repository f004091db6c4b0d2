"""Large buffers that are freed and needed again at once.

glibc returns buffers above a limit of 128 KiB to the kernel as soon as they are freed, and the pages of the
next one cost more than all copying of a frame of a thousand sessions. The limit follows the largest buffer
freed so far. Where the allocator is another one nothing changes.
"""

_KEPT_BYTES = 16 * 1024 * 1024


def keep_freed_memory() -> None:
    """From now on this process keeps up to 32 MiB of freed memory for itself."""
    bytes(_KEPT_BYTES)
